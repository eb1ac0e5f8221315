"""The one description of a model: a frozen dataclass that validates itself."""

import dataclasses
from typing import Any, Self

from widenet_keras.layers.normalization import EPSILON
from widenet_keras.layers.pieces import Piece, as_dicts, pieces_of
from widenet_keras.layers.pooling import POOLINGS
from widenet_keras.models.block_sizes import BlockSize, block_sizes_of, sizes_as_dicts
from widenet_keras.models.config_checks import OWNER, check_config
from widenet_keras.models.config_steps import Steps
from widenet_keras.utils import checks

# The first of the fields that files of the first versions do not have.
_FIRST_ADDED = "pieces"
# Fields that JSON has as lists.
_TUPLES = (
    "moe_blocks",
    "step_widths",
    "nested_widths",
    "nested_probabilities",
    "attention_groups",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WideNetConfig(Steps):
    """Everything that defines a WideNet, a ViT or a ViT-MoE.

    The defaults are WideNet-B/16. Each ablation of the paper is one field:
    `shared_norms`, `moe_blocks`, `sharing`, `num_experts`, `top_k` and
    `unique_blocks`.

    Attributes:
        image_size: Side of the square images, pixels.
        channels: Channels of the images.
        patch_size: Side of a patch, pixels; divides `image_size`.
        width: D, width of the tokens; divisible by `heads`.
        steps: L, executed transformer steps.
        heads: H, attention heads.
        mlp_dim: Hidden width of the dense feed-forward parts.
        num_experts: E, experts of a mixture.
        expert_dim: F, hidden width of each expert.
        top_k: K, experts per token.
        router: "top_k", or "grouped_top_1" (K groups, one winner in each).
        router_noise: Training noise on router logits, std in units of 1/E.
        capacity_factor: C's factor in training; None drops nothing. gamma / K keeps
            the C of gamma and one choice for any K ("capacity 1x" of M6-T).
        images_per_group: Images that share a capacity in training.
        moe_blocks: Which unique blocks are mixtures of experts: "all", "none",
            or their indices; negative ones count from the last.
        sharing: "none", "all", "sequence" or "cycle": which block a step reads. Or the
            part that all blocks share, "attention" or "feed_forward", while every step
            has the other one for itself.
        unique_blocks: U, number of sharing groups for "sequence" and "cycle"; for a
            part in how many groups of neighbours it is shared, by default 1.
        shared_norms: Share the LayerNorms with the block, or each with the part that
            it stands before, rather than a private pair for every step.
        activation: Activation of the hidden layers: "gelu_tanh", "gelu",
            "relu", "silu" or "quick_gelu" (x sigmoid(1.702 x), of OpenAI's CLIP).
        output_activation: Activation of the output of every feed-forward part,
            or None. The authors' code has "gelu_tanh" here, their paper none.
        class_token: Whether a class token leads the patches.
        pooling: "mean" of all tokens; the class "token"; the mean of the "patches",
            which leaves class token and registers out; "token_and_patches" or
            "token_and_register", the class token with that mean or with the first
            register, 2 D side by side; "attention" of one learned query over the
            patches, with an MLP of `mlp_dim` after it (SigLIP); or "token_attention",
            that of the class token over all tokens (the authors' code).
        representation: Whether a Dense(D) + tanh stands before the logits.
        dropout: Dropout rate after the embedding, in the hidden layers and on
            both branches.
        attention_dropout: Dropout rate of the attention probabilities.
        stochastic_depth: Rate at which the last step's branches are dropped; it grows
            from 0 at the first one, so that a single step drops none.
        num_classes: Number of classes; 0 for a backbone without logits, which gives
            the pooled features instead and cannot be trained by itself.
        balance_loss_weight: Weight of the balance loss, summed over the steps.
        router_z_loss_weight: Weight of the router z-loss, summed over the steps.
        engine: How tokens reach their experts: "auto" (the fastest for batches), or
            "sorted", "slots", "one_hot", "all_experts" or "slots_or_all". Same numbers.
        scan: Whether steps that share a block compile as one loop: "auto" (in
            graphs on JAX and TensorFlow), "always" (blocks of one kind too where
            none is shared, their weights copied into stacks) or "never". torch has no
            loop and takes them one by one. Same numbers.
        remat: "full" computes each step again in the backward pass instead of
            keeping its activations, "none" keeps them. Same numbers.
        pieces: What every step keeps besides its norms, one of a kind: dicts of "kind"
            "lora", "bottleneck", "prompt", "key_value_prompt", "head_mix",
            "relative_keys", "residual_scale", "projection", "token_conv", or
            `LoRA(rank=8)`; in the order given.
        norm_epsilon: What every LayerNorm adds to the variance.
        gated: Whether dense feed-forward parts multiply their activated hidden layer
            by a second product of the tokens (SwiGLU with "silu"); not with experts.
        embedding_norm: Whether a LayerNorm of all tokens follows the positions (CLIP).
        registers: R, learned tokens without position between class token and patches.
        norm_after_pooling: Whether the head's norm follows the pooling "mean",
            "patches" or "attention" instead of standing before it.
        block_sizes: `BlockSize` of each unique block where they differ; None for
            `heads` of D / H and `mlp_dim` or `expert_dim` everywhere.
        step_widths: How many hidden units of its block each step takes, the first of
            them; None for all.
        nested_widths: Fractions of the hidden units, ascending to 1.0, of which every
            batch of training takes one, for `widenet_keras.extract` (MatFormer).
        nested_probabilities: How often each of them is taken; None for equally.
        attention_groups: G, in how many groups of neighbours the tokens of every step
            attend, or a tuple with that of each; a step that reads its block again
            takes the tokens in an order of its own, drawn in training (SReT).
        paths: n, attentions and MLPs in parallel, see `layers.ParallelPaths`, in every
            block; these are dense then. Such a step costs n times as much.
        cheap_features: "maximum" adds the larger of every two paths, "none" does not.
        ring_size: N, if all kernels of the steps are read from one vector of N numbers
            (a `Ring`), with sharing="none" and dense blocks; at most as many as these
            kernels have. None for kernels of their own.
        ring_seed: Seed of where each of them reads; another one is another model.

    Raises:
        ValueError: If a field is wrong; one line names it, its value and what
            is allowed.
    """

    image_size: int = 224
    channels: int = 3
    patch_size: int = 16
    width: int = 768
    steps: int = 12
    heads: int = 12
    mlp_dim: int = 3072
    num_experts: int = 4
    expert_dim: int = 4096
    top_k: int = 2
    router: str = "top_k"
    router_noise: float = 1.0
    capacity_factor: float | None = 1.2
    images_per_group: int = 1
    moe_blocks: str | tuple[int, ...] = "all"
    sharing: str = "all"
    unique_blocks: int | None = None
    shared_norms: bool = False
    activation: str = "gelu_tanh"
    output_activation: str | None = None
    class_token: bool = True
    pooling: str = "mean"
    representation: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.0
    stochastic_depth: float = 0.0
    num_classes: int = 1000
    balance_loss_weight: float = 0.01
    router_z_loss_weight: float = 0.0
    engine: str = "auto"
    scan: str = "auto"
    remat: str = "none"
    pieces: tuple[Piece, ...] = ()
    norm_epsilon: float = EPSILON
    gated: bool = False
    embedding_norm: bool = False
    registers: int = 0
    norm_after_pooling: bool = False
    block_sizes: tuple[BlockSize, ...] | None = None
    step_widths: tuple[int, ...] | None = None
    nested_widths: tuple[float, ...] = ()
    nested_probabilities: tuple[float, ...] | None = None
    attention_groups: int | tuple[int, ...] = 1
    paths: int = 1
    cheap_features: str = "none"
    ring_size: int | None = None
    ring_seed: int = 0

    def __post_init__(self):
        for field in _TUPLES:
            if isinstance(getattr(self, field), list):
                object.__setattr__(self, field, tuple(getattr(self, field)))
        object.__setattr__(self, "pieces", pieces_of(OWNER, self.pieces))
        sizes = block_sizes_of(OWNER, self.block_sizes)
        object.__setattr__(self, "block_sizes", sizes)
        check_config(self)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the patches of an image."""
        side = self.image_size // self.patch_size
        return side, side

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image."""
        return self.image_size, self.image_size, self.channels

    @property
    def leading_tokens(self) -> int:
        """Number of tokens before the patches: a class token, and registers."""
        return self.class_token + self.registers

    @property
    def tokens(self) -> int:
        """T, number of tokens."""
        return self.leading_tokens + self.grid[0] * self.grid[1]

    @property
    def outputs(self) -> int:
        """Numbers that the model gives per image: of each class, or features."""
        return self.num_classes or POOLINGS[self.pooling] * self.width

    @property
    def output_name(self) -> str:
        """What the numbers that the model gives are called in its files."""
        return "logits" if self.num_classes else "features"

    def replace(self, **fields: Any) -> Self:
        """Returns a copy with some fields changed.

        Raises:
            ValueError: If there is no such field, or a value does not fit.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in fields:
            if name not in known:
                nearest = checks.suggest(name, known)
                raise ValueError(
                    f"{OWNER}: there is no field {name!r}."
                    + (nearest or f" Fields: {', '.join(known)}.")
                )
        return dataclasses.replace(self, **fields)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dict that JSON can hold."""
        fields = dataclasses.asdict(self)
        for name in _TUPLES:
            if isinstance(fields[name], tuple):
                fields[name] = list(fields[name])
        fields["pieces"] = as_dicts(self.pieces)
        if self.block_sizes is not None:
            fields["block_sizes"] = sizes_as_dicts(self.block_sizes)
        # Left out at their defaults, so that runs begun before there were any go on.
        added = list(fields).index(_FIRST_ADDED)
        for field in dataclasses.fields(self)[added:]:
            if getattr(self, field.name) == field.default:
                del fields[field.name]
        return fields
