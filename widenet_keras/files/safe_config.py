"""Which classes and functions the configuration in a `.keras` file may name.

Keras looks them up while it builds a model. Here they are looked at before, so that
nothing of another package is imported and nothing runs that reads files or programs.
"""

import keras

_PLACES = (
    "activations",
    "constraints",
    "dtype_policies",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "quantizers",
    "random",
    "regularizers",
)
# Where classes are that have no public name: operations in functional models, and the
# optimizers of a backend.
_INNER = ("keras.src.backend.", *(f"keras.src.{place}." for place in _PLACES))
_PUBLIC = {
    "keras",
    "keras.optimizers.schedules",
    *(f"keras.{place}" for place in _PLACES if place != "ops"),
}
# Values that are no objects of a class.
_VALUES = {
    "__keras_tensor__",
    "__tensor__",
    "__numpy__",
    "__bytes__",
    "__ellipsis__",
    "__slice__",
}
# Layers that hold a program, or read the files that their settings name.
_RUNNING = {
    "Lambda",
    "TFSMLayer",
    "TorchModuleWrapper",
    "JaxLayer",
    "FlaxLayer",
    "IndexLookup",
    "IntegerLookup",
    "StringLookup",
    "TextVectorization",
}
# Modules of the functions that are written by name alone.
_FUNCTIONS = ("activations", "losses", "metrics", "initializers", "regularizers")
_LOOKUPS = {"get", "serialize", "deserialize"}


def dicts_in(config) -> list:
    """Returns all dicts in what JSON gave, itself included, outer ones first."""
    found, pending = [], [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            found.append(value)
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return found


def check_classes(config: dict, custom_objects: dict | None = None):
    """Raises `ValueError` if a configuration names what may not be loaded.

    Args:
        config: The configuration of a saved model.
        custom_objects: What the caller allows besides, as for Keras.
    """
    for each in dicts_in(config):
        if "class_name" in each and not _is_allowed(each, custom_objects):
            module, name = each.get("module"), each["class_name"]
            if name == "function":
                name = each.get("config")
            raise ValueError(
                f"it names {name!r} of {module!r}, which is no class of Keras or "
                "widenet_keras that a file may load; if it is yours, give it in "
                "custom_objects"
            )


def _is_allowed(config, custom_objects):
    name, module = config["class_name"], config.get("module")
    if not isinstance(name, str) or not isinstance(module, str | None):
        return False
    if name == "function":
        return _is_function(config.get("config"), module, custom_objects)
    registered = config.get("registered_name", name)
    if not isinstance(registered, str | None):
        return False
    if keras.saving.get_registered_object(registered, custom_objects) is not None:
        return True
    if module is None:
        return name in _VALUES
    known = module in _PUBLIC or module.startswith(_INNER)
    return known and name not in _RUNNING and name[:1].isupper()


def _is_function(name, module, custom_objects):
    """Returns whether a name is that of a function of numbers."""
    if not isinstance(name, str) or name in _LOOKUPS:
        return False
    if keras.saving.get_registered_object(name, custom_objects) is not None:
        return True
    places = [getattr(keras, each) for each in _FUNCTIONS]
    known = module == "builtins" or module in {f"keras.{each}" for each in _FUNCTIONS}
    return known and any(hasattr(place, name) for place in places)
