"""Models from presets."""

from widenet_keras.models.presets import preset_config


class FromPreset:
    """Part of a model: how one is made from the name of a preset."""

    @classmethod
    def from_preset(
        cls, preset, *, seed=None, name=None, dtype=None, frozen=(), **fields
    ):
        """Returns a freshly initialised model of a preset.

        Args:
            preset: A name from `widenet_keras.presets()`.
            seed: As for the constructor.
            name: As for the constructor.
            dtype: As for the constructor, for instance "mixed_bfloat16".
            frozen: As for the constructor.
            **fields: Fields of `WideNetConfig` to override, for instance
                `num_classes=10`.

        Raises:
            ValueError: If there is no such preset or field, or a value does not
                fit.
        """
        config = preset_config(preset, **fields)
        return cls(config, seed=seed, frozen=frozen, name=name, dtype=dtype)
