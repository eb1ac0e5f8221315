"""Models whose weights Keras has quantised."""

import warnings

import keras

from widenet_keras.layers.int8_weights import quantized_by_the_model
from widenet_keras.models.weights import check_kernels


def quantize_in_place(model, quantize, mode, config=None, filters=None):
    """Stores the kernels of attention, feed-forward parts, head and pieces as int8.

    Prompts are stored so, too. Patches, norms, biases and routers stay in float: they
    are small, and a router that rounds sends tokens elsewhere. For inference: the model
    is no longer compiled, and what is int8 is not trained.

    Args:
        model: A `WideNet`.
        quantize: Keras' own `quantize` of the model.
        mode: "int8".
        config: Keras' default config of the mode, or None: a saved model is rebuilt by
            its mode.
        filters: Must be None, for the same reason.

    Raises:
        ValueError: If the model is quantised already, reads its kernels from a ring, or
            is asked for anything else.
    """
    check_kernels("quantize", model)
    if model.quantization is not None:
        raise ValueError(
            f"quantize: {model.name} is quantised to {model.quantization!r} already; "
            "load the float model to quantise it in another way."
        )
    default = keras.quantizers.Int8QuantizationConfig()
    special = config is not None and config.get_config() != default.get_config()
    if mode != "int8" or special or filters is not None:
        raise ValueError(
            f"quantize: mode={mode!r}, filters={filters!r} and "
            f"{'a' if special else 'no'} config of quantizers; use mode='int8' alone."
        )
    if model.compute_dtype == "float16":
        raise ValueError(
            "quantize: the model computes in float16, where int8 products overflow; "
            "use adapted(dtype='float32') first."
        )
    with warnings.catch_warnings(), quantized_by_the_model():
        # Keras names every layer without a kernel that it leaves as it is.
        warnings.filterwarnings("ignore", message=".*`quantize` method")
        quantize(mode)
    # The optimizer knows variables that are gone.
    model.optimizer, model.compiled = None, False
    model.quantization = mode
