"""Losses and metrics of logits, which the models return; Keras' own read probabilities.

What is given by name, as a function or as a class of Keras is made to read logits. What
is given ready-made and would read probabilities is refused, as is what has no form for
logits.
"""

import functools
import inspect

import keras

from widenet_keras.utils.checks import suggest

_CROSSENTROPIES = {
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
    "binary_focal_crossentropy": keras.losses.BinaryFocalCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "categorical_focal_crossentropy": keras.losses.CategoricalFocalCrossentropy,
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
}
_FUNCTIONS = {getattr(keras.losses, name): name for name in _CROSSENTROPIES}
BINARY = tuple(
    kind for name, kind in _CROSSENTROPIES.items() if name.startswith("binary")
)
# Of classes, one of them or a share of each.
SPARSE = keras.losses.SparseCategoricalCrossentropy
SHARES = tuple(
    kind for name, kind in _CROSSENTROPIES.items() if name.startswith("categorical")
)
_OF_PROBABILITIES = {
    "categorical_generalized_cross_entropy",
    "dice",
    "kl_divergence",
    "poisson",
    "tversky",
}
_METRICS = {
    "binary_crossentropy": keras.metrics.BinaryCrossentropy,
    "categorical_crossentropy": keras.metrics.CategoricalCrossentropy,
    "sparse_categorical_crossentropy": keras.metrics.SparseCategoricalCrossentropy,
}
_RATES = (
    keras.metrics.FalseNegatives,
    keras.metrics.FalsePositives,
    keras.metrics.Precision,
    keras.metrics.Recall,
    keras.metrics.TrueNegatives,
    keras.metrics.TruePositives,
)
_CUT = (keras.metrics.BinaryAccuracy, keras.metrics.BinaryIoU)
_WITHOUT = (
    keras.metrics.KLDivergence,
    keras.metrics.Poisson,
    keras.metrics.PrecisionAtRecall,
    keras.metrics.RecallAtPrecision,
    keras.metrics.SensitivityAtSpecificity,
    keras.metrics.SpecificityAtSensitivity,
)


def loss_on_logits(loss):
    """Returns what `compile` shall hand to Keras, which reads logits.

    Args:
        loss: "auto" for sparse categorical cross-entropy, or what Keras takes.

    Raises:
        ValueError: If it would read the logits as probabilities, or is not known.
    """
    if isinstance(loss, list | tuple):
        return type(loss)(map(loss_on_logits, loss))
    if isinstance(loss, dict):
        return {name: loss_on_logits(each) for name, each in loss.items()}
    if loss == "auto":
        return SPARSE(from_logits=True)
    if not (loss is None or isinstance(loss, str) or callable(loss)):
        raise ValueError(f"loss={loss!r} is none; give a name, a function or a Loss.")
    named = _loss_named(loss) if isinstance(loss, str) else loss
    if named in _FUNCTIONS:
        return _CROSSENTROPIES[_FUNCTIONS[named]](from_logits=True)
    if inspect.isclass(named):
        # As Keras would, without arguments.
        named = named()
    if type(named) in _CROSSENTROPIES.values() and named is not loss:
        return type(named)(from_logits=True)
    _refuse_probabilities("compile", named)
    if getattr(named, "from_logits", True) is False:
        raise ValueError(
            f"compile: {type(named).__name__} has from_logits=False and the model "
            "returns logits; construct it with from_logits=True."
        )
    return named if inspect.isclass(loss) else loss


def _loss_named(name):
    """Returns the loss that Keras has by a name."""
    try:
        return keras.losses.get(name)
    except ValueError:
        known = ["auto", *(each for each in vars(keras.losses) if each[0] != "_")]
        raise ValueError(
            f"loss={name!r} is not known; use 'auto' or a name of keras.losses."
            f"{suggest(name, known)}"
        ) from None


def metrics_on_logits(metrics, loss):
    """Returns what `compile` shall hand to Keras, which reads logits.

    Args:
        metrics: "auto" for accuracy, or what Keras takes.
        loss: What `loss_on_logits` returned, which says what accuracy is.

    Raises:
        ValueError: If one would read the logits as probabilities.
    """
    loss = _only(loss)
    if metrics is None:
        return None
    if metrics == "auto":
        return [_accuracy_for(loss)]
    if isinstance(metrics, list | tuple):
        return [metrics_on_logits(each, loss) for each in metrics]
    if isinstance(metrics, dict):
        return {name: metrics_on_logits(each, loss) for name, each in metrics.items()}
    if metrics in ("accuracy", "acc"):
        return _accuracy_for(loss, metrics)
    if metrics in ("crossentropy", "ce"):
        return _crossentropy_for(loss, metrics)
    return _metric(metrics)


def labels_kind(loss):
    """Returns what labels a loss takes, as `check_labels` names it.

    Args:
        loss: What `loss_on_logits` returned.
    """
    loss = _only(loss)
    kinds = {"classes": SPARSE, "shares": SHARES, "yes or no": BINARY}
    found = (kind for kind, losses in kinds.items() if isinstance(loss, losses))
    return next(found, "any")


def _only(loss):
    """Returns the loss of a list of one."""
    return loss[0] if isinstance(loss, list | tuple) and len(loss) == 1 else loss


def _metric(metric):
    named = isinstance(metric, str) or inspect.isclass(metric)
    made = keras.metrics.get(metric) if named else metric
    if made in _FUNCTIONS:
        name = _FUNCTIONS[made]
        if name not in _METRICS:
            raise _without_logits("metrics", name)
        return _METRICS[name](from_logits=True)
    if made is keras.metrics.binary_accuracy:
        return keras.metrics.BinaryAccuracy(threshold=0.0)
    _refuse_probabilities("metrics", made)
    kind = type(made)
    if kind in _WITHOUT:
        raise _without_logits("metrics", kind.__name__)
    if kind in (*_METRICS.values(), keras.metrics.AUC):
        if named:
            return kind(from_logits=True)
        if made.get_config()["from_logits"] is False:
            raise ValueError(
                f"metrics: {kind.__name__} has from_logits=False and the model returns "
                "logits; construct it with from_logits=True."
            )
    if kind in (*_RATES, *_CUT, keras.metrics.F1Score, keras.metrics.FBetaScore):
        option = "thresholds" if kind in _RATES else "threshold"
        if named and kind in (*_RATES, *_CUT):
            return kind(**{option: 0.0})
        settings = made.get_config()
        # The best k of an image have no threshold of their own.
        has_default = kind in _RATES and settings.get("top_k") is None
        _check_cut(kind.__name__, option, settings[option], has_default)
    return made


def _check_cut(name, option, value, has_default):
    """Raises `ValueError` for a threshold that is one of probabilities."""
    if value is None and has_default:
        value = 0.5
    values = value if isinstance(value, list | tuple) else [value]
    if any(each is not None and 0 < each < 1 for each in values):
        raise ValueError(
            f"metrics: {name} has {option}={value}, of probabilities, and the model "
            f"returns logits; construct it with {option}=0.0 for a probability of 0.5."
        )


def _refuse_probabilities(owner, given):
    if isinstance(given, functools.partial):
        _refuse_partial(owner, given)
        given = given.func
    name = getattr(given, "__name__", None) or type(given).__name__
    functions = (getattr(keras.losses, each, None) for each in _OF_PROBABILITIES)
    classes = {each.replace("_", "") for each in _OF_PROBABILITIES}
    is_class = isinstance(given, keras.losses.Loss) and (
        type(given).__module__.startswith("keras.") and name.lower() in classes
    )
    if is_class or any(given is each for each in functions if each is not None):
        raise _without_logits(owner, name)


def _refuse_partial(owner, given):
    """Raises `ValueError` for a function of Keras that is to read probabilities."""
    if given.func in _FUNCTIONS and given.keywords.get("from_logits") is not True:
        raise ValueError(
            f"{owner}: {_FUNCTIONS[given.func]} is given without from_logits=True and "
            "the model returns logits; add it to the partial."
        )


def _without_logits(owner, name):
    return ValueError(
        f"{owner}: {name} reads probabilities and the model returns logits; take one "
        "that has from_logits, or write a function that applies the softmax first."
    )


def _accuracy_for(loss, name="accuracy"):
    """Returns the accuracy metric for the kind of labels that `loss` takes."""
    if isinstance(loss, SPARSE):
        return keras.metrics.SparseCategoricalAccuracy(name=name)
    if isinstance(loss, SHARES):
        return keras.metrics.CategoricalAccuracy(name=name)
    if isinstance(loss, BINARY):
        # Of every label of an image; the logit of a probability of 0.5 is 0.
        return keras.metrics.BinaryAccuracy(name=name, threshold=0.0)
    return name


def _crossentropy_for(loss, name):
    """Returns the cross-entropy for the kind of labels that `loss` takes."""
    kinds = {
        "classes": keras.metrics.SparseCategoricalCrossentropy,
        "shares": keras.metrics.CategoricalCrossentropy,
        "yes or no": keras.metrics.BinaryCrossentropy,
    }
    if (kind := kinds.get(labels_kind(loss))) is None:
        raise ValueError(
            f"metrics: {name!r} does not say which cross-entropy, and the loss does "
            f"not either; give one of {', '.join(_METRICS)}."
        )
    return kind(name=name, from_logits=True)
