"""Products in full float32, where a device would round what goes into them."""

import contextlib
import importlib

import keras


@contextlib.contextmanager
def exact_products():
    """Context in which GPUs and TPUs multiply float32 as float32.

    They take TensorFloat-32 or bfloat16 by default, which an exported file that
    runs on a CPU does not.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        with importlib.import_module("jax").default_matmul_precision("highest"):
            yield
        return
    with _on_torch() if backend == "torch" else _on_tensorflow():
        yield


@contextlib.contextmanager
def _on_torch():
    backends = importlib.import_module("torch.backends")
    # Not `allow_tf32`, which fails where a user has set these.
    owners = (backends.cuda.matmul, backends.cudnn.conv)
    before = [owner.fp32_precision for owner in owners]
    for owner in owners:
        owner.fp32_precision = "ieee"
    try:
        yield
    finally:
        for owner, value in zip(owners, before, strict=True):
            owner.fp32_precision = value


@contextlib.contextmanager
def _on_tensorflow():
    config = importlib.import_module("tensorflow").config.experimental
    before = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        config.enable_tensor_float_32_execution(before)
