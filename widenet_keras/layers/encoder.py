"""The encoder: L steps over U unique blocks. Only this file knows of sharing."""

from typing import NamedTuple

import keras
from keras import ops

from widenet_keras.layers import depth
from widenet_keras.layers.normalization import StackedNorms, StepNorms
from widenet_keras.layers.sharing import block_of_step, check_sharing
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.routing.record import RoutingRecord, stack_records
from widenet_keras.utils.building import build_once
from widenet_keras.utils.checks import check_choice, check_flag, check_number


class Private(NamedTuple):
    """What a step keeps for itself; leading axes are stacked over the steps.

    Attributes:
        norms: (..., 4, D), the fields of `StepNorms`.
        seed: (..., 2), seed of its `RandomDraws`, or None if nothing is drawn.
        drop_path: (...,), rate of dropped paths, or None for 0.
    """

    norms: object
    seed: object
    drop_path: object


@keras.saving.register_keras_serializable("widenet_keras")
class Encoder(keras.layers.Layer):
    """Applies U unique blocks in L steps, each step with norms of its own.

    Args:
        blocks: The U unique `Block` layers.
        steps: L.
        sharing: Which block step t reads: "none" (its own), "all" (the only
            one), "sequence" (neighbours share) or "cycle" (the stack repeats).
        shared_norms: Share the norms with the block as well (the paper's
            ablation), instead of a private pair per step.
        stochastic_depth: Rate at which the last step's branches are dropped per
            image in training; it grows linearly from 0 at the first step.
        scan: Whether steps that share a block compile as one loop: "auto" (in
            graphs on JAX and TensorFlow), "always" or "never". torch takes them
            one by one.
        remat: "full" computes each step again in the backward pass instead of
            keeping its activations; "none" keeps them.
        seed: Seed of noise, dropout and dropped paths.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If the plan does not fit the steps or the number of blocks.
    """

    def __init__(
        self,
        blocks,
        steps,
        sharing="all",
        shared_norms=False,
        stochastic_depth=0.0,
        scan="auto",
        remat="none",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_sharing("Encoder", sharing, steps, len(blocks))
        check_flag("Encoder", "shared_norms", shared_norms)
        check_number("Encoder", "stochastic_depth", stochastic_depth, 0.0, below=1.0)
        check_choice("Encoder", "scan", scan, depth.SCANS)
        check_choice("Encoder", "remat", remat, depth.REMATS)
        self.blocks = list(blocks)
        self.steps = steps
        self.sharing = sharing
        self.shared_norms = shared_norms
        self.stochastic_depth = stochastic_depth
        self.scan = scan
        self.remat = remat
        self.seed = seed
        self.block_of_step = block_of_step(sharing, steps, len(blocks))
        self.seed_generator = keras.random.SeedGenerator(seed)
        rows = len(blocks) if shared_norms else steps
        self.norm1 = StackedNorms(rows, dtype=self.dtype_policy, name="norm1")
        self.norm2 = StackedNorms(rows, dtype=self.dtype_policy, name="norm2")

    def build(self, tokens_shape):
        """Builds blocks and norms for tokens of shape (B, T, D)."""
        for layer in (*self.blocks, self.norm1, self.norm2):
            build_once(layer, tokens_shape)

    def call(self, tokens, training=None):
        """Returns the encoded tokens and the routing record of all steps.

        Args:
            tokens: (B, T, D).
            training: Whether noise, dropout, dropped paths and capacity are on.

        Returns:
            Tokens (B, T, D), and a `RoutingRecord` stacked over the S
            mixture-of-experts steps, or `()` if no block is routed.
        """
        draws = RandomDraws.begin(self.seed_generator) if training else SILENT
        private = self._private(draws)
        records = []
        for segment in depth.segments_of(self.block_of_step):
            period = len(segment.pattern)

            def one_round(tokens, private, pattern=segment.pattern):
                return self._round(tokens, private, pattern, training)

            tokens, record = depth.repeat(
                one_round,
                tokens,
                _rounds(private, segment.first, segment.end, period),
                segment.rounds,
                self.scan,
            )
            records.append(record)
        return tokens, depth.joined(records)

    def _round(self, tokens, private, pattern, training):
        """Applies the blocks of a pattern with the private pieces of its steps."""
        records = []
        for place, index in enumerate(pattern):

            def step(tokens, norms, seed=None, drop_path=0.0, index=index):
                return self.blocks[index](
                    tokens,
                    norms=StepNorms(*ops.unstack(norms)),
                    draws=RandomDraws(seed),
                    drop_path=drop_path,
                    training=training,
                )

            mine = [piece[place] for piece in private if piece is not None]
            if self.remat == "full" and training:
                step = depth.remat(step, self.blocks[index].trainable_variables)
            tokens, record = step(tokens, *mine)
            if record:
                records.append(record)
        return tokens, stack_records(records) if records else ()

    def compute_output_spec(self, tokens, training=None):
        """Returns the specs of the tokens and of the stacked record."""
        result, records = keras.KerasTensor(tokens.shape, self.compute_dtype), []
        for step in self.routed_steps:
            block = self.blocks[self.block_of_step[step]]
            records.append(block.compute_output_spec(tokens)[1])
        if not records:
            return result, ()
        fields = zip(*records, strict=True)
        return result, RoutingRecord(
            *(
                keras.KerasTensor((len(field), *field[0].shape), field[0].dtype)
                for field in fields
            )
        )

    def _private(self, draws):
        """Returns the `Private` pieces of all steps, with a leading axis L."""
        norms = StepNorms(
            self.norm1.gamma, self.norm1.beta, self.norm2.gamma, self.norm2.beta
        )
        norms = ops.stack([ops.convert_to_tensor(n) for n in norms], axis=1)
        if self.shared_norms:
            norms = ops.stack([norms[index] for index in self.block_of_step])
        drop_path = None
        if self.stochastic_depth and not draws.silent:
            rates = [self.stochastic_depth * s for s in range(self.steps)]
            drop_path = ops.convert_to_tensor(rates, "float32") / max(self.steps - 1, 1)
        return Private(norms, draws.seeds_of_steps(self.steps), drop_path)

    @property
    def routed_steps(self):
        """Indices of the steps whose block is a mixture of experts."""
        return tuple(
            step
            for step, index in enumerate(self.block_of_step)
            if self.blocks[index].is_routed
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "blocks": [keras.saving.serialize_keras_object(b) for b in self.blocks],
            "steps": self.steps,
            "sharing": self.sharing,
            "shared_norms": self.shared_norms,
            "stochastic_depth": self.stochastic_depth,
            "scan": self.scan,
            "remat": self.remat,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuilds the encoder and its blocks."""
        blocks = [keras.saving.deserialize_keras_object(b) for b in config["blocks"]]
        return cls(**{**config, "blocks": blocks})


def _rounds(private, first, end, period):
    """Pieces of the steps from `first` to `end`, (rounds, period, ...)."""
    return Private(
        *(
            None
            if piece is None
            else ops.reshape(piece[first:end], (-1, period, *piece.shape[1:]))
            for piece in private
        )
    )
