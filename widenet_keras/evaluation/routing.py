"""Who did the work: statistics of routing over a whole data set."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class RoutingStatistics:
    """Routing at each of the S mixture-of-experts steps, over all images.

    Attributes:
        steps: (S,) index of each step in the encoder.
        fractions: (S, E) fraction of the choices of a step that each expert got.
        busiest: (S,) load of the busiest expert over its fair share: 1 is fair,
            E/K the most that is possible.
        dead: (S,) experts that no token of any image chose at that step.
        gate_sum: (S,) mean over the tokens of the sum of their K gates: how much
            of its probability a token gives to the experts that it uses.
        entropy: (S,) entropy of `fractions` over its maximum log(E): 1 is fair.
        dead_experts: Number of experts that nothing chose at any step; experts of
            different blocks are different experts.
    """

    steps: tuple
    fractions: tuple
    busiest: tuple
    dead: tuple
    gate_sum: tuple
    entropy: tuple
    dead_experts: int

    @property
    def num_experts(self):
        """E, number of experts."""
        return len(self.fractions[0])

    def load(self):
        """Returns `fractions` as an array, (S, E), as a `RoutingMap` does."""
        return np.array(self.fractions)


class RoutingCounter:
    """Adds up where tokens go, batch by batch.

    Args:
        config: `WideNetConfig` of a model with experts.
    """

    def __init__(self, config):
        self.config = config
        steps = len(config.routed_steps)
        self.counts = np.zeros((steps, config.num_experts), "int64")
        self.gates = np.zeros(steps)
        self.tokens = 0

    def add(self, experts, gates):
        """Adds one batch.

        Args:
            experts: (B, S, K, T) int, chosen experts.
            gates: (B, S, K, T) float, probability of each choice.
        """
        for step in range(len(self.counts)):
            self.counts[step] += np.bincount(
                experts[:, step].ravel(), minlength=self.config.num_experts
            )
        self.gates += gates.sum(axis=(0, 2, 3), dtype="float64")
        self.tokens += experts.shape[0] * experts.shape[3]

    def statistics(self):
        """Returns the `RoutingStatistics` of what was added."""
        fractions = self.counts / self.counts.sum(axis=1, keepdims=True)
        experts = self.config.num_experts
        logs = np.log(np.where(fractions > 0, fractions, 1.0))
        # A single expert has all the load, which is fair.
        entropy = -(fractions * logs).sum(axis=1) / np.log(max(experts, 2))
        entropy = entropy if experts > 1 else np.ones(len(fractions))
        steps = self.config.routed_steps
        banks = np.array(self.config.routed_banks)
        of_banks = [self.counts[banks == bank].sum(axis=0) for bank in np.unique(banks)]
        return RoutingStatistics(
            steps=tuple(steps),
            fractions=tuple(map(tuple, fractions.tolist())),
            busiest=tuple((fractions.max(axis=1) * experts).tolist()),
            dead=tuple(tuple(np.flatnonzero(row == 0).tolist()) for row in self.counts),
            gate_sum=tuple((self.gates / self.tokens).tolist()),
            entropy=tuple(entropy.tolist()),
            dead_experts=int(sum((counts == 0).sum() for counts in of_banks)),
        )
