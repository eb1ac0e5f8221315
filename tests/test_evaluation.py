"""Every statistic of an evaluation against a number derived by hand."""

import json
import math
from itertools import pairwise
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import BACKEND, one_line, slow_on, tiny_images, tiny_model
from keras import ops

from widenet_keras.evaluation import evaluate_classifier
from widenet_keras.evaluation.calibration import calibration_bins, calibration_error
from widenet_keras.evaluation.evaluate import _speed
from widenet_keras.evaluation.forward import ForwardPass
from widenet_keras.evaluation.outcomes import Outcomes
from widenet_keras.evaluation.report import terminal
from widenet_keras.evaluation.routing import RoutingCounter
from widenet_keras.routing.record import RoutingRecord

PNG = b"\x89PNG\r\n\x1a\n"

# Four images of three classes. Right are images 0, 2 and 3.
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.62, 0.28, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]
)
LABELS = np.array([0, 1, 1, 2])


class Scene(keras.Model):
    """A model whose logits are the first row of its images.

    With experts, token t of an image goes to the expert that pixel t of the second
    row names, at every step, with the gate of the third row.
    """

    def __init__(self, classes, routed=False):
        super().__init__(name="scene")
        self.sizes = []
        self.class_names = None
        self.config = SimpleNamespace(
            image_shape=(classes, classes, 1),
            num_classes=classes,
            routed_steps=(1, 2) if routed else (),
            routed_banks=(1, 2),
            num_experts=3,
        )
        self.built = True

    def call(self, images, training=None, return_routing=False):
        assert training is False
        self.sizes.append(images.shape[0])
        record = ()
        if self.config.routed_steps:
            # (B, T) -> (S, B, K, T)
            experts = ops.cast(images[:, 1, :, 0], "int32")[None, :, None]
            gates = images[:, 2, :, 0][None, :, None]
            both = [ops.concatenate([x, x]) for x in (experts, gates)]
            record = RoutingRecord(*[None] * 5, *both)
        return images[:, 0, :, 0], record


def images_of(probabilities):
    """Returns the images for which a `Scene` has these probabilities."""
    count, classes = probabilities.shape
    images = np.zeros((count, classes, classes, 1), "float32")
    images[:, 0, :, 0] = np.log(probabilities)
    return images


def in_batches(images, labels, size):
    """Yields (images, labels) batches."""
    for first in range(0, len(images), size):
        yield images[first : first + size], labels[first : first + size]


def evaluated(probabilities=PROBABILITIES, labels=LABELS, size=3, **options):
    batches = in_batches(images_of(probabilities), labels, size)
    model = Scene(probabilities.shape[1])
    return evaluate_classifier(model, batches, progress=False, **options)


def outcomes(confidence, right):
    """Returns `Outcomes` of given confidences, right or wrong."""
    right = np.array(right)
    zeros = np.zeros(len(right), int)
    return Outcomes(zeros, zeros, np.where(right, 0, 1), zeros, np.array(confidence))


def facts(evaluation):
    """Returns everything but what depends on time."""
    found = evaluation.to_dict()
    found.pop("throughput")
    return found


# Accuracy, loss, calibration


def test_accuracy_and_loss():
    evaluation = evaluated()
    assert evaluation.count == 4
    assert evaluation.top1 == 3 / 4
    # Three classes: the true one is always among the first five.
    assert evaluation.top5 is None
    # Image 1 is taken for class 0; its own class has 0.28. Pixels are float32.
    nll = -(math.log(0.7) + math.log(0.28) + math.log(0.7) + math.log(0.8)) / 4
    assert evaluation.nll == pytest.approx(nll, rel=1e-6)


def test_top_5():
    # Six classes, descending: the labels have ranks 0, 4 and 5.
    probabilities = np.tile([0.4, 0.2, 0.15, 0.12, 0.08, 0.05], (3, 1))
    evaluation = evaluated(probabilities, np.array([0, 4, 5]))
    assert evaluation.top1 == pytest.approx(1 / 3)
    assert evaluation.top5 == pytest.approx(2 / 3)


def test_equal_logits_rank_by_index():
    logits = np.zeros((3, 4), "float32")
    found = Outcomes.of_batch(logits, np.array([0, 1, 3]))
    assert found.rank.tolist() == [0, 1, 3]
    assert found.predicted.tolist() == [0, 0, 0]
    np.testing.assert_allclose(found.confidence, 1 / 4)
    np.testing.assert_allclose(found.loss, math.log(4))


def test_large_logits_lose_nothing():
    # exp(1000) overflows. The other class has exp(-1000), a loss of 1000.
    found = Outcomes.of_batch(np.array([[1000.0, 0.0]] * 2), np.array([0, 1]))
    np.testing.assert_allclose(found.loss, [0.0, 1000.0], atol=1e-12)


def test_calibration_error_by_hand():
    # Bins: 0.7 0.7 together, both right; 0.62 wrong; 0.8 right, each alone.
    # 2/4 * |1 - 0.7| + 1/4 * |0 - 0.62| + 1/4 * |1 - 0.8| = 0.355
    evaluation = evaluated()
    assert evaluation.calibration_error == pytest.approx(0.355, abs=1e-6)
    used = [each for each in evaluation.bins if each.count]
    assert [each.count for each in used] == [1, 2, 1]
    assert [each.accuracy for each in used] == [0.0, 1.0, 1.0]
    assert used[1].confidence == pytest.approx(0.7)
    # 0.7 is between 10/15 and 11/15.
    assert (used[1].low, used[1].high) == pytest.approx((10 / 15, 11 / 15))
    assert len(evaluation.bins) == 15


def test_calibration_bins_include_their_upper_ends():
    bins = calibration_bins(outcomes([0.25, 0.5, 0.500001, 1.0], [1, 1, 0, 1]), bins=4)
    assert [each.count for each in bins] == [1, 1, 1, 1]
    assert bins[2].accuracy == 0.0
    assert calibration_bins(outcomes([1.0], [1]), bins=4)[0].accuracy is None


def test_calibration_error_takes_gaps_before_it_adds():
    # Gaps of +0.25 and -0.25 in two bins do not cancel.
    bins = calibration_bins(outcomes([0.25, 0.25, 0.75, 0.75], [1, 0, 1, 0]), bins=2)
    assert calibration_error(bins) == pytest.approx(0.25)


# Classes


def test_classes_by_hand():
    one, two, three = evaluated(class_names=["ant", "bee", "cat"]).classes
    # Images 0 and 1 are taken for an ant, one of them is a bee.
    assert (one.name, one.count, one.accuracy, one.precision) == ("ant", 1, 1.0, 0.5)
    assert (one.confused_with, one.confused) == (None, 0)
    assert (two.name, two.count, two.accuracy, two.precision) == ("bee", 2, 0.5, 1.0)
    assert (two.confused_with, two.confused) == ("ant", 1)
    assert (three.name, three.count, three.accuracy) == ("cat", 1, 1.0)


def test_classes_without_images_or_predictions():
    # All images are of class 1 and are taken for 0, 2 and 2.
    probabilities = np.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6], [0.1, 0.3, 0.6]])
    one, two, three = evaluated(probabilities, np.array([1, 1, 1])).classes
    assert (one.count, one.accuracy, one.precision) == (0, None, 0.0)
    assert (two.accuracy, two.precision) == (0.0, None)
    assert (two.confused_with, two.confused) == ("2", 2)
    assert (three.count, three.accuracy, three.precision) == (0, None, 0.0)


# Routing


def routed_scene():
    """Two images of 3 tokens; their tokens choose experts 0 0 1 and 0 1 1."""
    images = images_of(np.full((2, 3), 1 / 3))
    images[:, 1, :, 0] = [[0, 0, 1], [0, 1, 1]]
    images[:, 2, :, 0] = [[0.5, 0.4, 0.6], [0.9, 0.5, 0.7]]
    return images


@pytest.mark.parametrize("size", [1, 2])
def test_routing_by_hand(size):
    batches = in_batches(routed_scene(), np.array([0, 1]), size)
    routing = evaluate_classifier(Scene(3, True), batches, progress=False).routing
    assert routing.steps == (1, 2)
    # Of 6 choices 3 go to expert 0, 3 to expert 1, none to expert 2.
    assert routing.fractions == ((0.5, 0.5, 0.0), (0.5, 0.5, 0.0))
    # The busiest has 0.5 where 1/3 is fair.
    assert routing.busiest == pytest.approx((1.5, 1.5))
    assert routing.dead == ((2,), (2,))
    # (0.5 + 0.4 + 0.6 + 0.9 + 0.5 + 0.7) / 6 tokens.
    assert routing.gate_sum == pytest.approx((0.6, 0.6))
    assert routing.entropy == pytest.approx((math.log(2) / math.log(3),) * 2)
    # Each of the two blocks has a dead expert.
    assert routing.dead_experts == 2
    assert routing.num_experts == 3
    np.testing.assert_array_equal(routing.load(), routing.fractions)


def counted(experts, **fields):
    """Returns the statistics of choices (S, T) of one image, K = 1."""
    experts = np.array(experts)
    config = SimpleNamespace(
        **{
            "routed_steps": tuple(range(len(experts))),
            "routed_banks": (0,) * len(experts),
            "num_experts": 2,
            **fields,
        }
    )
    counter = RoutingCounter(config)
    counter.add(experts[None, :, None], np.ones((1, len(experts), 1, 2)))
    return counter.statistics()


def test_an_expert_of_a_shared_block_lives_if_any_step_uses_it():
    # Step 0 uses expert 0 only, step 1 expert 1 only.
    routing = counted([[0, 0], [1, 1]])
    assert routing.dead == ((1,), (0,))
    assert routing.dead_experts == 0
    assert routing.entropy == (0.0, 0.0)
    # The same, but each step has experts of its own.
    apart = counted([[0, 0], [1, 1]], routed_banks=(0, 1))
    assert apart.dead_experts == 2


def test_a_single_expert_has_a_fair_load():
    routing = counted([[0, 0]], num_experts=1)
    assert (routing.busiest, routing.entropy) == ((1.0,), (1.0,))


# Batches


@pytest.mark.parametrize("size", [1, 2, 4])
def test_results_do_not_depend_on_the_batch_size(size):
    assert facts(evaluated(size=size)) == facts(evaluated(size=3))


def test_a_smaller_batch_is_filled_up_to_the_first_ones_size():
    model = Scene(3)
    model.run_eagerly = True
    images = images_of(np.tile(PROBABILITIES, (2, 1)))
    batches = in_batches(images, np.tile(LABELS, 2), 3)
    evaluation = evaluate_classifier(model, batches, progress=False)
    assert model.sizes == [3, 3, 3]
    assert evaluation.count == 8
    assert facts(evaluation) == facts(
        evaluated(np.tile(PROBABILITIES, (2, 1)), np.tile(LABELS, 2))
    )


def test_a_batch_may_be_larger_than_the_first():
    images = images_of(PROBABILITIES)
    batches = [(images[:1], LABELS[:1]), (images[1:], LABELS[1:])]
    found = evaluate_classifier(Scene(3), batches, progress=False)
    assert facts(found) == facts(evaluated())
    assert found.throughput.batch_size == 3


@pytest.mark.parametrize("form", ["one_hot", "column", "tensor", "list"])
def test_labels_may_have_other_forms(form):
    labels = {
        "one_hot": np.eye(3, dtype="float32")[LABELS],
        "column": LABELS[:, None],
        "tensor": ops.convert_to_tensor(LABELS),
        "list": LABELS.tolist(),
    }[form]
    images = images_of(PROBABILITIES)
    if form == "tensor":
        images = ops.convert_to_tensor(images)
    found = evaluate_classifier(Scene(3), [(images, labels)], progress=False)
    assert facts(found) == facts(evaluated())


def test_a_py_dataset_is_read_once():
    class Data(keras.utils.PyDataset):
        num_batches = 2

        def __getitem__(self, index):
            rows = slice(2 * index, 2 * index + 2)
            return images_of(PROBABILITIES)[rows], LABELS[rows]

    found = evaluate_classifier(Scene(3), Data(), progress=False)
    assert facts(found) == facts(evaluated())


def test_throughput_leaves_out_the_first_and_a_smaller_batch():
    # 2 full batches of 3 images in 1 + 2 seconds.
    assert _speed([(3, 9.0), (3, 1.0), (3, 2.0), (1, 5.0)]) == pytest.approx(2.0)
    assert _speed([(3, 9.0), (1, 5.0)]) is None
    # A first batch that lost an image, then the first full one.
    assert _speed([(2, 7.0), (3, 9.0), (3, 2.0)]) == pytest.approx(1.5)
    throughput = evaluated().throughput
    assert throughput.batch_size == 3
    assert throughput.images_per_second is None
    assert throughput.backend == BACKEND


def test_progress_shows_the_accuracy_so_far(capsys):
    batches = in_batches(images_of(PROBABILITIES), LABELS, 2)
    evaluate_classifier(Scene(3), batches)
    assert "accuracy: 0.7500" in capsys.readouterr().out


# Mistakes


@pytest.mark.parametrize(
    ("batch", "pieces"),
    [
        ((images_of(PROBABILITIES), LABELS[:3]), ["4 images and 3 labels"]),
        ((images_of(PROBABILITIES), LABELS + 1), ["from 1 to 3", "num_classes=3"]),
        ((images_of(PROBABILITIES), LABELS + 0.5), ["whole numbers", "0.5"]),
        ((images_of(PROBABILITIES), PROBABILITIES), ["mixed or smoothed"]),
        ((images_of(PROBABILITIES), np.eye(4)), ["4 columns"]),
        ((images_of(PROBABILITIES[:, :2]), LABELS), ["shape (4, 2, 2, 1)"]),
        ((images_of(PROBABILITIES).astype("uint8"), LABELS), ["uint8"]),
        (images_of(PROBABILITIES), ["pair of images and labels"]),
        ((images_of(PROBABILITIES) * np.nan, LABELS), ["NaN or infinite"]),
    ],
    ids=[
        "count",
        "range",
        "fraction",
        "soft",
        "columns",
        "shape",
        "bytes",
        "no_pair",
        "nan",
    ],
)
def test_bad_batches_are_met_with_one_line(batch, pieces):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        evaluate_classifier(Scene(3), [batch], progress=False)
    line = one_line(error)
    assert [piece for piece in pieces if piece not in line] == [], line


def test_no_images_and_wrong_names_are_met_with_one_line():
    with pytest.raises(ValueError, match="no images") as error:
        evaluate_classifier(Scene(3), [], progress=False)
    one_line(error)
    with pytest.raises(ValueError, match="2 class names") as error:
        evaluated(class_names=["ant", "bee"])
    one_line(error)


# Real models


@slow_on("jax")
def test_a_real_model_whatever_the_batch_size(kind):
    model = tiny_model(kind)
    images, labels = tiny_images(7), np.array([0, 1, 2, 3, 4, 0, 1])
    one, other = (
        evaluate_classifier(model, in_batches(images, labels, size), progress=False)
        for size in (7, 3)
    )
    logits = model.predict(images, verbose=0)
    assert one.top1 == other.top1 == (logits.argmax(axis=1) == labels).mean()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert one.nll == pytest.approx(float(loss(labels, logits)), rel=1e-5)
    # Products of other shapes may be added up in another order.
    assert one.nll == pytest.approx(other.nll, rel=1e-5)
    assert one.calibration_error == pytest.approx(other.calibration_error, rel=1e-5)
    if kind == "vit":
        assert one.routing is other.routing is None
        return
    np.testing.assert_array_equal(one.routing.fractions, other.routing.fractions)
    routing = model.routing(images)
    np.testing.assert_allclose(one.routing.load(), routing.load(), rtol=1e-6)
    np.testing.assert_allclose(
        one.routing.gate_sum, routing.gates.sum(axis=3).mean(axis=(1, 2)), rtol=1e-5
    )
    assert one.routing.steps == routing.steps


def test_a_forward_pass_runs_as_the_model_is_compiled():
    model = tiny_model("vit", steps=1)
    model.compile("sgd", jit_compile=False, run_eagerly=True)
    forward = ForwardPass(model)
    assert forward.run_eagerly is True
    assert forward.jit_compile is False


# What is made of it


@pytest.fixture(scope="module")
def routed():
    batches = [(routed_scene(), np.array([0, 1]))]
    return evaluate_classifier(
        Scene(3, True), batches, class_names=["a|b", "<bee>", "cat"], progress=False
    )


def test_to_dict_is_json(routed):
    found = json.loads(json.dumps(routed.to_dict(), allow_nan=False))
    assert found["count"] == 2
    assert found["classes"][0]["name"] == "a|b"
    assert found["routing"]["fractions"][0] == [0.5, 0.5, 0.0]
    assert len(found["bins"]) == 15
    # One image of each of the first two classes, both taken for the first.
    assert found["confusion"] == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_markdown_has_every_table(routed):
    text = routed.to_markdown()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == ["# Evaluation", "## Routing", "## Calibration", "## Classes"]
    assert "| top-1 accuracy | 50.00 % |" in text
    assert "| dead experts | 2 |" in text
    assert "top-5" not in text
    assert "| 1 | 0.50 0.50 0.00 | 1.50 | 2 | 0.600 | 0.631 |" in text
    # A bar in a name would end the cell. Both images are taken for class 0.
    assert "| a\\|b | 1 | 100.00 % | 50.00 % | - |" in text
    # Nor does a stranger's markup work.
    assert "| &lt;bee&gt; | 1 | 0.00 % | - | a\\|b (1) |" in text
    assert "Routing" not in evaluated().to_markdown()


def test_terminal_names_the_hardest_classes(routed):
    lines = terminal(routed, worst=1).splitlines()
    assert lines[-1] == "(1 of 2 classes, the hardest first)"
    assert lines[-2].split() == ["<bee>", "1", "0.00", "%", "-", "a|b", "(1)"]
    assert max(map(len, lines)) < 88


def test_picture(routed, tmp_path):
    path = tmp_path / "evaluation.png"
    figure = routed.plot(path)
    assert path.read_bytes().startswith(PNG)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    # Confidence 1/3 and half of the images right.
    assert titles == [
        "calibration error 16.67 %",
        "accuracy per class, 50.00 % in all",
        "what the images are taken for",
        "fraction of the choices of all images that each expert got (0.33 is fair)",
    ]
    [load] = [axis for axis in figure.axes if axis.get_ylabel() == "expert"]
    assert [text.get_text() for text in load.get_xticklabels()] == ["1", "2"]


def test_picture_of_a_vit_has_no_load():
    figure = evaluated().plot()
    assert len(figure.axes) == 3
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    assert heights == [1.0, 0.5, 1.0]


def test_picture_of_many_classes_is_a_curve():
    labels = np.arange(50)
    # Every second image is taken for the class after its own.
    taken = (labels + labels % 2) % 50
    probabilities = np.full((50, 50), 0.01)
    probabilities[labels, taken] = 0.51
    evaluation = evaluated(probabilities, labels, size=50)
    assert evaluation.confusion is None
    _, axis, mistakes = evaluation.plot().axes
    curve = axis.lines[0].get_ydata()
    assert curve.tolist() == [0.0] * 25 + [1.0] * 25
    # A class has one line, however often it is taken for a second one.
    assert "one of each class" in mistakes.get_title(loc="left")
    lines = mistakes.texts[0].get_text().splitlines()
    assert lines[0] == "1 of 1  1  taken for  2"
    assert len(lines) == 12


@pytest.mark.parametrize("classes", [3, 10, 40])
def test_names_in_the_picture_stand_apart(classes):
    labels = np.arange(classes)
    probabilities = np.full((classes, classes), 0.1 / classes)
    probabilities[labels, labels] += 0.9
    names = [f"a long name with $ and _ of class {each}" for each in labels]
    evaluation = evaluated(probabilities, labels, size=40, class_names=names)
    figure = evaluation.plot()
    figure.canvas.draw()
    matrix = figure.axes[2]
    for axis in (figure.axes[1].xaxis, matrix.xaxis, matrix.yaxis):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        assert len(boxes) == classes
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    assert matrix.get_xticklabels()[-1].get_text().endswith(f"class {classes - 1}")
