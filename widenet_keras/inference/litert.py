"""LiteRT (TFLite) files as predictors."""

import contextlib
import importlib
import threading
import warnings

import numpy as np

from widenet_keras.data.requirements import has_tensorflow
from widenet_keras.files.checksums import open_with_zip
from widenet_keras.files.manifest import Interface, damaged
from widenet_keras.inference.litert_graph import check_litert_graph
from widenet_keras.inference.predictor import Predictor
from widenet_keras.utils.install import install_command, is_installed
from widenet_keras.utils.memory import MAX_MEMORY


def interpreter_class():
    """Returns LiteRT's interpreter, or the one that TensorFlow still has.

    Raises:
        ImportError: If neither is installed.
    """
    if is_installed("ai_edge_litert"):
        return importlib.import_module("ai_edge_litert.interpreter").Interpreter
    if not has_tensorflow():
        raise ImportError(
            "LiteRT files need ai-edge-litert, which is not installed; run "
            f"{install_command('litert')}."
        )
    from widenet_keras.inference.litert_tensorflow import Interpreter

    return Interpreter


@contextlib.contextmanager
def quiet_interpreters():
    """Context in which TensorFlow does not say where its interpreter moves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def interpreter_of(content, threads=None):
    """Returns the interpreter of a model.

    Args:
        content: Bytes of the model.
        threads: Its threads; None for its default.
    """
    with quiet_interpreters():
        return interpreter_class()(model_content=content, num_threads=threads)


def operations_of(content):
    """Returns the operations of a LiteRT model in their order, a list of dicts.

    Args:
        content: Bytes of the model.
    """
    operations = interpreter_of(content)._get_ops_details()
    # The delegate that the interpreter adds is no operation of the file.
    return [each for each in operations if each["op_name"] != "DELEGATE"]


class LiteRTPredictor(Predictor):
    """A .tflite file of `widenet_keras.export`.

    Args:
        path: The file.
        threads: Threads of the interpreter; None for its default.
        max_memory: Bytes that it may take beyond what the file weighs.

    Raises:
        ValueError: If the file is damaged, has operators that are not built in, or
            would take too much memory.
        ImportError: If there is no interpreter.
    """

    def __init__(self, path, threads=None, *, max_memory: int = MAX_MEMORY):
        content, manifest = open_with_zip(path)
        # Said first where there is none: it brings what reads the graph.
        interpreter_class()
        check_litert_graph(content, path, max_memory)
        try:
            self._interpreter = interpreter_of(content, threads)
            # Operators that do not fit each other are told of here.
            self._interpreter.allocate_tensors()
            interface = self._interface()
        except (ValueError, RuntimeError) as error:
            raise damaged(path, error) from error
        super().__init__(path, manifest, interface, max_memory)
        self.input = manifest["input"]
        self._shape = None
        # An interpreter keeps its input and output in itself.
        self._one_by_one = threading.Lock()

    def _interface(self):
        """Returns what the model takes and gives; sizes that vary are -1 there."""
        [entry] = self._interpreter.get_input_details()
        [result] = self._interpreter.get_output_details()
        images, logits = (
            tuple(None if size < 0 else int(size) for size in each["shape_signature"])
            for each in (entry, result)
        )
        return Interface(images, np.dtype(entry["dtype"]).name, logits)

    def run(self, images):
        """Returns the logits of images (B, height, width, channels)."""
        with self._one_by_one:
            [entry] = self._interpreter.get_input_details()
            [result] = self._interpreter.get_output_details()
            if images.shape != self._shape:
                # What is too large fails half-way, with the other shape set.
                self._shape = None
                self._interpreter.resize_tensor_input(entry["index"], images.shape)
                self._interpreter.allocate_tensors()
                self._shape = images.shape
            self._interpreter.set_tensor(entry["index"], images)
            self._interpreter.invoke()
            return self._interpreter.get_tensor(result["index"])
