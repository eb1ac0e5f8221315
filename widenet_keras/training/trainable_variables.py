"""Optimizers that follow which weights of their model are trained."""

import keras


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
    # What scales losses is an optimizer around another one.
    plain = getattr(optimizer, "inner_optimizer", optimizer)
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
        averages = plain._model_variables_moving_average
        for variable, average in zip(variables, averages, strict=True):
            if average.path not in kept:
                average.assign(variable)
