"""The image classifier: the network with an objective, ready for `model.fit`."""

import inspect

import keras

from widenet_keras.data.broken_images import broken_image_message
from widenet_keras.data.process_rows import ProcessRows
from widenet_keras.models.widenet import WideNet
from widenet_keras.training.data_checks import checked_data, label_message
from widenet_keras.training.step import TrainStep
from widenet_keras.utils.plain_errors import plain_errors

# The model returns logits; these names would read them as probabilities.
_LOGIT_LOSSES = {
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
}


@keras.saving.register_keras_serializable("widenet_keras")
class ImageClassifier(TrainStep, WideNet):
    """A WideNet, ViT or ViT-MoE that classifies images.

    ```python
    model = widenet_keras.ImageClassifier.from_preset("widenet_digits")
    model.compile()
    model.fit(images, labels, epochs=10)
    ```

    Images are float (B, height, width, channels) scaled to [-1, 1]; labels are
    integers from 0. The output is logits. The auxiliary losses of routing are
    added once per step by `train_step`; `val_loss` is the task loss alone.

    Args:
        config: A `WideNetConfig`; `from_preset` builds one from a name.
        seed: Seed of noise, dropout and dropped paths. Initial weights follow
            `keras.utils.set_random_seed`.
        **kwargs: `name` and `dtype`, as for `keras.Model`.

    Raises:
        ValueError: If the config is wrong; one line says what to change.
    """

    def build(self, images_shape):
        """Makes trackers and weights; the constructor calls it."""
        if not self.built:
            self.make_trackers()
            super().build(images_shape)

    def compile(self, optimizer="adamw", loss="auto", metrics="auto", **kwargs):
        """Configures training; as `keras.Model.compile`, with defaults.

        Args:
            optimizer: Name or instance of a Keras optimizer.
            loss: "auto" is sparse categorical cross-entropy on logits. A
                cross-entropy given by name is taken on logits as well.
            metrics: "auto" is accuracy.
            **kwargs: As for `keras.Model.compile`.

        Raises:
            ValueError: If a loss instance would read the logits as probabilities, or
                loss or optimizer do not work over the devices of this job.
        """
        if isinstance(loss, str):
            name = "sparse_categorical_crossentropy" if loss == "auto" else loss
            if name in _LOGIT_LOSSES:
                loss = _LOGIT_LOSSES[name](from_logits=True)
        elif getattr(loss, "from_logits", True) is False:
            raise ValueError(
                f"compile: {type(loss).__name__} has from_logits=False and the model "
                "returns logits; construct it with from_logits=True."
            )
        if metrics == "auto":
            metrics = [_accuracy_for(loss)]
        optimizer = keras.optimizers.get(optimizer)
        self.check_training(optimizer, loss)
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)
        # Variables that are first made inside a train step make TensorFlow trace
        # that step twice, which doubles the wait before the first epoch.
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config):
        """Compiles a loaded model as it was compiled when saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def fit(self, x=None, y=None, *args, **kwargs):
        """Trains the model; as `keras.Model.fit`, after checks of the data.

        Raises:
            ValueError: If images or labels do not fit the model, in one line.
        """
        own_rows = isinstance(x, ProcessRows)
        x = checked_data(x.dataset if own_rows else x, y, self.config)
        if _has_its_own_order(x):
            # Keras would warn that it cannot shuffle them, which nobody asked for.
            kwargs.setdefault("shuffle", False)
        validation = kwargs.get("validation_data")
        if isinstance(validation, tuple | list):
            images, labels, _ = keras.utils.unpack_x_y_sample_weight(tuple(validation))
            checked_data(images, labels, self.config)
        elif validation is not None:
            kwargs["validation_data"] = checked_data(validation, None, self.config)
        if self.optimizer is not None:
            self.unshare_buffers()
        plain = plain_errors(label_message, broken_image_message)
        with plain, self.whole_batches(x if own_rows else None):
            history = super().fit(x, y, *args, **kwargs)
        if self.optimizer is not None:
            # Weights that are the moving average now have its buffers, which an
            # evaluation would use up.
            self.unshare_buffers()
        return history

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Evaluates the model; as `keras.Model.evaluate`, after the same checks."""
        x = checked_data(x, y, self.config)
        plain = plain_errors(label_message, broken_image_message)
        with self.keeps_weights(), plain, self.whole_batches():
            return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """Returns the logits as NumPy; as `keras.Model.predict`, after checks."""
        x = checked_data(x, None, self.config, needs_labels=False)
        with self.keeps_weights(), self.whole_batches():
            return super().predict(x, *args, **kwargs)


def _has_its_own_order(data):
    """Whether data are a stream: a `tf.data` set, generator or endless `PyDataset`."""
    endless = isinstance(data, keras.utils.PyDataset) and data.num_batches is None
    return hasattr(data, "element_spec") or endless or inspect.isgenerator(data)


def _accuracy_for(loss):
    """Returns the accuracy metric for the kind of labels that `loss` takes."""
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        return keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    if isinstance(loss, keras.losses.CategoricalCrossentropy):
        return keras.metrics.CategoricalAccuracy(name="accuracy")
    return "accuracy"
