"""What a block computes, as a pure function of tensors and what is static about it.

It knows nothing about depth: what is private to a step comes as an argument, so that
one block can serve every step.
"""

from typing import NamedTuple

from widenet_keras.layers.attention import (
    AttentionSpec,
    AttentionWeights,
    attention,
)
from widenet_keras.layers.expert_runs import bank_of
from widenet_keras.layers.feed_forward import feed_forward, narrowed
from widenet_keras.layers.groups import ONE_GROUP
from widenet_keras.layers.mlp import Bank, Mlp
from widenet_keras.layers.normalization import layer_norm
from widenet_keras.layers.paths_math import (
    PathsSpec,
    PathsWeights,
    attention_of_paths,
    feed_forward_of_paths,
)
from widenet_keras.layers.pieces.step_pieces import NO_PIECES
from widenet_keras.layers.routed_experts import (
    RoutedSpec,
    RoutedWeights,
    routed_experts,
)


class BlockSpec(NamedTuple):
    """What is static about a block in one forward pass; hashable.

    Attributes:
        attention: `AttentionSpec`, or `PathsSpec` of several.
        feed_forward: `RoutedSpec` of a mixture of experts, `Mlp` of a dense part, or
            `PathsSpec` of several.
        dropout: Dropout rate of both branches before the residual.
        epsilon: That of the norms.
        hidden: F, so that programs of blocks that differ in it are not taken for one.
    """

    attention: AttentionSpec | PathsSpec
    feed_forward: RoutedSpec | Mlp | PathsSpec
    dropout: float
    epsilon: float
    hidden: int

    @property
    def is_routed(self):
        """Whether the feed-forward part is a mixture of experts."""
        return isinstance(self.feed_forward, RoutedSpec)

    @property
    def heads(self):
        """Heads of attention, of all paths together, and sizes of keys and values."""
        part = self.attention
        if not isinstance(part, PathsSpec):
            return part[:3]
        heads, *dims = part.paths[0][:3]
        return len(part.paths) * heads, *dims


class BlockWeights(NamedTuple):
    """The weights of a block, as they are read for a forward pass.

    Attributes:
        attention: `AttentionWeights`, or `PathsWeights` of several.
        feed_forward: `RoutedWeights`, the `Product`s of a dense part, or `PathsWeights`
            of several.
    """

    attention: AttentionWeights | PathsWeights
    feed_forward: tuple

    def narrowed(self, hidden, spec):
        """Returns the weights with the first `hidden` hidden units alone.

        Args:
            hidden: How many; of experts, each has as many.
            spec: `BlockSpec`.
        """
        part = self.feed_forward
        if isinstance(part, PathsWeights):
            paths = tuple(narrowed(path, hidden) for path in part.paths)
            return self._replace(feed_forward=part._replace(paths=paths))
        if not spec.is_routed:
            return self._replace(feed_forward=narrowed(part, hidden))
        bank = Bank(part.bank.stacked.narrowed(hidden))
        return self._replace(feed_forward=part._replace(bank=bank))


def block(
    tokens,
    norms,
    weights,
    spec,
    draws,
    drop_path=0.0,
    pieces=NO_PIECES,
    share=(),
    groups=ONE_GROUP,
):
    """Computes x = x + Attn(LN1(x)); x = x + FFN(LN2(x)).

    A pure function of tensors and a hashable description.

    Args:
        tokens: (B, T, D).
        norms: `StepNorms` of the step.
        weights: `BlockWeights`.
        spec: `BlockSpec`.
        draws: `RandomDraws` of the step.
        drop_path: Rate at which the branches of an image are dropped.
        pieces: `StepPieces` of the step; none acts inside the parts of paths.
        share: Which part of the hidden units takes part, the first of them, a scalar
            tensor; absent for all. Units of experts are left out by the kernel that
            reads them, so that no engine knows of it: once for all steps, where the
            weights are read, or here where the step changes them.
        groups: `Groups` in which the tokens attend.

    Returns:
        Tokens (B, T, D); `RoutingFacts`, or `()` for a dense block; and the `Heads`
        of attention, as it has them in its groups, or the `HeadsOfPaths`.
    """

    def residual(site, tokens, branch):
        branch = draws.dropout(branch, spec.dropout)
        branch = draws.drop_path(branch, drop_path)
        return pieces.residual(site, tokens, branch)

    normal = layer_norm(tokens, norms.gamma1, norms.beta1, spec.epsilon)
    prompts = [
        layer_norm(rows, norms.gamma1, norms.beta1, spec.epsilon)
        for rows in pieces.prompts(tokens, draws)
    ]
    own, part = weights.attention, spec.attention
    if isinstance(part, PathsSpec):
        branch, heads = attention_of_paths(normal, own, part, draws, groups)
    else:
        branch, heads = attention(normal, own, part, draws, pieces, prompts, groups)
    tokens = pieces.between(residual("attention", tokens, branch))
    normal = layer_norm(tokens, norms.gamma2, norms.beta2, spec.epsilon)
    own, part = weights.feed_forward, spec.feed_forward
    facts = ()
    if spec.is_routed:
        if pieces.change_mixtures:
            router, changed = pieces.routed(own.router, own.bank.stacked)
            if not isinstance(share, tuple):
                changed = changed.masked(share)
            own = RoutedWeights(router, Bank(changed))
        if not own.bank.each:
            # What a step has changed is taken apart for this step alone.
            own = own._replace(bank=bank_of(own.bank.stacked, part.engine))
        branch, facts = routed_experts(normal, own, part, draws)
    elif isinstance(part, PathsSpec):
        branch = feed_forward_of_paths(normal, own, part, draws, share)
    else:
        branch = feed_forward(normal, own, part, draws, pieces, share)
    if pieces:
        branch = pieces.feed_forward(branch, draws)
    tokens = residual("feed_forward", tokens, branch)
    if pieces:
        tokens = pieces.after(tokens, draws)
    return tokens, facts, heads
