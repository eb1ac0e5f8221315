"""Terms of the objective: a teacher's answers, and consistency of two passes."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import (
    BACKEND,
    numpy,
    one_line,
    slow_on,
    tiny_images,
    tiny_model,
)
from gradients import value_and_gradients
from oracle import model_forward, model_losses, softmax, weights_by_path

import widenet_keras
from widenet_keras import Consistency, Distillation
from widenet_keras.models.description import describe
from widenet_keras.training.terms import Forward, Term
from widenet_keras.utils.roles import role_of

IMAGES, LABELS = tiny_images(12), np.arange(12) % 5
QUIET = {"dropout": 0.0, "router_noise": 0.0, "stochastic_depth": 0.0}
NOISY = {"dropout": 0.3, "router_noise": 0.0, "stochastic_depth": 0.0}
RANDOM = np.random.default_rng(3)
WANTED, FOUND = (RANDOM.normal(size=(6, 5)).astype("float32") for _ in range(2))
WEIGHTS = np.array([0.0, 1.0, 2.0, 0.5, 0.0, 3.0], "float32")


def rows(function, values):
    return np.array([function(row) for row in np.asarray(values, "float64")])


def divergences(target, logits):
    """KL of every row, in NumPy."""
    p, q = rows(softmax, target), rows(softmax, logits)
    return (p * np.log(p / q)).sum(-1)


def fitted(model, *, images=IMAGES, labels=LABELS, **options):
    """Trains for an epoch of batches of four; returns what it reports."""
    options = {"batch_size": 4, "shuffle": False, "verbose": 0, **options}
    history = model.fit(images, labels, **options).history
    return {name: values[-1] for name, values in history.items()}


def values_of(model):
    return [numpy(variable).copy() for variable in model.variables]


def assert_equal(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def teacher():
    return tiny_model("vit")


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize(
    ("kind", "temperature"), [("soft", 1.0), ("soft", 3.0), ("hard", 1.0)]
)
def test_distillation_is_that_of_numpy(teacher, kind, temperature, weights):
    term = Distillation(teacher, 0.7, temperature, kind)
    answer = Forward(keras.ops.convert_to_tensor(WANTED), ())
    student = keras.Variable(FOUND)

    def function():
        first = Forward(keras.ops.convert_to_tensor(student), ())
        return term(lambda teacher: answer, weights, first, None)

    value, [gradient] = value_and_gradients(function, [student])
    q = rows(softmax, FOUND / temperature)
    p = rows(softmax, WANTED / temperature)
    losses = temperature**2 * divergences(WANTED / temperature, FOUND / temperature)
    if kind == "hard":
        p = np.eye(5)[WANTED.argmax(-1)]
        losses = -np.log((p * q).sum(-1))
    shares = np.ones(6) if weights is None else weights
    assert value == pytest.approx(0.7 * (shares * losses).mean(), rel=1e-5)
    expected = 0.7 * temperature * shares[:, None] * (q - p) / 6
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
def test_consistency_is_symmetric_and_moves_both_sides(weights):
    sides = [keras.Variable(FOUND), keras.Variable(WANTED)]

    def function(order=(0, 1)):
        first, second = (
            Forward(keras.ops.convert_to_tensor(sides[i]), ()) for i in order
        )
        return Consistency(2.0)(None, weights, first, lambda: second)

    value, gradients = value_and_gradients(function, sides)
    swapped, _ = value_and_gradients(lambda: function((1, 0)), sides)
    shares = np.ones(6) if weights is None else weights
    both = divergences(FOUND, WANTED) + divergences(WANTED, FOUND)
    assert value == pytest.approx((shares * both).mean(), rel=1e-5)
    assert swapped == pytest.approx(value, rel=1e-6)
    # What stands first in a divergence is a constant.
    p, q = (rows(softmax, each) for each in (FOUND, WANTED))
    expected = shares[:, None] * (p - q) / 6
    np.testing.assert_allclose(gradients[0], expected, atol=1e-6)
    np.testing.assert_allclose(gradients[1], -expected, atol=1e-6)


def same_everywhere(model, seed):
    """Gives a model weights that are those of every backend."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(random.normal(size=weight.shape, scale=0.3).astype("float32"))
    return model


THREE_BATCHES = {
    "loss": 1.206892,
    "task_loss": 1.752136,
    "distillation_loss": 0.0357207,
}


class Losses(keras.callbacks.Callback):
    """Keeps what is reported after every batch."""

    def on_train_begin(self, logs=None):
        self.kept = []

    def on_train_batch_end(self, batch, logs=None):
        self.kept.append({name: float(value) for name, value in logs.items()})


def test_three_batches_are_those_of_every_backend():
    model = same_everywhere(tiny_model(balance_loss_weight=0.3, **QUIET), 0)
    teacher = same_everywhere(tiny_model("vit"), 1)
    before, kept = values_of(teacher), Losses()
    flags = [layer.trainable for layer in teacher._flatten_layers()]
    weights = weights_by_path(model)
    terms = [Distillation(teacher, 0.7, 2.0), Consistency()]
    model.compile(keras.optimizers.SGD(0.5), terms=terms)
    logs = fitted(model, callbacks=[kept])
    # The first batch is that of NumPy.
    images, labels = IMAGES[:4], LABELS[:4]
    task, balance, _ = model_losses(weights, model.config, images, labels)
    logits, _ = model_forward(weights, model.config, images, True)
    wanted, _ = model_forward(weights_by_path(teacher), teacher.config, images)
    taught = 0.7 * 4 * divergences(wanted / 2, logits / 2).mean()
    first = kept.kept[0]
    assert first["task_loss"] == pytest.approx(task, rel=1e-5)
    assert first["distillation_loss"] == pytest.approx(taught, rel=1e-5)
    assert first["consistency_loss"] == pytest.approx(0.0, abs=1e-6)
    total = 0.3 * task + 0.3 * balance + taught
    assert first["loss"] == pytest.approx(total, rel=1e-5)
    # The mean of all three is what every backend has found.
    found = {name: logs[name] for name in THREE_BATCHES}
    assert found == pytest.approx(THREE_BATCHES, rel=2e-5)
    assert_equal(values_of(teacher), before)
    assert [layer.trainable for layer in teacher._flatten_layers()] == flags
    # A teacher that has changed is followed: it is no part of what was compiled.
    steps = model.train_function
    for variable in teacher.trainable_variables:
        variable.assign(variable * 0.0)
    model.optimizer.learning_rate = 0.0
    flat = fitted(model, images=images, labels=labels)["distillation_loss"]
    assert model.train_function is steps
    even = np.zeros((4, 5))
    logits, _ = model_forward(weights_by_path(model), model.config, images, True)
    again = 0.7 * 4 * divergences(even, logits / 2).mean()
    assert flat == pytest.approx(again, rel=1e-4)
    np.testing.assert_array_equal(numpy(teacher(images)), 0.0)


@slow_on("tensorflow")
@slow_on("jax")
def test_the_total_is_what_is_reported_and_evaluation_is_that_of_the_task(teacher):
    model = tiny_model(balance_loss_weight=0.0, **NOISY)
    model.compile("adam", terms=[Distillation(teacher, 0.25), Consistency(0.5)])
    data = {"validation_data": (IMAGES, LABELS)}
    logs = fitted(model, **data)
    taught, alike = logs["distillation_loss"], logs["consistency_loss"]
    assert taught > 0
    assert alike > 0
    total = 0.75 * logs["task_loss"] + taught + alike
    assert logs["loss"] == pytest.approx(total, rel=1e-5)
    assert logs["val_loss"] == pytest.approx(logs["val_task_loss"], rel=1e-6)
    names = {"distillation_loss", "consistency_loss"}
    plain = model.evaluate(IMAGES, LABELS, return_dict=True, verbose=0)
    assert {f"val_{name}" for name in plain} <= logs.keys()
    of_a_batch = model.train_on_batch(IMAGES, LABELS, return_dict=True)
    assert of_a_batch.keys() == plain.keys() | names
    found = model.test_on_batch(IMAGES, LABELS, return_dict=True)
    assert found.keys() == plain.keys()
    assert not {f"val_{name}" for name in names} & logs.keys()
    model.compile("adam")
    assert fitted(model, **data).keys() == logs.keys() - names
    assert len(model.non_trainable_variables) == 2


def test_labels_have_no_weight_where_alpha_is_one(teacher):
    models = [same_everywhere(tiny_model("vit", dropout=0.0), 0) for _ in range(2)]
    for model, labels in zip(models, (LABELS, LABELS[::-1]), strict=True):
        model.compile("sgd", terms=[Distillation(teacher, alpha=1.0)])
        fitted(model, labels=labels.copy())
    assert_equal(values_of(models[0]), values_of(models[1]))


def test_images_weigh_as_in_the_task_loss(teacher):
    images, weights = tiny_images(4), np.array([2.0, 0.0, 1.0, 0.5], "float32")
    others = images.copy()
    others[1] = -images[1]
    found = []
    for given in (images, others):
        model = same_everywhere(tiny_model("vit", dropout=0.0), 0)
        model.compile("sgd", terms=[Distillation(teacher), Consistency()])
        fitted(model, images=given, labels=LABELS[:4], sample_weight=weights)
        found.append(values_of(model))
    assert_equal(*found)


@slow_on("tensorflow")
@slow_on("jax")
def test_no_file_and_no_count_has_the_teacher(tmp_path, teacher):
    model, plain = tiny_model("vit"), tiny_model("vit")
    model.compile("adam", terms=[Distillation(teacher), Consistency()])
    plain.compile("adam")
    for each in (model, plain):
        fitted(each)
        each.save(tmp_path / "model.keras")
        each.size = (tmp_path / "model.keras").stat().st_size
    assert model.size == pytest.approx(plain.size, rel=0.01)
    assert model.count_params() == plain.count_params()
    assert len(model.weights) == len(plain.weights)
    assert len(model.variables) == len(plain.variables)
    assert describe(model) == describe(plain).replace(plain.name, model.name)
    for config in (model.get_config(), model.get_compile_config()):
        assert "teacher" not in json.dumps(config, default=str)
    assert "terms" not in model.get_compile_config()
    trees = (keras.tree.flatten(each.get_state_tree()) for each in (model, plain))
    assert len(next(trees)) == len(next(trees))
    model.save(tmp_path / "model.keras")
    again = widenet_keras.load_model(tmp_path / "model.keras")
    assert "distillation_loss" not in fitted(again)


def seeds_after(terms, **fields):
    """Trains on one batch; returns how far seeds moved and what was reported."""
    model = tiny_model("vit", **fields)
    model.compile("sgd", terms=terms)
    logs = fitted(model, images=IMAGES[:4], labels=LABELS[:4])
    states = [numpy(v) for v in model.variables if "seed" in v.path]
    return sum(int(state.sum()) for state in states), logs


@slow_on("tensorflow")
@slow_on("jax")
def test_a_second_pass_draws_anew_and_moves_the_seed_on():
    once, _ = seeds_after([], dropout=0.3)
    twice, logs = seeds_after([Consistency()], dropout=0.3)
    # The seed of the tests is 0.
    assert twice == 2 * once > 0
    assert logs["consistency_loss"] > 1e-4
    _, logs = seeds_after([Consistency()], dropout=0.0)
    assert logs["consistency_loss"] == pytest.approx(0.0, abs=1e-7)


def test_the_auxiliary_loss_is_the_mean_of_the_passes_that_were_made():
    model = tiny_model(balance_loss_weight=0.5, **QUIET)
    logits, record = model(IMAGES[:4], training=True, return_routing=True)
    other = record._replace(balance_loss=record.balance_loss * 3)
    zero = lambda logits: keras.ops.zeros(())  # noqa: E731
    mean = float(numpy(model.auxiliary_loss(record)))
    for terms, factor in {(): 1.0, (Consistency(),): 2.0}.items():
        passes = iter([Forward(logits, record), Forward(logits, other)])
        model.set_terms(terms)
        loss = model.training_loss(lambda made=passes: next(made), zero, IMAGES, None)
        assert float(numpy(loss.total)) == pytest.approx(factor * mean, rel=1e-6)
        assert loss.record is record


@slow_on("tensorflow")
@slow_on("jax")
def test_frozen_parts_stay(teacher):
    model = tiny_model(**NOISY)
    model.frozen = ("embedding", "core")
    before = [numpy(weight).copy() for weight in model.weights]
    model.compile("adam", terms=[Distillation(teacher), Consistency()])
    fitted(model)
    pairs = zip(model.weights, before, strict=True)
    moved = {role_of(w).group for w, old in pairs if (numpy(w) != old).any()}
    assert moved == {"norms", "head"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", ["float32", "mixed_bfloat16", *(["mixed_float16"] * (BACKEND != "jax"))]
)
def test_all_that_training_does_goes_with_terms(teacher, dtype):
    whole = tiny_model("vit", dtype=dtype)
    # A teacher of whole numbers.
    small = tiny_model("vit")
    small.quantize("int8")
    before = values_of(small)
    terms = [Distillation(small, 0.5, 2.0), Consistency()]
    terms += [widenet_keras.RelationDistillation(small, heads=2)]
    terms += [widenet_keras.HiddenDistillation(small)]
    optimizer = keras.optimizers.AdamW(
        1e-2, use_ema=True, gradient_accumulation_steps=2, global_clipnorm=1.0
    )
    steps = {} if BACKEND == "torch" else {"steps_per_execution": 2}
    whole.compile(optimizer, terms=terms, **steps)
    first = fitted(whole)
    for _ in range(5):
        last = fitted(whole)
    assert last["distillation_loss"] < first["distillation_loss"]
    assert_equal(values_of(small), before)


@slow_on("tensorflow")
def test_a_fit_that_fails_leaves_the_teacher():
    teacher, model = tiny_model("vit"), tiny_model("vit")
    before = values_of(teacher)
    model.compile("sgd", terms=[Distillation(teacher)])

    def fails(*given):
        raise ValueError("not enough memory")

    model.make_train_function = lambda: vars(model).update(train_function=fails)
    with pytest.raises(ValueError, match="not enough memory"):
        fitted(model)
    assert_equal(values_of(teacher), before)


def test_a_teacher_on_other_devices_is_refused_with_one_line():
    class Elsewhere(Term):
        sharding = SimpleNamespace(device_set={"another"})
        variables = (SimpleNamespace(value=SimpleNamespace(sharding=sharding)),)

    with pytest.raises(ValueError, match=r"inside distribution.scope\(\)") as error:
        tiny_model("vit").compile("sgd", terms=[Elsewhere()])
    one_line(error)


def other_teachers():
    """Yields teachers that do not fit a tiny ViT, and what is said of each."""
    yield tiny_model("vit", num_classes=3), "3 classes and the model 5"
    yield tiny_model("vit", channels=1), "1 channels and the model of 3"
    yield tiny_model("vit", image_size=16), "give teacher.with_image_size(12)"
    small = tiny_model("vit", image_size=16)
    # As quantize() leaves it, which takes long.
    small.quantization = "int8"
    yield small, "resize the float teacher and quantise that, or train"
    named = tiny_model("vit")
    named.class_names = ["d", "b", "c", "a", "e"]
    yield named, "in another order"
    named = tiny_model("vit")
    named.class_names = ["a", "b", "c", "d", "f"]
    yield named, "classes are a, b, c, d, f"


def test_teachers_that_do_not_fit_are_refused_with_one_line(teacher):
    model = tiny_model("vit")
    model.class_names = ["a", "b", "c", "d", "e"]
    model.compile("sgd", terms=[Consistency()])
    for other, words in other_teachers():
        with pytest.raises(ValueError, match="Distillation") as error:
            model.compile("sgd", terms=[Distillation(other)])
        assert words in one_line(error)
    for terms, words in {
        (Distillation(model),): "give a copy",
        (Consistency(), Consistency(2.0)): "'consistency' twice",
        (teacher,): "is no term",
        "consistency": "is no list",
    }.items():
        with pytest.raises(ValueError, match=words) as error:
            model.compile("sgd", terms=terms)
        one_line(error)
    # What was compiled before is as it was.
    assert "consistency_loss" in fitted(model)
    with pytest.raises(ValueError, match="binary cross-entropy") as error:
        model.compile("sgd", "binary_crossentropy", terms=[Distillation(teacher)])
    one_line(error)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": 1.5}, "alpha=1.5 must be a number from 0 to 1"),
        ({"alpha": -0.1}, "alpha=-0.1"),
        ({"alpha": float("nan")}, "alpha=nan must be a number from 0 to 1"),
        ({"temperature": 0.0}, "temperature=0.0 must be a number over 0"),
        ({"kind": "sfot"}, "Did you mean 'soft'"),
        ({"kind": "hard", "temperature": 2.0}, "means nothing where kind='hard'"),
    ],
)
def test_options_are_refused_with_one_line(teacher, options, words):
    with pytest.raises(ValueError, match="Distillation: ") as error:
        Distillation(teacher, **options)
    assert words in one_line(error)


def test_what_is_no_teacher_and_no_weight_is_refused_with_one_line():
    with pytest.raises(ValueError, match="the teacher is a Sequential") as error:
        Distillation(keras.Sequential())
    one_line(error)
    with pytest.raises(ValueError, match="weight=-1") as error:
        Consistency(-1)
    one_line(error)
