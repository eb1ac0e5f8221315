"""What a model without classes cannot do, told in one line."""

from typing import Any


def check_has_classes(owner: str, model):
    """Raises `ValueError` if a model gives features and no logits.

    Args:
        owner: Who asks, for the message.
        model: A `WideNet`.
    """
    if not model.config.num_classes:
        raise ValueError(
            f"{owner}: {model.name} has num_classes=0, so it gives features and no "
            "logits; use model.adapted(num_classes=...) for classes, or build on "
            "model.features()."
        )


class NeedsClasses:
    """Mixin with the methods of `keras.Model` that lead to training."""

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configures training; as `keras.Model.compile`.

        Raises:
            ValueError: If the model has no classes.
        """
        check_has_classes("compile", self)
        super().compile(*args, **kwargs)

    def _assert_compile_called(self, method_name=None):
        check_has_classes(method_name or "compile", self)
        super()._assert_compile_called(method_name)
