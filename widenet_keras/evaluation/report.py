"""An evaluation as text: tables in Markdown, and a short one for the terminal."""

from widenet_keras.utils.printable import printable
from widenet_keras.utils.tables import markdown_table, markdown_text


def summary(evaluation):
    """Returns the rows of the short table, pairs of a name and a value.

    Args:
        evaluation: An `Evaluation`.
    """
    speed = evaluation.throughput.images_per_second
    rows = [
        ("images", f"{evaluation.count:,}"),
        ("top-1 accuracy", _percent(evaluation.top1)),
        ("top-5 accuracy", _percent(evaluation.top5)),
        ("NLL", f"{evaluation.nll:.4f} nats"),
        ("calibration error", _percent(evaluation.calibration_error)),
        ("dead experts", _dead(evaluation.routing)),
        ("images/s", "-" if speed is None else f"{speed:,.1f}"),
        ("batch size", f"{evaluation.throughput.batch_size}"),
        ("backend", evaluation.throughput.backend),
        ("seconds in all", f"{evaluation.throughput.seconds:.1f}"),
    ]
    return [(name, value) for name, value in rows if value is not None]


def terminal(evaluation, worst=5):
    """Returns the text that a terminal shows: summary, routing, hardest classes.

    Args:
        evaluation: An `Evaluation`.
        worst: How many of the classes of lowest accuracy to name.
    """
    blocks = [_aligned(summary(evaluation))]
    if evaluation.routing is not None:
        blocks.append(_aligned([_ROUTING_HEADER, *_routing_rows(evaluation.routing)]))
    seen = [each for each in evaluation.classes if each.count]
    hardest = sorted(seen, key=lambda each: each.accuracy)[:worst]
    blocks.append(_aligned([_CLASS_HEADER, *map(_class_row, hardest)]))
    if len(seen) > worst:
        blocks[-1] += f"\n({worst} of {len(seen)} classes, the hardest first)"
    return "\n\n".join(blocks)


def markdown(evaluation):
    """Returns all tables in Markdown.

    Args:
        evaluation: An `Evaluation`.
    """
    blocks = ["# Evaluation", markdown_table(("", ""), summary(evaluation))]
    if evaluation.routing is not None:
        rows = _routing_rows(evaluation.routing)
        blocks += ["## Routing", markdown_table(_ROUTING_HEADER, rows)]
    blocks += [
        "## Calibration",
        markdown_table(
            ("confidence", "images", "mean confidence", "accuracy"),
            [
                (
                    f"{each.low:.3f} - {each.high:.3f}",
                    f"{each.count:,}",
                    _percent(each.confidence) or "-",
                    _percent(each.accuracy) or "-",
                )
                for each in evaluation.bins
            ],
        ),
        "## Classes",
        markdown_table(
            _CLASS_HEADER,
            [map(markdown_text, _class_row(each)) for each in evaluation.classes],
        ),
    ]
    return "\n\n".join(blocks) + "\n"


_ROUTING_HEADER = (
    "step",
    "load of each expert",
    "busiest / fair",
    "dead",
    "gates sum to",
    "entropy",
)
_CLASS_HEADER = ("class", "images", "accuracy", "precision", "most often taken for")


def _routing_rows(routing):
    fields = zip(
        routing.steps,
        routing.fractions,
        routing.busiest,
        routing.dead,
        routing.gate_sum,
        routing.entropy,
        strict=True,
    )
    return [
        (
            f"{step}",
            " ".join(f"{fraction:.2f}" for fraction in fractions),
            f"{busiest:.2f}",
            " ".join(map(str, dead)) or "-",
            f"{gate_sum:.3f}",
            f"{entropy:.3f}",
        )
        for step, fractions, busiest, dead, gate_sum, entropy in fields
    ]


def _class_row(each):
    confused = "-"
    if each.confused:
        confused = f"{printable(each.confused_with)} ({each.confused})"
    return (
        printable(each.name),
        f"{each.count:,}",
        _percent(each.accuracy) or "-",
        _percent(each.precision) or "-",
        confused,
    )


def _percent(value):
    return None if value is None else f"{100 * value:.2f} %"


def _dead(routing):
    return None if routing is None else f"{routing.dead_experts}"


def _aligned(rows):
    """Returns rows of text as columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
