"""Steps of the depth compiled by `torch.compile`: a program for all blocks alike.

What a compiler cannot look into (draws of a seed, one product per expert) are operators
of their own, so that a step is one graph whatever the size of the batch.
"""

import contextlib
import functools
import warnings

import torch
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InductorError

from widenet_keras.layers.step import step
from widenet_keras.utils.plain_errors import first_line
from widenet_keras.utils.random_torch import Seed

_refused = set()


def compiled_step(function):
    """Returns a step as a program of its own, or itself where that cannot be.

    Args:
        function: `functools.partial` of `step`, with spec, plan and pieces.
    """
    key = tuple(function.keywords.values())
    if key in _refused:
        return function

    def run(tokens, private, weights):
        if tokens.is_meta:
            # Keras asks for shapes only.
            return function(tokens, private, weights)
        seed = private.seed
        if not isinstance(seed, tuple):
            # A program per number otherwise.
            private = private._replace(seed=Seed(torch.tensor(seed)))
        if len(tokens) > 1:
            # A batch of one is a program of its own.
            torch._dynamo.mark_dynamic(tokens, 0)
        try:
            with _quiet():
                return _program(**function.keywords)(tokens, private, weights)
        except (TorchDynamoException, InductorError) as error:
            _refused.add(key)
            warnings.warn(
                f"torch.compile does not take this block ({first_line(error)}); it "
                "runs as it is.",
                stacklevel=2,
            )
            return function(tokens, private._replace(seed=seed), weights)

    return run


@contextlib.contextmanager
def _quiet():
    """Hides what the compiler warns of in its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.cache
def _program(spec, plan, pieces):
    function = functools.partial(step, spec=spec, plan=plan, pieces=pieces)
    return torch.compile(function, fullgraph=True, dynamic=False)
