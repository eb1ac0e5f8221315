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
    switches = _torch_switches() if backend == "torch" else _tensorflow_switches()
    before = [read() for read, _ in switches]
    for _, write in switches:
        write(False)
    try:
        yield
    finally:
        for (_, write), value in zip(switches, before, strict=True):
            write(value)


def _torch_switches():
    torch = importlib.import_module("torch")

    def switch(owner):
        return (
            lambda: owner.allow_tf32,
            lambda value: setattr(owner, "allow_tf32", value),
        )

    return [switch(torch.backends.cuda.matmul), switch(torch.backends.cudnn)]


def _tensorflow_switches():
    config = importlib.import_module("tensorflow").config.experimental
    return [
        (
            config.tensor_float_32_execution_enabled,
            config.enable_tensor_float_32_execution,
        )
    ]
