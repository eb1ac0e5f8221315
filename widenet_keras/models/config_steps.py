"""What a configuration says of each step: which block it reads, and how much."""

from widenet_keras.layers.groups import GroupsOfSteps
from widenet_keras.layers.sharing import PART_PLANS, block_of_step, holders, ranks
from widenet_keras.models.block_sizes import BlockSize
from widenet_keras.models.config_checks import OWNER


class Steps:
    """What follows from the fields of a `WideNetConfig` for blocks and steps."""

    @property
    def num_unique_blocks(self) -> int:
        """U, the number of unique blocks."""
        return max(self.block_of_step) + 1

    @property
    def encoder_sharing(self) -> str:
        """How the blocks of the encoder are shared: of a ring it has a single one."""
        if self.ring_size is not None:
            return "all"
        return "none" if self.sharing in PART_PLANS else self.sharing

    @property
    def block_of_step(self) -> tuple[int, ...]:
        """The unique block that each step reads, a tuple of length L."""
        return block_of_step(self.sharing, self.steps, self.unique_blocks)

    def holders(self, part: str) -> tuple[int, ...]:
        """Returns the unique block that holds a part of each one, a tuple of length U.

        Args:
            part: "attention" or "feed_forward".
        """
        return holders(part, self.sharing, self.steps, self.unique_blocks)

    def norm_rows(self, part: str) -> tuple[int, ...]:
        """Returns which row of the norms before a part each step reads, L of them.

        Args:
            part: "attention" or "feed_forward".
        """
        if not self.shared_norms:
            return tuple(range(self.steps))
        rows = ranks(self.holders(part))
        return tuple(rows[block] for block in self.block_of_step)

    @property
    def routed_blocks(self) -> tuple[int, ...]:
        """Indices of the unique blocks that are mixtures of experts, sorted."""
        unique = self.num_unique_blocks
        if self.moe_blocks == "all":
            return tuple(range(unique))
        if self.moe_blocks == "none":
            return ()
        return tuple(sorted({block % unique for block in self.moe_blocks}))

    @property
    def routed_steps(self) -> tuple[int, ...]:
        """Indices of the steps whose block is a mixture of experts."""
        routed = self.routed_blocks
        return tuple(s for s, b in enumerate(self.block_of_step) if b in routed)

    @property
    def routed_banks(self) -> tuple[int, ...]:
        """The block that holds the experts of each routed step."""
        banks = self.holders("feed_forward")
        return tuple(banks[self.block_of_step[step]] for step in self.routed_steps)

    @property
    def groups_of_steps(self) -> GroupsOfSteps:
        """The `GroupsOfSteps` in which tokens attend."""
        return GroupsOfSteps.of(OWNER, self.attention_groups, self.block_of_step)

    @property
    def sizes(self) -> tuple[BlockSize, ...]:
        """The `BlockSize` of each unique block, a tuple of length U."""
        if self.block_sizes is not None:
            return self.block_sizes
        key_dim, routed = self.width // self.heads, self.routed_blocks
        return tuple(
            BlockSize(
                self.heads,
                key_dim,
                key_dim,
                self.expert_dim if block in routed else self.mlp_dim,
            )
            for block in range(self.num_unique_blocks)
        )

    @property
    def sizes_of_steps(self) -> tuple[BlockSize, ...]:
        """The `BlockSize` of what each step computes with, a tuple of length L."""
        sizes = self.sizes
        found = tuple(sizes[block] for block in self.block_of_step)
        if self.step_widths is None:
            return found
        pairs = zip(found, self.step_widths, strict=True)
        return tuple(size._replace(hidden=width) for size, width in pairs)
