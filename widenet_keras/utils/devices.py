"""The devices of the running backend, by the names that `keras.device` takes."""

import contextlib

import keras

_KINDS = ("cpu", "gpu", "tpu")


def devices() -> list[str]:
    """Returns the names of all devices, such as "cpu:0" and "gpu:0"."""
    if keras.backend.backend() == "torch":
        from widenet_keras.utils.devices_torch import devices

        return devices()
    found = []
    for kind in _KINDS:
        # JAX raises for a kind that it has none of.
        with contextlib.suppress(RuntimeError):
            found += keras.distribution.list_devices(kind)
    return found


def device_named(owner: str, name: str | None = None) -> str:
    """Returns the whole name of a device.

    Args:
        owner: Who asks, for the message.
        name: Such as "gpu", which is the first one, or "gpu:1"; None for the device
            that Keras takes by itself.

    Raises:
        ValueError: If there is none of that name.
    """
    found = devices()
    if name is None:
        return next((each for each in found if not each.startswith("cpu")), found[0])
    asked = str(name).lower().replace("cuda", "gpu")
    asked = asked if ":" in asked else f"{asked}:0"
    if asked not in found:
        raise ValueError(
            f"{owner}: {keras.backend.backend()} has no device {name!r} here; use one "
            f"of {', '.join(found)}."
        )
    return asked
