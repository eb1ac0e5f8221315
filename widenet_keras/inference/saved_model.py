"""SavedModels as predictors."""

from widenet_keras.data.requirements import require_tensorflow
from widenet_keras.inference.checksums import open_folder
from widenet_keras.inference.manifest import damaged
from widenet_keras.inference.predictor import Predictor


class SavedModelPredictor(Predictor):
    """A SavedModel of `widenet_keras.export`, through its `serve` signatures.

    Args:
        path: The folder.

    Raises:
        ValueError: If the folder is damaged, or not such a SavedModel.
        ImportError: If TensorFlow is not installed.
    """

    def __init__(self, path):
        super().__init__(path, open_folder(path))
        # What it was exported for; decoded images are pixels as well.
        self.input = "float" if self.manifest["input"] == "float" else "uint8"
        tf = require_tensorflow("SavedModels are")
        self._constant = tf.constant
        try:
            # The object keeps the variables alive, which its functions do not.
            self.loaded = tf.saved_model.load(str(path))
            name = "serve" if self.input == "float" else "serve_uint8"
            self._serve = getattr(self.loaded, name)
        except Exception as error:
            raise damaged(path, error) from error

    def run(self, images):
        """Returns the logits of images (B, height, width, channels)."""
        return self._serve(self._constant(images)).numpy()
