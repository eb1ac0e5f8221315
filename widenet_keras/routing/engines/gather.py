"""A gather whose gradient is a gather: rows move by a map whose inverse is known."""

import keras
from keras import ops

if keras.backend.backend() == "jax":
    from widenet_keras.routing.engines.gather_jax import with_gradient
else:

    def with_gradient(forward, backward, fold, rows, *maps):
        """Returns `forward(rows, *maps)`, whose gradient is `backward`."""

        @keras.ops.custom_gradient
        def function(rows):
            def gradient(*args, upstream=None):
                upstream = args[0] if upstream is None else upstream
                return backward(fold, upstream, *maps)

            return forward(rows, *maps), gradient

        return function(rows)


def gather(rows, index, back, weight=None, fold=None):
    """Returns `rows[index]`, with the gradient of the inverse move.

    A plain gather's gradient scatters and adds, which no backend does fast.

    Args:
        rows: (N, D).
        index: (M,) int32, the row that goes to each place.
        back: Int32, the place that each row went to: (N,), or with `fold`
            (G * K * N',), the K places of each of N = G * N' rows.
        weight: Float that broadcasts over (len(back), D), 0 where a row went
            nowhere; None for 1.
        fold: (K, N') where a row went to K places, whose gradients are summed.
    """
    if weight is not None:
        weight = ops.cast(weight, rows.dtype)
    return with_gradient(_forward, _backward, fold, rows, index, back, weight)


def _forward(rows, index, back, weight):
    return ops.take(rows, index, axis=0)


def _backward(fold, upstream, index, back, weight):
    each = ops.take(upstream, back, axis=0)
    if weight is not None:
        each = each * weight
    if fold is None:
        return each
    width = upstream.shape[-1]
    each = ops.sum(ops.reshape(each, (-1, *fold, width)), axis=1)
    return ops.reshape(each, (-1, width))
