"""What a network sees in images, besides the logits that it gives."""

import numpy as np
from keras import ops

from widenet_keras.models.attention_map import AttentionMap, attention_of
from widenet_keras.models.features import Features
from widenet_keras.models.routing_map import RoutingMap, routing_of
from widenet_keras.routing.record import RoutingRecord
from widenet_keras.utils.types import Tensor


class Inside:
    """Mixin with the methods of a `WideNet` that look inside it."""

    def features(
        self, images: Tensor, step: int | None = None, pooled: bool = False
    ) -> Tensor:
        """Returns what the network sees in images, for other models to build on.

            inputs = keras.Input(model.config.image_shape)
            backbone = keras.Model(inputs, model.features(inputs, pooled=True))

        Args:
            images: (B, height, width, channels) float in [-1, 1], or a `keras.Input`.
            step: Step of the depth, from 0, after which to look; those behind it are
                not computed. None for the last.
            pooled: Whether the norm and the pooling of the head follow.

        Returns:
            Tokens (B, T, D) as they leave the step, before any norm of the head, a
            class token first; (B, D) if `pooled`, or (B, 2 D) for two of them.

        Raises:
            ValueError: If there is no such step, or the images do not fit.
        """
        return Features(self, step, pooled)(images)

    def auxiliary_loss(self, record: RoutingRecord | tuple) -> Tensor:
        """Returns the weighted auxiliary losses of a record, a scalar.

        Args:
            record: `RoutingRecord` of all routed steps, or `()` without experts.
        """
        if not record:
            return ops.zeros((), dtype="float32")
        loss = self.config.balance_loss_weight * ops.sum(record.balance_loss)
        if self.config.router_z_loss_weight:
            loss += self.config.router_z_loss_weight * ops.sum(record.z_loss)
        return loss

    def attention(self, images: np.ndarray, batch_size: int = 32) -> AttentionMap:
        """Returns how much the tokens of some images look at each other at inference.

            shown = model.attention(images[:4])
            widenet_keras.plot.plot_attention(shown, images[:4], path="attention.png")

        Args:
            images: NumPy array (B, height, width, channels) float.
            batch_size: Images per forward pass.

        Returns:
            An `AttentionMap` of NumPy arrays: weights (L, B, H, T, T), which take
            4 L B H T^2 bytes, 22 MB for an image and ViT-B/16.

        Raises:
            ValueError: If the images do not fit, or there are none.
        """
        return attention_of(self, images, batch_size)

    def routing(self, images: np.ndarray, batch_size: int = 32) -> RoutingMap:
        """Returns where every token of some images goes at inference.

        Args:
            images: NumPy array (B, height, width, channels) float.
            batch_size: Images per forward pass.

        Returns:
            A `RoutingMap` of NumPy arrays: experts and gates (S, B, T, K).

        Raises:
            ValueError: If the model has no experts, or the images do not fit, or
                there are none.
        """
        return routing_of(self, images, batch_size)
