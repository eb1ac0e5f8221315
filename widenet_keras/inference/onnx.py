"""ONNX files as predictors."""

import importlib

from widenet_keras.files.checksums import check_onnx
from widenet_keras.files.manifest import Interface, damaged, read_manifest
from widenet_keras.inference.onnx_graph import check_onnx_graph
from widenet_keras.inference.predictor import Predictor
from widenet_keras.utils.install import install_command, is_installed
from widenet_keras.utils.memory import MAX_MEMORY

# The entry of metadata_props that holds the manifest.
KEY = "widenet_keras"


class OnnxPredictor(Predictor):
    """An .onnx file of `widenet_keras.export`, run by onnxruntime on the CPU.

    Args:
        path: The file.
        threads: Threads of one operator; None for onnxruntime's default.
        max_memory: Bytes that it may take beyond what the file weighs.

    Raises:
        ValueError: If the file is damaged, reads other files, or would take too much
            memory.
        ImportError: If onnxruntime is not installed.
    """

    def __init__(self, path, threads=None, *, max_memory: int = MAX_MEMORY):
        content = check_onnx(path)
        # Said first where there is none: it brings what reads the graph.
        if not is_installed("onnxruntime"):
            raise ImportError(
                "ONNX files need onnxruntime, which is not installed; run "
                f"{install_command('onnx')}."
            )
        check_onnx_graph(content, path, max_memory)
        onnxruntime = importlib.import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        # Errors only: constant folding warns of what it leaves.
        options.log_severity_level = 3
        # Not what the bytes themselves say: it is ONNX that was looked at.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                content,
                options,
                providers=["CPUExecutionProvider"],
                # It would print the error and fail again.
                enable_fallback=0,
            )
            text = self._session.get_modelmeta().custom_metadata_map[KEY]
            interface = self._interface()
        # onnxruntime raises classes of its own that have no public base.
        except Exception as error:
            raise damaged(path, error) from error
        super().__init__(path, read_manifest(text, path), interface, max_memory)
        self.input = self.manifest["input"]

    def _interface(self):
        """Returns what the model takes and gives; sizes that vary have names there."""
        [entry], [result] = self._session.get_inputs(), self._session.get_outputs()
        self._name = entry.name
        images, logits = (
            tuple(size if isinstance(size, int) else None for size in each.shape)
            for each in (entry, result)
        )
        dtype = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}.get(entry.type)
        return Interface(images, dtype, logits)

    def run(self, images):
        """Returns the logits of images (B, height, width, channels)."""
        [logits] = self._session.run(None, {self._name: images})
        return logits
