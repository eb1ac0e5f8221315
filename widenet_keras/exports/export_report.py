"""What an export turned out to be."""

import dataclasses
from pathlib import Path
from typing import Any

# How many operators a report names; `operators` has all.
_OPERATORS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportReport:
    """Size, operators, agreement and speed of an export.

    Attributes:
        path: The file or folder.
        format: Its format.
        quantize: Its quantisation.
        size: Bytes of all its files.
        parameter_bytes: Bytes of the model's parameters in float32.
        operators: Dict of operator names to how often the graph has them.
        images: Number of images that were compared.
        batch: Number of images of a call whose latency was measured.
        largest_difference: Largest difference of a logit, or feature, from the
            model's.
        far: Number of images with a difference that rounding of floats does not
            explain.
        agreement: Fraction of the images with the model's top class, or its largest
            feature.
        latency: Median milliseconds of a call.
        output: "logits", or "features" of a model without classes.
    """

    path: Path
    format: str
    quantize: str
    size: int
    parameter_bytes: int
    operators: dict
    images: int
    batch: int
    largest_difference: float
    far: int
    agreement: float
    latency: float
    output: str = "logits"

    @property
    def largest(self) -> str:
        """What `agreement` is about, in words."""
        return "top class" if self.output == "logits" else "largest feature"

    @property
    def size_ratio(self) -> float:
        """Size over parameter bytes."""
        return self.size / self.parameter_bytes

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain values for JSON."""
        facts = dataclasses.asdict(self)
        return {**facts, "path": str(self.path), "size_ratio": self.size_ratio}

    def __str__(self):
        names, output = _most_frequent(self.operators), self.output
        calls = "one image" if self.batch == 1 else f"a call of {self.batch} images"
        lines = [
            ("size", f"{self.size:,} bytes, {self.size_ratio:.3f} of the parameters"),
            ("largest difference", f"{self.largest_difference:.1e} in the {output}"),
            (f"same {self.largest}", f"{self.agreement:.2%} of {self.images} images"),
            ("latency", f"{self.latency:.2f} ms for {calls}"),
            ("operators", names or "those of Keras"),
        ]
        head = f"{self.path}: {self.format}, quantize={self.quantize}"
        return "\n".join([head, *(f"  {name:<22}{value}" for name, value in lines)])


def _most_frequent(operators):
    """Returns the names that a graph has most often, and how many others there are."""
    ordered = sorted(operators.items(), key=lambda each: (-each[1], each[0]))
    shown = [f"{name} x{count}" for name, count in ordered[:_OPERATORS]]
    others = len(ordered) - len(shown)
    return ", ".join(shown) + (f", and {others} others" if others else "")
