"""Saving models so that a crash never costs the file that was there."""

import os
from pathlib import Path
from typing import Any

import keras

from widenet_keras.utils.checks import check_path
from widenet_keras.utils.files import replaced_when_done


class Saved:
    """Mixin with the methods of `keras.Model` that write files."""

    def save(
        self, filepath: str | os.PathLike, overwrite: bool = True, **kwargs: Any
    ) -> None:
        """Saves the whole model; an older file is replaced only when it is done.

        Args:
            filepath: Path that ends in `.keras`.
            overwrite: Whether an existing file may be replaced.
            **kwargs: As for `keras.Model.save`.

        Raises:
            ValueError: If it is another path.
        """
        _save_beside(super().save, filepath, ".keras", overwrite, **kwargs)

    def save_weights(
        self, filepath: str | os.PathLike, overwrite: bool = True, **kwargs: Any
    ) -> None:
        """Saves the weights; an older file is replaced only when it is done.

        Args:
            filepath: Path that ends in `.weights.h5`; in `.weights.json` for Keras'
                own files of several parts.
            overwrite: Whether an existing file may be replaced.
            **kwargs: As for `keras.Model.save_weights`.

        Raises:
            ValueError: If it is another path.
        """
        save = super().save_weights
        if str(filepath).endswith(".weights.json"):
            save(filepath, overwrite=overwrite, **kwargs)
        else:
            _save_beside(save, filepath, ".weights.h5", overwrite, **kwargs)

    def export(
        self, filepath: str | os.PathLike, format: str = "tf_saved_model", **kwargs: Any
    ) -> None:
        """Writes a SavedModel as `keras.Model.export`, on TensorFlow.

        `widenet_keras.export` writes more formats, on any backend, and checks them.

        Args:
            filepath: Folder to write.
            format: "tf_saved_model".
            **kwargs: As for `keras.Model.export`.

        Raises:
            ValueError: If the path is none, or something else is asked for.
        """
        check_path("export", filepath)
        if Path(filepath).suffix in (".keras", ".h5", ".hdf5"):
            raise ValueError(
                f"export: {filepath} would be a folder for programs without Keras; use "
                "model.save(path) for a .keras file."
            )
        if format != "tf_saved_model" or keras.backend.backend() != "tensorflow":
            raise ValueError(
                f"export: format={format!r} on {keras.backend.backend()} is not "
                "written by this method; use widenet_keras.export(model, path, "
                "format), with format 'saved_model', 'litert', 'onnx' or 'keras'."
            )
        spec = keras.layers.InputSpec("float32", (None, *self.config.image_shape))
        kwargs.setdefault("input_signature", [spec])
        super().export(filepath, format=format, **kwargs)


def _save_beside(save, filepath, suffix, overwrite, **kwargs):
    """Saves to a temporary path first.

    Args:
        save: Keras' own `save` or `save_weights` of the model.
        filepath: Where the file belongs.
        suffix: Suffix that it must have.
        overwrite: Whether an existing file may be replaced.
        **kwargs: Passed to `save`.

    Raises:
        FileExistsError: If the file exists and `overwrite` is False.
    """
    check_path("save", filepath)
    if not str(filepath).endswith(suffix):
        raise ValueError(
            f"save: {filepath} does not end in {suffix!r}, the only format that opens "
            "again; rename it, or see widenet_keras.export for others."
        )
    if os.path.isdir(filepath):
        raise ValueError(f"save: {filepath} is a folder; give the path of a file.")
    if not overwrite and Path(filepath).exists():
        raise FileExistsError(
            f"{filepath} exists and overwrite=False; give another path, or "
            "overwrite=True."
        )
    with replaced_when_done(filepath) as fresh:
        save(fresh, overwrite=True, **kwargs)
