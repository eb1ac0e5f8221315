"""The devices of the running backend, by the names that `keras.device` takes."""

import contextlib

import keras

_KINDS = ("cpu", "gpu", "tpu")


def _of_keras() -> list[str]:
    """Returns the names of all devices, such as "cpu:0" and "gpu:0"; CPUs first."""
    found = []
    for kind in _KINDS:
        # JAX raises for a kind that it has none of.
        with contextlib.suppress(RuntimeError):
            found += keras.distribution.list_devices(kind)
    return found


if keras.backend.backend() == "torch":
    from widenet_keras.utils.devices_torch import devices as devices
else:
    devices = _of_keras


def device_named(owner: str, name: str | None = None) -> str:
    """Returns the name of a device as `devices` has it.

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
    asked = str(name).lower().replace("cuda", "gpu").removesuffix(":0")
    for each in found:
        if each.removesuffix(":0") == asked:
            return each
    raise ValueError(
        f"{owner}: {keras.backend.backend()} has no device {name!r} here; use one of "
        f"{', '.join(found)}."
    )
