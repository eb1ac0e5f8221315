"""SavedModels as predictors."""

from pathlib import Path

from widenet_keras.data.requirements import has_tensorflow, require_tensorflow
from widenet_keras.files.checksums import open_folder
from widenet_keras.files.manifest import Interface, damaged
from widenet_keras.inference.predictor import Predictor
from widenet_keras.inference.saved_model_graph import check_saved_model_graph
from widenet_keras.utils.memory import MAX_MEMORY


class SavedModelPredictor(Predictor):
    """A SavedModel of `widenet_keras.export`, through its `serve` signatures.

    Args:
        path: The folder.
        trust: Whether its graph may hold any operation.
        max_memory: Bytes that it may take beyond what the folder weighs.

    Raises:
        ValueError: If the folder is damaged, not such a SavedModel, would take too
            much memory or run what no export holds.
        ImportError: If TensorFlow is not installed.
    """

    def __init__(self, path, *, trust: bool = False, max_memory: int = MAX_MEMORY):
        path = Path(path)
        manifest = open_folder(path)
        if not has_tensorflow():
            # Said first: it brings what reads the graph.
            require_tensorflow("SavedModels are")
        check_saved_model_graph(path, trust, max_memory)
        # What it was exported for; decoded images are pixels as well.
        self.input = "float" if manifest["input"] == "float" else "uint8"
        tf = require_tensorflow("SavedModels are")
        self._constant = tf.constant
        try:
            # The object keeps the variables alive, which its functions do not.
            self.loaded = tf.saved_model.load(str(path))
            name = "serve" if self.input == "float" else "serve_uint8"
            self._serve = getattr(self.loaded, name)
            interface = _interface(self.loaded.signatures[name])
        except Exception as error:
            raise damaged(path, error) from error
        super().__init__(path, manifest, interface, max_memory)

    def run(self, images):
        """Returns the logits of images (B, height, width, channels)."""
        return self._serve(self._constant(images)).numpy()


def _interface(signature):
    """Returns what a signature takes and gives."""
    [images] = signature.structured_input_signature[1].values()
    # Its name is "logits" or "features"; earlier versions had "logits" for both.
    [logits] = signature.structured_outputs.values()
    return Interface(tuple(images.shape), images.dtype.name, tuple(logits.shape))
