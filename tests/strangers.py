"""Files that somebody made on purpose: each has the checksums of an honest one."""

import io
import json
import resource
import zipfile

import h5py
import numpy as np

from widenet_keras.files.checksums import (
    open_with_zip,
    seal_folder,
    sealed_onnx,
    sealed_with_zip,
)

FAR = 10**9


def peak_memory():
    """Returns the most bytes of memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def rewritten(source, target, change):
    """Copies a `.keras` file; `change` takes the dict of its members."""
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return target


def with_config(source, target, change):
    """Copies a `.keras` file with another configuration."""

    def replace(parts):
        config = json.loads(parts["config.json"])
        change(config)
        parts["config.json"] = json.dumps(config).encode()

    return rewritten(source, target, replace)


def with_weights(source, target, change):
    """Copies a `.keras` file; `change` takes its open HDF5 file."""

    def replace(parts):
        content = io.BytesIO(parts["model.weights.h5"])
        with h5py.File(content, "r+") as file:
            change(file)
        parts["model.weights.h5"] = content.getvalue()

    return rewritten(source, target, replace)


def empty_chunks(file):
    """Adds an array of a billion floats of which no byte is there."""
    file.create_dataset("far", (FAR,), "float32", chunks=(2**20,), compression="gzip")


def one_huge_chunk(file):
    """Adds an array of one number that is kept in a chunk of a billion."""
    file.create_dataset("far", (1,), "float32", chunks=(FAR,), maxshape=(None,))


def other_file(file):
    file["far"] = h5py.ExternalLink("/etc/passwd", "/")


def other_place(file):
    file["far"] = h5py.SoftLink("/elsewhere")


def outside_bytes(file):
    file.create_dataset("far", (8,), "uint8", external=[("/etc/passwd", 0, 8)])


def virtual(file):
    layout = h5py.VirtualLayout((8,), "float32")
    layout[:] = h5py.VirtualSource("/tmp/elsewhere.h5", "x", (8,))
    file.create_virtual_dataset("far", layout)


HDF5_SIZES = [empty_chunks, one_huge_chunk]
HDF5_OUTSIDE = [other_file, other_place, outside_bytes, virtual]


def npz(path, shape, size=None):
    """Writes an .npz file whose header claims a shape."""
    header = io.BytesIO()
    layout = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, layout)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_test.npy", header.getvalue())
        if size is not None:
            archive.getinfo("x_test.npy").file_size = len(header.getvalue()) + size
    return path


def with_manifest(path, change):
    """Changes the manifest of an export of any format in place."""
    if path.is_dir():
        manifest = json.loads((path / "manifest.json").read_text())
        for name in ("manifest_sha256", "sha256"):
            manifest.pop(name)
        (path / "manifest.json").unlink()
        seal_folder(path, {**manifest, **change})
    elif path.suffix == ".tflite":
        content, manifest = open_with_zip(path)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("manifest.json", json.dumps({**manifest, **change}))
        path.write_bytes(content + packed.getvalue())
    elif path.suffix == ".onnx":
        model = honest_onnx(path)
        [entry] = [each for each in model.metadata_props if each.key != "sha256"]
        entry.value = json.dumps({**json.loads(entry.value), **change})
        seal_onnx(path, model)
    else:

        def replace(parts):
            manifest = json.loads(parts["manifest.json"])
            parts["manifest.json"] = json.dumps({**manifest, **change}).encode()

        content = rewritten(path, io.BytesIO(), replace)
        path.write_bytes(content.getvalue())
    return path


def honest_onnx(path):
    """Returns the model in an .onnx file, without its checksum."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    kept = [each for each in model.metadata_props if each.key != "sha256"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    return model


def seal_onnx(path, model):
    path.write_bytes(sealed_onnx(model.SerializeToString()))
    return path


def with_litert(path, change):
    """Changes the model in a .tflite file; `change` takes TensorFlow's object of it."""
    from tensorflow.lite.tools import flatbuffer_utils

    content, manifest = open_with_zip(path)
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    change(model)
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    path.write_bytes(sealed_with_zip(content, manifest))
    return path


def with_graph(path, change):
    """Changes the graph of a SavedModel; `change` takes its only meta graph."""
    from tensorflow.core.protobuf import saved_model_pb2

    file = path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(model.meta_graphs[0])
    file.write_bytes(model.SerializeToString())
    return with_manifest(path, {})


def saved_model(path, manifest, body, resource=None):
    """Writes a sealed SavedModel of a function.

    Args:
        path: Its folder.
        manifest: Dict of an honest export.
        body: Function of images (B, height, width, channels) that returns logits.
        resource: Something that TensorFlow makes again as it loads the model.
    """
    import tensorflow as tf

    spec = tf.TensorSpec((None, *manifest["image_shape"]), tf.float32, "images")
    module = tf.Module()
    module.serve = tf.function(body, input_signature=[spec])
    if resource is not None:
        module.resource = resource
    signature = tf.function(
        lambda images: {"logits": module.serve(images)}, input_signature=[spec]
    )
    tf.saved_model.save(module, str(path), {"serve": signature})
    plain = {
        k: v for k, v in manifest.items() if k not in ("sha256", "manifest_sha256")
    }
    seal_folder(path, plain)
    return path
