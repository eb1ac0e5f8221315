"""Following which weights of a model are trained."""

import contextlib

import keras

from widenet_keras.models.frozen import check_trains

# What is nearer to 1 is rounded to it.
_RESOLVED = {"bfloat16": 2**-9, "float16": 2**-12}


class FollowsTrainable:
    """Part of a classifier: what was frozen or unfrozen since it was compiled."""

    # Which weights were trainable when the optimizer, and any train step, was made.
    _followed = _traced = None
    # The optimizer's learning rate then; callbacks may change it since.
    compiled_rate = None

    def start_following(self) -> None:
        """Makes the optimizer that `compile` was given one of the trained weights.

        Raises:
            ValueError: If it trains another model.
        """
        variables = self.trainable_variables
        self._followed = self._traced = tuple(map(id, variables))
        if self.optimizer is None:
            return
        # Variables that are first made inside a train step make TensorFlow trace
        # that step twice, which doubles the wait before the first epoch.
        with self._over_devices():
            begin(self.optimizer, variables, self.weights)
        self.compiled_rate = unscaled(self.optimizer).get_config().get("learning_rate")

    def follow_trainable(self, trains: bool = False) -> None:
        """Takes in which weights were frozen or unfrozen since the last call.

        Args:
            trains: Whether they are to be trained now.
        """
        variables = self.trainable_variables
        if trains:
            check_trains(self)
            check_precision(self.optimizer, variables)
        now = tuple(map(id, variables))
        if now != self._traced:
            # They were traced for the other weights.
            self._traced = now
            self.test_function = self.predict_function = None
        # A `fit` that runs keeps what it trains until its end.
        if not trains or now == self._followed:
            return
        self._followed = now
        if self.compiled and self.optimizer is not None:
            with self._over_devices():
                follow(self.optimizer, variables)
        self.train_function = None

    def _over_devices(self):
        """Context of the strategy that the model is in, which TensorFlow has."""
        strategy = getattr(self, "distribute_strategy", None)
        return strategy.scope() if strategy else contextlib.nullcontext()


def begin(
    optimizer: keras.optimizers.Optimizer, variables: list, weights: list
) -> None:
    """Makes an optimizer one of these variables, whether it was one of others or not.

    Args:
        optimizer: A Keras optimizer.
        variables: The trainable variables of its model.
        weights: All weights of its model.

    Raises:
        ValueError: If it is one of another model.
    """
    plain = unscaled(optimizer)
    if not plain.built:
        optimizer.build(variables)
        _start_averages(plain, variables)
        return
    trained = {*map(id, plain._trainable_variables)}
    if trained and not trained & {*map(id, weights)}:
        raise ValueError(
            f"compile: this {type(plain).__name__} trains another model; give each "
            "model an optimizer of its own."
        )
    follow(optimizer, variables)


def follow(optimizer: keras.optimizers.Optimizer, variables: list) -> None:
    """Makes an optimizer one of these variables, which Keras does only once.

    What it keeps of variables that stay, and its iterations, are as they were; the
    moving average of one that joins starts at its value.

    Args:
        optimizer: A Keras optimizer that is built.
        variables: The trainable variables of its model.
    """
    if [*map(id, optimizer._trainable_variables)] == [*map(id, variables)]:
        return
    kept = {each.path: each for each in optimizer.variables}
    plain = unscaled(optimizer)
    for each in {id(each): each for each in (optimizer, plain)}.values():
        made_first = (each._iterations, each._learning_rate)
        # Changed in place: the optimizer's tracker holds this list.
        each._variables[:] = [v for v in made_first if isinstance(v, keras.Variable)]
        each._trainable_variables_indices.clear()
        each.built = False
    optimizer.build(variables)
    for each in optimizer.variables:
        if each.path in kept:
            each.assign(kept[each.path])
    _start_averages(plain, variables, kept)


def _start_averages(optimizer, variables, kept=()):
    """Gives moving averages the values of their weights.

    Keras has them at 0 until the first update, and makes the weights the averages
    after a `fit` that ends before it.

    Args:
        optimizer: A Keras optimizer that is built.
        variables: The trainable variables of its model.
        kept: Paths of averages that stay.
    """
    if not optimizer.use_ema:
        return
    averages = optimizer._model_variables_moving_average
    for variable, average in zip(variables, averages, strict=True):
        if average.path not in kept:
            average.assign(keras.ops.copy(variable))


def check_precision(optimizer: keras.optimizers.Optimizer, variables: list) -> None:
    """Raises `ValueError` for second moments in a dtype in which they stand still.

    They have the dtype of the weights, and 1 - beta_2 may be less than that resolves.

    Args:
        optimizer: A Keras optimizer, or None.
        variables: The trainable variables of its model.
    """
    plain = unscaled(optimizer)
    beta_2 = getattr(plain, "beta_2", 0.0)
    for variable in variables:
        if 1 - beta_2 < _RESOLVED.get(variable.dtype, 0.0):
            raise ValueError(
                f"{type(plain).__name__} keeps moments in the dtype of the weights, "
                f"and {variable.path} is {variable.dtype}, in which beta_2={beta_2} "
                f"is 1; train in mixed_{variable.dtype}, whose weights are float32, by "
                "adapted(dtype=...) or --precision of a recipe."
            )


def unscaled(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns the optimizer inside one that scales losses; others as they are.

    Args:
        optimizer: A Keras optimizer, or None.
    """
    return getattr(optimizer, "inner_optimizer", optimizer)
