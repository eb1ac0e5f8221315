"""Consistency: two forward passes of one batch shall say the same."""

from keras import ops

from widenet_keras.training.terms import Term, divergence, mean_over_images
from widenet_keras.utils.checks import check_number


class Consistency(Term):
    """A term: predictions of two forward passes with other draws, held together.

    ```python
    model.compile(terms=[widenet_keras.Consistency(1.0)])
    ```

    weight / 2 * (KL(p || q) + KL(q || p)) of the class probabilities p and q of two
    passes over the same images, where what stands first in KL is a constant: zero
    where nothing is drawn. Draws are dropout, dropped paths, noise of routers and
    choices from banks of adapters. A batch takes two forward passes; auxiliary losses
    are the mean of both. Source: "AdaMix: Mixture-of-Adaptations for Parameter-
    efficient Model Tuning" (arXiv 2205.12410).

    Args:
        weight: Factor of the term. Images weigh as in the task loss.

    Raises:
        ValueError: If the weight is negative.
    """

    name = "consistency"

    def __init__(self, weight: float = 1.0):
        check_number("Consistency", "weight", weight, 0.0)
        self.weight = float(weight)

    def __call__(self, answer_of, sample_weight, first, again):
        """Returns the term of a batch, a scalar; see `Term`."""
        p, q = first.logits, again().logits
        there = divergence(ops.stop_gradient(p), q)
        back = divergence(ops.stop_gradient(q), p)
        return self.weight / 2 * mean_over_images(there + back, sample_weight)
