"""Arithmetic on tensors of the running backend, each thing done in one way.

On torch these are torch's own functions: what runs as it is called pays for every
layer of Python above them. Elsewhere a compiler removes those, and they are Keras'.
"""

import keras

if keras.backend.backend() == "torch":
    from widenet_keras.utils import numerics_torch as _numerics
else:
    from widenet_keras.utils import numerics_traced as _numerics

ACTIVATIONS = _numerics.ACTIVATIONS
attended = _numerics.attended
cast = _numerics.cast
concatenated = _numerics.concatenated
heads_first = _numerics.heads_first
linear = _numerics.linear
mean = _numerics.mean
normalized = _numerics.normalized
patches = _numerics.patches
reshaped = _numerics.reshaped
rows_of = _numerics.rows_of
softmax = _numerics.softmax
split_heads = _numerics.split_heads
split_joined = _numerics.split_joined
stacked = _numerics.stacked
tanh = _numerics.tanh
tokens_first = _numerics.tokens_first
weights_as_stored = _numerics.weights_as_stored
