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
    # The optimizer's learning rate then, if a number; callbacks may change it since.
    compiled_rate = None

    def start_following(self) -> None:
        """Makes the optimizer that `compile` was given one of the trained weights.

        Raises:
            ValueError: If it trains another model.
        """
        variables = self.trainable_variables
        self._followed = self._traced = tuple(map(id, variables))
        self.compiled_rate = None
        if self.optimizer is None:
            return
        plain = unscaled(self.optimizer)
        if isinstance(plain._learning_rate, keras.Variable):
            rate = keras.ops.convert_to_numpy(plain._learning_rate)
            self.compiled_rate = float(rate)
        if not plain.built:
            # Variables that are first made inside a train step make TensorFlow trace
            # that step twice, which doubles the wait before the first epoch.
            self.optimizer.build(variables)
            return
        trained = {*map(id, plain._trainable_variables)}
        if trained and not trained & {*map(id, self.weights)}:
            raise ValueError(
                f"compile: this {type(plain).__name__} trains another model; give each "
                "model an optimizer of its own."
            )
        with self._over_devices():
            follow(self.optimizer, variables)

    def start_averages(self) -> None:
        """Gives moving averages the values of their weights, before any update.

        Keras has them at 0 then, and makes the weights the averages after a `fit`
        that ends without one.
        """
        plain = unscaled(self.optimizer)
        if averages_begin(plain):
            _start_averages(plain, self.trainable_variables)

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
    if plain.use_ema:
        _start_averages(plain, variables, kept)


def averages_begin(optimizer: keras.optimizers.Optimizer | None) -> bool:
    """Returns whether an optimizer has moving averages and has made no update yet.

    Args:
        optimizer: A Keras optimizer that scales no losses, or None.
    """
    if not getattr(optimizer, "use_ema", False):
        return False
    return not keras.ops.convert_to_numpy(optimizer.iterations)


def _start_averages(optimizer, variables, kept=()):
    """Gives moving averages the values of their weights, but for paths in `kept`."""
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
                "adapted(dtype=...)."
            )


def unscaled(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns the optimizer inside one that scales losses; others as they are.

    Args:
        optimizer: A Keras optimizer, or None.
    """
    return getattr(optimizer, "inner_optimizer", optimizer)
