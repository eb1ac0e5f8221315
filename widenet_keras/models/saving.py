"""Saving models so that a crash never costs the file that was there."""

from pathlib import Path

from widenet_keras.utils.files import replaced_when_done


def save_beside(save, filepath, suffix, overwrite, **kwargs):
    """Saves to a temporary path first where the format is a single file.

    Args:
        save: Keras' own `save` or `save_weights` of the model.
        filepath: Where the file belongs.
        suffix: Suffix of the single-file format; other formats go to Keras.
        overwrite: Whether an existing file may be replaced.
        **kwargs: Passed to `save`.

    Raises:
        FileExistsError: If the file exists and `overwrite` is False.
    """
    if not str(filepath).endswith(suffix):
        save(filepath, overwrite=overwrite, **kwargs)
        return
    if not overwrite and Path(filepath).exists():
        raise FileExistsError(
            f"{filepath} exists and overwrite=False; give another path, or "
            "overwrite=True."
        )
    with replaced_when_done(filepath) as fresh:
        save(fresh, overwrite=True, **kwargs)
