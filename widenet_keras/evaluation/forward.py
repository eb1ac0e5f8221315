"""One compiled forward pass that returns logits and routing together."""

import keras
import numpy as np
from keras import ops

from widenet_keras.utils.execution import execution


class ForwardPass(keras.Model):
    """Logits and routing of batches of images, as NumPy arrays.

    A model around the model, so that Keras compiles it as it compiles `predict`
    on each backend. A batch that is smaller than one before it is filled up with
    copies of its first image, whose results are cut off again, since every further
    size would be compiled. No prediction depends on the other images of its batch,
    for nothing is dropped at inference.

    Args:
        model: A `WideNet` or `ImageClassifier`.
    """

    def __init__(self, model):
        super().__init__(name=f"{model.name}_forward_pass")
        self.model = model
        self.jit_compile = model.jit_compile
        self.run_eagerly = model.run_eagerly
        self.batch_size = 0
        self.built = True

    def call(self, images, training=None):
        """Returns a dict of arrays whose first axis is that of the images.

        Args:
            images: (B, height, width, channels) float.
            training: Not used; a forward pass is inference.
        """
        static = keras.backend.backend() == "tensorflow" and self.jit_compile
        with execution(static_shapes=static):
            logits, record = self.model(images, training=False, return_routing=True)
        if not record:
            return {"logits": logits}
        # (S, B, K, T) -> (B, S, K, T)
        return {
            "logits": logits,
            "experts": ops.swapaxes(record.experts, 0, 1),
            "gates": ops.swapaxes(record.gates, 0, 1),
        }

    def of_batch(self, images):
        """Returns the dict of `call` for one batch.

        Args:
            images: NumPy array (B, height, width, channels) float.
        """
        count = len(images)
        self.batch_size = max(self.batch_size, count)
        missing = self.batch_size - count
        if missing:
            images = np.concatenate([images, np.repeat(images[:1], missing, axis=0)])
        results = self.predict_on_batch(images)
        return {name: value[:count] for name, value in results.items()}
