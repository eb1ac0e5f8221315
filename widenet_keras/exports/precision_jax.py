"""Products in full float32 on JAX."""

import jax


def exact_products():
    """Returns a context in which devices multiply float32 as float32."""
    return jax.default_matmul_precision("highest")
