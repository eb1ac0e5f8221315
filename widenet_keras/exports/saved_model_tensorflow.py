"""SavedModels: floats, pixels or encoded images in, each weight once."""

import json
import tempfile
from pathlib import Path

import tensorflow as tf

from widenet_keras.data.layout import Layout
from widenet_keras.exports.graphs_tensorflow import Network, counted, scaled
from widenet_keras.files.checksums import LABELS, seal_folder
from widenet_keras.files.manifest import labels_content

PREPROCESSING = "preprocessing.json"
_SIGNATURES = {"float": "serve", "uint8": "serve_uint8", "jpeg": "serve_jpeg"}


def write_saved_model(model, path, options, manifest):
    """Writes a SavedModel.

    Its signatures `serve`, `serve_uint8` and, for images of 1 or 3 channels,
    `serve_jpeg` return a dict with "logits", of a model without classes "features";
    `serving_default` is the one that `options.input` names. As attributes of the loaded
    object they return the array itself. Its assets are the labels and what is done to
    images.

    Args:
        model: The model, on the TensorFlow backend, in float32.
        path: Folder to write.
        options: `Options`.
        manifest: Dict that goes into the folder.

    Returns:
        Dict of operator names to how often the graph has them.
    """
    served = _served(model, options)
    signatures = {
        name: _as_dict(getattr(served, name), model.config.output_name)
        for name in _SIGNATURES.values()
        if hasattr(served, name)
    }
    signatures["serving_default"] = signatures[_SIGNATURES[options.input]]
    with tempfile.TemporaryDirectory() as folder:
        assets = {
            LABELS: labels_content(manifest["class_names"]),
            PREPROCESSING: json.dumps(manifest["preprocessing"], indent=2).encode(),
        }
        for name, content in assets.items():
            (Path(folder) / name).write_bytes(content)
        served.assets = [tf.saved_model.Asset(f"{folder}/{name}") for name in assets]
        # Served functions are not trained.
        plain = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(served, str(path), signatures, plain)
    seal_folder(path, manifest)
    return _operators(signatures["serve"])


def _served(model, options):
    """Returns the module with the functions that are served."""
    shape = (options.batch_size, *model.config.image_shape)
    served = Network(model, options.quantize)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])
    def network(images):
        return served.forward(images)

    # Traced here, so that all signatures call the same one: inside another graph
    # it would be traced again, and the network would stand in the file twice.
    network = network.get_concrete_function()

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, "images")])
    def serve(images):
        return network(images)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, "pixels")])
    def serve_uint8(pixels):
        return network(scaled(pixels))

    @tf.function(input_signature=[tf.TensorSpec(shape[:1], tf.string, "encoded")])
    def serve_jpeg(encoded):
        # Imported here, since it is TensorFlow's input pipeline.
        from widenet_keras.data.pipeline.decoding import evaluation_pixels

        pixels = tf.map_fn(
            lambda image: evaluation_pixels(image, layout, exported=True),
            encoded,
            fn_output_signature=tf.TensorSpec(shape[1:], tf.uint8),
        )
        return network(scaled(tf.ensure_shape(pixels, shape)))

    config = model.config
    size, channels = config.image_size, config.channels
    layout = Layout(size, channels, config.num_classes, 1, model.preprocessing)
    served.serve, served.serve_uint8 = serve, serve_uint8
    if config.channels in (1, 3):
        served.serve_jpeg = serve_jpeg
    return served


def _as_dict(function, output_name):
    """Returns a signature: the function with a named output."""
    [spec] = function.input_signature
    concrete = function.get_concrete_function()

    @tf.function(input_signature=[spec])
    def signature(images):
        return {output_name: concrete(images)}

    return signature.get_concrete_function()


def _operators(function):
    """Returns the operators of a signature, of the functions inside it too."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    return counted(node.op for node in nodes)
