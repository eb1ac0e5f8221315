"""What each step of the depth keeps for itself, stacked over the steps."""

from typing import NamedTuple

from keras import ops

from widenet_keras.layers.normalization import StepNorms


class Private(NamedTuple):
    """What a step keeps for itself; leading axes are stacked over the steps.

    What is absent is `()`, which has no leaves, and so takes no other's place.

    Attributes:
        norms: `StepNorms`, each (..., D).
        seed: (..., 2), seed of its `RandomDraws`; absent if nothing is drawn.
        drop_path: (...,), rate of dropped paths; absent for 0.
        pieces: Tuple of a NamedTuple of weights for each piece.
        share: (...,), which part of the hidden units takes part; absent for all.
        order: (..., 2, T), in which order groups of attention are made of the tokens,
            and the one that undoes it; absent if no step has such an order.
        weights: `BlockWeights` of steps whose block has none; absent elsewhere.
    """

    norms: StepNorms
    seed: object = ()
    drop_path: object = ()
    pieces: tuple = ()
    share: object = ()
    order: object = ()
    weights: tuple = ()

    def drawn(self, draws, steps, stochastic_depth, widths):
        """Returns it with what a pass of training draws.

        Args:
            draws: `RandomDraws` of the pass.
            steps: L.
            stochastic_depth: Rate of dropped paths of the last step.
            widths: `Widths`.
        """
        drop_path = ()
        if stochastic_depth:
            rates = [stochastic_depth * step for step in range(steps)]
            drop_path = ops.convert_to_tensor(rates, "float32") / max(steps - 1, 1)
        share = widths.of_pass(draws, steps)
        seeds = draws.seeds_of_steps(steps)
        return self._replace(seed=seeds, drop_path=drop_path, share=share)
