"""The kernels of many products, all read from one vector: a ring."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from widenet_keras.layers.feed_forward import bias_initializer
from widenet_keras.layers.linear import Product, linear
from widenet_keras.layers.pieces.lora import FEED_FORWARD_MAPS
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_integer
from widenet_keras.utils.roles import Role, making, weight_with_role
from widenet_keras.utils.types import Read, Shape, Tensor

_ROLE = Role("core", "ring")


def places(size, count, seed):
    """Returns which entry of a ring, and of the ring times -1 behind it, is read where.

    Each entry is read floor(count / size) times or once more, at random places and with
    random signs. A function of its arguments on every machine: the words of PCG64 are
    those of all versions of NumPy, unlike what its distributions make of them.

    Args:
        size: N.
        count: T, how many entries are read.
        seed: Of the places and the signs.

    Returns:
        (T,) int32 NumPy, each from 0 to 2 N - 1.
    """
    words = np.random.PCG64(seed).random_raw(count)
    entries = np.arange(count, dtype="uint64") % size + words % 2 * size
    # Sorted by the upper halves of the words, which shuffles the entries in the lower.
    keys = (words >> 32 << 32) + entries
    keys.sort()
    return (keys & 0xFFFFFFFF).astype("int32")


class _Unseen:
    """A constant that Keras does not look into: neither saved, counted nor trained.

    Args:
        size: How many numbers it has.
        values: Function without arguments that returns them, (size,) NumPy.
    """

    def __init__(self, size, values):
        def initializer(shape, dtype=None):
            return ops.convert_to_tensor(values(), dtype)

        # A variable, which graphs of TensorFlow refer to instead of holding a copy.
        with making(_ROLE):
            self.variable = keras.Variable(
                initializer, (size,), "int32", trainable=False, name="places"
            )


@keras.saving.register_keras_serializable("widenet_keras")
class Ring(keras.layers.Layer):
    """Holds one vector that the kernels of all its products are read from.

    An entry of a kernel (Din, Dout) is one of the ring, N(0, 1) at the start, times 1
    or -1 and sqrt(2 / (Din + Dout)), so that kernels start with the spread of Glorot.
    Which entry is random, a function of the seed that no file holds; T entries of
    kernels read each one of the N floor(T / N) times or once more. Biases belong to
    the products.

    "Recurrent Parameter Generators" (RPG, arXiv 2107.07110); as there, weight decay
    applies to the ring. It saves parameters, in files and in the state of an optimizer,
    and neither memory nor time: each pass makes all kernels, and the places take as
    much memory again. So it is for small models; of 85 million weights (ViT-B) reading
    takes seconds of a CPU in each pass.

    Args:
        size: N, at most T.
        shapes: Dict from names to (L, Din, Dout), L products of one shape each.
            The order of the names does not matter.
        seed: Of places and signs; a ring that is read by another one makes other
            kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range, or the ring longer than T.
    """

    def __init__(
        self,
        size: int,
        shapes: dict[str, Sequence[int]],
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_integer("Ring", "size", size, 1)
        check_integer("Ring", "seed", seed, 0)
        if not isinstance(shapes, dict) or not shapes:
            raise ValueError(
                f"Ring: shapes={shapes!r} must be a dict from names to (L, Din, Dout)."
            )
        self.size, self.seed = size, seed
        self.shapes = {name: tuple(shapes[name]) for name in sorted(shapes)}
        for name, shape in self.shapes.items():
            if len(shape) != 3:
                raise ValueError(
                    f"Ring: shapes[{name!r}]={shape} must be (L, Din, Dout)."
                )
            for number in shape:
                check_integer("Ring", f"shapes[{name!r}]", number, 1)
        check_size("Ring", "size", size, self.count)

    @property
    def count(self) -> int:
        """T, how many entries the kernels have."""
        return sum(map(math.prod, self.shapes.values()))

    def build(self, x_shape: Shape | None = None) -> None:
        """Makes ring and biases; the shape of what is multiplied does not matter."""
        self.ring = weight_with_role(
            self,
            _ROLE,
            name="ring",
            shape=(self.size,),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )
        self._biases = [
            weight_with_role(
                self,
                _role_of_bias(name),
                name=f"{name}_bias",
                shape=(steps, outputs),
                initializer=_start_of_bias(name),
            )
            for name, (steps, _, outputs) in self.shapes.items()
        ]
        where = self.size, self.count, self.seed
        self._places = _Unseen(self.count, lambda: places(*where))

    def read(self, read: Read) -> dict[str, Product]:
        """Returns the `Product`s by name, each of kernels (L, Din, Dout), a dict.

        Args:
            read: Function from a Keras variable to its tensor.
        """
        # What is read of variables of TensorFlow is still one, which cannot be stacked.
        ring, shapes = read(self.ring)[...], self.shapes.values()
        signed = ops.reshape(ops.stack([ring, -ring]), (-1,))
        entries = numerics.taken(signed, read(self._places.variable))
        ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1].tolist()
        found = {}
        for part, bias, (name, shape) in zip(
            ops.split(entries, ends), self._biases, self.shapes.items(), strict=True
        ):
            spread = math.sqrt(2 / (shape[1] + shape[2]))
            kernels = numerics.reshaped(part, shape) * spread
            found[name] = Product(kernels, read(bias))
        return found

    def call(self, x: Tensor, which: str, step: int) -> Tensor:
        """Returns x @ kernel + bias, (..., Dout).

        Args:
            x: (..., Din).
            which: Name of the kernel.
            step: Which of the L of that name, from 0.
        """
        with numerics.weights_as_stored() as read:
            kernels, biases, _ = self.read(read)[which]
            return linear(x, Product(kernels[step], biases[step]))

    def compute_output_spec(
        self, x: Tensor, which: str, step: int
    ) -> keras.KerasTensor:
        """Returns the spec of the product."""
        shape = (*x.shape[:-1], self.shapes[which][-1])
        return keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        shapes = {name: list(shape) for name, shape in self.shapes.items()}
        config = {"size": self.size, "shapes": shapes, "seed": self.seed}
        return {**super().get_config(), **config}


def _start_of_bias(name):
    # As in the layers whose products these are in a block.
    return bias_initializer() if name in FEED_FORWARD_MAPS else "zeros"


def _role_of_bias(name):
    part = "dense MLPs" if name in FEED_FORWARD_MAPS else "attention"
    return Role("core", part, decayed=False, stacked="steps")


def check_size(owner, field, size, count):
    """Raises `ValueError` for a ring that is longer than what is read from it.

    Args:
        owner: Name that starts the message.
        field: What its size is called there.
        size: N.
        count: T.
    """
    if size > count:
        raise ValueError(
            f"{owner}: {field}={size} is more than the {count} weights that kernels "
            f"have, so that some would be read nowhere; use at most {count}."
        )
