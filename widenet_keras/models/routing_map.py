"""Where tokens went, as plain arrays that can be printed and drawn."""

import dataclasses

import keras
import numpy as np

from widenet_keras.models.image_checks import batches_of
from widenet_keras.utils import numerics


@dataclasses.dataclass(frozen=True)
class RoutingMap:
    """Routing of some images at every mixture-of-experts step.

    Attributes:
        experts: (S, B, T, K) int, chosen experts, best first.
        gates: (S, B, T, K) float, probability of each choice, the largest first.
        steps: Index in the encoder of each of the S steps.
        num_experts: E.
        grid: (rows, columns) of the patches.
        class_token: Whether token 0 is the class token, before the patches.
        registers: How many registers follow it, before the patches.
        logits: (B, classes) float32, what the model answered; None without classes.
        class_names: Names of the classes; None if the model knows none.
    """

    experts: np.ndarray
    gates: np.ndarray
    steps: tuple
    num_experts: int
    grid: tuple
    class_token: bool
    registers: int = 0
    logits: np.ndarray | None = None
    class_names: tuple | None = None

    @property
    def count(self):
        """B, number of images."""
        return self.experts.shape[1]

    def load(self):
        """Returns the fraction of choices of each expert at each step, (S, E)."""
        index = np.arange(self.num_experts)
        chosen = self.experts[..., None] == index
        return chosen.mean(axis=(1, 2, 3))

    def of_image(self, image):
        """Returns the map of one image alone, (S, 1, T, K).

        Args:
            image: Index of the image.
        """
        experts, gates = self.experts[:, [image]], self.gates[:, [image]]
        logits = None if self.logits is None else self.logits[[image]]
        return dataclasses.replace(self, experts=experts, gates=gates, logits=logits)

    def patch_experts(self, image, choice=0):
        """Returns which expert each patch went to, (S, rows, columns).

        Args:
            image: Index of the image.
            choice: 0 for the first choice, 1 for the second, ...
        """
        first = int(self.class_token) + self.registers
        patches = self.experts[:, image, first:, choice]
        return patches.reshape(len(self.steps), *self.grid)


def routing_of(model, images, batch_size):
    """Returns the `RoutingMap` of some images; see `WideNet.routing`.

    Args:
        model: A `WideNet`.
        images: NumPy array (B, height, width, channels) float.
        batch_size: Images per forward pass.
    """
    if not model.config.routed_steps:
        raise ValueError(
            f"{model.name} has no mixture of experts (moe_blocks="
            f"{model.config.moe_blocks!r}), so there is no routing to show; use a "
            "model with experts."
        )
    experts, gates, logits = [], [], []
    for _, batch in batches_of("routing", images, model.config.image_shape, batch_size):
        with numerics.without_gradients():
            answers, record = model(batch, training=False, return_routing=True)
        experts.append(keras.ops.convert_to_numpy(record.experts))
        gates.append(keras.ops.convert_to_numpy(record.gates))
        logits.append(keras.ops.convert_to_numpy(answers))
    # (S, B, K, T) -> (S, B, T, K)
    experts, gates = (
        np.swapaxes(np.concatenate(each, axis=1), 2, 3) for each in (experts, gates)
    )
    # A router with groups hands choices out in their order, not the best first.
    order = np.argsort(-gates, axis=-1, kind="stable")
    return RoutingMap(
        experts=np.take_along_axis(experts, order, axis=-1),
        gates=np.take_along_axis(gates, order, axis=-1),
        steps=model.config.routed_steps,
        num_experts=model.config.num_experts,
        grid=model.config.grid,
        class_token=model.config.class_token,
        registers=model.config.registers,
        **answered(model, np.concatenate(logits)),
    )


def answered(model, outputs):
    """Returns the fields of a map that say what the model answered, a dict.

    Args:
        model: A `WideNet`.
        outputs: (B, classes), or (B, features) of a model without classes.
    """
    if not model.config.num_classes:
        return {}
    # A network for other programs to build on has no names.
    names = getattr(model, "class_names", None)
    names = None if names is None else tuple(names)
    return {"logits": outputs, "class_names": names}
