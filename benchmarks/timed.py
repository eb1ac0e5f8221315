"""Functions ready to be timed on the running backend: compiled and awaited."""

from pathlib import Path

import keras
import numpy as np

BACKEND = keras.backend.backend()
LARGE = 8192  # side of the square product that shows what a device can do


def require_device(device):
    """Stops with one line unless the backend runs on the device.

    Args:
        device: "cpu" or "gpu".
    """
    if device == "cpu":
        return
    if BACKEND == "torch":
        import torch

        found = torch.cuda.is_available()
    else:
        found = keras.distribution.list_devices()[0].startswith("gpu")
    if not found:
        raise SystemExit(
            f"--device gpu: {BACKEND} sees no GPU here; install its GPU build, or use "
            "--device cpu."
        )


def batch(size, config):
    """Returns random images and labels for a model, NumPy arrays.

    Args:
        size: Number of images.
        config: `WideNetConfig`.
    """
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (size, *config.image_shape)).astype("float32")
    return images, random.integers(0, config.num_classes, size)


def forward(function, variables, x):
    """Returns a function that computes `function(x)`, once or more, and waits for it.

    Args:
        function: Of a tensor, reading `variables`.
        variables: List of `keras.Variable`.
        x: NumPy array.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        graph = tf.function(function)
        return _calls(lambda: graph(x), _wait_tensorflow)
    if BACKEND == "jax":
        import jax

        compiled = jax.jit(_stateless(function, variables))
        values = [v.value for v in variables]
        x = jax.numpy.asarray(x)
        return _calls(lambda: compiled(values, x), jax.block_until_ready)
    import torch

    x = keras.ops.convert_to_tensor(x)
    return _calls(torch.no_grad()(lambda: function(x)), _wait_torch)


def gradients(function, variables, x):
    """Returns a function that computes all gradients of `function(x)`, as `forward`.

    Args:
        function: Of a tensor, reading `variables`, to a scalar.
        variables: List of `keras.Variable`; the gradient of x is computed too.
        x: NumPy array.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)

        @tf.function
        def graph(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = function(x)
            return tape.gradient(value, [v.value for v in variables] + [x])

        return _calls(lambda: graph(x), _wait_tensorflow)
    if BACKEND == "jax":
        import jax

        compiled = jax.jit(jax.grad(_stateless(function, variables), argnums=(0, 1)))
        values, x = [v.value for v in variables], jax.numpy.asarray(x)
        return _calls(lambda: compiled(values, x), jax.block_until_ready)
    import torch

    x = keras.ops.convert_to_tensor(x).requires_grad_()
    wanted = [v.value for v in variables] + [x]
    return _calls(
        lambda: torch.autograd.grad(function(x), wanted, allow_unused=True),
        _wait_torch,
    )


def _calls(call, wait):
    """Returns a function that makes some calls, one by default, and waits for them."""

    def calls(count=1):
        for _ in range(count):
            result = call()
        wait(result)

    return calls


def large_product_flops():
    """Returns the arithmetic of `large_product`."""
    return 2 * LARGE**3


def large_product(dtype):
    """Returns a function that multiplies two large square matrices and waits.

    Args:
        dtype: A Keras dtype policy, whose compute dtype is used.
    """
    kind = keras.dtype_policies.get(dtype).compute_dtype
    x = np.random.default_rng(0).normal(size=(LARGE, LARGE)).astype("float32")
    x = keras.ops.cast(keras.ops.convert_to_tensor(x), kind)
    return forward(lambda x: keras.ops.matmul(x, x), [], x)


def operations(model, images):
    """Returns how many operations a model's loss and gradients are traced to.

    None on torch, which traces nothing.

    Args:
        model: A model of this package.
        images: NumPy array of images.
    """
    variables = model.trainable_variables

    def loss(images):
        return keras.ops.sum(model(images, training=True))

    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function
        def gradients(images):
            with tf.GradientTape() as tape:
                value = loss(images)
            return tape.gradient(value, [v.value for v in variables])

        concrete = gradients.get_concrete_function(tf.constant(images))
        graph = concrete.graph.as_graph_def()
        inner = sum(len(function.node_def) for function in graph.library.function)
        return len(graph.node) + inner
    if BACKEND == "jax":
        import jax

        gradients = jax.grad(_stateless(loss, variables))
        program = jax.make_jaxpr(gradients)([v.value for v in variables], images)
        return len(str(program).splitlines())
    return None


def peak_gib(device):
    """Returns the most memory that this process has held so far, GiB.

    Args:
        device: "cpu" for the memory of the process, "gpu" for that of the GPU.
    """
    if device == "cpu":
        # Not ru_maxrss, in which a new process inherits its parent's peak.
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    if BACKEND == "torch":
        import torch

        return torch.cuda.max_memory_allocated() / 2**30
    if BACKEND == "jax":
        import jax

        return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / 2**30
    import tensorflow as tf

    return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**30


def start_of_peak(device):
    """Returns what `peak_gib` has seen before, GiB; on torch it forgets that."""
    if device == "gpu" and BACKEND == "torch":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return 0.0
    return peak_gib(device)


def _stateless(function, variables):
    """Returns `function(x)` as a function of the variables' values and x, for JAX."""

    def call(values, x):
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return function(x)

    return call


def _wait_tensorflow(result):
    import tensorflow as tf

    for tensor in tf.nest.flatten(result):
        if tensor is not None and "GPU" in tensor.device:
            tf.experimental.sync_devices()
            break


def _wait_torch(result):
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
