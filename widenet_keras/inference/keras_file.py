"""`.keras` files as predictors."""

from pathlib import Path

import keras

from widenet_keras.files.manifest import Interface
from widenet_keras.files.named import manifest_in, named_classifier
from widenet_keras.inference.predictor import Predictor
from widenet_keras.utils import numerics
from widenet_keras.utils.memory import MAX_MEMORY


class KerasPredictor(Predictor):
    """A `.keras` file, run by the backend of Keras; opened in safe mode.

    Class names are those of the model, or numbers; see `named_classifier`.

    Args:
        path: The file.
        max_memory: Bytes that it may take beyond what the file weighs.

    Raises:
        ValueError: If the file is damaged, not a classifier of this package, or would
            take too much memory.
    """

    def __init__(self, path, max_memory: int = MAX_MEMORY):
        path = Path(path)
        self.model = named_classifier(path, max_memory)
        config = self.model.config
        names = self.model.class_names or map(str, range(config.num_classes))
        outputs = {} if config.num_classes else {"features": config.outputs}
        manifest = manifest_in(path) or outputs | {
            "image_shape": config.image_shape,
            "class_names": list(names),
            "input": "float",
            "batch": "dynamic",
            "preprocessing": self.model.preprocessing.to_dict(),
            "trained_on": self.model.trained_on,
        }
        images, logits = (None, *config.image_shape), (None, config.outputs)
        interface = Interface(images, "float32", logits)
        super().__init__(path, manifest, interface, max_memory)

    def run(self, images):
        """Returns the logits of float images (B, height, width, channels)."""
        with numerics.without_gradients():
            return keras.ops.convert_to_numpy(self.model(images, training=False))
