"""What a network sees in images, as a layer that other models are built on."""

import keras

from widenet_keras.layers.pooling import POOLINGS, pooled_features
from widenet_keras.models.image_checks import check_images
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_flag, check_integer


@keras.saving.register_keras_serializable("widenet_keras")
class Features(keras.layers.Layer):
    """Images (B, height, width, channels) to tokens (B, T, D), or pooled features.

    Trained inside another model, it adds the auxiliary losses of routing, of the steps
    that it takes.

    Args:
        model: A `WideNet`, whose weights it reads.
        step: Step of the depth, from 0, after which tokens are taken; None for the
            last one.
        pooled: Whether the head's norm and pooling follow.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If there is no such step.
    """

    def __init__(self, model, step=None, pooled=False, **kwargs):
        kwargs.setdefault("dtype", model.dtype_policy)
        super().__init__(**kwargs)
        if step is not None:
            check_integer("features", "step", step, 0)
            if step >= model.config.steps:
                raise ValueError(
                    f"features: step={step} and the model has steps="
                    f"{model.config.steps}; use 0 to {model.config.steps - 1}."
                )
        check_flag("features", "pooled", pooled)
        # What is not read is no part of the layer: nothing else is saved or trained.
        vars(self)["_model"] = model
        self.embedding = model.embedding
        self.embedding_dropout = model.embedding_dropout
        self.encoder = model.encoder
        self.norm = model.head.norm if pooled else None
        self.attention = model.head.attention if pooled else None
        self.step = step
        self.pooled = pooled

    def __call__(self, images, *args, **kwargs):
        """Checks the images, then calls the layer as Keras does."""
        check_images(images, self._model.config.image_shape)
        return super().__call__(images, *args, **kwargs)

    def call(self, images, training=None):
        """Returns the features; see the class."""
        model = self._model
        steps = None if self.step is None else self.step + 1
        with numerics.weights_as_stored() as read:
            tokens, outputs = model.run(images, training, read, training, steps)
            if self.pooled:
                weights = model.head.read_pooling(read)
                tokens = pooled_features(tokens, weights, model.head.spec)
        if training and outputs.facts:
            record = self.encoder.record(outputs)
            self.add_loss(model.auxiliary_loss(record))
        return tokens

    def compute_output_spec(self, images, training=None):
        """Returns the spec of the features."""
        # Keras may know neither side of the images, which the model does.
        shape = images.shape[0], *self._model.config.image_shape
        tokens = self.embedding.compute_output_shape(shape)
        if self.pooled:
            tokens = tokens[0], POOLINGS[self._model.config.pooling] * tokens[-1]
        return keras.KerasTensor(tokens, self.compute_dtype)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self._model),
            "step": self.step,
            "pooled": self.pooled,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuilds the layer and its model."""
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**{**config, "model": model})
