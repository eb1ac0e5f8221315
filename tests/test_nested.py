"""Hidden widths that training draws, that steps have, and blocks of several sizes."""

import keras
import numpy as np
import pytest
import strangers
from conftest import numpy, one_line, slow, tiny_config, tiny_images, tiny_model
from gradients import value_and_gradients
from oracle import model_forward, weights_by_path

import widenet_keras
from widenet_keras import WideNetConfig
from widenet_keras.layers import depth
from widenet_keras.layers.plan import plans_of, segments_of
from widenet_keras.layers.shared_parts import read_blocks
from widenet_keras.layers.widths import Widths
from widenet_keras.models import parse_fields
from widenet_keras.models.description import describe
from widenet_keras.models.memory_use import parameter_count
from widenet_keras.routing.random_draws import RandomDraws
from widenet_keras.utils import numerics
from widenet_keras.utils.execution import execution

# Almost every draw is the first width.
HALF = {"nested_widths": (0.5, 1.0), "nested_probabilities": (1 - 1e-7, 1e-7)}
SMALL, LARGE = (2, 5, 3, 8), (1, 4, 6, 10)
SIZES = {"block_sizes": [SMALL, LARGE]}
WIDTHS = {"moe_blocks": "none", "steps": 3, "step_widths": (4, 10, 7)}


@pytest.mark.parametrize("name", ["dense", "gated", "shared", "experts"])
def test_units_that_a_step_leaves_out_have_no_gradient(name):
    kind = {"experts": "widenet", "shared": "widenet"}.get(name, "vit")
    dense = {} if name == "experts" else {"moe_blocks": "none"}
    model = tiny_model(kind, **dense, gated=name == "gated", **HALF)
    part = model.encoder.blocks[0].feed_forward
    if name == "experts":
        bank, count = part.experts, 7
        first = [bank.hidden_kernel, bank.hidden_bias]
        last = bank.outer_kernel
    else:
        layers, count = [part.hidden, *([part.gate] if part.gated else [])], 5
        first = [weight for layer in layers for weight in layer.weights]
        last = part.outer.kernel

    def loss():
        return keras.ops.sum(keras.ops.square(model(tiny_images(), training=True)))

    _, gradients = value_and_gradients(loss, [*first, last])
    gradients[-1] = np.moveaxis(gradients[-1], -2, -1)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient[..., count:], 0.0)
        units = np.abs(gradient[..., :count]).reshape(-1, count)
        assert (units.max(axis=0) > 0).all()


def shares(widths, generator, count, **how):
    """Returns what some forward passes draw for 3 steps, (count, 3)."""
    found = []
    for _ in range(count):
        with execution(**how):
            found.append(numpy(widths.of_pass(RandomDraws.begin(generator), 3)))
    return np.array(found)


def test_widths_are_drawn_as_often_as_asked_for():
    fractions, chances, count = (0.1, 0.3, 1.0), (0.15, 0.55, 0.3), 2000
    widths = Widths(None, fractions, chances)
    found = shares(widths, keras.random.SeedGenerator(0), count)
    # One for all steps.
    np.testing.assert_array_equal(found, found[:, :1].repeat(3, axis=1))
    nearest = np.abs(found[:, :1] - fractions)
    assert nearest.min(axis=1).max() < 1e-6
    often = np.bincount(nearest.argmin(axis=1), minlength=3)
    chances = np.array(chances)
    sigma = np.sqrt(count * chances * (1 - chances))
    assert (np.abs(often - count * chances) < 3 * sigma).all(), often


def test_widths_are_drawn_equally_often_where_nothing_is_said():
    found = [
        shares(Widths(None, (0.5, 1.0), chances), keras.random.SeedGenerator(0), 40)
        for chances in (None, (0.5, 0.5), (0.1, 0.9))
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_first_part_of_some_entries(dtype):
    for size in (7, 1000, 4096):
        like = keras.ops.zeros((2, size), dtype)
        for count in (1, size // 3, size // 2 + 1, size):
            share = keras.ops.convert_to_tensor(count / size, "float32")
            found = numerics.prefix(share, like)
            assert keras.backend.standardize_dtype(found.dtype) == dtype
            found = numpy(found).astype("float32")
            np.testing.assert_array_equal(found, np.arange(size) < count)


def test_devices_that_share_a_batch_draw_one_width():
    widths = Widths(None, (0.25, 0.5, 1.0))
    one, other = (
        shares(widths, keras.random.SeedGenerator(3), 20, replica=replica)
        for replica in (0, 1)
    )
    np.testing.assert_array_equal(one, other)
    assert len(np.unique(one)) == 3
    # What else they draw differs.
    seeds = []
    for replica in (0, 1):
        with execution(replica=replica):
            draws = RandomDraws.begin(keras.random.SeedGenerator(3))
            seeds.append(numpy(draws.seeds_of_steps(2)))
    assert (seeds[0] != seeds[1]).any()


def test_a_single_width_is_all_units():
    model, images = tiny_model("vit", nested_widths=(1.0,), dropout=0), tiny_images()
    found = numpy(model(images, training=True))
    np.testing.assert_allclose(found, numpy(model(images)), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("widenet", {"step_widths": (14, 5)}),
        ("widenet", {"sharing": "feed_forward", "step_widths": (9, 14)}),
        ("vit_moe", {"block_sizes": [SMALL, (3, 4, 4, 9), (3, 2, 6, 11)]}),
    ],
)
def test_experts_of_several_widths_against_numpy(kind, fields):
    model, images = tiny_model(kind, **fields), tiny_images(3)
    wanted, _ = model_forward(weights_by_path(model), model.config, images)
    np.testing.assert_allclose(numpy(model(images)), wanted, atol=1e-5)


def test_equal_neighbours_are_one_loop():
    sizes = [SMALL, SMALL, SMALL, LARGE]
    model = tiny_model("vit", steps=4, scan="always", block_sizes=sizes)
    encoder = model.encoder
    with numerics.weights_as_stored() as read:
        how = encoder.blocks, encoder.block_of_step, read, False, 12, False
        weights = read_blocks(*how)
    tokens = keras.ops.zeros((3, 10, 12))
    found = depth._segments(tokens, weights, encoder._depth(False, ()))
    assert [(segment.first, segment.rounds) for segment in found] == [(0, 3), (3, 1)]


def test_equal_widths_of_a_shared_block_are_one_loop():
    found = segments_of(plans_of((0,) * 5, widths=(4, 4, 4, 8, 8)))
    assert [(segment.first, segment.rounds) for segment in found] == [(0, 3), (3, 2)]
    [found] = segments_of(plans_of((0,) * 4, widths=(4, 8, 4, 8)))
    assert found.rounds == 2


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("widenet", WIDTHS),
        slow("vit", SIZES),
        slow("widenet", {"step_widths": (14, 5)}),
        slow("vit_moe", {"block_sizes": [SMALL, SMALL, LARGE]}),
    ],
)
def test_int8_is_near_saved_and_adapted(kind, fields, tmp_path):
    model, images = tiny_model(kind, **fields), tiny_images()
    wanted = numpy(model(images))
    copy = model.adapted(num_classes=3)
    assert copy.config == model.config.replace(num_classes=3)
    assert parameter_count(model.config.to_dict()) == model.count_params()
    model.quantize("int8")
    found = numpy(model(images))
    assert 0 < np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()
    model.save(tmp_path / "model.keras")
    again = widenet_keras.load_model(tmp_path / "model.keras")
    assert again.config == model.config
    np.testing.assert_allclose(numpy(again(images)), found, atol=1e-6)


@pytest.mark.parametrize("fields", [{**SIZES, **HALF}, WIDTHS])
def test_fields_in_words_are_read(fields):
    kind = "vit" if "block_sizes" in fields else "widenet"
    wanted = tiny_config(kind, **fields)
    words = {name: str(value) for name, value in fields.items()}
    assert tiny_config(kind, **parse_fields(words)) == wanted
    assert WideNetConfig(**wanted.to_dict()) == wanted


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """The file of a model of two blocks."""
    path = tmp_path_factory.mktemp("honest") / "model.keras"
    tiny_model("vit").save(path)
    return path


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"block_sizes": [(10**9, 64, 64, 64)] * 2}, "would take .* GiB of memory"),
        ({"block_sizes": [(1, 10**400, 1, 1)] * 2}, "would take .* GiB of memory"),
        ({"block_sizes": [(1, 1, 1, 10**10)] * 2}, "would take .* GiB of memory"),
        ({"block_sizes": [(1, 1, 1)] * 2}, "four numbers"),
        ({"block_sizes": {"heads": 3}}, "each unique block"),
        ({"block_sizes": [[1, 1, 1, []]] * 2}, "whole number >= 1"),
        ({"block_sizes": [SMALL] * 9}, "9 sizes and there are 2"),
        ({"block_sizes": [SMALL] * 2}, "could not be loaded"),
        ({"step_widths": [10**9, 1]}, "more than the 10 hidden units"),
        ({"step_widths": [1] * 9}, "each of the 2 steps"),
        ({"nested_widths": [[[]], 1.0]}, "ascend to 1.0"),
        ({"nested_widths": [10**40, 1.0]}, "ascend to 1.0"),
        ({"nested_widths": None}, "ascend to 1.0"),
        (
            {"nested_widths": [0.5, 1.0], "nested_probabilities": [float("nan"), 1.0]},
            "add up to 1",
        ),
    ],
)
def test_sizes_of_a_strangers_file_are_checked(fields, said, honest, tmp_path):
    def change(config):
        config["config"]["config"].update(fields)

    path = strangers.with_config(honest, tmp_path / "model.keras", change)
    with pytest.raises(ValueError, match=said) as error:
        widenet_keras.load_model(path)
    line = one_line(error)
    assert str(path) in line
    assert len(line) < 700


def test_describe_says_what_each_step_computes_with():
    model = tiny_model("widenet", **WIDTHS)
    rows = [line.split() for line in describe(model).splitlines()]
    for step, width in enumerate(WIDTHS["step_widths"]):
        assert [str(step), "0", "3", "4", "4", str(width)] in rows
    experts = tiny_model("widenet", step_widths=(14, 5))
    assert "experts of 5 to 14," in describe(experts)
    assert "experts of 14," in describe(tiny_model("widenet"))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("vit", SIZES),
        ("vit_moe", {"block_sizes": [SMALL, LARGE, LARGE]}),
        ("widenet", WIDTHS),
        ("widenet", {"step_widths": (14, 5)}),
    ],
    ids=["sizes", "sizes of experts", "widths", "widths of experts"],
)
@pytest.mark.parametrize(
    ("format", "quantize"),
    [
        slow("saved_model", "none"),
        slow("litert", "none"),
        slow("litert", "dynamic_int8"),
        slow("onnx", "none"),
    ],
)
def test_exports_are_the_model(format, quantize, kind, fields, tmp_path):
    """The export's own check passes, and so does another number of images."""
    from test_exports import assert_files_are_the_model

    model = tiny_model(kind, **fields)
    assert_files_are_the_model(model, format, quantize, tmp_path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"step_widths": 5}, "step_widths=5"),
        ({"step_widths": [5, 11]}, r"step_widths\[1\]=11"),
        ({"nested_widths": 0.5}, "nested_widths=0.5"),
        ({"nested_widths": np.array([0.5, 1.0])}, "nested_widths=array"),
        (
            {"nested_widths": [0.5, 1.0], "nested_probabilities": (0.0, 1.0)},
            "2 positive numbers",
        ),
    ],
)
def test_an_encoder_of_ones_own_says_what_does_not_fit(fields, words):
    layers = widenet_keras.layers
    block = layers.Block(layers.Attention(3), layers.FeedForward(10))
    with pytest.raises(ValueError, match=f"^Encoder: .*{words}") as error:
        layers.Encoder([block], 2, **fields)
    one_line(error)
