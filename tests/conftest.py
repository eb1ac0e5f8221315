"""What all tests share: the backend's name, fixed seeds, a small model."""

import os
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests compile far more than they compute: XLA need not try hard, and what one process
# has compiled serves the other workers and the processes that tests start.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if os.environ["KERAS_BACKEND"] == "jax":
    # On a GPU it takes the first kernel that will do and tries no others.
    flags = ["--xla_gpu_autotune_level=0"]
    if int(version("jax").split(".")[1]) < 11:
        # Halves what is left; the fusions are the same, written in XLA's older way,
        # which aborts from JAX 0.11 on.
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ.setdefault("XLA_FLAGS", " ".join(flags))
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(__file__).parents[1] / ".pytest_cache" / "d" / "jax"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Accelerators round float32 products to 11 bits of it, which would hide an error; and
# workers share a GPU.
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
if "PYTEST_XDIST_WORKER" in os.environ:
    # torch's threads wait for each other, for long where processes share the cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
import pytest
from costs import (  # noqa: F401
    pytest_collection_finish,
    pytest_runtest_logreport,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)
from selection import (  # noqa: F401
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_ignore_collect,
)

import widenet_keras
from widenet_keras.training.step import TrainStep

BACKEND = keras.backend.backend()
# How a step or two are quickest: TensorFlow traces for long, and JAX compiles each
# operation of an eager step for itself.
RUN_EAGERLY = BACKEND == "tensorflow"

if BACKEND == "jax":
    from widenet_keras.layers import expert_runs_jax

    # One size of block, since each size is compiled; `test_expert_runs.py` has all.
    expert_runs_jax.BLOCK_SIZES = (64,)


def optimize_graphs(whether):
    """Says whether TensorFlow optimizes graphs; it does outside of tests."""
    if BACKEND == "tensorflow":
        from tensorflow import config

        options = {"disable_meta_optimizer": not whether}
        config.optimizer.set_experimental_options(options)


# As above: graphs run as they are traced, but for those of `optimized_graphs`.
optimize_graphs(False)

if BACKEND == "torch":
    # As on a CPU also where there is a GPU: a program takes half a minute to compile,
    # and tests of programs ask for them.
    TrainStep._resolve_auto_jit_compile = lambda self: False

# Small enough to trace in seconds, odd enough to catch a swapped axis.
TINY = {
    "image_size": 12,
    "channels": 3,
    "patch_size": 4,
    "width": 12,
    "steps": 2,
    "heads": 3,
    "mlp_dim": 10,
    "expert_dim": 14,
    "num_experts": 4,
    "num_classes": 5,
}
KINDS = {
    "widenet": {},
    "vit": {"sharing": "none", "moe_blocks": "none", "pooling": "token"},
    "vit_moe": {"steps": 3, "sharing": "none", "moe_blocks": (-2, -1)},
}


def slow(*values, when=True):
    """Returns values of a parameter of which a test is slow."""
    return pytest.param(*values, marks=[pytest.mark.slow] if when else [])


def slow_on(backend):
    """Returns a mark of tests as slow on one backend; the others run them."""
    return pytest.mark.slow if backend == BACKEND else lambda test: test


def pytest_report_header():
    return f"keras {keras.version()} on {BACKEND}"


@pytest.fixture(autouse=True)
def _fixed_seeds():
    keras.utils.set_random_seed(0)


@pytest.fixture
def optimized_graphs():
    """Has TensorFlow optimize graphs meanwhile."""
    optimize_graphs(True)
    yield
    optimize_graphs(False)


@pytest.fixture
def without_values():
    """Weights made meanwhile have shapes, and no memory behind them."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    # Forgets the weights that Keras would make up for when the next scope ends.
    keras.utils.clear_session()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


def tiny_config(kind="widenet", **fields):
    """Returns a tiny config of a kind: "widenet", "vit" or "vit_moe"."""
    return widenet_keras.WideNetConfig().replace(**{**TINY, **KINDS[kind], **fields})


def tiny_model(kind="widenet", dtype=None, **fields):
    """Returns a tiny classifier whose norms and biases are not at their start."""
    model = widenet_keras.ImageClassifier(
        tiny_config(kind, **fields), seed=0, dtype=dtype
    )
    shake(model.weights)
    return model


def shake(weights, size=0.1):
    """Adds noise to weights, so that none is a constant that hides an error."""
    random = np.random.default_rng(1)
    for weight in weights:
        value = keras.ops.convert_to_numpy(weight)
        noise = random.normal(size=value.shape) * size
        weight.assign((value + noise).astype(value.dtype))


def tiny_images(count=4, size=12, seed=0):
    """Returns random images (count, size, size, 3) in [-1, 1]."""
    random = np.random.default_rng(seed)
    return random.uniform(-1, 1, (count, size, size, 3)).astype("float32")


def numpy(tensor):
    """Returns a tensor of any backend as NumPy."""
    return keras.ops.convert_to_numpy(tensor)


def one_line(error):
    """Returns the message of an error and checks that it is one line."""
    text = str(error.value)
    assert "\n" not in text, text
    return text
