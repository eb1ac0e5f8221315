"""`.keras` files as predictors."""

import zipfile
from pathlib import Path

import keras

from widenet_keras.inference.checksums import LABELS, MANIFEST
from widenet_keras.inference.manifest import Interface, read_manifest
from widenet_keras.inference.predictor import Predictor
from widenet_keras.models.loading import load_classifier
from widenet_keras.utils.memory import MAX_MEMORY


class KerasPredictor(Predictor):
    """A `.keras` file, run by the backend of Keras; opened in safe mode.

    Class names are those that `widenet_keras.export` put into the file, or those of
    a `labels.txt` beside it, or numbers.

    Args:
        path: The file.
        max_memory: Bytes that it may take beyond what the file weighs.

    Raises:
        ValueError: If the file is damaged, not a classifier of this package, or would
            take too much memory.
    """

    def __init__(self, path, max_memory: int = MAX_MEMORY):
        path = Path(path)
        self.model = load_classifier(path, max_memory=max_memory)
        config = self.model.config
        images, logits = (None, *config.image_shape), (None, config.num_classes)
        interface = Interface(images, "float32", logits)
        super().__init__(path, _manifest(path, config), interface, max_memory)

    def run(self, images):
        """Returns the logits of float images (B, height, width, channels)."""
        return keras.ops.convert_to_numpy(self.model(images, training=False))


def _manifest(path, config):
    """Returns the manifest inside the file, or one of what is known."""
    with zipfile.ZipFile(path) as archive:
        if MANIFEST in archive.namelist():
            return read_manifest(archive.read(MANIFEST), path)
    names = [str(index) for index in range(config.num_classes)]
    labels = path.with_name(LABELS)
    if labels.is_file():
        found = labels.read_text(encoding="utf-8").splitlines()
        if len(found) != config.num_classes:
            raise ValueError(
                f"{labels} has {len(found)} lines and {path} has {config.num_classes} "
                "classes; give one name per line, in order."
            )
        names = found
    return {
        "image_shape": config.image_shape,
        "class_names": names,
        "input": "float",
        "batch": "dynamic",
    }
