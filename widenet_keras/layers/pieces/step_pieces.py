"""What a block sees of the pieces: one method for each place where they act."""

from widenet_keras.layers.pieces.piece import change_mixtures
from widenet_keras.routing.random_draws import SILENT


class StepPieces:
    """The pieces of a step with its weights, asked in their order.

    True if there is any, so that a block without pieces need not ask.

    Args:
        pairs: Tuple of pairs, a `Piece` and its NamedTuple of weights of this step.
    """

    def __init__(self, pairs=()):
        self._pairs = pairs

    @classmethod
    def of(cls, pieces, weights, draws=SILENT):
        """Returns those of a step, with what pieces draw once for it.

        Not in `__init__`: programs of torch 2.11 make no object of draws made in them.

        Args:
            pieces: Tuple of `Piece`s.
            weights: Tuple of their NamedTuples of weights, of this step.
            draws: `RandomDraws` of the step.
        """
        pairs = zip(pieces, weights, strict=True)
        return cls(tuple((piece, piece.drawn(w, draws)) for piece, w in pairs))

    def __bool__(self):
        return bool(self._pairs)

    def linear(self, name, inputs, output, draws):
        """Returns a product with what the pieces add; see `Piece.linear`."""
        for piece, weights in self._pairs:
            output = piece.linear(weights, name, inputs, output, draws)
        return output

    def prompts(self, tokens, draws):
        """Returns a list of rows (B or 1, P, D); see `Piece.prompts`."""
        found = (piece.prompts(w, tokens, draws) for piece, w in self._pairs)
        return [rows for rows in found if rows is not None]

    def keys_and_values(self):
        """Returns a list of pairs, (p, H d) each; see `Piece.keys_and_values`."""
        found = (piece.keys_and_values(w) for piece, w in self._pairs)
        return [pair for pair in found if pair is not None]

    @property
    def see_attention(self):
        """Whether any acts on what attention computes between keys and values."""
        return any(piece.sees_attention for piece, _ in self._pairs)

    def logits(self, logits, query):
        """Returns the logits of attention; see `Piece.logits`."""
        for piece, weights in self._pairs:
            logits = piece.logits(weights, logits, query)
        return logits

    def probabilities(self, probabilities):
        """Returns the probabilities of attention; see `Piece.probabilities`."""
        for piece, weights in self._pairs:
            probabilities = piece.probabilities(weights, probabilities)
        return probabilities

    @property
    def change_mixtures(self):
        """Whether any changes the weights of a mixture of experts."""
        return change_mixtures(piece for piece, _ in self._pairs)

    def routed(self, router, experts):
        """Returns the weights of a mixture of experts; see `Piece.routed`."""
        for piece, weights in self._pairs:
            router, experts = piece.routed(weights, router, experts)
        return router, experts

    def residual(self, site, tokens, branch):
        """Returns the sum of tokens and a branch; see `Piece.residual`."""
        for piece, weights in self._pairs:
            tokens, branch = piece.residual(weights, site, tokens, branch)
        return tokens + branch

    def between(self, tokens):
        """Returns the tokens between the parts of the block; see `Piece.between`."""
        for piece, weights in self._pairs:
            tokens = piece.between(weights, tokens)
        return tokens

    def feed_forward(self, output, draws):
        """Returns the output of the feed-forward part; see `Piece.feed_forward`."""
        for piece, weights in self._pairs:
            output = piece.feed_forward(weights, output, draws)
        return output

    def after(self, tokens, draws):
        """Returns the tokens at the end of the step; see `Piece.after`."""
        for piece, weights in self._pairs:
            tokens = piece.after(weights, tokens, draws)
        return tokens


NO_PIECES = StepPieces()
