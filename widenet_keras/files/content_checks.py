"""What a saved model would make Keras load and build, looked at before it does.

Nothing of a file is run as Python: every class and function that it names is looked at
before anything is made of it. So is the memory that it would take.
"""

import keras

from widenet_keras.files.hdf5 import check_hdf5
from widenet_keras.files.safe_config import check_classes, dicts_in
from widenet_keras.models.memory_use import built_size
from widenet_keras.utils.memory import check_memory
from widenet_keras.utils.printable import printable

# What another library says of a file is quoted up to here.
_LONGEST_REASON = 200
# What Keras and h5py raise about what a file says; devices raise others.
OF_CONTENT = (
    AttributeError,
    IndexError,
    KeyError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


def class_of(config: dict, base: type) -> type | None:
    """Returns the class that a part of a configuration is of, if it is of `base`.

    Args:
        config: Dict as Keras serialises an object.
        base: A class whose subclasses count too.
    """
    found = keras.saving.get_registered_object(str(config.get("registered_name")))
    return found if isinstance(found, type) and issubclass(found, base) else None


def check_content(
    path,
    config: dict,
    weights,
    model_class: type,
    max_memory: int,
    *,
    safe_mode: bool = True,
    custom_objects: dict | None = None,
):
    """Looks at what a saved model would make Keras load and build.

    Args:
        path: The file or folder.
        config: The configuration in it.
        weights: Binary file object of its weights.
        model_class: Class of the models whose size is known from their configuration.
        max_memory: Bytes that it may take beyond what it weighs.
        safe_mode: As for `keras.saving.load_model`.
        custom_objects: As for `keras.saving.load_model`.

    Raises:
        ValueError: If it names what may not be loaded, is damaged, or would take too
            much memory.
    """
    try:
        if safe_mode:
            check_classes(config, custom_objects)
        built = sum(
            built_size(each["config"]["config"])
            for each in dicts_in(config)
            if class_of(each, model_class)
        )
        arrays = check_hdf5(weights)
    # Of damaged groups h5py raises this one as well.
    except (*OF_CONTENT, RuntimeError) as error:
        raise unloadable(path, error) from error
    check_memory(path, "the model", built, max_memory)
    check_memory(path, "its weights", arrays, max_memory)


def unloadable(path, error) -> ValueError:
    """Returns the error about a whole file of which no model can be made."""
    return ValueError(f"{path} cannot be loaded as a Keras model ({reason(error)}).")


def reason(said) -> str:
    """Returns what another library says as one line that is not too long."""
    line = printable(" ".join(str(said).split())) or type(said).__name__
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} ..."
