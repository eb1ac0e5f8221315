"""The base of the pieces: which weights a step has, and where they act."""

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple, Self

from widenet_keras.routing.random_draws import RandomDraws
from widenet_keras.utils.types import Tensor

# Methods that act on products, keys and values, logits and probabilities.
_INSIDE = ("linear", "prompts", "keys_and_values", "logits", "probabilities")


class Sizes(NamedTuple):
    """Sizes that the weights of a piece may depend on.

    Attributes:
        width: D.
        heads: H.
        key_dim: Size of a head's queries and keys.
        value_dim: Size of a head's values.
        hidden: Hidden width of the dense parts; 0 without any.
        gated: Whether dense parts have a gate.
        experts: E of the mixtures; 0 without any.
        expert_hidden: F, hidden width of each expert; 0 without any.
        tokens: T; 0 where it is not known.
    """

    width: int
    heads: int
    key_dim: int
    value_dim: int
    hidden: int = 0
    gated: bool = False
    experts: int = 0
    expert_hidden: int = 0
    tokens: int = 0


class Weight(NamedTuple):
    """One weight of a piece, for one step.

    Attributes:
        shape: Its shape without the leading axis of the steps.
        initializer: A Keras initializer or the name of one.
        decayed: Whether weight decay applies.
        steps: Which steps have one: "all", or those whose feed-forward part is "dense"
            or "routed". Of "blocks" each unique block has one, for all its steps.
        trainable: Whether it is ever trained.
        exact: As for `Role`.
        int8_axis: Axis, from the last, along which int8 numbers share a scale; None
            where quantised models keep floats.
    """

    shape: tuple
    initializer: object
    decayed: bool = True
    steps: str = "all"
    trainable: bool = True
    exact: bool = False
    int8_axis: int | None = None


class Piece:
    """A kind of piece with its settings: a value, not a layer.

    A kind is a frozen dataclass in a file of its own and a row of `KINDS`. It says
    which weights a step has (`weights`) and what they do at the places of a block,
    each of which leaves its value alone unless the kind overrides it. There `w` is a
    NamedTuple of the weights of this step, by their names.
    """

    kind: ClassVar[str]
    # Whether it makes no sense where tokens attend in groups.
    needs_all_tokens: ClassVar[bool] = False

    @property
    def changes_mixtures(self) -> bool:
        """Whether `routed` does anything, so that each step has weights of its own."""
        return type(self).routed is not Piece.routed

    @property
    def sees_attention(self) -> bool:
        """Whether `logits` or `probabilities` does anything."""
        kind = type(self)
        return (kind.logits, kind.probabilities) != (Piece.logits, Piece.probabilities)

    @property
    def acts_inside(self) -> bool:
        """Whether it acts inside attention or an MLP, not only on what they give."""
        kind = type(self)
        return any(getattr(kind, site) is not getattr(Piece, site) for site in _INSIDE)

    def of_each_step(self) -> Self:
        """Returns the piece whose weights are each step's own, and none a block's."""
        return self

    def without_dropout(self) -> Self:
        """Returns the piece that drops nothing in training."""
        return self

    def check(self, owner: str, config: Any) -> None:
        """Raises `ValueError` unless it fits a model; one line says what to change.

        Args:
            owner: Name that starts the message.
            config: `WideNetConfig`, of which every other field is right.
        """

    def weights(self, sizes: Sizes) -> dict[str, Weight]:
        """Returns a dict from the names of the weights to their `Weight`s.

        Args:
            sizes: `Sizes` of the blocks.

        Raises:
            ValueError: If it does not fit such blocks.
        """
        raise NotImplementedError

    def drawn(self, w: Any, draws: RandomDraws) -> Any:
        """Returns the weights with which this pass computes the step.

        What it draws is drawn once, wherever the weights then act.

        Args:
            w: Weights of this step.
            draws: `RandomDraws` of the step.
        """
        return w

    def linear(
        self, w: Any, name: str, inputs: Tensor, output: Tensor, draws: RandomDraws
    ) -> Tensor:
        """Changes a product: "query", "key", "value", "output", "hidden", ...

        Those of experts are not among them: their rows are of many steps' tokens.

        Args:
            w: Weights of this step.
            name: Which product; one of `lora.MAPS`.
            inputs: (B, T, Din).
            output: (B, T, Dout), the product with its bias.
            draws: `RandomDraws` of the step.
        """
        return output

    def prompts(self, w: Any, tokens: Tensor, draws: RandomDraws) -> Tensor | None:
        """Returns rows that are attended to like tokens, (B or 1, P, D), or None.

        The norm of the step is still to come; what is attended at them is not computed.

        Args:
            w: Weights of this step.
            tokens: (B, T, D).
            draws: `RandomDraws` of the step.
        """
        return None

    def keys_and_values(self, w: Any) -> tuple[Tensor, Tensor] | None:
        """Returns further keys and values of all heads, (p, H d) each, or None."""
        return None

    def logits(self, w: Any, logits: Tensor, query: Tensor) -> Tensor:
        """Changes what the softmax of attention is of.

        Where tokens attend in groups, these are B G images of T/G tokens.

        Args:
            w: Weights of this step.
            logits: (B, H, T, S); of the S keys the last T are those of the tokens.
            query: (B, H, T, d), scaled as in the logits.
        """
        return logits

    def probabilities(self, w: Any, probabilities: Tensor) -> Tensor:
        """Changes the softmax of attention, (B, H, T, S), before its dropout."""
        return probabilities

    def routed(self, w: Any, router: Tensor, experts: Any) -> tuple[Tensor, Any]:
        """Changes the weights of a mixture of experts.

        Args:
            w: Weights of this step.
            router: (D, E).
            experts: `ExpertWeights`.
        """
        return router, experts

    def residual(
        self, w: Any, site: str, tokens: Tensor, branch: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Changes the two addends of a residual, (B, T, D) each; returns both.

        Args:
            w: Weights of this step.
            site: "attention" or "feed_forward".
            tokens: What the branch was made of.
            branch: After its dropout.
        """
        return tokens, branch

    def between(self, w: Any, tokens: Tensor) -> Tensor:
        """Changes the tokens (B, T, D) between attention and the feed-forward part."""
        return tokens

    def feed_forward(self, w: Any, output: Tensor, draws: RandomDraws) -> Tensor:
        """Changes what the feed-forward part gives, (B, T, D), before the residual."""
        return output

    def after(self, w: Any, tokens: Tensor, draws: RandomDraws) -> Tensor:
        """Changes the tokens (B, T, D) at the end of the step."""
        return tokens


def change_mixtures(pieces: Iterable[Piece]) -> bool:
    """Whether any of some pieces changes the weights of a mixture of experts."""
    return any(piece.changes_mixtures for piece in pieces)
