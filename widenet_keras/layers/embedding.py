"""Patch embedding with a position table that follows the image size."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from widenet_keras.layers.normalization import EPSILON, layer_norm
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_flag, check_integer, check_positive
from widenet_keras.utils.roles import Role, built_with_role, weight_with_role
from widenet_keras.utils.types import Read, Shape, Tensor

ROLE = Role("embedding", "embedding")


class EmbeddingWeights(NamedTuple):
    """The weights of an embedding.

    Attributes:
        kernel: (p, p, channels, D).
        bias: (D,).
        position: (class token + patches, D).
        registers: (R, D), absent where there are none.
        norm: Pair of gamma and beta, each (D,), absent where there is no norm.
    """

    kernel: object
    bias: object
    position: object
    registers: object = ()
    norm: tuple = ()


def embedded(images, weights, epsilon):
    """Returns tokens (B, T, D) of images (B, height, width, channels).

    Where the position table has a row more than there are patches, it is that of a
    class token, a constant zero. Registers follow it, without positions.

    Args:
        images: Images of whole patches.
        weights: `EmbeddingWeights`.
        epsilon: That of the norm.
    """
    tokens = _without_norm(images, weights)
    return layer_norm(tokens, *weights.norm, epsilon) if weights.norm else tokens


def _without_norm(images, weights):
    kernel, bias, position = (
        numerics.cast(weight, images.dtype) for weight in weights[:3]
    )
    patches = numerics.patches(images, kernel, bias)
    rows = patches.shape[1] * patches.shape[2]
    patches = numerics.reshaped(patches, (-1, rows, kernel.shape[-1]))
    first = position.shape[0] - rows
    leading = [position[:first]] if first else []
    if not isinstance(weights.registers, tuple):
        leading.append(numerics.cast(weights.registers, images.dtype))
    if not leading:
        return patches + position
    zero = ops.zeros_like(patches[:, :1])
    patches = patches + position[first:] if first else patches + position
    return numerics.concatenated([*(zero + each for each in leading), patches], 1)


@keras.saving.register_keras_serializable("widenet_keras")
class PatchEmbedding(keras.layers.Layer):
    """Cuts images into patches, projects them and adds their positions.

    The class token is a constant zero: its learned part is row 0 of the
    position table, as in the authors' network.

    Args:
        width: D.
        patch_size: Side of a patch in pixels; must divide the image's sides.
        class_token: Whether a class token leads the patches.
        registers: R, learned tokens after the class token, before the patches.
        norm: Whether a LayerNorm of all tokens follows.
        norm_epsilon: What the norm adds to the variance.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range or the patches do not fit.
    """

    def __init__(
        self,
        width: int,
        patch_size: int,
        class_token: bool = True,
        registers: int = 0,
        norm: bool = False,
        norm_epsilon: float = EPSILON,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_integer("PatchEmbedding", "width", width, 1)
        check_integer("PatchEmbedding", "patch_size", patch_size, 1)
        check_flag("PatchEmbedding", "class_token", class_token)
        check_integer("PatchEmbedding", "registers", registers, 0)
        check_flag("PatchEmbedding", "norm", norm)
        check_positive("PatchEmbedding", "norm_epsilon", norm_epsilon)
        self.width = width
        self.patch_size = patch_size
        self.class_token = class_token
        self.num_registers = registers
        self.norm_epsilon = norm_epsilon
        self.projection = keras.layers.Conv2D(
            width,
            patch_size,
            strides=patch_size,
            data_format="channels_last",
            dtype=self.dtype_policy,
            name="projection",
        )
        self.norm = None
        if norm:
            self.norm = keras.layers.LayerNormalization(
                epsilon=norm_epsilon, dtype=self.dtype_policy, name="norm"
            )

    def grid(self, images_shape: Shape) -> tuple[int, int]:
        """Returns (rows, columns) of the patches of (B, height, width, channels)."""
        rows, columns = images_shape[1:3]
        if rows is None or columns is None:
            raise ValueError(
                f"PatchEmbedding: images of {rows}x{columns} have no number of tokens; "
                "say their height and width, as keras.Input((height, width, channels))."
            )
        if rows % self.patch_size or columns % self.patch_size:
            raise ValueError(
                f"PatchEmbedding: images of {rows}x{columns} are not divisible by "
                f"patch_size={self.patch_size}; change one of them."
            )
        return rows // self.patch_size, columns // self.patch_size

    def build(self, images_shape: Shape) -> None:
        """Makes projection and position table for the size of these images."""
        rows, columns = self._grid = self.grid(images_shape)
        built_with_role(self.projection, images_shape, ROLE)

        def rows_of_tokens(name, count):
            return weight_with_role(
                self,
                ROLE._replace(decayed=False),
                name=name,
                shape=(count, self.width),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
            )

        self.position = rows_of_tokens(
            "position", int(self.class_token) + rows * columns
        )
        self.registers = None
        if self.num_registers:
            self.registers = rows_of_tokens("registers", self.num_registers)
        if self.norm is not None:
            tokens_shape = self.compute_output_shape(images_shape)
            built_with_role(self.norm, tokens_shape, ROLE._replace(exact=True))

    def __call__(self, images, *args, **kwargs):
        """Checks the images, then calls the layer as Keras does."""
        shape = getattr(images, "shape", ())
        known = len(shape) == 4 and None not in shape[1:3]
        if self.built and known and self.grid(shape) != self._grid:
            wanted = "x".join(str(self.patch_size * each) for each in self._grid)
            raise ValueError(
                f"PatchEmbedding: images of {shape[1]}x{shape[2]} and a position table "
                f"for images of {wanted}; give such images, or another table by "
                "`resample_positions`."
            )
        return super().__call__(images, *args, **kwargs)

    def call(self, images: Tensor) -> Tensor:
        """Returns tokens (B, T, D) of images (B, height, width, channels)."""
        with numerics.weights_as_stored() as read:
            return embedded(images, self.read(read), self.norm_epsilon)

    def read(self, read: Read) -> EmbeddingWeights:
        """Returns the `EmbeddingWeights`.

        Args:
            read: Function from a Keras variable to its tensor.
        """
        if self.projection.lora_enabled:
            raise NotImplementedError(
                f"{self.name}: LoRA on the projection of patches is not supported; use "
                "it on the products of a block, or train the projection itself."
            )
        stored = self.projection.kernel, self.projection.bias, self.position
        return EmbeddingWeights(
            *map(read, stored),
            () if self.registers is None else read(self.registers),
            () if self.norm is None else (read(self.norm.gamma), read(self.norm.beta)),
        )

    def compute_output_shape(self, images_shape: Shape) -> Shape:
        """Returns (B, T, D)."""
        rows, columns = self.grid(images_shape)
        tokens = int(self.class_token) + self.num_registers + rows * columns
        return images_shape[0], tokens, self.width

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "width": self.width,
            "patch_size": self.patch_size,
            "class_token": self.class_token,
            "registers": self.num_registers,
            "norm": self.norm is not None,
            "norm_epsilon": self.norm_epsilon,
        }


def resample_positions(
    table: np.ndarray, from_grid: tuple[int, int], to_grid: tuple[int, int]
) -> np.ndarray:
    """Returns a position table for another grid of patches.

    Rows before the patches (the class token) are kept; the patches' rows are
    resized as an image, bicubic with antialiasing, in float32 (as timm does).

    Args:
        table: NumPy array (T, D) for `from_grid`.
        from_grid: (rows, columns) of the patches that `table` is for.
        to_grid: (rows, columns) wanted.
    """
    first = table.shape[0] - from_grid[0] * from_grid[1]
    grid = table[first:].reshape(1, *from_grid, table.shape[-1]).astype("float32")
    if tuple(from_grid) != tuple(to_grid):
        grid = ops.image.resize(
            grid,
            to_grid,
            interpolation="bicubic",
            antialias=True,
            data_format="channels_last",
        )
    rows = ops.convert_to_numpy(grid).reshape(-1, table.shape[-1])
    return np.concatenate([table[:first], rows.astype(table.dtype)])
