"""The depth as a loop and with remat: the same numbers, whatever is drawn."""

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy, slow, tiny_images, tiny_model
from gradients import value_and_gradients

from widenet_keras.layers.plan import Segment, segments_of
from widenet_keras.layers.sharing import block_of_step
from widenet_keras.routing.random_draws import RandomDraws
from widenet_keras.utils import numerics
from widenet_keras.utils.execution import execution

NOISY = {"dropout": 0.2, "attention_dropout": 0.1, "stochastic_depth": 0.3}
PLANS = {
    "all": {"steps": 3},
    "sequence": {"steps": 4, "sharing": "sequence", "unique_blocks": 2},
    # Steps 2 and 4 read a block again and take their tokens in orders that are drawn.
    "cycle and a rest": {
        "steps": 5,
        "sharing": "cycle",
        "unique_blocks": 2,
        "class_token": False,
        "attention_groups": (3, 1, 3, 1, 3),
    },
    "groups in turns": {
        "steps": 4,
        "sharing": "sequence",
        "unique_blocks": 2,
        "class_token": False,
        "attention_groups": (3, 9, 1, 3),
        "pieces": ({"kind": "residual_scale"}, {"kind": "projection"}),
    },
    "one of two routed": {
        "steps": 4,
        "sharing": "cycle",
        "unique_blocks": 2,
        "moe_blocks": (1,),
        "nested_widths": (0.5, 1.0),
    },
    "step widths": {"steps": 4, "step_widths": (5, 5, 14, 14)},
    "block sizes": {
        "steps": 3,
        "sharing": "none",
        "moe_blocks": "none",
        "block_sizes": [(2, 5, 3, 8)] * 2 + [(1, 4, 6, 10)],
        "nested_widths": (0.5, 1.0),
    },
    "shared norms": {"steps": 3, "shared_norms": True},
    "dense": {"steps": 3, "moe_blocks": "none"},
    "paths": {
        "steps": 5,
        "sharing": "cycle",
        "unique_blocks": 2,
        "moe_blocks": "none",
        "paths": 2,
        "cheap_features": "maximum",
        "nested_widths": (0.5, 1.0),
    },
    "private paths": {
        "steps": 2,
        "sharing": "none",
        "moe_blocks": "none",
        "paths": 2,
    },
    "one attention": {"steps": 3, "sharing": "attention"},
    "one mixture": {"steps": 3, "sharing": "feed_forward"},
    "a ring": {
        "steps": 3,
        "sharing": "none",
        "moe_blocks": "none",
        "ring_size": 500,
        "nested_widths": (0.5, 1.0),
    },
}
TOLD = ("cycle and a rest", "one of two routed")


def losses(fields, traced=True, **how):
    """Returns loss, gradients and routing record of one draw of a noisy model."""
    keras.utils.set_random_seed(0)
    model = tiny_model(**{**NOISY, **fields, **how})
    images = tiny_images(4)

    def loss():
        logits, record = model(images, training=True, return_routing=True)
        value = keras.ops.sum(keras.ops.square(logits))
        if record:
            value += keras.ops.sum(record.balance_loss)
        return value, (logits, record)

    return value_and_gradients(loss, model.trainable_variables, traced)


def assert_equal(found, expected):
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    for mine, theirs in zip(found[1], expected[1], strict=True):
        size = max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(mine, theirs, atol=2e-5 * size)
    pairs = zip(
        keras.tree.flatten(found[2]), keras.tree.flatten(expected[2]), strict=True
    )
    for mine, theirs in pairs:
        np.testing.assert_allclose(numpy(mine), numpy(theirs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    # Every plan compiles for long; these have a loop, a rest and both blocks.
    "plan",
    [slow(p, when=BACKEND != "torch" and p not in TOLD) for p in PLANS],
)
def test_loop_and_remat_change_no_number(plan):
    fields = PLANS[plan]
    expected = losses(fields, scan="never", remat="none", traced=False)
    assert_equal(losses(fields, scan="always", remat="full"), expected)
    if plan == "all":
        assert_equal(losses(fields, scan="always", remat="none"), expected)
    if plan == "all" and BACKEND != "jax":
        assert_equal(losses(fields, scan="never", remat="full"), expected)


def test_draws_differ_between_calls():
    model = tiny_model(steps=2, **NOISY)
    images = tiny_images(2)
    first, second = (numpy(model(images, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize(
    ("sharing", "steps", "unique", "expected"),
    [
        ("all", 4, None, [Segment(0, (0,), 4)]),
        ("none", 3, None, [Segment(i, (i,), 1) for i in range(3)]),
        ("sequence", 4, 2, [Segment(0, (0,), 2), Segment(2, (1,), 2)]),
        ("cycle", 4, 2, [Segment(0, (0, 1), 2)]),
        ("cycle", 5, 2, [Segment(0, (0, 1), 2), Segment(4, (0,), 1)]),
        ("cycle", 3, 3, [Segment(i, (i,), 1) for i in range(3)]),
        ("all", 1, None, [Segment(0, (0,), 1)]),
    ],
)
def test_segments(sharing, steps, unique, expected):
    found = segments_of(block_of_step(sharing, steps, unique))
    assert list(found) == expected
    assert sum(len(s.pattern) * s.rounds for s in found) == steps
    assert found[-1].end == steps


def size_of_program(steps, **how):
    """Returns how many operations the backend traces for a forward pass."""
    model = tiny_model(steps=steps, **how)
    images = tiny_images(2)
    if BACKEND == "jax":
        import jax

        text = str(jax.make_jaxpr(lambda x: model(x, training=True))(images))
        return text.count(" = ")
    import tensorflow as tf

    traced = tf.function(lambda x: model(x, training=True))
    graph = traced.get_concrete_function(tf.constant(images)).graph.as_graph_def()
    inner = (len(function.node_def) for function in graph.library.function)
    return len(graph.node) + sum(inner)


def test_programs_do_not_grow_with_the_depth():
    # A few constants (seeds, slices) are all that a step adds outside the loop.
    of_four, of_twelve = size_of_program(4), size_of_program(12)
    assert of_twelve <= 1.02 * of_four
    assert size_of_program(8, scan="never") > 1.5 * of_four
    with execution(unrolled=True):
        assert size_of_program(8) > 1.5 * of_four


def test_programs_of_private_parts_grow_by_their_stacks_alone():
    how = {"sharing": "attention", "scan": "always"}
    assert size_of_program(12, **how) < 1.5 * size_of_program(4, **how)


def kept_for_gradients(remat):
    """Returns the size of what a training pass keeps for its gradients."""
    model = tiny_model(steps=8, expert_dim=64, remat=remat)
    images = tiny_images(8)
    if BACKEND == "torch":
        import torch

        kept = []

        def pack(tensor):
            kept.append(tensor.nelement())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(images, training=True)
        return sum(kept)
    import jax

    variables = model.trainable_variables

    def loss(values):
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return keras.ops.sum(model(images, training=True))

    values = [v.value for v in variables]
    compiled = jax.jit(jax.grad(loss)).lower(values).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_remat_keeps_less():
    assert kept_for_gradients("full") < 0.5 * kept_for_gradients("none")


def test_steps_and_places_draw_apart():
    """Equal masks at every step would be noise that never averages out."""
    draws = RandomDraws.begin(keras.random.SeedGenerator(0))
    ones = keras.ops.ones((400,))
    masks = []
    for seed in numerics.rows_of(draws.seeds_of_steps(3), 3):
        step = RandomDraws(seed)
        masks += [numpy(step.dropout(ones, 0.5)) > 0 for _ in range(2)]
    for index, mask in enumerate(masks):
        # Independent masks agree on half of 400 places, +- 10.
        agreements = [(mask == other).sum() for other in masks[:index]]
        assert all(150 < agreement < 250 for agreement in agreements)
