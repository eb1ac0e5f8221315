"""`model.quantize("int8")`: attention and experts too, saved and loaded again."""

import warnings

import keras
import numpy as np
import pytest
from conftest import BACKEND, KINDS, numpy, one_line, slow, tiny_images, tiny_model

import widenet_keras
from widenet_keras.utils.rounding import in_float16, in_int8


# A ViT-MoE has dense and routed blocks; where models compile it stands for all.
@pytest.fixture(
    scope="module",
    params=[slow(k, when=BACKEND != "torch" and k != "vit") for k in KINDS],
)
def pair(request):
    """A float model and its quantised copy; tests leave both as they are."""
    model = tiny_model(request.param, width=48, heads=4, expert_dim=64, mlp_dim=64)
    copy = model.adapted()
    copy.quantize("int8")
    return model, copy


def test_attention_and_experts_are_int8_and_the_rest_is_not(pair):
    model, copy = pair
    stored = {w.path.split("/", 1)[1]: w.dtype for w in copy.weights}
    int8 = {path for path, dtype in stored.items() if dtype == "int8"}
    for path, weight in ((w.path.split("/", 1)[1], w) for w in model.weights):
        kernel = path.endswith("kernel") and len(weight.shape) in (2, 3)
        kept = "router" in path or "embedding" in path
        assert (path in int8) == (kernel and not kept), path
    assert any("feed_forward" in path for path in int8)
    assert any("attention" in path for path in int8)


def test_the_answers_stay_close(pair):
    model, copy = pair
    images = tiny_images(16)
    wanted, found = numpy(model(images)), numpy(copy(images))
    spread = wanted.max() - wanted.min()
    assert 0 < np.abs(found - wanted).max() < 0.15 * spread
    # Rows are quantised by their own ranges, so batch mates do not matter.
    np.testing.assert_allclose(numpy(copy(images[:1])), found[:1], atol=1e-4)


def test_a_quantised_model_is_saved_and_loaded(pair, tmp_path):
    _, copy = pair
    copy.save(tmp_path / "model.keras")
    loaded = widenet_keras.load_model(tmp_path / "model.keras")
    assert loaded.quantization == "int8"
    images = tiny_images(3)
    np.testing.assert_allclose(numpy(loaded(images)), numpy(copy(images)), atol=1e-6)


def test_a_compiled_model_forgets_its_optimizer(tmp_path):
    model = tiny_model("vit", steps=1)
    model.compile()
    model.quantize("int8")
    assert not model.compiled
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").quantization == "int8"


def test_a_model_around_ours_leaves_it_to_itself(tmp_path):
    images, path = tiny_images(), tmp_path / "model.keras"
    model = tiny_model(pieces=[{"kind": "lora", "rank": 2}])
    inputs = keras.Input(model.config.image_shape)
    outputs = keras.layers.Dense(3, name="last")(model(inputs))
    other = keras.Model(inputs, outputs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        other.quantize("int8")
    assert any("logits stays as it is" in str(each.message) for each in caught)
    int8 = {each.path for each in other.weights if each.dtype == "int8"}
    assert int8 == {"last/kernel"}
    for _ in range(2):
        found = numpy(other(images))
        other.save(path)
        again = keras.saving.load_model(path)
        np.testing.assert_allclose(numpy(again(images)), found, atol=1e-6)
        if model.quantization is None:
            model.quantize("int8")


def test_products_in_half_precision():
    model = tiny_model("vit_moe", dtype="mixed_bfloat16")
    wanted = numpy(model(tiny_images()))
    model.quantize("int8")
    found = numpy(model(tiny_images()))
    assert 0 < np.abs(found - wanted).max() < 0.15 * (wanted.max() - wanted.min())


def test_each_expert_and_channel_has_its_scale():
    model = tiny_model()
    experts = model.encoder.blocks[0].feed_forward.experts
    # One expert a hundred times larger than the others must not round them away.
    kernel = numpy(experts.hidden_kernel).copy()
    kernel[1] *= 100
    experts.hidden_kernel.assign(kernel)
    model.quantize("int8")
    assert tuple(experts.hidden_scale.shape) == (4, 1, 14)
    found = numpy(experts.read(keras.ops.convert_to_tensor).hidden_kernel)
    step = np.abs(kernel).max(axis=1, keepdims=True) / 127
    assert (np.abs(found - kernel) <= 0.501 * step).all()


def test_what_cannot_be_is_one_line():
    model = tiny_model("vit", steps=1)
    with pytest.raises(ValueError, match="mode='int4'") as error:
        model.quantize("int4")
    one_line(error)
    model.quantize("int8")
    with pytest.raises(ValueError, match="already") as error:
        model.quantize("int8")
    one_line(error)
    with pytest.raises(ValueError, match="adapted") as error:
        model.adapted(num_classes=3)
    one_line(error)
    with pytest.raises(ValueError, match="export the float model") as error:
        widenet_keras.export(model, "model.tflite", "litert")
    one_line(error)


def test_int8_numbers_and_their_scales_are_those_of_a_loop():
    value = np.random.default_rng(0).normal(size=(3, 20, 4)).astype("float32")
    value[1] *= 100
    value[2, :, 3] = 0
    numbers, scale = in_int8(value, axis=-2)
    assert (numbers.dtype, scale.dtype) == (np.int8, np.float32)
    for expert, channel in np.ndindex(3, 4):
        column = value[expert, :, channel]
        wanted = np.float32(max(abs(each) for each in column)) / np.float32(127)
        # A channel of zeros has a scale that divides it.
        assert scale[expert, 0, channel] == (wanted or np.float32(1e-12 / 127))
        rounded = [round(float(each / wanted)) if wanted else 0 for each in column]
        assert numbers[expert, :, channel].tolist() == rounded
    assert np.abs(numbers.max(axis=1)).max() == 127 >= -numbers.min()


def test_float16_holds_what_is_too_large_as_its_largest():
    found = in_float16(np.array([1 / 3, -1e6, 70000.0, 2.0**-25], "float32"))
    assert found.dtype == np.float16
    assert found.tolist() == [0.333251953125, -65504.0, 65504.0, 0.0]


def test_every_format_stores_the_same_numbers():
    onnx = pytest.importorskip("onnx")
    from widenet_keras.exports.graphs_tensorflow import StoredWeight
    from widenet_keras.exports.onnx_weights import stored_smaller

    model = tiny_model(width=48, expert_dim=64)
    experts = model.encoder.blocks[0].feed_forward.experts
    kernel = numpy(experts.hidden_kernel)
    wanted, scale = in_int8(kernel, axis=-2)

    saved = StoredWeight(experts.hidden_kernel, "dynamic_int8")
    graph = onnx.helper.make_graph(
        [], "g", [], [], [onnx.numpy_helper.from_array(kernel, "kernel")]
    )
    proto = onnx.helper.make_model(graph)
    stored_smaller(proto, "dynamic_int8", [])
    of_onnx = map(onnx.numpy_helper.to_array, proto.graph.initializer)
    model.quantize("int8")
    for numbers, by in (
        (saved.stored.numpy(), saved.scale.numpy()),
        of_onnx,
        (numpy(experts.hidden_kernel), numpy(experts.hidden_scale)),
    ):
        np.testing.assert_array_equal(numbers, wanted)
        np.testing.assert_array_equal(by, scale)
