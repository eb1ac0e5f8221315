"""What a checkpoint holds beside weights and optimizer, and whether it can be used."""

import json
import operator
import warnings
import zipfile
from typing import NamedTuple

import keras

from widenet_keras.files.safe_config import dicts_in
from widenet_keras.utils.plain_errors import first_line, is_of_the_system

_PROGRESS = "progress.json"  # inside the archive, so that one rename writes both


class Reached(NamedTuple):
    """How far a run has come.

    Attributes:
        epochs: Finished epochs; the `initial_epoch` of `fit`.
        batches: Finished batches; where the data go on.
        best: Best value of the monitored metric, or None.
    """

    epochs: int = 0
    batches: int = 0
    best: float | None = None


class State(NamedTuple):
    """What a checkpoint says beside weights and optimizer.

    Attributes:
        progress: `Reached`.
        random: The random states as lists of whole numbers.
        config: Keras' configuration of the model and its optimizer.
        rate: The learning rate of `compile`, which callbacks may have changed since;
            None for a schedule, and in files of version 0.1.0.
    """

    progress: Reached
    random: list
    config: dict
    rate: float | None = None


def write_state(path, model, progress):
    """Adds the state of a run to a saved model.

    Args:
        path: The .keras file.
        model: The model, for its random states.
        progress: `Reached`.
    """
    states = [keras.ops.convert_to_numpy(each) for each in _random_states(model)]
    random = [state.tolist() for state in states]
    with zipfile.ZipFile(path, "a") as archive:
        content = {**progress._asdict(), "random": random}
        if model.compiled_rate is not None:
            content["learning_rate"] = model.compiled_rate
        archive.writestr(_PROGRESS, json.dumps(content))


def read_state(path) -> State:
    """Returns the `State` in a checkpoint, after a look at every byte of it.

    Args:
        path: The file.

    Raises:
        ValueError: If the file is damaged, or no checkpoint; the line says why.
        OSError: If it cannot be read.
        MemoryError: If there is no room to read it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
            if wrong is not None:
                raise ValueError(f"{wrong} has changed")
            told = json.loads(archive.read(_PROGRESS))
            random, rate = told.pop("random"), told.pop("learning_rate", None)
            progress = Reached(**told)
            if min(operator.index(count) for count in progress[:2]) < 0:
                raise ValueError(f"{_PROGRESS} says {told}")
            config = json.loads(archive.read("config.json"))
            return State(progress, random, config, rate)
    # What zipfile raises on bytes that are no zip is not all BadZipFile.
    except Exception as error:
        if isinstance(error, MemoryError) or is_of_the_system(error):
            # It says nothing of the bytes, which another try may read.
            raise
        raise ValueError(first_line(error)) from None


def load_state(model, path, state: State) -> None:
    """Brings a compiled model to what a checkpoint holds.

    Args:
        model: A compiled `ImageClassifier`, set up as the one that was saved.
        path: The checkpoint.
        state: Its `State`.

    Raises:
        ValueError: If the file is of another model or optimizer.
        OSError: If it cannot be read.
    """
    # As `fit` would: the saved optimizer is one of what was trained.
    model.follow_trainable(trains=True)
    _check_same(path, state, model)
    with warnings.catch_warnings():
        # Keras only warns when it leaves the optimizer as it is.
        warnings.simplefilter("error", UserWarning)
        try:
            model.load_weights(path)
            for each, value in zip(_random_states(model), state.random, strict=True):
                each.assign(value)
        except (UserWarning, ValueError, TypeError, KeyError, OSError) as error:
            if is_of_the_system(error):
                raise
            line = first_line(error)
            raise ValueError(
                f"{path} does not fit this model and optimizer ({line}); start again "
                "with the settings of the run, or in another folder."
            ) from None


def _random_states(model):
    """Returns the states of the random generators, which Keras does not save."""
    weights = {id(weight) for weight in model.weights}
    return [v for v in model.variables if id(v) not in weights]


def _check_same(path, state, model):
    """Raises unless model and optimizer are configured as in the checkpoint."""
    saved = state.config
    optimizer = keras.saving.serialize_keras_object(model.optimizer)
    here = _fields(model.config.to_dict(), optimizer)
    try:
        saved_optimizer = saved["compile_config"]["optimizer"]
        there = _fields(saved["config"]["config"], saved_optimizer)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not of a model that was compiled ({first_line(error)} is "
            "missing); give another folder."
        ) from None
    if _same_rate(here, there, model.compiled_rate, state.rate):
        # A callback has changed it, and the checkpoint has what it was then.
        there["learning_rate"] = here["learning_rate"]
    # Another optimizer has other fields.
    for field in ("optimizer", *sorted({*here, *there})):
        if here.get(field) != there.get(field):
            raise ValueError(
                f"{path} was written with {field}={there.get(field)!r} and this run "
                f"has {here.get(field)!r}; start again with the settings of the run, "
                "or in another folder."
            )


def _same_rate(here, there, compiled_here, compiled_there):
    """Returns whether two optimizers began with one learning rate, which is a number.

    One that was loaded began with what it had when it was saved.
    """
    pairs = ((here, compiled_here), (there, compiled_there))
    mine, others = (
        {rate for rate in (fields.get("learning_rate"), compiled) if _is_number(rate)}
        for fields, compiled in pairs
    )
    return bool(mine & others)


def _is_number(value):
    return isinstance(value, int | float)


def _fields(model, optimizer):
    """Returns the fields of a model's and an optimizer's configuration as one dict."""
    # What scales losses has a rate and a name that do nothing, and Keras leaves it out
    # of files where it has put it around the optimizer by itself.
    optimizer = optimizer["config"].get("inner_optimizer") or optimizer
    fields = {**model, **optimizer["config"], "optimizer": optimizer["class_name"]}
    fields.pop("name", None)
    fields = json.loads(json.dumps(fields))
    for each in dicts_in(fields):
        if "registered_name" in each:
            # A class may have moved to another file since.
            each.pop("module", None)
    rate = fields.get("learning_rate")
    if isinstance(rate, dict) and rate["class_name"] == "WarmupDecay":
        # A run may become longer, and then has the schedule of its new length.
        rate["config"].pop("batches", None)
    return fields
