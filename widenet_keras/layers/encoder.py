"""The encoder: L steps over U unique blocks. Only it and its parts know of sharing."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import keras

from widenet_keras.layers import depth
from widenet_keras.layers import shared_parts as parts
from widenet_keras.layers.groups import GroupsOfSteps
from widenet_keras.layers.normalization import StepNorms
from widenet_keras.layers.pieces.kinds import as_dicts, pieces_of
from widenet_keras.layers.pieces.piece import Piece, change_mixtures
from widenet_keras.layers.plan import check_looked_at, plans_of
from widenet_keras.layers.private import Private
from widenet_keras.layers.ring_of_steps import ring_of_steps, weights_of_steps
from widenet_keras.layers.sharing import BLOCK_PLANS, block_of_step, check_sharing
from widenet_keras.layers.step import Outputs, specs_of_steps
from widenet_keras.layers.widths import Widths
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.routing.record import RoutingRecord, record_of, record_spec
from widenet_keras.utils import numerics
from widenet_keras.utils.building import build_once
from widenet_keras.utils.checks import check_choice, check_flag, check_number
from widenet_keras.utils.execution import must_unroll
from widenet_keras.utils.trees import mapped
from widenet_keras.utils.types import Shape, Tensor


@keras.saving.register_keras_serializable("widenet_keras")
class Encoder(keras.layers.Layer):
    """Applies U unique blocks in L steps, each step with norms of its own.

    Args:
        blocks: The U unique `Block` layers. Several may hold the same attention, or
            the same feed-forward part, which they then share.
        steps: L.
        sharing: Which block step t reads: "none" (its own), "all" (the only
            one), "sequence" (neighbours share) or "cycle" (the stack repeats).
        shared_norms: Share the norms with the block as well (the paper's
            ablation), instead of a private pair per step.
        stochastic_depth: Rate at which the last step's branches are dropped per
            image in training; it grows linearly from 0 at the first step.
        scan: As for `WideNetConfig`: "auto", "always" or "never".
        remat: "full" computes each step again in the backward pass instead of
            keeping its activations; "none" keeps them.
        seed: Seed of noise, dropout and dropped paths.
        pieces: What the steps keep for themselves besides norms: `LoRA` and others,
            or dicts of them, as for `WideNetConfig`.
        step_widths: As for `WideNetConfig`, and so the next three.
        nested_widths: See `step_widths`.
        nested_probabilities: See `step_widths`.
        attention_groups: See `step_widths`.
        ring_size: N, if the steps read their kernels from one `Ring`; then there is one
            block, whose sizes and settings count, and which gets no weights.
        ring_seed: Seed of that ring.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If the plan does not fit the steps or the number of blocks.
    """

    def __init__(
        self,
        blocks: Sequence[keras.layers.Layer],
        steps: int,
        sharing: str = "all",
        shared_norms: bool = False,
        stochastic_depth: float = 0.0,
        scan: str = "auto",
        remat: str = "none",
        seed: int | None = None,
        pieces: Iterable[Piece | dict] = (),
        step_widths: Sequence[int] | None = None,
        nested_widths: Sequence[float] = (),
        nested_probabilities: Sequence[float] | None = None,
        attention_groups: int | Sequence[int] = 1,
        ring_size: int | None = None,
        ring_seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_sharing("Encoder", sharing, steps, len(blocks), BLOCK_PLANS)
        check_flag("Encoder", "shared_norms", shared_norms)
        check_number("Encoder", "stochastic_depth", stochastic_depth, 0.0, below=1.0)
        check_choice("Encoder", "scan", scan, depth.SCANS)
        check_choice("Encoder", "remat", remat, depth.REMATS)
        self.blocks, self.steps, self.sharing = list(blocks), steps, sharing
        self.shared_norms, self.stochastic_depth = shared_norms, stochastic_depth
        self.scan, self.remat, self.seed = scan, remat, seed
        self.ring_size, self.ring_seed, self.ring = ring_size, ring_seed, None
        self.block_of_step = block_of_step(sharing, steps, len(blocks))
        # Steps that read a ring have kernels of their own, if of one block.
        plan = sharing if ring_size is None else "none"
        self.kernels_of_step = block_of_step(plan, steps, len(blocks))
        hidden = tuple(blocks[block].hidden_dim for block in self.block_of_step)
        given = step_widths, nested_widths, nested_probabilities
        self.widths = Widths(*(tuple(w) if type(w) is list else w for w in given))
        self.widths.check("Encoder", hidden)
        given = attention_groups, self.kernels_of_step
        self.groups = GroupsOfSteps.of("Encoder", *given)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._norm_rows = parts.norm_rows(blocks, self.block_of_step)
        self._parts = parts.parts_of(blocks)
        rows = self._norm_rows if shared_norms else (range(steps),) * 2
        self.norm1, self.norm2 = parts.stacked_norms(blocks, rows, self.dtype_policy)
        self.pieces = pieces_of("Encoder", pieces)
        of_steps = [blocks[block] for block in self.block_of_step], self.kernels_of_step
        of_all = self.pieces, *of_steps, self.dtype_policy
        self.stacked_pieces = parts.stacked_pieces(*of_all)

    # Of the tokens, which `summary` shows.
    output_shape = property(lambda self: self._build_shapes_dict["tokens_shape"])

    def build(self, tokens_shape: Shape) -> None:
        """Builds blocks, norms and pieces for tokens of shape (B, T, D)."""
        if len({each.norm_epsilon for each in self.blocks}) > 1:
            raise ValueError("Encoder: all blocks must have one norm_epsilon.")
        self.groups.check("Encoder", tokens_shape[1], self.pieces)
        if self.ring_size is not None:
            ring = self.ring_size, self.ring_seed, self.dtype_policy
            self.ring = ring_of_steps(self.blocks, self.steps, tokens_shape[-1], *ring)
        holders = [self.ring] if self.ring else self.blocks
        for layer in (*holders, self.norm1, self.norm2):
            build_once(layer, tokens_shape)
        parts.check_mixtures(self.blocks)
        if self.pieces:
            sizes = parts.sizes_of(self.blocks, tokens_shape, self.pieces)
            build_once(self.stacked_pieces, sizes)

    def __call__(self, tokens, *args, look_at=(), **kwargs):
        """Checks which steps are looked at, then calls the layer as Keras does."""
        # Checked here because Keras wraps what `call` raises in many lines.
        check_looked_at("Encoder", look_at, self.steps)
        look = {"look_at": tuple(look_at)} if look_at else {}
        return super().__call__(tokens, *args, **look, **kwargs)

    def call(
        self, tokens: Tensor, training: bool | None = None, look_at: Sequence[int] = ()
    ) -> tuple:
        """Returns the encoded tokens and the routing record of all steps.

        Args:
            tokens: (B, T, D).
            training: Whether noise, dropout, dropped paths and capacity are on.
            look_at: Steps, from 0, that shall return what they computed with.

        Returns:
            Tokens (B, T, D), and a `RoutingRecord` stacked over the S
            mixture-of-experts steps, or `()` if no block is routed; with `look_at`
            also the `Seen` of these steps, in the order of the depth.
        """
        tokens, outputs = self.run(tokens, training, look_at)
        seen = [outputs.seen] if look_at else []
        return tokens, self.record(outputs), *seen

    def draws(self, training: bool | None) -> RandomDraws:
        """Returns the `RandomDraws` of a forward pass."""
        return RandomDraws.begin(self.seed_generator) if training else SILENT

    def run(
        self,
        tokens: Tensor,
        training: bool | None,
        look_at: Sequence[int] = (),
        hands_out: bool = True,
        draws: RandomDraws | None = None,
        steps: int | None = None,
    ) -> tuple[Tensor, Outputs]:
        """Returns the encoded tokens and the `Outputs` of the steps, stacked.

        As `call`; without `hands_out` for who has no use for a record, with `draws`
        for who has drawn from those of the pass before, only the first `steps`.
        """
        draws = self.draws(training) if draws is None else draws
        how = self._depth(training, look_at, hands_out)
        with numerics.weights_as_stored() as read:
            private = self.private(read, draws, tokens.shape[1])
            # What steps do to experts for themselves is done to their stacks.
            changes = change_mixtures(self.pieces)
            changes |= self.widths.step_widths is not None
            how_read = (read, training, tokens.shape[-1], changes, private.share)
            given = (self.blocks, self.block_of_step, *how_read)
            weights = [()] if self.ring else parts.read_blocks(*given)
            if steps is not None:
                how = how._replace(plans=how.plans[:steps])
                private = mapped(lambda leaf: leaf[:steps], private)
            return depth.through(tokens, private, weights, how)

    def _depth(self, training, look_at, hands_out=True):
        """Returns the `Depth` of a forward pass."""
        return depth.Depth(
            plans_of(self.block_of_step, look_at, self.widths.step_widths, self.groups),
            tuple(each.spec(training, hands_out) for each in self.blocks),
            self._parts,
            self.pieces,
            "never" if must_unroll() else self.scan,
            bool(self.remat == "full" and training),
        )

    def record(self, outputs: Outputs) -> RoutingRecord | tuple:
        """Returns the `RoutingRecord` of `Outputs`, or `()` if no block is routed."""
        if not outputs.facts:
            return ()
        [part, *_] = [each.feed_forward for each in self.blocks if each.is_routed]
        return record_of(outputs.facts, part.softmaxes)

    def compute_output_spec(
        self, tokens: Tensor, training: bool | None = None, look_at: Sequence[int] = ()
    ) -> tuple:
        """Returns the specs of the tokens and of the stacked record."""
        result = keras.KerasTensor(tokens.shape, self.compute_dtype)
        how = self._depth(training, look_at)
        facts, seen = specs_of_steps(result, how.plans, how.specs)
        record = record_spec(facts[0], len(facts)) if facts else ()
        return result, record, *([depth.stacked_specs(seen)] if look_at else [])

    def private(self, read: Callable, draws: RandomDraws, tokens: int) -> Private:
        """Returns the `Private` of all steps, with a leading axis L."""
        one, other = self._norm_rows if self.shared_norms else (None, None)
        norms = StepNorms(*self.norm1.read(read, one), *self.norm2.read(read, other))
        pieces = self.stacked_pieces.read(read) if self.pieces else ()
        order = self.groups.orders(draws, tokens)
        kernels = weights_of_steps(self.ring, read)
        private = Private(norms, pieces=pieces, order=order, weights=kernels)
        steps = self.steps, self.stochastic_depth, self.widths
        return private if draws.silent else private.drawn(draws, *steps)

    def _clear_losses(self):
        """Does nothing: no part adds losses; Keras' walk takes as long as a step."""

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("steps", "sharing", "shared_norms", "stochastic_depth", "scan")
        names += ("remat", "seed", "ring_size", "ring_seed")
        return {
            **super().get_config(),
            "blocks": parts.blocks_as_dicts(self.blocks),
            **{name: getattr(self, name) for name in names},
            "pieces": as_dicts(self.pieces),
            **self.widths._asdict(),
            "attention_groups": self.groups.counts,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuilds the encoder and its blocks."""
        return cls(**{**config, "blocks": parts.blocks_of_dicts(config["blocks"])})
