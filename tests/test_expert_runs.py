"""Runs of rows through their experts: every way of each backend, and its gradient."""

import functools

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy
from gradients import value_and_gradients

from widenet_keras.layers.expert_runs import run_by_expert
from widenet_keras.layers.experts import Experts
from widenet_keras.layers.mlp import Bank, ExpertWeights, Mlp
from widenet_keras.routing.random_draws import SILENT, RandomDraws
from widenet_keras.utils import numerics

WAYS = {
    "tensorflow": {"split": {}},
    "jax": {"blocks": {"ragged": False}, "ragged": {"ragged": True}},
    "torch": {"split": {"grouped": False}, "grouped": {"grouped": True}},
}[BACKEND]
every_way = pytest.mark.parametrize("way", WAYS)
# grouped_mm wants rows of 16 bytes.
WIDTH, HIDDEN = 8, 16


@pytest.fixture(autouse=True)
def _all_sizes_of_blocks(monkeypatch):
    """Undoes what `conftest.py` spares the other tests."""
    if BACKEND == "jax":
        from widenet_keras.layers import expert_runs_jax

        monkeypatch.setattr(expert_runs_jax, "BLOCK_SIZES", (8, 16, 48))


def variables(rows, experts):
    random = np.random.default_rng(0)

    def normal(*shape):
        return keras.Variable(random.normal(size=shape) * 0.5, dtype="float32")

    weights = ExpertWeights(
        normal(experts, WIDTH, HIDDEN),
        normal(experts, HIDDEN),
        normal(experts, HIDDEN, WIDTH),
        normal(experts, WIDTH),
    )
    return normal(rows, WIDTH), weights


def bank(weights):
    """Returns the weights as all ways take them."""
    return Bank(weights, weights.unstacked())


def all_at_once(mlp, rows, sizes, weights, draws):
    """Every expert on every row, and a mask: slow, and differentiated by itself."""
    stacked = weights.stacked.stacked()
    outputs = mlp(keras.ops.expand_dims(rows, 0), stacked, draws)
    ends = np.cumsum(sizes)
    place = np.arange(rows.shape[0])
    mask = [
        (place >= end - n) & (place < end) for end, n in zip(ends, sizes, strict=True)
    ]
    mask = keras.ops.cast(np.array(mask)[..., None], outputs.dtype)
    return keras.ops.sum(outputs * mask, axis=0)


def run(function, mlp, rows, sizes, weights, draws=lambda: SILENT):
    """Returns output and all gradients of a weighted sum of it."""
    weigh = np.random.default_rng(1).normal(size=tuple(rows.shape)).astype("float32")

    def loss():
        values = bank(ExpertWeights(*map(keras.ops.convert_to_tensor, weights)))
        y = function(mlp, keras.ops.convert_to_tensor(rows), sizes, values, draws())
        return keras.ops.sum(y * keras.ops.convert_to_tensor(weigh)), y

    value, gradients, y = value_and_gradients(loss, [rows, *weights])
    return value, numpy(y), gradients


@every_way
@pytest.mark.parametrize(
    "sizes",
    [
        [3, 0, 7, 5],
        [17, 0, 0],
        [0, 0],
        [1],
        [16, 32, 15],
        pytest.param([130, 1, 70], id="several blocks"),
    ],
    ids=str,
)
@pytest.mark.parametrize("behind", [0, 2])
@pytest.mark.parametrize("output_activation", [None, "gelu_tanh"])
def test_every_way_equals_all_experts_and_a_mask(way, sizes, behind, output_activation):
    if output_activation and (behind or len(sizes) < 3):
        pytest.skip("covered by the others")
    mlp = Mlp("silu", output_activation, 0.0)
    rows, weights = variables(max(1, sum(sizes) + behind), len(sizes))
    expected = run(all_at_once, mlp, rows, sizes, weights)
    function = functools.partial(run_by_expert, **WAYS[way])
    count = keras.ops.convert_to_tensor(sizes, "int32")
    found = run(function, mlp, rows, count, weights)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)
    # Nobody serves the rows behind the last run.
    assert not found[1][sum(sizes) :].any()
    for mine, theirs in zip(found[2], expected[2], strict=True):
        size = max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(mine, theirs, atol=1e-5 * size)


@every_way
def test_dropout_is_the_same_in_the_gradient_as_in_the_output(way):
    # The outer product is linear in its kernel, so the loss is exactly what the
    # gradient says: kernel * gradient + bias part. Other masks would break that.
    mlp = Mlp("relu", None, 0.4)
    rows, weights = variables(40, 2)
    weights.outer_bias.assign(np.zeros((2, WIDTH)))
    seed = numerics.first_seed(keras.random.SeedGenerator(3))

    def draws():
        return RandomDraws(seed)

    function = functools.partial(run_by_expert, **WAYS[way])
    sizes = keras.ops.convert_to_tensor([23, 17], "int32")
    value, _, gradients = run(function, mlp, rows, sizes, weights, draws)
    kept, _, _ = run(function, mlp, rows, sizes, weights)
    assert abs(value - kept) > 1e-3
    kernel = numpy(weights.outer_kernel)
    assert value == pytest.approx((kernel * gradients[3]).sum(), rel=1e-5)
    # With relu and no hidden bias the output is linear in the hidden kernel too.
    weights.hidden_bias.assign(np.zeros((2, HIDDEN)))
    value, _, gradients = run(function, mlp, rows, sizes, weights, draws)
    kernel = numpy(weights.hidden_kernel)
    assert value == pytest.approx((kernel * gradients[1]).sum(), rel=1e-5)


@every_way
def test_bfloat16_stays_bfloat16(way):
    mlp = Mlp("gelu_tanh", None, 0.0)
    rows, weights = variables(20, 3)
    rows = keras.ops.cast(rows, "bfloat16")
    weights = bank(ExpertWeights(*(keras.ops.cast(w, "bfloat16") for w in weights)))
    sizes = keras.ops.convert_to_tensor([9, 0, 11], "int32")
    y = run_by_expert(mlp, rows, sizes, weights, SILENT, **WAYS[way])
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    expected = all_at_once(mlp, rows, [9, 0, 11], weights, SILENT)
    np.testing.assert_allclose(
        numpy(keras.ops.cast(y, "float32")),
        numpy(keras.ops.cast(expected, "float32")),
        atol=0.1,
    )


def test_a_list_of_rows_is_computed_expert_by_expert():
    rows = np.random.default_rng(0).normal(size=(3, 5, WIDTH)).astype("float32")
    layer = Experts(3, HIDDEN)
    found = layer([keras.ops.convert_to_tensor(mine) for mine in rows])
    assert layer.compute_output_shape([(5, WIDTH)] * 3) == [(5, WIDTH)] * 3
    for mine, wanted in zip(found, numpy(layer(rows)), strict=True):
        np.testing.assert_allclose(numpy(mine), wanted, atol=1e-5)
