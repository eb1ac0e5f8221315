"""Activations by the names that configurations use."""

from keras import ops

from widenet_keras.utils.checks import check_choice

# The tanh form is what the authors' network and the ViT lineage compute.
ACTIVATIONS = {
    "gelu_tanh": lambda x: ops.gelu(x, approximate=True),
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "relu": ops.relu,
    "silu": ops.silu,
}


def activation_named(owner, field, name):
    """Returns the activation called `name`; None means none.

    Raises:
        ValueError: If there is no activation of that name.
    """
    if name is None:
        return lambda x: x
    check_choice(owner, field, name, tuple(ACTIVATIONS))
    return ACTIVATIONS[name]
