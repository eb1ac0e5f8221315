"""Auxiliary losses that keep the experts evenly used and the logits small."""

from keras import ops

from widenet_keras.utils.types import Tensor


def expert_fraction(experts, num_experts):
    """Returns the fraction of all choices that went to each expert, (..., E).

    Choices count before any is dropped, and carry no gradient.

    Args:
        experts: (..., B, K, T) int32, the chosen experts.
        num_experts: E.
    """
    numbers = ops.arange(num_experts, dtype="int32")
    chosen = ops.cast(ops.equal(ops.expand_dims(experts, -1), numbers), "float32")
    return ops.stop_gradient(ops.mean(chosen, axis=(-4, -3, -2)))


def balance_loss(probabilities: Tensor, fraction: Tensor, softmaxes: int = 1) -> Tensor:
    """Returns E * sum_i f_i * P_i: 1.0 at perfect balance, at most E/K.

    Source: "Go Wider Instead of Deeper", balance loss of one step; the same as
    GShard's up to counting all K choices in f.

    Args:
        probabilities: (B, T, E) router probabilities; P_i is their mean.
        fraction: (E,) f_i, fraction of the choices; no gradient.
        softmaxes: Number of softmaxes that make up the probabilities of a
            token. With grouped routing it is K, and the result is the mean of
            the groups' own balance losses.
    """
    return balance_of(fraction, mean_probability(probabilities, softmaxes))


def mean_probability(probabilities, softmaxes=1):
    """Returns P, the mean router probability of each expert, (..., E); sums to 1.

    Args:
        probabilities: (..., B, T, E), as for `balance_loss`.
        softmaxes: As for `balance_loss`.
    """
    return ops.mean(probabilities, axis=(-3, -2)) / softmaxes


def balance_of(fraction, probability):
    """Returns the balance loss E * sum_i f_i * P_i of each step, (...,).

    Devices that share a batch each have P of their own images and f of all; the
    mean of their losses, weighted by images, is the loss of the whole batch.

    Args:
        fraction: (..., E) f.
        probability: (..., E) P, as `mean_probability` returns it.
    """
    return fraction.shape[-1] * ops.sum(fraction * probability, axis=-1)


def router_z_loss(logits: Tensor) -> Tensor:
    """Returns mean(logsumexp(logits)^2) over the tokens, (...,).

    Source: "ST-MoE: Designing Stable and Transferable Sparse Expert Models",
    equation 5. It pulls the logits towards values that float32 can hold, all E of them
    together, also where a router has a softmax for each group.

    Args:
        logits: (..., B, T, E), before noise.
    """
    return ops.mean(ops.square(ops.logsumexp(logits, axis=-1)), axis=(-2, -1))
