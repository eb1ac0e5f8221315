"""What the name of a timm architecture tells, which its tensors do not."""

import re

from widenet_keras.utils.printable import printable

# All models of timm with these beginnings, unless a part of `_OTHERS` is in the name,
# have plain blocks, LayerNorm and learned positions.
_PLAIN = re.compile(r"(vit|deit3?|flexivit|eva_giant|eva_large)_")
_OTHERS = (
    "rope",
    "rpn",
    "_xp_",
    "18x2",
    "pwee",
    "dwee",
    "dlittle",
    "pe_core",
    "pe_lang",
    "pe_spatial",
    "dinov3",
    "radio",
    "tipsv2",
    "lingbot",
    "sapiens2",
    "relpos",
    "_r_s",
    "_r26",
    "_r50",
    "_resnet",
    "prr",
    "mci",
    # Without a norm behind the last block.
    "intern300m",
)
_TANH = re.compile(r".*(patch32|giantopt|so400m_patch16|large.*_512)")
# Its heads are narrower than those of all others of its width.
_SIXTEEN_HEADS = "vit_base_patch16_gap_224"


def check_architecture(name: str, origin: str) -> str:
    """Returns the name of a timm architecture without its tag.

    Args:
        name: As a companion file has it, such as "vit_base_patch16_224.augreg_in1k".
        origin: What messages call the source.

    Raises:
        ValueError: If the architecture is not a plain vision transformer.
    """
    plain = str(name).split(".")[0]
    other = next((part for part in _OTHERS if part in plain), None)
    if other is None and _PLAIN.match(plain):
        return plain
    why = f" ({other.strip('_')!r} in its name)" if other else ""
    raise ValueError(
        f"{origin}: its architecture {printable(name)!r}{why} is not a plain vision "
        "transformer, although its tensors may look like one; use a vit_*, deit_*, "
        "deit3_*, flexivit_*, eva_giant_* or eva_large_* model."
    )


def activation_of(name: str | None, gated: bool) -> str:
    """Returns the activation of a timm model.

    Args:
        name: Architecture without tag, or None.
        gated: Whether its feed-forward parts are.
    """
    if gated:
        return "silu"
    if name and "quickgelu" in name:
        return "quick_gelu"
    tanh = name and "siglip" in name and _TANH.match(name)
    return "gelu_tanh" if tanh else "gelu"


def heads_by_name(name: str | None) -> int | None:
    """Returns the heads of the one architecture whose width does not tell them."""
    return 16 if name == _SIXTEEN_HEADS else None
