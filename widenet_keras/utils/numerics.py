"""Arithmetic on tensors of the running backend, each thing done in one way.

On torch these are torch's own functions: what runs as it is called pays for every
layer of Python above them. Elsewhere a compiler removes those, and they are Keras'.
"""

import keras

if keras.backend.backend() == "torch":
    from widenet_keras.utils import numerics_torch as _numerics
    from widenet_keras.utils import random_torch as _random

    _own, _dropped = _numerics, _random.dropped
elif keras.backend.backend() == "jax":
    from widenet_keras.utils import numerics_jax as _own
    from widenet_keras.utils import numerics_traced as _numerics

    _random, _dropped = _numerics, _own.dropped
else:
    from widenet_keras.utils import numerics_traced as _numerics

    _own, _random, _dropped = _numerics, _numerics, _numerics.dropped

ACTIVATIONS = _numerics.ACTIVATIONS
TAKES_UNEQUAL = _numerics.TAKES_UNEQUAL
attended = _own.attended
cast = _numerics.cast
concatenated = _numerics.concatenated
dropped = _dropped
first_seed = _random.first_seed
for_each_image = _numerics.for_each_image
heads_first = _numerics.heads_first
linear = _numerics.linear
mean = _numerics.mean
moved_seed = _random.moved_seed
normal = _random.normal
normalized = _numerics.normalized
patches = _numerics.patches
prefix = _numerics.prefix
product = _numerics.product
product_of_float32 = _own.product_of_float32
recomputed = _own.recomputed
reordered = _own.reordered
reshaped = _numerics.reshaped
rows_of = _numerics.rows_of
seeds_at = _random.seeds_at
shape = _numerics.shape
softmax = _numerics.softmax
split = _numerics.split
split_heads = _numerics.split_heads
split_joined = _numerics.split_joined
stacked = _numerics.stacked
taken = _numerics.taken
tanh = _numerics.tanh
tokens_first = _numerics.tokens_first
uniform = _random.uniform
weights_as_stored = _numerics.weights_as_stored
without_gradients = _numerics.without_gradients
