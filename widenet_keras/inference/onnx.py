"""ONNX files as predictors."""

import importlib
import importlib.util

from widenet_keras.inference.checksums import check_onnx
from widenet_keras.inference.manifest import damaged, read_manifest
from widenet_keras.inference.predictor import Predictor
from widenet_keras.utils.install import install_command

# The entry of metadata_props that holds the manifest.
KEY = "widenet_keras"


class OnnxPredictor(Predictor):
    """An .onnx file of `widenet_keras.export`, run by onnxruntime on the CPU.

    Args:
        path: The file.
        threads: Threads of one operator; None for onnxruntime's default.

    Raises:
        ValueError: If the file is damaged.
        ImportError: If onnxruntime is not installed.
    """

    def __init__(self, path, threads=None):
        content = check_onnx(path)
        if importlib.util.find_spec("onnxruntime") is None:
            raise ImportError(
                "ONNX files need onnxruntime, which is not installed; run "
                f"{install_command('onnx')}."
            )
        onnxruntime = importlib.import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        # Errors only: constant folding warns of what it leaves.
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
            text = self._session.get_modelmeta().custom_metadata_map[KEY]
        # onnxruntime raises classes of its own that have no public base.
        except Exception as error:
            raise damaged(path, error) from error
        super().__init__(path, read_manifest(text, path))
        self.input = self.manifest["input"]
        [entry] = self._session.get_inputs()
        self._name = entry.name

    def run(self, images):
        """Returns the logits of images (B, height, width, channels)."""
        [logits] = self._session.run(None, {self._name: images})
        return logits
