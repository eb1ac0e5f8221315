"""Terms that compare tokens: relations of queries, keys and values, and angles."""

import keras
import numpy as np
import oracle
import pytest
from conftest import numpy, one_line, tiny_images, tiny_model
from gradients import value_and_gradients
from oracle import model_losses, softmax, weights_by_path

import widenet_keras
from widenet_keras import (
    Consistency,
    Distillation,
    HiddenDistillation,
    RelationDistillation,
)
from widenet_keras.layers.heads import Heads
from widenet_keras.layers.plan import plans_of, segments_of
from widenet_keras.layers.step import Seen
from widenet_keras.models.block_sizes import BlockSize
from widenet_keras.training.terms import Forward
from widenet_keras.training.terms_options import Terms

IMAGES, LABELS = tiny_images(12), np.arange(12) % 5
RANDOM = np.random.default_rng(5)


def drawn(images=2, tokens=3, heads=2, size=2, width=5):
    """Random tokens (B, T, D), queries, keys and values (B, T, H, h)."""
    shapes = (images, tokens, width), *[(images, tokens, heads, size)] * 3
    return [RANDOM.normal(size=shape).astype("float32") for shape in shapes]


def seen_of(parts):
    """What the last step hands out, one step of it."""
    tokens, *heads = (keras.ops.convert_to_tensor(part)[None] for part in parts)
    return Seen(tokens, Heads(*heads))


def relation_rows(parts, heads):
    """All rows of all relations in NumPy, (B, 9, heads, T, T)."""
    _, *inner = (np.asarray(part, "float64") for part in parts)
    inner = [each.reshape(*each.shape[:2], heads, -1) for each in inner]
    images, tokens, _, size = inner[0].shape
    found = np.zeros((images, 9, heads, tokens, tokens))
    for b, i, j, head in np.ndindex(images, 3, 3, heads):
        for t in range(tokens):
            logits = [inner[i][b, t, head] @ row for row in inner[j][b, :, head]]
            found[b, 3 * i + j, head, t] = softmax(np.array(logits) / np.sqrt(size))
    return found


def relation(mine, theirs, heads):
    """Cross-entropy of every image."""
    p, q = (relation_rows(parts, heads) for parts in (theirs, mine))
    return -(p * np.log(q)).sum(-1).mean((1, 2, 3))


def angles(parts):
    found = []
    for tokens in np.asarray(parts[0], "float64"):
        normal = [row / np.sqrt(row @ row) for row in tokens]
        found.append([[one @ other for other in normal] for one in normal])
    return np.array(found)


def hidden(mine, theirs):
    """T times the mean squared difference, of every image."""
    difference = angles(mine) - angles(theirs)
    return difference.shape[-1] * (difference**2).mean((1, 2))


def slopes(function, value, size=1e-5):
    """Gradient of a function of one array by finite differences."""
    value = np.asarray(value, "float64")
    found = np.zeros_like(value)
    for index in np.ndindex(value.shape):
        step = np.zeros_like(value)
        step[index] = size
        found[index] = (function(value + step) - function(value - step)) / (2 * size)
    return found


@pytest.fixture(scope="module")
def teacher():
    """Another width, other heads, another depth, other classes."""
    return tiny_model("vit", width=20, heads=5, steps=3, num_classes=3)


def test_both_are_those_of_numpy(teacher):
    mine, theirs = drawn(), drawn(heads=1, size=6, width=7)
    weights = np.array([0.5, 2.0], "float32")
    terms = RelationDistillation(teacher, 0.7, 2), HiddenDistillation(teacher, 3.0)
    variables = [keras.Variable(part) for part in mine]

    def function():
        first = Forward(None, (), seen_of(variables))
        answer = Forward(None, (), seen_of(theirs))
        each = [term(lambda _: answer, weights, first, None) for term in terms]
        return sum(each), each

    value, gradients, each = value_and_gradients(function, variables)

    def wanted(parts):
        related = 0.7 * (weights * relation(parts, theirs, 2)).mean()
        return related, 3.0 * (weights * hidden(parts, theirs)).mean()

    np.testing.assert_allclose([*map(numpy, each)], wanted(mine), rtol=1e-5)
    assert value == pytest.approx(sum(wanted(mine)), rel=1e-5)
    for place, gradient in enumerate(gradients):

        def total(part, place=place):
            return sum(wanted([*mine[:place], part, *mine[place + 1 :]]))

        np.testing.assert_allclose(gradient, slopes(total, mine[place]), atol=2e-6)


def test_relations_are_least_where_they_are_those_of_the_teacher(teacher):
    theirs = drawn(tokens=4, heads=2, size=3)
    rows = relation_rows(theirs, 2)
    entropy = -(rows * np.log(rows)).sum(-1).mean((1, 2, 3))
    term = RelationDistillation(teacher, heads=2)
    same = numpy(term.of_images(seen_of(theirs), seen_of(theirs)))
    np.testing.assert_allclose(same, entropy, rtol=1e-5)
    for place in (1, 2, 3):
        mine = [*theirs]
        mine[place] = mine[place] + 0.1 * RANDOM.normal(size=mine[place].shape)
        mine[place] = mine[place].astype("float32")
        other = numpy(term.of_images(seen_of(mine), seen_of(theirs)))
        assert (other > entropy + 1e-5).all()


def turned(parts, matrix):
    """All of it times one matrix, heads side by side."""
    flat = (part.reshape(*part.shape[:2], -1) @ matrix for part in parts)
    return [
        each.reshape(part.shape).astype("float32")
        for each, part in zip(flat, parts, strict=True)
    ]


def test_what_is_turned_all_alike_is_the_same(teacher):
    mine, theirs = drawn(heads=2, size=3, width=6), drawn(heads=2, size=3, width=6)
    matrix, _ = np.linalg.qr(RANDOM.normal(size=(6, 6)))
    terms = RelationDistillation(teacher), HiddenDistillation(teacher)
    for one in (mine, theirs):
        wanted = relation(one, theirs, 1), hidden(one, theirs)
        for term, values in zip(terms, wanted, strict=True):
            for each in (one, turned(one, matrix)):
                found = numpy(term.of_images(seen_of(each), seen_of(theirs)))
                np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6)
    # Those of the teacher, turned.
    np.testing.assert_allclose(found, 0.0, atol=1e-6)


def test_a_token_of_nothing_and_a_single_token_are_finite(teacher):
    mine, theirs = drawn(), drawn()
    mine[0][0, 1] = 0.0
    variables = [keras.Variable(part) for part in mine]
    terms = RelationDistillation(teacher), HiddenDistillation(teacher)

    def function():
        found = (term.of_images(seen_of(variables), seen_of(theirs)) for term in terms)
        return sum(map(keras.ops.sum, found))

    value, [gradient, *_] = value_and_gradients(function, variables)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert not gradient[0, 1].any()
    one, other = (seen_of(drawn(tokens=1)) for _ in range(2))
    for term in terms:
        np.testing.assert_allclose(numpy(term.of_images(one, other)), 0.0, atol=1e-6)


def same_everywhere(model, seed):
    """Gives a model weights that are those of every backend."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(random.normal(size=weight.shape, scale=0.3).astype("float32"))
    return model


def seen_in_numpy(monkeypatch, model, images, training=False):
    """What the oracle finds in the last step of a model, as `drawn` gives it."""
    weights, config = weights_by_path(model), model.config
    kept = {}

    def attention(x, w, path, heads, looks, whole=oracle.attention):
        inner = (oracle.product(x, w, f"{path}{n}") for n in ("query", "key", "value"))
        kept["heads"] = [each.reshape(*each.shape[:2], heads, -1) for each in inner]
        return whole(x, w, path, heads, looks)

    def pooled(x, w, config, whole=oracle.pooled):
        kept["tokens"] = x
        return whole(x, w, config)

    with monkeypatch.context() as patch:
        patch.setattr(oracle, "attention", attention)
        patch.setattr(oracle, "pooled", pooled)
        oracle.model_forward(weights, config, images, training)
    return [kept["tokens"], *kept["heads"]]


THREE_BATCHES = {
    "loss": 13.72492,
    "task_loss": 1.949215,
    "relation_distillation_loss": 1.153587,
    "hidden_distillation_loss": 8.618158,
}


def test_a_last_step_that_is_looked_at_leaves_the_loop_before_it():
    for blocks, period in (((0,) * 4, 1), ((0, 1, 0, 1, 0), 2)):
        plans = plans_of(blocks, look_at=(len(blocks) - 1,))
        loop, last = segments_of(plans)
        assert loop == (0, plans[:period], (len(blocks) - 1) // period)
        assert last == (len(blocks) - 1, plans[-1:], 1)


class Losses(keras.callbacks.Callback):
    """Keeps what is reported after the first batch."""

    kept = None

    def on_train_batch_end(self, batch, logs=None):
        self.kept = self.kept or {name: float(value) for name, value in logs.items()}


def test_three_batches_are_those_of_every_backend(monkeypatch):
    # A loop before the step that is looked at, where there are loops.
    fields = {"steps": 5, "scan": "always", "remat": "full", "dropout": 0.0}
    model = tiny_model(balance_loss_weight=0.3, router_noise=0.0, **fields)
    model = same_everywhere(model, 0)
    other = {"width": 8, "heads": 2, "num_classes": 3}
    teacher = same_everywhere(tiny_model("vit_moe", **other), 1)
    before = [numpy(variable).copy() for variable in teacher.variables]
    weights, kept = weights_by_path(model), Losses()
    terms = [RelationDistillation(teacher, 0.5, 2), HiddenDistillation(teacher, 2.0)]
    model.compile(keras.optimizers.SGD(0.5), terms=terms)
    options = {"batch_size": 4, "shuffle": False, "verbose": 0, "callbacks": [kept]}
    logs = model.fit(IMAGES, LABELS, **options).history
    # The first batch is that of NumPy; `model` has moved on.
    images, labels = IMAGES[:4], LABELS[:4]
    task, balance, _ = model_losses(weights, model.config, images, labels)
    began = same_everywhere(model.adapted(), 0)
    mine = seen_in_numpy(monkeypatch, began, images, True)
    theirs = seen_in_numpy(monkeypatch, teacher, images)
    related = 0.5 * relation(mine, theirs, 2).mean()
    alike = 2.0 * hidden(mine, theirs).mean()
    assert kept.kept["relation_distillation_loss"] == pytest.approx(related, rel=1e-5)
    assert kept.kept["hidden_distillation_loss"] == pytest.approx(alike, rel=1e-5)
    total = task + 0.3 * balance + related + alike
    assert kept.kept["loss"] == pytest.approx(total, rel=1e-5)
    # The mean of all three is what every backend has found, by its own gradients.
    found = {name: logs[name][0] for name in THREE_BATCHES}
    assert found == pytest.approx(THREE_BATCHES, rel=2e-5)
    for variable, old in zip(teacher.variables, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), old)


def test_a_teacher_answers_once_and_nothing_else_is_looked_at(monkeypatch):
    student = tiny_model(steps=3, dropout=0.3)
    teacher = tiny_model("vit", width=20, heads=5)
    calls, batch = [], (IMAGES[:4], LABELS[:4])
    for name, model in (("student", student), ("teacher", teacher)):

        def depth(training, look_at, *more, name=name, whole=model.encoder._depth):
            calls.append((name, bool(training), look_at))
            return whole(training, look_at, *more)

        monkeypatch.setattr(model.encoder, "_depth", depth)

    def made_by(*terms):
        student.compile("sgd", terms=terms)
        names = {f"{term.name}_loss" for term in terms}
        # Keras calls the model before the first batch as well.
        student.train_on_batch(*batch)
        calls.clear()
        assert names <= student.train_on_batch(*batch, return_dict=True).keys()
        made = [*calls]
        logs = student.test_on_batch(*batch, return_dict=True)
        assert not any("distillation" in name for name in logs)
        assert calls == [*made, ("student", False, ())]
        return made

    answers = Distillation(teacher)
    tokens = [RelationDistillation(teacher), HiddenDistillation(teacher)]
    plain, seen = ("student", True, ()), ("student", True, (2,))
    told, shown = ("teacher", False, ()), ("teacher", False, (1,))
    assert made_by() == [plain]
    assert made_by(answers) == [plain, told]
    assert made_by(answers, *tokens) == [seen, shown]
    assert made_by(*tokens, Consistency()) == [seen, shown, seen]
    # Nothing is looked at of a teacher whose classes alone are compared.
    other = RelationDistillation(tiny_model("vit"))
    assert made_by(answers, other) == [seen, told]


def test_images_weigh_as_in_the_task_loss(teacher):
    images, weights = tiny_images(4), np.array([2.0, 0.0, 1.0, 0.5], "float32")
    others = images.copy()
    others[1] = -images[1]
    found = []
    for given in (images, others):
        model = same_everywhere(tiny_model("vit", dropout=0.0), 0)
        terms = [RelationDistillation(teacher), HiddenDistillation(teacher)]
        model.compile("sgd", terms=terms)
        model.train_on_batch(given, LABELS[:4], sample_weight=weights)
        found.append([numpy(variable) for variable in model.variables])
    for one, same in zip(*found, strict=True):
        np.testing.assert_array_equal(one, same)


MODELS = {
    "experts": {"capacity_factor": 0.7},
    "pieces": {
        "pieces": [
            {"kind": "lora", "rank": 2},
            {"kind": "prompt", "count": 2},
            {"kind": "key_value_prompt", "count": 1},
        ]
    },
    "nested": {"nested_widths": (0.5, 1.0)},
    "bfloat16": {"dtype": "mixed_bfloat16"},
}


@pytest.mark.parametrize("name", [*MODELS, "int8"])
def test_all_kinds_of_models_learn_and_teach(name, tmp_path):
    fields = MODELS.get(name, {})
    student, teacher = tiny_model(**fields), tiny_model(width=24, **fields)
    if name == "int8":
        teacher.quantize("int8")
    terms = [RelationDistillation(teacher, heads=3), HiddenDistillation(teacher)]
    student.compile(keras.optimizers.Adam(0.003), terms=terms)
    reported = []
    for _ in range(12):
        logs = student.train_on_batch(IMAGES, LABELS, return_dict=True)
        reported.append(logs["relation_distillation_loss"])
        student.reset_metrics()
        assert np.isfinite([*logs.values()]).all()
    # Of one width there is one draw: batches differ.
    if name != "nested":
        assert reported[-1] < reported[0]
    student.save(tmp_path / "model.keras")
    again = widenet_keras.load_model(tmp_path / "model.keras")
    assert again.count_params() == student.count_params()


UNEQUAL = {"block_sizes": (BlockSize(3, 4, 6, 10),) * 2}


def test_teachers_that_do_not_fit_are_refused_with_one_line(teacher):
    model = tiny_model("vit")
    tokens = {
        "2 x 2 patches, a class token and 0 reg": {"patch_size": 6},
        "no class token and 0": {"class_token": False, "pooling": "mean"},
        "a class token and 2 registers": {"registers": 2},
        "of 1 channels": {"channels": 1},
        r"give teacher.with_image_size\(12\)": {"image_size": 16},
    }
    both = RelationDistillation, HiddenDistillation
    for words, fields in tokens.items():
        for kind in both:
            with pytest.raises(
                ValueError, match=f"{kind.__name__}: .*{words}"
            ) as error:
                model.compile("sgd", terms=[kind(tiny_model("vit", **fields))])
            one_line(error)
    for terms, words in {
        (RelationDistillation(model),): "RelationDistillation: .* give a copy",
        (RelationDistillation(teacher, heads=3),): "heads=3 must .* 20 of the teacher "
        "and 12 of the model; use a divisor of 4",
        (RelationDistillation(tiny_model("vit", **UNEQUAL)),): "of the teacher's last "
        "step have 4 channels in a head and values 6",
        (HiddenDistillation(teacher), HiddenDistillation(teacher)): "twice",
        (HiddenDistillation(teacher), Distillation(teacher)): "has 3 classes",
    }.items():
        with pytest.raises(ValueError, match=words) as error:
            model.compile("sgd", terms=terms)
        one_line(error)
    # Angles are compared whatever heads are.
    model.compile("sgd", terms=[HiddenDistillation(tiny_model("vit", **UNEQUAL))])
    for make, words in {
        lambda: RelationDistillation(keras.Sequential()): "teacher is a Sequential",
        lambda: RelationDistillation(teacher, -1.0): "weight=-1.0",
        lambda: RelationDistillation(teacher, heads=0): "heads=0",
        lambda: HiddenDistillation(teacher, float("nan")): "weight=nan",
    }.items():
        with pytest.raises(ValueError, match=words) as error:
            make()
        one_line(error)


def test_flags_of_runs(tmp_path, teacher):
    path = tmp_path / "teacher.keras"
    teacher.save(path)
    flags = Terms(teacher=path, alpha=0.0, relation=1.0, hidden=0.1, relation_heads=2)
    relation, hidden = flags.build(tiny_model("vit"))
    assert (relation.weight, relation.heads, hidden.weight) == (1.0, 2, 0.1)
    assert relation.teacher is hidden.teacher
    settings = flags.settings()
    assert {"relation", "hidden", "relation_heads", "teacher"} <= settings.keys()
    # Runs of earlier versions have none of these.
    settings = Terms(teacher=path, hidden=0.1).settings()
    assert settings.keys() == {"teacher", "alpha", "temperature", "kind", "hidden"}
    # Without them alpha is what it was: a term of weight 0.
    same = tiny_model("vit", num_classes=3)
    assert [term.alpha for term in Terms(teacher=path, alpha=0.0).build(same)] == [0.0]
    answers, _ = Terms(teacher=path, relation=1.0).build(same)
    assert isinstance(answers, Distillation)
    with pytest.raises(ValueError, match=r"keras: Distillation: .* 3 classes") as error:
        Terms(teacher=path, relation=1.0).build(tiny_model("vit"))
    one_line(error)
    for given, words in (
        ({"relation": 1.0}, "relation=1.0 is of a teacher and there is none"),
        ({"teacher": path, "relation": -1.0}, "relation=-1.0 must be"),
        ({"teacher": path, "relation_heads": 2}, "give --relation as well"),
        ({"teacher": path, "relation": 1.0, "relation_heads": 0}, "relation_heads=0"),
        ({"teacher": path, "alpha": 0.0, "hidden": 1.0, "kind": "hard"}, "alpha=0 lea"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            Terms(**given)
        one_line(error)


def test_a_model_shows_what_steps_computed_with():
    model = tiny_model(steps=3)
    wanted = model(IMAGES)
    logits, seen = model(IMAGES, look_at=(0, 2))
    np.testing.assert_allclose(numpy(logits), numpy(wanted), atol=1e-6)
    assert tuple(seen.tokens.shape) == (2, 12, 10, 12)
    found = model(IMAGES, return_routing=True, look_at=[2])
    assert len(found) == 3
    inputs = keras.Input(model.config.image_shape)
    specs = model(inputs, return_routing=True, look_at=[2])
    for one, spec in zip(*map(keras.tree.flatten, (found, specs)), strict=True):
        assert len(one.shape) == len(spec.shape)
    with pytest.raises(ValueError, match="look_at has step 3 and there are 3") as error:
        model(IMAGES, look_at=(3,))
    one_line(error)
    with pytest.raises(ValueError, match="look_at=1 must be a list of steps") as error:
        model(IMAGES, look_at=1)
    one_line(error)
