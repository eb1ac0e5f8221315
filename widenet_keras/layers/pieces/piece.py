"""The base of the pieces: which weights a step has, and where they act."""

from typing import ClassVar, NamedTuple


class Sizes(NamedTuple):
    """Sizes that the weights of a piece may depend on.

    Attributes:
        width: D.
        heads: H.
        key_dim: Size of a head's queries and keys.
        value_dim: Size of a head's values.
        hidden: F of the dense part or of each expert.
        experts: E, or 0 for a dense block.
    """

    width: int
    heads: int
    key_dim: int
    value_dim: int
    hidden: int
    experts: int


class Weight(NamedTuple):
    """One weight of a piece, for one step.

    Attributes:
        shape: Its shape without the leading axis of the steps.
        initializer: A Keras initializer or the name of one.
        decayed: Whether weight decay applies.
    """

    shape: tuple
    initializer: object
    decayed: bool = True


class Piece:
    """A kind of piece with its settings: a value, not a layer.

    A kind is a frozen dataclass in a file of its own and a row of `KINDS`. It says
    which weights a step has (`weights`) and what they do at the places of a block,
    each of which leaves its value alone unless the kind overrides it. There `w` is a
    NamedTuple of the weights of this step, by their names.
    """

    kind: ClassVar[str]

    def weights(self, sizes):
        """Returns a dict from the names of the weights to their `Weight`s.

        Args:
            sizes: `Sizes` of the block.
        """
        raise NotImplementedError

    def linear(self, w, name, inputs, output, draws):
        """Changes a product: "query", "key", "value", "output", "hidden" or "outer".

        Those of experts are not among them: their rows are of many steps' tokens.

        Args:
            w: Weights of this step.
            name: Which product.
            inputs: (B, T, Din).
            output: (B, T, Dout), the product with its bias.
            draws: `RandomDraws` of the step.
        """
        return output

    def feed_forward(self, w, output, draws):
        """Changes what the feed-forward part gives, (B, T, D), before the residual."""
        return output

    def after(self, w, tokens, draws):
        """Changes the tokens (B, T, D) at the end of the step."""
        return tokens
