"""Products of tokens with a kernel, as values: the weights, and what computes them."""

from typing import NamedTuple

import keras
from keras import ops

from widenet_keras.layers.int8_weights import check_quantized_by_the_model
from widenet_keras.utils import numerics
from widenet_keras.utils.roles import built_with_role, say_roles


class Product(NamedTuple):
    """The weights of a product.

    Attributes:
        kernel: (D, F), or (E, D, F) for a bank of experts; int8 with a scale.
        bias: (F,), or (E, F).
        scale: (F,), what an int8 kernel was multiplied by; absent for floats.
    """

    kernel: object
    bias: object
    scale: object = ()

    def narrowed(self, inputs=None, outputs=None):
        """Returns the product of the first inputs, with the first outputs alone.

        Args:
            inputs: How many; None for all.
            outputs: How many; None for all.
        """
        scale = self.scale if isinstance(self.scale, tuple) else self.scale[:outputs]
        return Product(self.kernel[:inputs, :outputs], self.bias[:outputs], scale)


def linear(x, product):
    """Returns x @ kernel + bias in the dtype of `x`.

    Args:
        x: (..., D).
        product: `Product` of a kernel (D, F).
    """
    if isinstance(product.scale, tuple):
        return numerics.linear(x, product.kernel, product.bias)
    return _int8_linear(x, product)


def _int8_linear(x, product):
    """The same for an int8 kernel: rows are rounded by their own ranges, as in Keras.

    Rounding has no gradient; that of the product with the kernel in float stands for
    it, so that what comes before can be trained.
    """

    @ops.custom_gradient
    def product_of_rounded(x, kernel, scale):
        def gradient(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            float_kernel = ops.cast(kernel, upstream.dtype) / scale
            return ops.matmul(upstream, ops.transpose(float_kernel)), None, None

        rounded, of_rows = keras.quantizers.abs_max_quantize(x, axis=-1)
        found = ops.cast(ops.matmul(rounded, kernel), x.dtype)
        return found / (scale * of_rows), gradient

    scale, bias = (ops.cast(part, x.dtype) for part in (product.scale, product.bias))
    return product_of_rounded(x, product.kernel, scale) + bias


class Linear(keras.layers.Dense):
    """A layer that holds the kernel and the bias of one product.

    Who owns it reads them with `read` and computes with `linear`; so do `quantize`
    and `enable_lora` of Keras reach the products of a block. Called by itself it is
    a `keras.layers.Dense`.
    """

    role = None

    def quantize(self, mode=None, type_check=True, config=None):
        """Stores the kernel in integers; as `keras.layers.Dense.quantize`."""
        check_quantized_by_the_model(self)
        # Keras leaves subclasses of Dense alone, which may compute anything.
        super().quantize(mode, type_check=False, config=config)
        say_roles(self, self.role)

    def enable_lora(self, *args, **kwargs):
        """Adds low-rank factors to the kernel; as `keras.layers.Dense.enable_lora`."""
        super().enable_lora(*args, **kwargs)
        say_roles(self, self.role)

    def read(self, read):
        """Returns the `Product` of this layer.

        Args:
            read: Function from a Keras variable to its tensor.
        """
        bias = read(self.bias)
        if self.quantization_mode is None:
            kernel = read(self._kernel)
            if self.lora_enabled:
                factor = self.lora_alpha / self.lora_rank
                factors = read(self.lora_kernel_a), read(self.lora_kernel_b)
                kernel = kernel + factor * ops.matmul(*factors)
            return Product(kernel, bias)
        if self.quantization_mode != "int8" or self.lora_enabled:
            raise NotImplementedError(
                f"{self.name}: quantization_mode={self.quantization_mode!r} with "
                f"lora_enabled={self.lora_enabled}; use int8 without LoRA, or LoRA "
                "on the float model."
            )
        return Product(read(self._kernel), bias, read(self.kernel_scale))


def built_linear(layer, shape, role):
    """Returns a `Linear`, built, whose weights have a role.

    Args:
        layer: `Linear`.
        shape: Shape of what it takes.
        role: `Role` of its kernel; the bias has the same, but is not decayed.
    """
    layer.role = role
    return built_with_role(layer, shape, role)
