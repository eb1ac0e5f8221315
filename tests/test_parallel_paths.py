"""Parallel paths: a loop in NumPy, what may change without a change, what cannot be."""

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy, one_line, shake, slow, tiny_images, tiny_model
from gradients import value_and_gradients
from oracle import layer_norm, model_forward, weights_by_path

import widenet_keras
from widenet_keras import layers, preset_config
from widenet_keras.conversions.measure import measure_latency
from widenet_keras.layers.paths_math import Mixture, mixed
from widenet_keras.layers.pieces import KINDS, Piece
from widenet_keras.models.description import describe, parameters_of_parts
from widenet_keras.models.memory_use import built_size, parameter_count
from widenet_keras.models.weights import weights_by_path as variables_by_path

TOKENS = np.random.default_rng(3).normal(size=(2, 7, 12)).astype("float32")
# As a tiny model has them.
TINY = np.random.default_rng(5).normal(size=(2, 10, 12)).astype("float32")
MAXIMUM = {"paths": 3, "cheap_features": "maximum"}
# Name -> (fields, images).
CASES = {
    "two in a loop": (
        {**MAXIMUM, "paths": 2, "sharing": "all", "scan": "always"},
        1,
    ),
    "one token": (
        {
            **MAXIMUM,
            "class_token": False,
            "patch_size": 12,
            "pooling": "mean",
            "sharing": "all",
        },
        1,
    ),
    "sizes and widths": (
        {
            **MAXIMUM,
            "width": 15,
            "gated": True,
            "activation": "silu",
            "block_sizes": [(2, 5, 3, 8), (1, 4, 6, 10)],
            "step_widths": (3, 10),
            "norm_epsilon": 0.05,
        },
        2,
    ),
}
TOLD = ("two in a loop",)


@pytest.mark.parametrize(
    "name", [slow(n, when=BACKEND != "torch" and n not in TOLD) for n in CASES]
)
def test_output_and_gradients_are_those_of_a_loop(name):
    fields, count = CASES[name]
    model, images = tiny_model("vit", **fields), tiny_images(count)
    config, w = model.config, weights_by_path(model)
    wanted, _ = model_forward(w, config, images)
    weight = np.random.default_rng(1).normal(size=wanted.shape)
    factors = keras.ops.convert_to_tensor(weight, "float32")
    variables = model.trainable_variables

    def loss():
        logits = model(images)
        return keras.ops.sum(logits * factors), logits

    _, gradients, logits = value_and_gradients(loss, variables)
    np.testing.assert_allclose(numpy(logits), wanted, atol=2e-5)
    random = np.random.default_rng(2)

    def along(path, direction, size):
        moved = {**w, path: w[path] + size * direction}
        return (model_forward(moved, config, images)[0] * weight).sum()

    for variable, gradient in zip(variables, gradients, strict=True):
        path = variable.path.split("/", 1)[1]
        direction = random.normal(size=variable.shape)
        # So near that no maximum changes from one path to the other.
        up, down = (along(path, direction, size) for size in (1e-7, -1e-7))
        found = (gradient * direction).sum()
        assert found == pytest.approx((up - down) / 2e-7, rel=1e-3, abs=2e-4), path


def attentions(count):
    return [layers.Attention(3, name=f"path_{path}") for path in range(count)]


def mlps(count):
    return [layers.FeedForward(9, name=f"path_{path}") for path in range(count)]


def shaken(paths, cheap_features="maximum", size=1.0):
    """Returns built `ParallelPaths`, of which nothing is as it started."""
    layer = layers.ParallelPaths(paths, cheap_features)
    layer.build(TOKENS.shape)
    shake(layer.weights, size)
    return layer


every_kind = pytest.mark.parametrize("kind", [attentions, mlps])


@every_kind
def test_equal_paths_are_the_norm_of_one(kind):
    layer = layers.ParallelPaths(kind(2))
    layer.build(TOKENS.shape)
    first, second = layer.paths
    shake(first.weights, 1.0)
    second.set_weights(first.get_weights())
    wanted = layer_norm(numpy(first(TOKENS)).astype(float), 1.0, 0.0)
    # The factors start at 1/2 each.
    np.testing.assert_allclose(numpy(layer(TOKENS)), wanted, atol=1e-5)
    gamma, beta = np.random.default_rng(0).normal(size=(2, 12))
    layer.norm_gamma.assign(np.stack([gamma, gamma]))
    layer.norm_beta.assign(np.stack([beta, beta]))
    np.testing.assert_allclose(numpy(layer(TOKENS)), wanted * gamma + beta, atol=2e-5)


@every_kind
def test_paths_may_change_places(kind):
    layer, other = shaken(kind(3)), shaken(kind(3))
    order = [2, 0, 1]
    for place, path in enumerate(order):
        other.paths[place].set_weights(layer.paths[path].get_weights())
    for name in ("norm_gamma", "norm_beta", "mixture_weights"):
        getattr(other, name).assign(numpy(getattr(layer, name))[order])
    # Pairs (0, 1), (0, 2), (1, 2) are now those of (2, 0), (2, 1), (0, 1).
    other.mixture_pairs.assign(numpy(layer.mixture_pairs)[[1, 2, 0]])
    wanted = numpy(layer(TOKENS))
    np.testing.assert_allclose(numpy(other(TOKENS)), wanted, atol=2e-5)
    # Not without its factor.
    other.mixture_weights.assign(numpy(layer.mixture_weights))
    assert np.abs(numpy(other(TOKENS)) - wanted).max() > 0.01


@every_kind
def test_the_scale_of_a_path_is_nothing(kind):
    layer = shaken(kind(2))
    wanted = numpy(layer(TOKENS))
    path = layer.paths[1]
    last = path.output_projection if kind is attentions else path.outer
    for weight in last.weights:
        weight.assign(7.0 * weight)
    np.testing.assert_allclose(numpy(layer(TOKENS)), wanted, atol=2e-5)


def test_half_the_blocks_of_two_paths_have_the_parameters_of_all():
    deep = tiny_model("vit", steps=4)
    wide = tiny_model("vit", steps=2, paths=2)
    before, after = map(parameters_of_parts, (deep, wide))
    more = 2 * (2 * 2 * 12 + 2)
    for part in ("attention", "dense MLPs"):
        assert after[part] == before[part] + more
    cheap = tiny_model("vit", steps=2, **MAXIMUM)
    for part, count in parameters_of_parts(cheap).items():
        if part in ("attention", "dense MLPs"):
            one = (before[part] // 4) * 3 + 3 * (2 * 12 + 1) + 3
            assert count == 2 * one
    # As many products at every step.
    assert widenet_keras.forward_flops(wide.config) == (
        widenet_keras.forward_flops(deep.config)
    )
    assert "2 unique blocks of 2 paths" in describe(wide)
    assert built_size(wide.config.to_dict()) < built_size(cheap.config.to_dict())
    many = {**wide.config.to_dict(), "paths": 10**20}
    assert parameter_count(many) > 10**22


def test_the_preset_is_as_large_as_its_vit():
    wide, deep = map(preset_config, ("multipath_small_32", "vit_small_32"))
    assert (wide.paths, 2 * wide.steps) == (2, deep.steps)
    assert wide == deep.replace(steps=4, paths=2)
    norms = 4 * 192
    more = 4 * 2 * (2 * 2 * 192 + 2) - 4 * norms
    counts = [parameter_count(config.to_dict()) for config in (wide, deep)]
    assert counts[0] - counts[1] == more


def test_what_mixes_is_exact_in_half_precision():
    random = np.random.default_rng(0)
    rows = keras.ops.cast(random.normal(size=(3, 2, 5, 12)), "bfloat16")
    parts = [(3, 12), (3, 12), (3,), (3,)]
    mixture = Mixture(
        *(keras.ops.convert_to_tensor(random.normal(size=s), "float32") for s in parts)
    )
    found = mixed(tuple(rows), mixture, 1e-6)
    wanted = mixed(tuple(keras.ops.cast(rows, "float32")), mixture, 1e-6)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    np.testing.assert_array_equal(
        numpy(keras.ops.cast(found, "float32")),
        numpy(keras.ops.cast(keras.ops.cast(wanted, "bfloat16"), "float32")),
    )


def test_heads_of_all_paths_stand_side_by_side():
    model = tiny_model("vit", **MAXIMUM)
    encoder, spec = model.encoder, keras.KerasTensor(TINY.shape)
    _, _, seen = encoder(TINY, look_at=(0,))
    specs = encoder.compute_output_spec(spec, look_at=(0,))
    assert {tuple(each.shape) for each in seen.heads} == {(1, 2, 10, 9, 4)}
    assert {tuple(each.shape) for each in specs[2].heads} == {(1, 2, 10, 9, 4)}
    normal = encoder.norm1(TINY, row=0)
    for name, found in zip(("query", "key", "value"), seen.heads, strict=True):
        for place, path in enumerate(encoder.blocks[0].attention.paths):
            wanted = numpy(getattr(path, f"{name}_projection")(normal))
            mine = numpy(found)[0][:, :, 3 * place : 3 * place + 3]
            np.testing.assert_allclose(
                mine.reshape(2, 10, 12), wanted, atol=1e-5, err_msg=name
            )


def test_pieces_around_the_parts_work():
    piece = {"kind": "bottleneck", "rank": 3, "activation": "relu"}
    model = tiny_model("vit", steps=1, paths=2, pieces=[piece])
    encoder, w = model.encoder, weights_by_path(model)
    [block] = encoder.blocks

    x = TINY + numpy(block.attention(encoder.norm1(TINY, row=0)))
    branch = numpy(block.feed_forward(encoder.norm2(x, row=0))).astype(float)
    down, down_bias, up, up_bias = (
        w[f"encoder/pieces/bottleneck_{name}"][0]
        for name in ("down", "down_bias", "up", "up_bias")
    )
    adapted = np.maximum(branch @ down + down_bias, 0) @ up + up_bias
    found = numpy(encoder(TINY)[0])
    np.testing.assert_allclose(found, x + branch + adapted, atol=1e-5)


def test_which_pieces_act_inside():
    """Told by what a kind overrides, so that no list has to be kept."""
    inside = {kind: KINDS[kind]().acts_inside for kind in KINDS}
    for kind in ("lora", "prompt", "key_value_prompt"):
        assert inside[kind], kind
    assert not inside["bottleneck"]

    class Around(Piece):
        residual = between = after = feed_forward = lambda self, *args: args

    assert not Around().acts_inside
    for site in ("logits", "probabilities", "linear"):
        kind = type("Inside", (Piece,), {site: lambda self, *args: args})
        assert kind().acts_inside, site


def test_groups_of_blocks_start_from_paths_one_by_one():
    vit = tiny_model("vit", steps=2, **MAXIMUM)
    tied = widenet_keras.tie(vit, moe_blocks="none", base="average")
    before, after = (
        {path: numpy(weight) for path, weight in variables_by_path(model).items()}
        for model in (vit, tied)
    )
    found = [path for path in after if "block_0" in path]
    assert len(found) == 2 * 4 + 3 * (8 + 4)
    for path in found:
        wanted = (before[path] + before[path.replace("block_0", "block_1")]) / 2
        np.testing.assert_allclose(after[path], wanted, atol=1e-6, err_msg=path)


def test_a_model_is_copied_with_all_of_its_paths():
    model = tiny_model("vit", **MAXIMUM)
    copy, images = model.adapted(dropout=0.3), tiny_images(2)
    np.testing.assert_array_equal(numpy(copy(images)), numpy(model(images)))


def of(**fields):
    return tiny_model("vit", **{"paths": 2, **fields})


def encoder_of(pieces):
    blocks = [layers.Block(layers.ParallelPaths(attentions(2)), layers.FeedForward(5))]
    return layers.Encoder(blocks, 1, pieces=pieces).build(TOKENS.shape)


def twice():
    one = layers.Attention(3)
    return layers.ParallelPaths([one, one])


LORA = {"kind": "lora", "rank": 2}
WRONG = [
    (lambda: layers.ParallelPaths(attentions(1)), ["two or more", "by itself"]),
    (lambda: layers.ParallelPaths(layers.Attention(3)), ["two or more"]),
    (
        lambda: layers.ParallelPaths([*attentions(1), layers.FeedForward(5)]),
        ["Attention and FeedForward", "alone"],
    ),
    (
        lambda: layers.ParallelPaths([layers.MixtureOfExperts(4, 5), *mlps(1)]),
        ["MixtureOfExperts and FeedForward"],
    ),
    (
        lambda: layers.ParallelPaths([layers.FeedForward(5), layers.FeedForward(6)]),
        ["hidden_dim=5 and 6", "all the same"],
    ),
    (twice, ["are named attention", "a name of its own"]),
    (
        lambda: layers.ParallelPaths(attentions(2), "minimum"),
        ["cheap_features='minimum'", "'maximum'"],
    ),
    (lambda: layers.ParallelPaths(attentions(2), norm_epsilon=0), ["norm_epsilon=0"]),
    (lambda: encoder_of([LORA]), ["Encoder: pieces has 'lora'", "paths=2"]),
    (lambda: of(pieces=[LORA]), ["pieces has 'lora'", "paths=2", "paths=1"]),
    (
        lambda: of(pieces=[{"kind": "prompt"}, {"kind": "key_value_prompt"}]),
        ["'prompt', 'key_value_prompt'"],
    ),
    (lambda: widenet_keras.tie(of()), ["paths=2", "moe_blocks='none'"]),
    (lambda: widenet_keras.relax(of(), 2), ["relax:", "paths=2", "paths=1"]),
    (
        lambda: widenet_keras.prune(of(), tiny_images(2), [0, 1]),
        ["prune:", "paths=2", "paths=1"],
    ),
    (lambda: measure_latency(of()), ["latency table", "paths=2"]),
    (lambda: widenet_keras.merge(of()), ["nothing to merge"]),
    (lambda: of().adapted(paths=3), ["adapted: paths=3", "path_2"]),
    (lambda: of().adapted(paths=1), ["adapted: paths=1"]),
    (
        lambda: of().adapted(cheap_features="maximum"),
        ["cheap_features='maximum'", "mixture_pairs"],
    ),
]


@pytest.mark.parametrize(("make", "words"), WRONG)
def test_what_cannot_be_is_one_line(make, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        make()
    line = one_line(error)
    assert len(line) < 600
    assert [word for word in words if word not in line] == [], line


@pytest.mark.parametrize("verb", ["relax", "tie"])
def test_without_lora_relaxing_is_tying(verb):
    model = tiny_model("vit", steps=4, paths=2)
    if verb == "relax":
        other = widenet_keras.relax(model, 0)
    else:
        fields = {"sharing": "cycle", "unique_blocks": 2, "moe_blocks": "none"}
        other = widenet_keras.tie(model, **fields)
    assert (other.config.num_unique_blocks, other.config.paths) == (2, 2)
    query = "encoder/block_1/attention/path_1/query/kernel"
    before, after = (
        numpy(variables_by_path(m)[p])
        for m, p in (
            (model, query.replace("block_1", "block_3")),
            (other, query),
        )
    )
    np.testing.assert_array_equal(after, before)
