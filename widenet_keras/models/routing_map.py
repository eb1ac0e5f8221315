"""Where tokens went, as plain arrays that can be printed and drawn."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class RoutingMap:
    """Routing of some images at every mixture-of-experts step.

    Attributes:
        experts: (S, B, T, K) int, chosen experts, best first.
        gates: (S, B, T, K) float, probability of each choice.
        steps: Index in the encoder of each of the S steps.
        num_experts: E.
        grid: (rows, columns) of the patches.
        class_token: Whether token 0 is the class token, before the patches.
    """

    experts: np.ndarray
    gates: np.ndarray
    steps: tuple
    num_experts: int
    grid: tuple
    class_token: bool

    def load(self):
        """Returns the fraction of choices of each expert at each step, (S, E)."""
        index = np.arange(self.num_experts)
        chosen = self.experts[..., None] == index
        return chosen.mean(axis=(1, 2, 3))

    def patch_experts(self, image, choice=0):
        """Returns which expert each patch went to, (S, rows, columns).

        Args:
            image: Index of the image.
            choice: 0 for the first choice, 1 for the second, ...
        """
        first = int(self.class_token)
        patches = self.experts[:, image, first:, choice]
        return patches.reshape(len(self.steps), *self.grid)
