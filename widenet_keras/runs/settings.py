"""The settings of a run, against those that it is started with again."""

# What runs of version 0.1.0 and its notebook call a setting.
_FORMERLY = {"epoch_steps": "epoch_batches", "steps": "epoch_batches"}
# What they do not have.
_SINCE = ("train_data", "validation_data")
EPOCHS = "epochs"


def epochs_of_fit(passes, batches_per_pass, epoch_batches=None):
    """Returns the epochs of `fit` and the batches of each, which end in a checkpoint.

    Args:
        passes: Passes over the data; the epochs have at least as many batches.
        batches_per_pass: Batches of one.
        epoch_batches: Batches of an epoch; None for those of a pass.

    Raises:
        ValueError: If an epoch would be longer than the passes: with more of them its
            checkpoint would be none to go on from.
    """
    whole = passes * batches_per_pass
    batches = epoch_batches or batches_per_pass
    if batches > whole:
        raise ValueError(
            f"recipe: epoch_batches={batches} and epochs={passes} are {whole} batches "
            f"in all; use at most {whole}, or more epochs."
        )
    return -(-whole // batches), batches


def named_as_now(settings):
    """Returns settings of a run with the names that they have in this version."""
    return {_FORMERLY.get(name, name): value for name, value in settings.items()}


def check_same_settings(folder, there, here):
    """Raises unless a folder is of a run with these settings, but for its epochs."""
    missing = {name: here[name] for name in _SINCE if name in here}
    there, here = _flat({**missing, **there}), _flat(here)
    for name in {**there, **here}:
        if there.get(name) == here.get(name):
            continue
        if name == EPOCHS and name in there and name in here:
            continue
        before, now = _difference(there.get(name), here.get(name))
        raise ValueError(
            f"{folder} is of a run with {name}={before} and this one has {now}; start "
            "again with the settings and the data of the run, or give another output "
            "folder."
        )


def _flat(settings):
    """Returns settings in which those of a part have names such as "part.name"."""
    found = {}
    for name, value in settings.items():
        if name in _SINCE and isinstance(value, dict):
            found |= {f"{name}.{each}": inner for each, inner in value.items()}
        else:
            found[name] = value
    return found


def _difference(before, now):
    """Returns what to show of two values that differ; of lists, what one alone has."""
    if isinstance(before, list) and isinstance(now, list):
        gone = [each for each in before if each not in now]
        come = [each for each in now if each not in before]
        return f"{gone or before[:3]}, ...", f"{come or now[:3]}, ..."
    return repr(before), repr(now)
