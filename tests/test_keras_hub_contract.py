"""What KerasHub's `run_backbone_test` and `run_task_test` ask of its vision models.

What has no counterpart is left out: embeddings of text, pyramids of feature maps,
`backbone.inputs` (`features` takes a `keras.Input`), models that compile themselves,
float8. Logits and routers are float32 in every precision, by design. Presets are
trained and saved in `test_contract.py`.
"""

import json
import re

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy, one_line, tiny_config, tiny_images

import widenet_keras
from widenet_keras import ImageClassifier
from widenet_keras.layers.linear import Linear
from widenet_keras.models import WideNet

IMAGES, LABELS = tiny_images(3), np.array([0, 4, 2])
WEIGHTS = np.array([1.0, 0.5, 2.0])
# A task with classes, a backbone without, and the network that both are.
MODELS = {
    "task": (ImageClassifier, {"kind": "vit_moe", "steps": 2, "moe_blocks": (-1,)}),
    "backbone": (ImageClassifier, {"kind": "vit", "num_classes": 0}),
    "network": (WideNet, {"kind": "widenet"}),
}
every_model = pytest.mark.parametrize("which", list(MODELS))


def made(which, **arguments):
    make, fields = MODELS[which]
    return make(tiny_config(**fields), seed=0, **arguments)


class Batches(keras.utils.PyDataset):
    """Two images at a time, and one at the end, with all that is given."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    num_batches = 2

    def __getitem__(self, index):
        return tuple(each[2 * index : 2 * index + 2] for each in self.arrays)


def told(model):
    return json.dumps(model.get_config(), sort_keys=True)


@every_model
def test_configurations_come_back(which):
    model = made(which)
    serialized = json.dumps(keras.saving.serialize_keras_object(model))
    for again in (
        type(model).from_config(model.get_config()),
        keras.saving.deserialize_keras_object(json.loads(serialized)),
        keras.models.clone_model(model),
    ):
        assert type(again) is type(model)
        assert told(again) == told(model)
        assert set(dir(again)) == set(dir(model))
        assert again.count_params() == model.count_params()


@every_model
def test_calls_and_predictions(which):
    model = made(which)
    wanted = numpy(model(IMAGES))
    assert wanted.shape == (3, model.config.outputs)
    # Any number of images, and one more axis is no image.
    np.testing.assert_allclose(numpy(model(IMAGES[:1])), wanted[:1], atol=1e-5)
    found = model.predict(IMAGES, batch_size=2, verbose=0)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    found = model.predict(Batches(IMAGES), verbose=0)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    parts = ["embedding", "embedding_dropout", "encoder", "head"]
    assert [layer.name for layer in model.layers] == parts
    snake = re.sub("([a-z])([A-Z])", r"\1_\2", type(model).__name__).lower()
    assert model.name.startswith(snake)
    assert len(model.trainable_weights) == len(model.weights)
    assert model.non_trainable_weights == []


def test_a_backbone_comes_back_from_a_file(tmp_path):
    model = made("backbone")
    model.save(tmp_path / "model.keras")
    for load in (keras.saving.load_model, widenet_keras.load_model):
        again = load(tmp_path / "model.keras")
        assert type(again) is type(model)
        found = numpy(again(IMAGES))
        np.testing.assert_array_equal(found, numpy(model(IMAGES)))


# On CPUs JAX's attention takes no float16 in compiled functions.
FLOAT16 = pytest.param("mixed_float16", marks=[pytest.mark.skip] * (BACKEND == "jax"))


@pytest.mark.parametrize("precision", [FLOAT16, "mixed_bfloat16", "bfloat16"])
def test_precisions(precision):
    policy = keras.dtype_policies.get(precision)
    model = made("task", dtype=policy)
    inputs = keras.Input(model.config.image_shape)
    logits, record = model(IMAGES, return_routing=True)
    spec, specs = model(inputs, return_routing=True)
    found = [logits, *record]
    for one, other in zip(found, [spec, *specs], strict=True):
        assert keras.backend.standardize_dtype(one.dtype) == other.dtype
    assert spec.dtype == "float32"
    tokens = model.features(IMAGES)
    assert keras.backend.standardize_dtype(tokens.dtype) == policy.compute_dtype
    assert model.features(inputs).dtype == policy.compute_dtype
    for layer in model._flatten_layers():
        kept = policy if layer.name != "router" else keras.dtype_policies.get("float32")
        assert layer.compute_dtype == kept.compute_dtype, layer.path
        assert {w.dtype for w in layer.weights if "router" not in w.path} <= {
            policy.variable_dtype
        }


def test_int8_by_a_map_of_policies():
    def products(model):
        return [each for each in model._flatten_layers() if isinstance(each, Linear)]

    policies = keras.dtype_policies.DTypePolicyMap("float32")
    for product in products(made("backbone", name="quantized")):
        policies[product.path] = keras.dtype_policies.get("int8_from_float32")
    model = made("backbone", dtype=policies, name="quantized")
    again = type(model).from_config(model.get_config())
    assert told(again) == told(model)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(numpy(again(IMAGES)), numpy(model(IMAGES)))
    assert {each.quantization_mode for each in products(again)} == {"int8"}


def test_the_order_of_axes_that_keras_prefers_changes_nothing():
    model = made("task")
    wanted = numpy(model(IMAGES))
    keras.config.set_image_data_format("channels_first")
    try:
        other = made("task")
        other.set_weights(model.get_weights())
        np.testing.assert_array_equal(numpy(other(IMAGES)), wanted)
        np.testing.assert_array_equal(numpy(model(IMAGES)), wanted)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_a_task_trains_from_arrays_and_from_batches():
    def loss(*data, **how):
        keras.utils.set_random_seed(0)
        model = made("task")
        with pytest.raises(ValueError, match="You must call `compile") as error:
            model.fit(*data, **how)
        one_line(error)
        model.compile()
        return model.fit(*data, shuffle=False, verbose=0, **how).history["loss"][0]

    found = loss(Batches(IMAGES, LABELS, WEIGHTS))
    assert found == loss(IMAGES, LABELS, sample_weight=WEIGHTS, batch_size=2)
    assert np.isfinite(found)
