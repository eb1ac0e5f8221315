"""Models from presets: by name, or of a folder with weights."""

from collections.abc import Iterable
from os import PathLike
from typing import Any, Self

from widenet_keras.models.presets import preset_config
from widenet_keras.utils.memory import MAX_MEMORY


class FromPreset:
    """Part of a model: how one is made from a preset, and becomes one."""

    @classmethod
    def from_preset(
        cls,
        preset: str | PathLike,
        *,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
        frozen: Iterable[str] | None = None,
        max_memory: int = MAX_MEMORY,
        **fields: Any,
    ) -> Self:
        """Returns a freshly initialised model of a preset, or the one in a folder.

        Nothing that a folder holds is run, as `load_model` has it. The model is not
        compiled.

        Args:
            preset: A name from `widenet_keras.presets()`, or the path of a folder that
                `save_to_preset` wrote on any backend. A path without a separator must
                exist, and names come before it.
            seed: As for the constructor; of a folder None keeps its own, and so it is
                with the next three.
            name: As for the constructor.
            dtype: As for the constructor, for instance "mixed_bfloat16".
            frozen: As for the constructor.
            max_memory: Bytes that a folder's model may take beyond what it weighs.
            **fields: Fields of `WideNetConfig` to override, for instance
                `num_classes=10`; of a folder as for `adapted`.

        Raises:
            ValueError: If there is no such preset, folder or field, a value does not
                fit, or the folder is damaged or of another class or library.
        """
        from widenet_keras.files.preset_folders import is_folder, read_preset

        given = {"seed": seed, "name": name, "dtype": dtype}
        given = {key: value for key, value in given.items() if value is not None}
        if not is_folder(preset):
            frozen = () if frozen is None else frozen
            return cls(preset_config(preset, **fields), frozen=frozen, **given)
        model = read_preset(preset, cls, given, max_memory)
        if fields:
            return model.adapted(frozen=frozen, **fields)
        if frozen is not None:
            model.frozen = frozen
        return model

    def save_to_preset(self, preset_dir: str | PathLike) -> None:
        """Saves the model as a folder that `from_preset` reads, in KerasHub's form.

        `config.json`, `model.weights.h5` and `metadata.json` have what a `.keras` file
        has (class names, preprocessing, frozen parts, int8), but nothing of training:
        neither how it is compiled nor the optimizer's state. An earlier preset is
        replaced when all of the new one is written.

        Args:
            preset_dir: Folder to make, or of an earlier preset.

        Raises:
            ValueError: If it is a file, or a folder with anything else in it.
        """
        from widenet_keras.files.preset_folders import write_preset

        write_preset(self, preset_dir)
