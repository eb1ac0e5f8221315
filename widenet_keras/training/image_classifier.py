"""The image classifier: the network with an objective, ready for `model.fit`."""

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from widenet_keras.data.broken_images import broken_image_message
from widenet_keras.data.process_rows import ProcessRows
from widenet_keras.models.widenet import WideNet
from widenet_keras.training.data_checks import (
    checked_data,
    checked_weights,
    data_message,
    has_its_own_order,
    is_empty,
)
from widenet_keras.training.fit_options import batches_asked_for, checked_options
from widenet_keras.training.on_logits import (
    labels_kind,
    loss_on_logits,
    metrics_on_logits,
)
from widenet_keras.training.step import TrainStep
from widenet_keras.training.terms import Term, checked_terms
from widenet_keras.training.trainable_variables import FollowsTrainable
from widenet_keras.utils.plain_errors import first_line, plain_errors, told_by
from widenet_keras.utils.types import Shape, Tensor

# Errors that a check in a graph made are its line.
_plain_errors = functools.partial(plain_errors, data_message, broken_image_message)


@keras.saving.register_keras_serializable("widenet_keras")
class ImageClassifier(TrainStep, FollowsTrainable, WideNet):
    """A WideNet, ViT or ViT-MoE that classifies images.

    ```python
    model = widenet_keras.ImageClassifier.from_preset("widenet_digits")
    model.compile()
    model.fit(images, labels, epochs=10)
    ```

    Images are float (B, height, width, channels) scaled to [-1, 1]; labels are
    integers from 0. The output is logits. The auxiliary losses of routing are
    added once per batch by `train_step`; `val_loss` is the task loss alone.

    Args:
        config: A `WideNetConfig`; `from_preset` builds one from a name.
        seed: Seed of noise, dropout and dropped paths. Initial weights follow
            `keras.utils.set_random_seed`.
        **kwargs: `frozen`, as for `WideNet`; `name` and `dtype`, as for `keras.Model`.

    Raises:
        ValueError: If the config is wrong; one line says what to change.
    """

    # What labels the loss takes, see `labels_kind`; `compile` says.
    labels_kind = None

    def build(self, images_shape: Shape) -> None:
        """Makes trackers and weights; the constructor calls it."""
        if not self.built:
            self.make_trackers()
            super().build(images_shape)

    def call(
        self,
        images: Tensor,
        training: bool | None = None,
        return_routing: bool = False,
        look_at: Sequence[int] = (),
    ) -> Any:
        """As that of the network; adds the auxiliary losses for a model around it."""
        routed = self.config.routed_steps and images.shape[0] != 0
        if return_routing or not training or not routed:
            return super().call(images, training, return_routing, look_at)
        logits, record, *seen = super().call(images, training, True, look_at)
        self.add_loss(self.auxiliary_loss(record))
        return (logits, *seen) if seen else logits

    def compile(
        self,
        optimizer: Any = "adamw",
        loss: Any = "auto",
        metrics: Any = "auto",
        terms: Sequence[Term] = (),
        **kwargs: Any,
    ) -> None:
        """Configures training; as `keras.Model.compile`, with defaults.

        Args:
            optimizer: Name or instance of a Keras optimizer.
            loss: "auto" is sparse categorical cross-entropy on logits. What is given
                by name or as a function of Keras is taken on logits as well.
            metrics: "auto" is accuracy: of the class, or with binary cross-entropy
                of every label of an image. Others are taken on logits, as the loss.
            terms: What is minimised beside the loss, such as
                `[Distillation(teacher)]` and `Consistency()`. A model that is saved
                and loaded has none: give them again to go on.
            **kwargs: As for `keras.Model.compile`; `weighted_metrics` as `metrics`.

        Raises:
            ValueError: If a loss or metric would read the logits as probabilities,
                loss or optimizer do not work over the devices of this job, or a term
                does not fit.
        """
        with told_by("compile"):
            loss = loss_on_logits(loss)
            metrics = metrics_on_logits(metrics, loss)
            weighted = metrics_on_logits(kwargs.pop("weighted_metrics", None), loss)
            optimizer = keras.optimizers.get(optimizer)
            self.check_training(optimizer, loss)
            terms = checked_terms(terms, self, loss)
            super().compile(
                optimizer=optimizer,
                loss=loss,
                metrics=metrics,
                weighted_metrics=weighted,
                **kwargs,
            )
        self.set_terms(terms)
        self.labels_kind = labels_kind(loss)
        self.start_following()

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as it was compiled when saved.

        A file whose loss or metrics are refused today opens without both.
        """
        config = keras.saving.deserialize_keras_object(config)
        try:
            self.compile(**config)
        except ValueError as error:
            warnings.warn(
                "The model is opened without its loss and metrics: "
                f"{first_line(error)}",
                stacklevel=2,
            )
            self.compile(config["optimizer"], loss=None, metrics=None)

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains the model; as `keras.Model.fit`, after checks of the data.

        Images and labels may be lists, batches dicts with "image" and "label". What was
        frozen or unfrozen since `compile` is followed.

        Raises:
            ValueError: If images or labels do not fit the model, in one line.
        """
        self._assert_compile_called("fit")
        options = checked_options("fit", args, kwargs, self)
        own_rows = isinstance(x, ProcessRows)
        x, y = self._checked(x.dataset if own_rows else x, y, options)
        if has_its_own_order(x):
            # Keras would warn that it cannot shuffle them, which nobody asked for.
            options.setdefault("shuffle", False)
        if (validation := options.get("validation_data")) is not None:
            options["validation_data"] = self._checked_validation(validation)
        self.follow_trainable(trains=True)
        self.start_averages()
        if self.optimizer is not None:
            self.unshare_buffers()
        try:
            with _plain_errors(), self.whole_batches(x if own_rows else None):
                return super().fit(x, y, **options)
        finally:
            if self.optimizer is not None:
                # Weights that are the moving average now have its buffers, which an
                # evaluation would use up. Keras makes them that after errors as well.
                self.unshare_buffers()

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluates the model; as `keras.Model.evaluate`, after the same checks."""
        self._assert_compile_called("evaluate")
        options = checked_options("evaluate", args, kwargs)
        x, y = self._checked(x, y, options)
        self.follow_trainable()
        with self.evaluates(), _plain_errors(), self.whole_batches():
            return super().evaluate(x, y, **options)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the logits as NumPy; as `keras.Model.predict`, after checks."""
        options = checked_options("predict", args, kwargs)
        x, _ = self._checked(x, None, options, needs_labels=False)
        if is_empty(x):
            return np.zeros((0, self.config.outputs), "float32")
        self.follow_trainable()
        with self.evaluates(), _plain_errors(), self.whole_batches():
            return super().predict(x, **options)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains on one batch; as `keras.Model.train_on_batch`, after the checks."""
        self._assert_compile_called("train_on_batch")
        options = checked_options("train_on_batch", args, kwargs, self)
        x, y = self._checked(x, y, options)
        self.follow_trainable(trains=True)
        return super().train_on_batch(x, y, **options)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluates one batch; as `keras.Model.test_on_batch`, after the checks."""
        self._assert_compile_called("test_on_batch")
        options = checked_options("test_on_batch", args, kwargs)
        x, y = self._checked(x, y, options)
        self.follow_trainable()
        with self.without_terms():
            return super().test_on_batch(x, y, **options)

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """Returns the logits of one batch, as NumPy, after the checks."""
        x, _ = self._checked(x, None, needs_labels=False)
        if is_empty(x):
            return np.zeros((0, self.config.outputs), "float32")
        self.follow_trainable()
        with self.without_terms():
            return super().predict_on_batch(x)

    def _checked(self, data, labels, options=None, needs_labels=True):
        """Returns data and labels that are checked now or as they come."""
        how = (self.config, self.labels_kind, needs_labels, batches_asked_for(options))
        data, labels = checked_data(data, labels, *how)
        if options and options.get("sample_weight") is not None:
            if labels is None:
                raise ValueError(
                    "sample_weight is of arrays; batches have it as a third part."
                )
            options["sample_weight"] = checked_weights(
                options["sample_weight"], len(data)
            )
        return data, labels

    def _checked_validation(self, validation):
        """Returns validation data after the same checks."""
        if not isinstance(validation, tuple | list):
            data, labels = self._checked(validation, None)
            return data if labels is None else (data, labels)
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(
            tuple(validation)
        )
        options = {"sample_weight": weights}
        images, labels = self._checked(images, labels, options)
        weights = options["sample_weight"]
        return keras.utils.pack_x_y_sample_weight(images, labels, weights)
