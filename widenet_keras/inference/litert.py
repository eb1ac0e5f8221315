"""LiteRT (TFLite) files as predictors."""

import importlib
import importlib.util
import warnings

from widenet_keras.inference.checksums import open_with_zip
from widenet_keras.inference.manifest import damaged
from widenet_keras.inference.predictor import Predictor


def interpreter_class():
    """Returns LiteRT's interpreter, or the one that TensorFlow still has.

    Raises:
        ImportError: If neither is installed.
    """
    if importlib.util.find_spec("ai_edge_litert") is not None:
        return importlib.import_module("ai_edge_litert.interpreter").Interpreter
    if importlib.util.find_spec("tensorflow") is None:
        raise ImportError(
            "LiteRT files need ai-edge-litert, which is not installed; run "
            "pip install 'widenet_keras[litert]'."
        )
    return importlib.import_module("tensorflow").lite.Interpreter


class LiteRTPredictor(Predictor):
    """A .tflite file of `widenet_keras.export`.

    Args:
        path: The file.
        threads: Threads of the interpreter; None for its default.

    Raises:
        ValueError: If the file is damaged.
        ImportError: If there is no interpreter.
    """

    def __init__(self, path, threads=None):
        content, manifest = open_with_zip(path)
        super().__init__(path, manifest)
        self.input = manifest["input"]
        with warnings.catch_warnings():
            # TensorFlow announces that its interpreter moves to another package.
            warnings.simplefilter("ignore")
            try:
                self._interpreter = interpreter_class()(
                    model_content=content, num_threads=threads
                )
            except (ValueError, RuntimeError) as error:
                raise damaged(path, error) from error
        self._shape = None

    def run(self, images):
        """Returns the logits of images (B, height, width, channels)."""
        [entry] = self._interpreter.get_input_details()
        [result] = self._interpreter.get_output_details()
        if images.shape != self._shape:
            self._interpreter.resize_tensor_input(entry["index"], images.shape)
            self._interpreter.allocate_tensors()
            self._shape = images.shape
        self._interpreter.set_tensor(entry["index"], images)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(result["index"])
