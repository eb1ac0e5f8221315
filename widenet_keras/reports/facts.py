"""What a model is and how it was trained, as pairs of a name and a value."""

from pathlib import Path

import keras

from widenet_keras.models.class_names import listed
from widenet_keras.models.flops import forward_flops
from widenet_keras.models.frozen import trained_parameters
from widenet_keras.reports.run_record import RunRecord
from widenet_keras.version import __version__


def title_of(model, run: RunRecord | None, file: Path | None) -> str:
    """Returns what a model is called on a page or a card.

    Args:
        model: An `ImageClassifier`.
        run: `RunRecord` of the run that made it.
        file: Path of its file; most are called model.keras, in a folder with a name.
    """
    if run is not None:
        return run.name
    return model.name if file is None else "/".join(file.resolve().parts[-2:])


def model_facts(model) -> list[tuple[str, str]]:
    """Returns what a model is, takes and gives.

    Args:
        model: An `ImageClassifier`.
    """
    c = model.config
    parameters = model.count_params()
    experts = "none: every token goes through the same layers"
    if c.routed_steps:
        experts = f"{c.num_experts}, of which each token uses {c.top_k}"
        experts += f", at {len(c.routed_steps)} of {c.steps} steps"
    height, width, channels = c.image_shape
    facts = [
        ("architecture", f"{c.steps} steps over {_blocks(c)}, width {c.width}"),
        ("experts", experts),
        ("parameters", f"{parameters:,}"),
        ("forward pass", f"{_operations(forward_flops(c))} per image"),
        ("input", f"{height} x {width} pixels, {_colours(channels)}"),
        ("of each image", model.preprocessing.in_words(c.image_size)),
        ("tokens", f"{c.tokens}, of patches of {c.patch_size} x {c.patch_size} pixels"),
        ("classes", f"{c.num_classes} ({_class_names(model)})"),
        ("trained on", model.trained_on or "not stated"),
    ]
    if model.frozen:
        trained = f"{trained_parameters(model):,} of {parameters:,} parameters"
        facts.append(("learns", f"{trained}; frozen: {', '.join(model.frozen)}"))
    return facts


def training_facts(run: RunRecord) -> list[tuple[str, str]]:
    """Returns the settings of a run, with those of a part as "part.name".

    Args:
        run: `RunRecord`.
    """
    facts = []
    for name, value in run.settings.items():
        inner = value if isinstance(value, dict) and value else {"": value}
        for each, setting in inner.items():
            facts.append((f"{name}.{each}".rstrip("."), _told(setting)))
    return facts


def metric_facts(run: RunRecord) -> list[tuple[str, str]]:
    """Returns what a run is known by.

    Args:
        run: `RunRecord`.
    """
    return [(name, _told(value)) for name, value in run.metrics.items()]


def made_with() -> str:
    """Returns the versions that wrote a page or a card."""
    backend = keras.backend.backend()
    return f"widenet_keras {__version__}, Keras {keras.version()} on {backend}"


def percent(value: float) -> str:
    """Returns a fraction as a person reads it."""
    return f"{100 * value:.2f} %"


def _blocks(config):
    """Returns what the steps share."""
    if config.ring_size is not None:
        return "a ring of weights"
    count = config.num_unique_blocks
    return f"{count} unique block{'s' * (count > 1)} (sharing: {config.sharing})"


def _operations(flops):
    return f"{flops / 1e9:,.3g} GFLOP" if flops >= 1e8 else f"{flops / 1e6:.3g} MFLOP"


def _colours(channels):
    return {1: "grey", 3: "in colour"}.get(channels, f"{channels} channels")


def _class_names(model):
    return "not named" if model.class_names is None else listed(model.class_names)


def _told(value):
    """Returns a setting as text."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return listed(list(map(str, value))) or "none"
    if value in (None, {}, ""):
        return "none"
    return str(value)
