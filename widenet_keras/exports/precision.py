"""Products in full float32, where a device would round what goes into them.

GPUs and TPUs take TensorFloat-32 or bfloat16 by default, which an exported file that
runs on a CPU does not.
"""

import keras

if keras.backend.backend() == "torch":
    from widenet_keras.exports.precision_torch import exact_products as exact_products
elif keras.backend.backend() == "jax":
    from widenet_keras.exports.precision_jax import exact_products as exact_products
else:
    from widenet_keras.exports.precision_tensorflow import (
        exact_products as exact_products,
    )
