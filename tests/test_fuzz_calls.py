"""Random calls from Python: right ones work, wrong ones are refused in one line.

Every argument is drawn from values that are right and from values that are wrong, so
that the test knows what must come of a call.
"""

import keras
import numpy as np
import pytest
from conftest import BACKEND, TINY, slow, tiny_images, tiny_model
from test_fuzz import assert_told_in_one_line, draw

import widenet_keras

IMAGES, LABELS = tiny_images(4), np.array([0, 4, 2, 1])
HOT = np.eye(5, dtype="float32")[LABELS]
NAN, INF = float("nan"), float("inf")


def with_one(array, value):
    array = array.astype("float32")
    array.flat[0] = value
    return array


# Of each kind of argument: values that are right, and values that are wrong.
GOOD_IMAGES = [
    IMAGES,
    list(IMAGES),
    IMAGES.tolist(),
    IMAGES.astype("float64"),
    IMAGES.astype("float16"),
    keras.ops.convert_to_tensor(IMAGES),
]
BAD_IMAGES = [
    None,
    "images",
    b"images",
    3,
    0.5,
    True,
    {"pixels": IMAGES},
    {},
    IMAGES[0],
    IMAGES[..., 0],
    IMAGES[:, :8],
    IMAGES[..., :1],
    np.moveaxis(IMAGES, -1, 1),
    tiny_images(4, 16),
    IMAGES[None],
    with_one(IMAGES, NAN),
    with_one(IMAGES, -INF),
    (IMAGES + 1) * 127.5,
    ((IMAGES + 1) * 127.5).astype("uint8"),
    ((IMAGES + 1) * 127.5).astype("int64"),
    IMAGES > 0,
    IMAGES.astype("complex64"),
    np.array(["a", "b", "c", "d"]),
    np.array([None] * 4),
    [IMAGES[0], IMAGES[1][:4]],
    ["a.jpg", "b.jpg"],
]
# A call takes one tensor, whose values nobody looks at.
GOOD_IN_A_CALL = [IMAGES, with_one(IMAGES, NAN), GOOD_IMAGES[-1]]
BAD_IN_A_CALL = [
    *GOOD_IMAGES[1:3],
    *(x for x in BAD_IMAGES if getattr(x, "shape", ()) != IMAGES.shape),
    IMAGES > 0,
    IMAGES.astype("int32"),
]
GOOD_LABELS = [
    LABELS,
    LABELS.tolist(),
    LABELS[:, None],
    LABELS.astype("int64"),
    LABELS.astype("uint8"),
    LABELS.astype("float32"),
    {"label": LABELS},
    keras.ops.convert_to_tensor(LABELS),
]
BAD_LABELS = [
    None,
    "labels",
    2,
    LABELS[:3],
    np.append(LABELS, 0),
    LABELS + 1,
    LABELS - 1,
    LABELS * 1000,
    LABELS + 0.5,
    with_one(LABELS, NAN),
    HOT,
    HOT.tolist(),
    list("abcd"),
    [0, 4, [2], 1],
    [None] * 4,
    {"class": LABELS},
    LABELS[:, None, None],
    LABELS.astype("complex64"),
]
GOOD_OPTIONS = [
    {},
    {"batch_size": 2},
    {"batch_size": np.int64(4)},
    {"sample_weight": [1, 0, 2, 1]},
    {"sample_weight": np.ones(4)},
]
BAD_OPTIONS = [
    {"batch_size": 0},
    {"batch_size": -4},
    {"batch_size": 1.5},
    {"batch_size": "4"},
    {"batch_size": True},
    {"steps_per_epoch": 0},
    {"epochs": -1},
    {"epochs": 1.5},
    {"epochs": "2"},
    {"validation_split": 1.5},
    {"validation_split": NAN},
    {"validation_split": "x"},
    {"sample_weight": np.ones(3)},
    {"sample_weight": [1, 1, 1, NAN]},
    {"sample_weight": "ones"},
    {"sample_weight": list("abcd")},
    {"validation_data": (IMAGES, LABELS + 1)},
    {"validation_data": (IMAGES[:, :8], LABELS)},
    {"validation_data": IMAGES},
    {"learning_rate": 0.1},
    {"batchsize": 2},
    {"class_weight": [1, 2]},
    {"class_weight": {0: NAN}},
    {"class_weight": {"roses": 2.0}},
    {"class_weight": {5: 2.0}},
    {"sample_weight": np.ones((4, 2))},
    {"epochs": None},
    {"initial_epoch": None},
]
BAD_COMPILES = [
    {"loss": "crossentropy"},
    {"loss": "kl_divergence"},
    {"loss": keras.losses.SparseCategoricalCrossentropy()},
    {"loss": 3},
    {"metrics": ["accurate"]},
    {"metrics": 3},
    {"metrics": [keras.metrics.AUC()]},
    {"optimizer": "adamm"},
    {"optimizer": 3},
    {"optimizer": None, "loss": "nothing"},
]
BAD_EXPORTS = [
    {"path": None},
    {"path": 3},
    {"path": ""},
    {"format": "tflite"},
    {"format": None},
    {"quantize": "int4"},
    {"batch": 0},
    {"batch": "x"},
    {"input": "png"},
    {"images": IMAGES[0]},
    {"images": with_one(IMAGES, NAN)},
    {"images": "x"},
    {"class_names": ["a"]},
    {"class_names": 5},
    {"model": keras.Sequential()},
    {"model": None},
]
BAD_FIELDS = [
    {"num_classes": 0},
    {"num_classes": "5"},
    {"num_classes": NAN},
    {"heads": 5},
    {"dropout": NAN},
    {"dropout": "0.1"},
    {"engine": None},
    {"steps": True},
    {"image_size": 13},
    {"pieces": "lora"},
    {"nothing": 1},
    {"moe_blocks": 3.5},
]
BAD_OTHERS = {
    "save": [None, 3, "", "m.h5", "m", "m.keras.zip"],
    "save_weights": [None, "m.h5", "m.keras"],
    "save_to_preset": [None, 3, "", "/dev/null", "/dev/null/preset"],
    "from_preset": [None, 3, "", "vit_digit", "/dev/null", "./none", []],
    "export": [None, 3, "m.keras", "m.h5"],
    "with_image_size": [None, 0, -12, 13, "12", 1.5],
    "quantize": ["int4", "float8"],
    "features": [None, "x", IMAGES[0]],
    "routing": [None, "x", IMAGES[0], IMAGES.astype("int32")],
}


@pytest.fixture(scope="module")
def models():
    """A compiled model of experts, and one that nobody compiled."""
    model = tiny_model(steps=1)
    # Compiled, each of the many shapes of a batch would take seconds.
    model.compile("sgd", run_eagerly=BACKEND != "torch")
    return model


def random_call(random, model, folder):
    """Returns a function without arguments, what it does in words, if it is right."""
    kind = draw(
        random, ("data", "data", "data", "compile", "export", "config", "other")
    )
    if kind == "compile":
        wrong = draw(random, BAD_COMPILES)
        return lambda: tiny_model("vit", steps=1).compile(**wrong), wrong, False
    if kind == "export":
        wrong = draw(random, BAD_EXPORTS)
        given = {"model": model, "path": folder / "m.keras", "format": "keras"} | wrong
        return lambda: widenet_keras.export(**given, say=list), wrong, False
    if kind == "config":
        wrong = draw(random, BAD_FIELDS)
        return (
            lambda: widenet_keras.WideNetConfig().replace(**{**TINY, **wrong}),
            wrong,
            False,
        )
    if kind == "other":
        name = draw(random, list(BAD_OTHERS))
        wrong = draw(random, BAD_OTHERS[name])
        return lambda: getattr(model, name)(wrong), (name, wrong), False
    return random_data_call(random, model)


def random_data_call(random, model):
    name = draw(random, ("fit", "evaluate", "predict", "call", "train_on_batch"))
    # Half of the calls are right; the others have one thing or more that is wrong.
    wrong = {part for part in ("x", "y", "how") if random.random() < 0.25}
    if name in ("predict", "call"):
        wrong &= {"x"}
    elif name == "train_on_batch":
        wrong -= {"how"}
    x = draw(random, BAD_IMAGES if "x" in wrong else GOOD_IMAGES)
    y = draw(random, BAD_LABELS if "y" in wrong else GOOD_LABELS)
    how = draw(random, BAD_OPTIONS if "how" in wrong else GOOD_OPTIONS)
    told = (name, sorted(wrong), type(x), getattr(x, "shape", None), y, how)
    if name == "call":
        x = draw(random, BAD_IN_A_CALL if wrong else GOOD_IN_A_CALL)
        return lambda: model(x), ("call", type(x), x), not wrong
    if name == "predict":
        return lambda: model.predict(x, verbose=0), told, not wrong
    if name == "train_on_batch":
        return lambda: model.train_on_batch(x, y), told, not wrong
    if name == "evaluate" and "how" in wrong:
        how = draw(random, BAD_OPTIONS[:5])
    return lambda: getattr(model, name)(x, y, verbose=0, **how), told, not wrong


@pytest.mark.parametrize("count", [slow(40, when=BACKEND == "jax"), slow(1000)])
def test_calls(count, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(count)
    found = []
    for _ in range(count):
        call, told, right = random_call(random, models, tmp_path)
        try:
            call()
        except (ValueError, TypeError, ImportError) as error:
            try:
                assert_told_in_one_line(error)
            except AssertionError as other:
                found.append((told, "not told", str(other)[-600:]))
            if right:
                found.append((told, "refused", str(error)))
        except Exception as error:
            found.append((told, "another error", repr(error)[:300]))
        else:
            if right is False:
                found.append((told, "accepted"))
    assert found == [], "\n\n".join(map(str, found))
