"""The network: embedding, encoder, head. One model for WideNet, ViT and ViT-MoE."""

from collections.abc import Iterable, Sequence
from typing import Any, Self

import keras

from widenet_keras.layers.embedding import embedded
from widenet_keras.layers.head import head
from widenet_keras.layers.plan import check_looked_at
from widenet_keras.layers.step import Outputs
from widenet_keras.models.blocks import embedding_of, encoder_of, head_of
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.from_preset import FromPreset
from widenet_keras.models.frozen import Freezing
from widenet_keras.models.image_checks import check_images
from widenet_keras.models.inside import Inside
from widenet_keras.models.needs_classes import NeedsClasses
from widenet_keras.models.origin import Origin
from widenet_keras.models.quantization import quantize_in_place
from widenet_keras.models.saving import Saved
from widenet_keras.utils import numerics
from widenet_keras.utils.types import Read, Shape, Tensor


@keras.saving.register_keras_serializable("widenet_keras")
class WideNet(Origin, Freezing, FromPreset, Inside, NeedsClasses, Saved, keras.Model):
    """Embedding -> encoder -> head: images (B, height, width, channels) to logits.

    Args:
        config: A `WideNetConfig`, or the dict of one.
        seed: Seed of noise, dropout and dropped paths. Initial weights follow
            `keras.utils.set_random_seed`.
        quantization: "int8" for the layout of a quantised model, as `quantize`
            leaves it; None for floats.
        origin: Dict of what is known of where it comes from, as `Origin.origin` has it.
        frozen: Groups of weights and paths of layers that are not trained, see
            `Freezing.frozen`.
        **kwargs: `name` and `dtype`, as for `keras.Model`.
    """

    def __init__(
        self,
        config: WideNetConfig | dict,
        seed: int | None = None,
        quantization: str | None = None,
        origin: dict | None = None,
        frozen: Iterable[str] = (),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(config, str):
            raise ValueError(
                f"A model is built from a WideNetConfig, not from {config!r}; for a "
                f"preset use {type(self).__name__}.from_preset({config!r})."
            )
        if not isinstance(config, WideNetConfig):
            config = WideNetConfig().replace(**config)
        self.config = config
        self.seed = seed
        self.set_origin(**(origin or {}))
        policy = self.dtype_policy
        self.embedding = embedding_of(config, policy)
        self.embedding_dropout = keras.layers.Dropout(
            config.dropout, seed=seed, dtype=policy, name="embedding_dropout"
        )
        self.encoder = encoder_of(config, policy, seed)
        self.head = head_of(config, policy)
        self.quantization = None
        self.build((None, *config.image_shape))
        if quantization is not None:
            self.quantize(quantization)
        self.frozen = frozen

    def build(self, images_shape: Shape) -> None:
        """Builds all weights; the constructor calls it."""
        if self.built:
            return
        self.embedding.build(images_shape)
        tokens_shape = self.embedding.compute_output_shape(images_shape)
        self.embedding_dropout.build(tokens_shape)
        self.encoder.build(tokens_shape)
        self.head.build(tokens_shape)
        self.built = True

    def __call__(self, images, *args, **kwargs):
        """Checks images and steps, then calls the model as Keras does."""
        # Checked here because Keras wraps what `call` raises in many lines.
        check_images(images, self.config.image_shape)
        look_at = kwargs.get("look_at")
        if look_at is not None:
            check_looked_at(type(self).__name__, look_at, self.config.steps)
            kwargs["look_at"] = tuple(look_at)
        return super().__call__(images, *args, **kwargs)

    def call(
        self,
        images: Tensor,
        training: bool | None = None,
        return_routing: bool = False,
        look_at: Sequence[int] = (),
    ) -> Any:
        """Returns the logits, and the routing record if asked for.

        Args:
            images: (B, height, width, channels) float, scaled to [-1, 1].
            training: Whether noise, dropout and capacity are on.
            return_routing: Whether to return the `RoutingRecord` as well.
            look_at: Steps, from 0, that shall return what they computed with.

        Returns:
            Logits (B, classes) float32, of a model without classes its features. A
            tuple of them and, with `return_routing`, a `RoutingRecord` stacked over
            the S routed steps (`()` for a model without experts); then, with
            `look_at`, the `Seen` of these steps, stacked in the order of the depth.
        """
        if images.shape[0] == 0 and not return_routing and not look_at:
            # Compilers divide by the number of images.
            return keras.ops.zeros((0, self.config.outputs), "float32")
        with numerics.weights_as_stored() as read:
            how = images, training, read, return_routing
            tokens, outputs = self.run(*how, look_at=look_at)
            logits = head(tokens, self.head.read(read), self.head.spec)
        more = [self.encoder.record(outputs)] if return_routing else []
        more += [outputs.seen] if look_at else []
        return (logits, *more) if more else logits

    def run(
        self,
        images: Tensor,
        training: bool | None,
        read: Read,
        hands_out: bool = True,
        steps: int | None = None,
        look_at: Sequence[int] = (),
    ) -> tuple[Tensor, Outputs]:
        """Returns the tokens before the head, (B, T, D), and the encoder's `Outputs`.

        Args:
            images: As for `call`.
            training: As for `call`.
            read: Function from a Keras variable to its tensor.
            hands_out: As for `Encoder.run`.
            steps: How many steps to take; None for all.
            look_at: As for `call`.
        """
        # `stateless_call`, by which JAX trains, does not cast what it is given.
        images = numerics.cast(images, self.compute_dtype)
        tokens = embedded(images, self.embedding.read(read), self.config.norm_epsilon)
        # One seed for the whole pass: on a GPU each that is read is waited for.
        draws = self.encoder.draws(training)
        tokens = draws.dropout(tokens, self.embedding_dropout.rate)
        return self.encoder.run(tokens, training, look_at, hands_out, draws, steps)

    def adapted(
        self,
        dtype: Any = None,
        class_names: Iterable[str] | None = None,
        frozen: Iterable[str] | None = None,
        **fields: Any,
    ) -> Self:
        """Returns a copy with some fields changed and all weights that fit.

        See `widenet_keras.conversions.adapt.adapted`: for another `image_size` the
        position table is resampled, for other classes the last layer starts anew.

        Args:
            dtype: Dtype policy of the copy; None for that of this model.
            class_names: Names of the classes of the copy; None keeps those that fit.
            frozen: What the copy does not train, such as `("embedding", "core")`; None
                for that of this model without what starts anew.
            **fields: Fields of `WideNetConfig` to change.
        """
        # The verbs come after the network; only here a method hands on to one.
        from widenet_keras.conversions.adapt import adapted

        return adapted(self, dtype, class_names, frozen, **fields)

    def with_image_size(self, image_size: int) -> Self:
        """Returns a copy for images of another size, positions resampled (bicubic).

        Args:
            image_size: Side of the new images, pixels; divisible by `patch_size`.
        """
        return self.adapted(image_size=image_size)

    def quantize(
        self, mode: str = "int8", config: Any = None, filters: Any = None, **kwargs: Any
    ) -> None:
        """Stores kernels as int8, for inference.

        See `widenet_keras.models.quantization.quantize_in_place`. Dense kernels are
        quantised by Keras, experts and pieces one by one.

        Args:
            mode: "int8".
            config: As for `quantize_in_place`.
            filters: As for `quantize_in_place`.
            **kwargs: Not used; for Keras.
        """
        quantize_in_place(self, super().quantize, mode, config, filters)

    def compute_output_shape(self, images_shape: Shape) -> Shape:
        """Returns (B, classes), or (B, features) without classes."""
        return images_shape[0], self.config.outputs

    def compute_output_spec(
        self,
        images: Tensor,
        training: bool | None = None,
        return_routing: bool = False,
        look_at: Sequence[int] = (),
    ) -> Any:
        """Returns the spec of what `call` returns; logits are always float32."""
        logits = keras.KerasTensor(self.compute_output_shape(images.shape), "float32")
        if not return_routing and not look_at:
            return logits
        # Keras may know neither side of the images, which the model does.
        shape = images.shape[0], *self.config.image_shape
        tokens = self.embedding.compute_output_shape(shape)
        tokens = keras.KerasTensor(tokens, self.compute_dtype)
        more = self.encoder.compute_output_spec(tokens, training, look_at)[1:]
        return logits, *(more if return_routing else more[1:])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "config": self.config.to_dict(),
            "seed": self.seed,
            "quantization": self.quantization,
            "origin": self.origin(),
            # Left out where nothing is, as earlier versions read it.
            **({"frozen": list(self.frozen)} if self.frozen else {}),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict | None = None
    ) -> Self:
        """Rebuilds the model from `get_config`."""
        config = {**config}
        config["dtype"] = keras.saving.deserialize_keras_object(config["dtype"])
        return cls(**config)
