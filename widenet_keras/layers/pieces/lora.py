"""LoRA: a low-rank change of every product of a step, and of its experts."""

import dataclasses
from typing import Any, ClassVar

import keras

from widenet_keras.layers.pieces.bank import check_bank, copies, one_of_each
from widenet_keras.layers.pieces.piece import Piece, Sizes, Weight
from widenet_keras.routing.random_draws import RandomDraws
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_choice, check_flag, check_integer
from widenet_keras.utils.types import Tensor

ATTENTION_MAPS = ("query", "key", "value", "output")
FEED_FORWARD_MAPS = ("hidden", "gate", "outer")
MAPS = (*ATTENTION_MAPS, *FEED_FORWARD_MAPS)
ROUTER = "router"
EXPERTS = ("each", "shared")
_OWNER = "LoRA"


@dataclasses.dataclass(frozen=True)
class LoRA(Piece):
    """Adds x down up + bias to products of x; starts as no change at all.

    Of a mixture of experts it adds down up to the kernels, so that its tokens meet
    their experts as before. There is no factor alpha / rank. Sources: "LoRA" (arXiv
    2106.09685); for steps that share a block "Relaxed Recursive Transformers" (arXiv
    2410.20672), whose start `widenet_keras.relax` makes.

    Args:
        rank: r; of a map that is smaller than that its smaller side.
        on: Which products, of `MAPS` and "router"; those that a block does not have are
            left out.
        experts: "each" expert has factors of its own, or all of a step have "shared"
            ones. Devices that share a bank of experts have all factors each.
        bias: Whether each product has a bias of the step too.
        bank: M copies of which training draws one; inference takes their mean
            ("AdaMix", arXiv 2205.12410). Not on experts.
        shared: Which factor the copies of a bank share, "up", "down" or "none".

    Raises:
        ValueError: If an argument is out of range; one line says what is allowed.
    """

    kind: ClassVar[str] = "lora"
    rank: int = 8
    on: tuple[str, ...] = MAPS
    experts: str = "each"
    bias: bool = True
    bank: int = 1
    shared: str = "up"

    def __post_init__(self):
        check_integer(_OWNER, "rank", self.rank, 1)
        if not isinstance(self.on, list | tuple) or not self.on:
            raise ValueError(
                f"{_OWNER}: on={self.on!r} must be a tuple of products, some of "
                f"{', '.join((*MAPS, ROUTER))}."
            )
        object.__setattr__(self, "on", tuple(self.on))
        for name in self.on:
            check_choice(_OWNER, "on", name, (*MAPS, ROUTER))
        if len(set(self.on)) < len(self.on):
            raise ValueError(
                f"{_OWNER}: on={self.on} names a product twice; once does."
            )
        check_choice(_OWNER, "experts", self.experts, EXPERTS)
        check_flag(_OWNER, "bias", self.bias)
        check_bank(_OWNER, self.bank, self.shared)

    def weights(self, sizes: Sizes) -> dict[str, Weight]:
        """Returns down, up and bias of every product; see `Piece.weights`."""
        dense, mixed = dense_maps(sizes), expert_maps(sizes)
        experts = (sizes.experts if self.experts == "each" else 1,)
        found = {}
        for name, shape in dense.items():
            if name in self.on:
                steps = "dense" if name in FEED_FORWARD_MAPS else "all"
                found |= self._factors(name, shape, steps)
        for name, shape in mixed.items():
            if name in self.on:
                found |= self._factors(f"experts_{name}", shape, "routed", experts)
        if ROUTER in self.on and sizes.experts:
            found |= self._factors(ROUTER, (sizes.width, sizes.experts), "routed")
        if not found:
            raise ValueError(
                f"{_OWNER}: the blocks have none of the products on={self.on}; name "
                f"some of {', '.join({**dense, **mixed})}."
            )
        return found

    def _factors(self, name, shape, steps, experts=()):
        """Returns the weights of one product of shape (Din, Dout), by their names."""
        if self.bank > 1 and steps == "routed":
            raise ValueError(
                f"{_OWNER}: bank={self.bank} is not for mixtures of experts; use "
                "bank=1, on=(...) with products of attention alone, or a Bottleneck."
            )
        before, after = shape
        rank, exact = min(self.rank, before, after), name == ROUTER
        down, up = (
            (*experts, *copies(side, self.bank, self.shared)) for side in ("down", "up")
        )
        # Of normalised tokens each of the r numbers then varies by about 1.
        start = keras.initializers.RandomNormal(stddev=before**-0.5)
        kept = {"steps": steps, "exact": exact}
        axes = (None, None) if exact else (-2, -1)
        found = {
            "down": Weight((*down, before, rank), start, int8_axis=axes[0], **kept),
            "up": Weight((*up, rank, after), "zeros", int8_axis=axes[1], **kept),
        }
        if self.bias and not exact:
            found["bias"] = Weight((*up, after), "zeros", False, **kept)
        return {f"{name}_{part}": weight for part, weight in found.items()}

    def drawn(self, w: Any, draws: RandomDraws) -> Any:
        """Returns one copy of each bank; see `Piece.drawn`."""
        if self.bank == 1:
            return w
        last = ("up", "bias") if self.bias else ("up",)
        names = [name[: -len("_down")] for name in w._fields if name.endswith("_down")]
        parts = [
            (side, tuple(f"{name}_{part}" for part in those))
            for name in names
            for side, those in (("down", ("down",)), ("up", last))
        ]
        return one_of_each(w, self, parts, draws)

    def linear(
        self, w: Any, name: str, inputs: Tensor, output: Tensor, draws: RandomDraws
    ) -> Tensor:
        """Adds inputs down up + bias; see `Piece.linear`."""
        if name not in self.on:
            return output
        # A step may take the first hidden units of its block alone.
        before, after = inputs.shape[-1], output.shape[-1]
        down = getattr(w, f"{name}_down")[:before]
        up = getattr(w, f"{name}_up")[:, :after]
        rows = numerics.product(inputs, numerics.cast(down, output.dtype))
        if self.bias:
            bias = getattr(w, f"{name}_bias")[:after]
            return output + numerics.linear(rows, up, bias)
        return output + numerics.product(rows, numerics.cast(up, output.dtype))

    @property
    def changes_mixtures(self) -> bool:
        """Whether experts or a router have factors."""
        return not {"hidden", "outer", ROUTER}.isdisjoint(self.on)

    def routed(self, w: Any, router: Tensor, experts: Any) -> tuple[Tensor, Any]:
        """Adds down up to the kernels; see `Piece.routed`."""
        if ROUTER in self.on:
            router = router + numerics.product_of_float32(w.router_down, w.router_up)
        changed = {}
        for name in ("hidden", "outer"):
            if name not in self.on:
                continue
            down, up = (getattr(w, f"experts_{name}_{part}") for part in ("down", "up"))
            kernel, bias = f"{name}_kernel", f"{name}_bias"
            own = getattr(experts, kernel)
            before, after = own.shape[-2:]
            delta = numerics.product(down[..., :before, :], up[..., :after])
            delta = numerics.cast(delta, own.dtype)
            changed[kernel] = own + delta
            if self.bias:
                delta = getattr(w, f"experts_{name}_bias")[..., :after]
                own = getattr(experts, bias)
                changed[bias] = own + numerics.cast(delta, own.dtype)
        return router, experts._replace(**changed)


def dense_maps(sizes):
    """Returns the products of dense layers, a dict from name to (Din, Dout).

    Args:
        sizes: `Sizes` of the blocks.
    """
    width = sizes.width
    keys, values = sizes.heads * sizes.key_dim, sizes.heads * sizes.value_dim
    found = {
        "query": (width, keys),
        "key": (width, keys),
        "value": (width, values),
        "output": (values, width),
    }
    if sizes.hidden:
        found["hidden"] = (width, sizes.hidden)
        if sizes.gated:
            found["gate"] = (width, sizes.hidden)
        found["outer"] = (sizes.hidden, width)
    return found


def expert_maps(sizes):
    """Returns the products of each expert, a dict from name to (Din, Dout).

    Args:
        sizes: `Sizes` of the blocks.
    """
    if not sizes.experts:
        return {}
    width, hidden = sizes.width, sizes.expert_hidden
    return {"hidden": (width, hidden), "outer": (hidden, width)}
