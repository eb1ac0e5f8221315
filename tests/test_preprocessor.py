"""A layer that makes images of any size and type what a model takes."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import numpy, one_line, slow, tiny_images, tiny_model

import widenet_keras
from widenet_keras.data.colours import with_channels
from widenet_keras.models.preprocessing import Preprocessing
from widenet_keras.models.preprocessor import Preprocessor
from widenet_keras.models.resizing import evaluated

GEOMETRIES = {
    "crop": Preprocessing(crop_pct=0.9),
    "squash": Preprocessing(
        crop_mode="squash", crop_pct=1.0, interpolation="bicubic", antialias=True
    ),
    "lanczos": Preprocessing(interpolation="lanczos", antialias=True),
}
every_geometry = pytest.mark.parametrize(
    "geometry", [*list(GEOMETRIES)[:2], slow("lanczos")]
)


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype("uint8")


def read(images, geometry, size=12):
    """Returns what the readers make of images."""
    return widenet_keras.scale_pixels(evaluated(images, size, geometry))


def assert_same(found, wanted):
    """Compares to the bit, but for sums at a half, which may round either way."""
    differ = np.abs(numpy(found).astype("float32") - wanted) * 127.5
    assert differ.max() < 1.01
    assert (differ > 0.01).mean() < 0.01


@every_geometry
def test_the_numbers_are_those_of_the_readers(geometry):
    geometry = GEOMETRIES[geometry]
    layer = Preprocessor(12, preprocessing=geometry)
    for shape in ((2, 31, 43, 3), (7, 5, 3)):
        images = pixels(*shape)
        wanted = read(images, geometry)
        assert_same(layer(images), wanted)
        assert layer.compute_output_shape(shape) == wanted.shape
    # Floats are rounded as bytes are.
    assert_same(layer(images.astype("float32")), wanted)


@every_geometry
def test_in_tf_data_whatever_the_backend(geometry):
    tf = pytest.importorskip("tensorflow")
    geometry = GEOMETRIES[geometry]
    layer = Preprocessor(12, preprocessing=geometry)
    photos = [pixels(31, 43, 3), pixels(20, 9, 3)]
    spec = tf.TensorSpec((None, None, 3), "uint8")
    dataset = tf.data.Dataset.from_generator(lambda: photos, output_signature=spec)
    dataset = dataset.map(layer)
    assert dataset.element_spec == tf.TensorSpec((12, 12, 3), "float32")
    for found, photo in zip(dataset.as_numpy_iterator(), photos, strict=True):
        assert_same(found, read(photo, geometry))
    grey = tf.data.Dataset.from_tensors(pixels(2, 30, 20, 1)).map(layer)
    wanted = read(pixels(2, 30, 20, 1).repeat(3, -1), geometry)
    assert_same(next(iter(grey)).numpy(), wanted)


def test_before_a_model():
    model = tiny_model()
    model.preprocessing = GEOMETRIES["squash"]
    whole = keras.Sequential([model.preprocessor, model])
    for shape in ((2, 31, 43, 3), (3, 20, 9, 3)):
        wanted = numpy(model(read(pixels(*shape), model.preprocessing)))
        np.testing.assert_allclose(numpy(whole(pixels(*shape))), wanted, atol=1e-5)
        found = whole.predict(pixels(*shape), verbose=0)
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_it_is_saved_with_a_model(tmp_path):
    model = tiny_model()
    model.preprocessing = GEOMETRIES["squash"]
    entry = keras.Input((None, None, 3), dtype="uint8")
    keras.Sequential([entry, model.preprocessor, model]).save(tmp_path / "a.keras")
    again = widenet_keras.load_model(tmp_path / "a.keras")
    wanted = numpy(model(model.preprocessor(pixels(2, 31, 43, 3))))
    found = numpy(again(pixels(2, 31, 43, 3)))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    layer = model.preprocessor
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == layer.get_config()
    assert copy.preprocessing == model.preprocessing
    # It is no part of the model.
    assert layer is not model.preprocessor
    assert layer not in model.layers


def test_a_saved_model_takes_images_of_any_size(tmp_path):
    tf = pytest.importorskip("tensorflow")
    entry = keras.Input((None, None, 3), dtype="uint8")
    layer = Preprocessor(12, preprocessing=GEOMETRIES["squash"])
    whole = keras.Sequential([entry, layer, keras.layers.Flatten()])
    whole.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    for shape in ((2, 31, 43, 3), (1, 5, 9, 3)):
        wanted = numpy(whole(pixels(*shape)))
        np.testing.assert_allclose(loaded.serve(pixels(*shape)), wanted, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour(channels):
    geometry = Preprocessing()
    layer = Preprocessor(12, channels, geometry)
    for given in (1, 3):
        images = pixels(2, 31, 43, given)
        wanted = read(with_channels(images, channels), geometry)
        np.testing.assert_allclose(numpy(layer(images)), wanted, atol=2e-7)


def test_labels_are_handed_on():
    layer = Preprocessor(12)
    found, labels = layer(pixels(2, 31, 43, 3), [1, 2])
    assert found.shape == (2, 12, 12, 3)
    assert labels == [1, 2]


def test_a_model_is_saved_without_a_layer_more():
    """Keras asks for all that a model has when it saves it."""
    model = tiny_model()
    assert model.preprocessor.name == f"{model.name}_preprocessor"


def test_what_is_no_geometry_is_told_at_once():
    model = tiny_model()
    for given in ("bicubic", 3, {"crop_mode": "squash"}):
        with pytest.raises(ValueError, match="says no geometry"):
            model.preprocessing = given
        with pytest.raises(ValueError, match="says no geometry"):
            Preprocessor(12, 3, given)


def test_images_of_different_sizes():
    layer = Preprocessor(12)
    photos = [pixels(31, 43, 3), pixels(12, 12, 1)]
    found = numpy(layer(photos))
    assert found.shape == (2, 12, 12, 3)
    np.testing.assert_array_equal(found[1], numpy(layer(photos[1])))


def test_half_precision():
    exact, half = Preprocessor(12), Preprocessor(12, dtype="mixed_bfloat16")
    # In half precision this would be 200 before it is rounded.
    images = np.full((1, 12, 12, 3), 200.5, "float32")
    found = half(images)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    wanted = keras.ops.cast(exact(images), "bfloat16")
    np.testing.assert_array_equal(
        numpy(keras.ops.cast(found, "float32")),
        numpy(keras.ops.cast(wanted, "float32")),
    )
    model = tiny_model(dtype="mixed_bfloat16")
    assert model.preprocessor.compute_dtype == "bfloat16"


def strings(*shape):
    return np.full(shape, "a")


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (pixels(31, 43), r"was given \(31, 43\)"),
        (pixels(31, 43, 4), "C=1 or 3.* transparency"),
        (pixels(2, 2, 31, 43, 3), r"\(2, 2, 31, 43, 3\)"),
        (SimpleNamespace(shape=(1, None, 5, 3), dtype="uint8"), "width are known"),
        (strings(5, 5, 3), "not of type"),
        ([0.5], "was given a float"),
        (tiny_images(), "run from -0.99"),
        (pixels(5, 5, 3) / 255, "run from 0 to 1;"),
        (pixels(5, 5, 3).astype("int32") * 2, r"to 5\d\d;"),
        (pixels(5, 5, 3) * np.nan, "nan"),
    ],
)
def test_what_is_no_image(images, words):
    with pytest.raises(ValueError, match=words) as error:
        Preprocessor(12)(images)
    one_line(error)


def test_arguments_that_are_none():
    for fields in ({"image_size": 0}, {"image_size": 12, "channels": 0}):
        with pytest.raises(ValueError, match="Preprocessor: ") as error:
            Preprocessor(**fields)
        one_line(error)
