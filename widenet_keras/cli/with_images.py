"""What the conversions have in common that look at labelled images."""

import dataclasses
from pathlib import Path
from typing import Literal

from widenet_keras.cli.checks import check_at_least, check_data
from widenet_keras.cli.conversion import Conversion, say


@dataclasses.dataclass(kw_only=True)
class WithImages(Conversion):
    """A command that makes one model of another by what it does with images."""

    data: str
    """"digits", or where images are: folders, TFRecords, an .npz, or tfds:NAME."""
    data_dir: Path | None = None
    """Where TFDS keeps its data sets."""
    split: str = "train"
    """Part of the data."""
    images: int
    """How many of the images to look at, at most."""
    batch_size: int = 32
    """Images per batch."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do with an image that cannot be read."""

    def check(self):
        """Says what is wrong with the words, before Keras is imported."""
        super().check()
        check_at_least(self.command, "--images", self.images)
        check_at_least(self.command, "--batch-size", self.batch_size)
        check_data(self.data, self.split)

    def looked_at(self, model):
        """Returns images and labels for a model, and says which they are."""
        from widenet_keras.data.labelled import labelled_images
        from widenet_keras.utils.quiet import quiet

        with quiet():
            images, labels, _, description = labelled_images(
                model,
                self.data,
                self.split,
                self.data_dir,
                self.images,
                self.on_error,
            )
        say(f"importance on {len(images):,} images of {description}")
        return images, labels
