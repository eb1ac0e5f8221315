"""Draw where a trained model sends images: patches to experts, classes to experts.

    pip install -e '.[tensorflow,recipes]'
    python recipes/routing_pictures.py --model runs/cifar10/model.keras \
        --data cifar10 --output pictures

writes `patches.png`, a few test images with the expert of every patch at every step,
and `classes.png`, which classes use which experts more than others do. How the load of
the experts changed in training is in the folder of the run, `load.png`.
`--data digits` needs no data: try it on saved_models/digits/model.keras.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

import widenet_keras
from widenet_keras.data.broken_images import broken_image_message
from widenet_keras.data.labelled import labelled_batches
from widenet_keras.files.named import named_classifier
from widenet_keras.plot import load_matplotlib
from widenet_keras.utils.checks import check_integer
from widenet_keras.utils.command_line import run_command
from widenet_keras.utils.files import check_folder, replaced_when_done
from widenet_keras.utils.plain_errors import plain_errors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """Draw where a trained model sends images."""

    model: Path
    """A .keras file of a model with experts."""
    data: str
    """digits, class folders, TFRecords, an .npz file, or tfds:NAME."""
    output: Path
    """Folder of the pictures."""
    data_dir: Path | None = None
    """Where TensorFlow Datasets keeps its data."""
    images: int = 2000
    """Test images that the use of experts by classes is counted on."""
    shown: int = 10
    """Images to draw, of as many classes as there are."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do with an image that cannot be read."""

    def __post_init__(self):
        check_integer("pictures", "images", self.images, 1)
        check_integer("pictures", "shown", self.shown, 1)


def main(pictures):
    """Reads images, asks the model where they go, draws."""
    load_matplotlib()
    check_folder(pictures.output)
    model = named_classifier(pictures.model)
    # A model without experts is told before images are read.
    model.routing(np.zeros((1, *model.config.image_shape), "float32"))
    batches, names, description = labelled_batches(
        model,
        pictures.data,
        "validation",
        pictures.data_dir,
        64,
        pictures.on_error,
    )
    print(f"{pictures.model} on {description}", flush=True)
    with plain_errors(broken_image_message):
        images, labels = drawn(batches, pictures.images)
    first = of_every_class(labels, pictures.shown)
    with replaced_when_done(pictures.output / "patches.png") as path:
        widenet_keras.plot.plot_patches(
            model.routing(images[first]),
            images[first],
            [names[label] for label in labels[first]],
            path,
        )
    with replaced_when_done(pictures.output / "classes.png") as path:
        widenet_keras.plot.plot_class_experts(
            model.routing(images), labels, names, path
        )
    print(f"patches.png and classes.png are in {pictures.output}/")


def drawn(batches, count, seed=0):
    """Returns `count` images drawn from all, and their labels; all if there are fewer.

    Class folders are read class by class and may hold more than fits into memory: of
    the images so far, each is kept with the same probability (reservoir sampling).
    """
    random = np.random.default_rng(seed)
    kept, seen = [], 0
    for images, labels in batches:
        labels = np.asarray(labels)
        labels = labels.argmax(axis=1) if labels.ndim == 2 else labels
        for image, label in zip(np.asarray(images), labels, strict=True):
            seen += 1
            place = len(kept) if len(kept) < count else random.integers(seen)
            if place < count:
                # A copy, since a view would keep the whole batch.
                kept[place : place + 1] = [(image.copy(), label)]
    if not kept:
        raise ValueError("There are no images to draw; give data with at least one.")
    images, labels = zip(*kept, strict=True)
    return np.stack(images), np.array(labels)


def of_every_class(labels, count):
    """Returns places of `count` images: the first of every class, then the second..."""
    rank = np.zeros(len(labels), int)
    for label in np.unique(labels):
        of_label = labels == label
        rank[of_label] = np.arange(of_label.sum())
    return np.lexsort((labels, rank))[:count]


if __name__ == "__main__":
    run_command(main, Pictures)
