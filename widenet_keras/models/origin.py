"""What a model knows of where it comes from: classes, preprocessing, data."""

from collections.abc import Iterable
from typing import Any

from widenet_keras.models.class_names import checked_class_names
from widenet_keras.models.preprocessing import (
    Preprocessing,
    checked_preprocessing,
    usual_preprocessing,
)
from widenet_keras.models.preprocessor import Preprocessor


class Origin:
    """Part of a model: what its weights mean, kept in its file.

    Attributes:
        trained_on: What the model was trained on, one line, or None.
    """

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, a tuple in the order of the logits, or None.

        They are in the model's file, and data are mapped to them by name.
        """
        return self._class_names

    @class_names.setter
    def class_names(self, names: Iterable[str] | None) -> None:
        if names is not None:
            names = checked_class_names(self.name, names, self.config.num_classes)
        self._class_names = names

    @property
    def preprocessing(self) -> Preprocessing:
        """`Preprocessing`: how images of any size become what the model is given."""
        return self._preprocessing or usual_preprocessing(self.config.image_size)

    @preprocessing.setter
    def preprocessing(self, preprocessing: Preprocessing | None) -> None:
        self._preprocessing = checked_preprocessing(self.name, preprocessing)

    @property
    def preprocessor(self) -> Preprocessor:
        """A new `Preprocessor`: the layer that does this to images of any size."""
        return Preprocessor(
            self.config.image_size,
            self.config.channels,
            self.preprocessing,
            dtype=self.compute_dtype,
            # Keras makes one whenever it saves the model; a number would count them.
            name=f"{self.name}_preprocessor",
        )

    def set_origin(
        self,
        class_names: Iterable[str] | None = None,
        preprocessing: Preprocessing | dict | None = None,
        trained_on: str | None = None,
    ) -> None:
        """Sets all of it; None where nobody said."""
        self.class_names = class_names
        self.preprocessing = preprocessing
        self.trained_on = trained_on

    def origin(self) -> dict[str, Any]:
        """Returns what a model made from this one keeps, as a dict that JSON holds."""
        return {
            "class_names": self.class_names,
            "preprocessing": self._preprocessing and self._preprocessing.to_dict(),
            "trained_on": self.trained_on,
        }
