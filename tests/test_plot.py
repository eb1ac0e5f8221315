"""Pictures: a PNG on disk, and the panels that they promise."""

import builtins
import dataclasses

import numpy as np
import pytest
from conftest import one_line, tiny_images, tiny_model

from widenet_keras.models.attention_map import AttentionMap
from widenet_keras.models.routing_map import RoutingMap
from widenet_keras.plot import (
    EXPERT_COLORS,
    plot_attention,
    plot_class_experts,
    plot_explanation,
    plot_history,
    plot_load_history,
    plot_patches,
    plot_routing,
)
from widenet_keras.plot.classes import class_usage
from widenet_keras.plot.figure import expert_colors

PNG = b"\x89PNG\r\n\x1a\n"
LOAD = "fraction of the choices of {} that each expert got ({} is fair)"
HISTORY = {
    "loss": [3.0, 2.0, 1.0, 0.5],
    "task_loss": [2.9, 1.9, 0.9, 0.4],
    "val_loss": [2.0, 1.0],
    "accuracy": [0.1, 0.5, 0.6, 0.7],
    "val_accuracy": [0.4, 0.6],
    "utilization": [1.5, 1.2, 1.1, 1.0],
    "learning_rate": [0.1, 0.1, 0.1, 0.1],
}


def routing_map(
    experts=4, steps=(0, 1, 2), grid=(2, 3), class_token=True, images=2, registers=0
):
    """Returns a map whose tokens take every expert in turn."""
    tokens = grid[0] * grid[1] + int(class_token) + registers
    shape = (len(steps), images, tokens, 2)
    chosen = np.indices(shape).sum(axis=0) % experts
    return RoutingMap(
        experts=chosen,
        gates=np.full(shape, 0.5, "float32"),
        steps=steps,
        num_experts=experts,
        grid=grid,
        class_token=class_token,
        registers=registers,
    )


def attention_map(steps=3, grid=(2, 3), images=2):
    """Returns a map of random attention of two heads, read by the class token."""
    tokens = grid[0] * grid[1] + 1
    weights = np.random.default_rng(0).uniform(size=(steps, images, 2, tokens, tokens))
    weights = (weights / weights.sum(-1, keepdims=True)).astype("float32")
    return AttentionMap(weights, (2,) * steps, grid, True, 0, (0, 1))


def images_for(channels=3, count=2):
    random = np.random.default_rng(0)
    return random.uniform(-1, 1, (count, 8, 12, channels)).astype("float32")


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def panel(figure, title):
    [axis] = [axis for axis in figure.axes if axis.get_title() == title]
    return axis


def load_axis(figure):
    [axis] = [axis for axis in figure.axes if axis.get_ylabel() == "expert"]
    return axis


def test_plot_routing_of_a_model(tmp_path):
    model = tiny_model("vit_moe", steps=3)
    images = tiny_images(2)
    path = tmp_path / "routing.png"
    figure = plot_routing(model.routing(images), images, index=1, path=path)
    assert path.read_bytes().startswith(PNG)
    image, *steps = titles(figure)
    assert image.startswith("model: ")
    assert steps == ["step 1", "step 2", LOAD.format("2 images", 0.25)]


def test_plot_routing_axes():
    figure = plot_routing(routing_map(), images_for())
    steps = ["step 0", "step 1", "step 2"]
    assert titles(figure) == ["image", *steps, LOAD.format("2 images", 0.25)]
    load = load_axis(figure)
    assert [label.get_text() for label in load.get_xticklabels()] == ["0", "1", "2"]
    assert len(load.get_yticks()) == 4
    assert len(load.texts) == 12


@pytest.mark.parametrize("channels", [1, 3])
def test_plot_routing_shows_the_image(channels):
    images = images_for(channels)
    figure = plot_routing(routing_map(), images, index=-1)
    shown = np.asarray(panel(figure, "image").images[0].get_array())
    assert shown.shape == (8, 12, 3)
    np.testing.assert_allclose(shown, np.repeat((images[1] + 1) / 2, 3 // channels, -1))


@pytest.mark.parametrize(
    ("class_token", "registers"), [(False, 0), (True, 0), (True, 3), (False, 2)]
)
def test_plot_routing_shows_the_first_choices(class_token, registers):
    routing = routing_map(class_token=class_token, registers=registers)
    figure = plot_routing(routing, images_for(), index=1)
    shown = np.asarray(panel(figure, "step 2").images[1].get_array())
    first = int(class_token) + registers
    wanted = routing.experts[2, 1, first:, 0].reshape(2, 3)
    np.testing.assert_array_equal(shown, wanted)


def test_plot_routing_of_many_steps():
    figure = plot_routing(routing_map(steps=tuple(range(3, 15))), images_for())
    steps = [f"step {step}" for step in range(3, 15)]
    assert titles(figure)[:-1] == ["image", *steps]


@pytest.mark.parametrize("experts", [4, 16, 24])
def test_plot_routing_colours_are_those_of_the_labels(experts):
    routing = routing_map(experts=experts, grid=(8, 12))
    figure = plot_routing(routing, images_for())
    picture = panel(figure, "step 0").images[1]
    labels = load_axis(figure).get_yticklabels()
    assert len(labels) == experts
    for expert, label in enumerate(labels):
        row, column = np.argwhere(routing.patch_experts(0)[0] == expert)[0]
        shown = picture.to_rgba(picture.get_array(), alpha=1.0)[row, column]
        under = label.get_bbox_patch().get_facecolor()
        np.testing.assert_allclose(shown, under, atol=1e-6)
        assert label.get_color() in ("black", "white")


def test_plot_routing_leaves_out_numbers_that_would_not_fit():
    steps = tuple(range(12))
    figure = plot_routing(routing_map(experts=24, steps=steps), images_for())
    assert not load_axis(figure).texts


def answers(found, logits=((3.0, 1.0, 0.0), (0.0, 1.0, 0.0)), names=None):
    """A map with what the model answered."""
    logits = np.array(logits, "float32")
    return dataclasses.replace(found, logits=logits, class_names=names)


def test_an_image_is_named_by_class_and_answer():
    figure = plot_routing(answers(routing_map()), images_for(), labels=[2, 1])
    # exp(3) / (exp(3) + exp(1) + 1)
    assert titles(figure)[0] == "class: 2\nmodel: 0, 84 %"
    names = ["$\\frac$", "b\nc", "owl" * 9]
    found = answers(routing_map(), names=names)
    for draw in (plot_routing, plot_attention):
        given = attention_map() if draw is plot_attention else routing_map()
        given = answers(given, names=names)
        figure = draw(given, images_for(), labels=np.array([2, 1]), index=1)
        assert titles(figure)[0] == "class: b\\nc\nmodel: b\\nc, 58 %"
    figure = plot_routing(found, images_for(), labels=[2, 1])
    figure.canvas.draw()
    assert titles(figure)[0] == "class: owlow…lowl\nmodel: $\\frac$, 84 %"
    figure = plot_routing(found, images_for(), class_names=["x", "y", "z"])
    assert titles(figure)[0] == "model: x, 84 %"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"labels": [1]}, "plot_routing: labels of shape (1,)"),
        ({"labels": [0.5, 1]}, "float64"),
        ({"labels": [0, -1]}, "labels start at 0 and one is -1"),
        ({"labels": [0, 3], "class_names": "abc"}, "3 class names and 4 classes"),
        ({"class_names": "ab"}, "2 class names and 3 classes"),
    ],
)
def test_labels_and_names_that_do_not_fit(fields, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        plot_routing(answers(routing_map()), images_for(), **fields)
    assert words in one_line(error)


@pytest.mark.parametrize("size", [(8, 8), (8, 12), (12, 8)])
@pytest.mark.parametrize("steps", [1, 3, 12])
def test_nothing_is_cut_off(size, steps):
    images = np.zeros((2, *size, 3), "float32")
    names = ["a name that is long"] * 3
    where = answers(routing_map(steps=tuple(range(steps))), names=names)
    seen = answers(attention_map(steps), names=names)
    for figure in (
        plot_routing(where, images, labels=[0, 1]),
        plot_attention(seen, images, labels=[0, 1]),
        plot_explanation(seen, images, where, labels=[0, 1]),
        plot_class_experts(where, [0, 0], names),
        plot_class_experts(where, [0, 1], names),
    ):
        figure.canvas.draw()
        texts = [axis.title for axis in figure.axes]
        texts += figure.texts + [text for part in figure.subfigs for text in part.texts]
        # That of the colours.
        texts += [axis.yaxis.label for axis in figure.axes if axis.get_ylabel()]
        for text in texts:
            box = text.get_window_extent()
            assert min(box.x0, box.y0) >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1


@pytest.mark.parametrize("index", [2, -3])
def test_plot_routing_with_a_wrong_index(index):
    with pytest.raises(ValueError, match="plot_routing") as error:
        plot_routing(routing_map(), images_for(), index=index)
    assert f"index={index}" in one_line(error)


def test_plot_routing_with_other_images():
    with pytest.raises(ValueError, match="map of 2") as error:
        plot_routing(routing_map(), images_for(count=3))
    assert "3 images" in one_line(error)


def test_plot_attention(tmp_path):
    found, path = attention_map(), tmp_path / "attention.png"
    figure = plot_attention(found, images_for(1), index=1, path=path)
    assert path.read_bytes().startswith(PNG)
    assert [title.split(":")[0] for title in titles(figure)] == [
        "image",
        "step 0",
        "step 1",
        "step 2",
    ]
    received = found.received(1)[2]
    title = f"step 2: {7 * received.max():.1f} x"
    shown = panel(figure, title).images[1].get_array()
    np.testing.assert_array_equal(shown, received)
    figure = plot_attention(attention_map(steps=24), images_for())
    assert len(titles(figure)) == 13


def test_plot_attention_of_other_images():
    for call in (
        lambda: plot_attention(attention_map(), images_for(count=3)),
        lambda: plot_attention(attention_map(), images_for(), index=2),
        lambda: plot_explanation(attention_map(), images_for(), routing_map(images=3)),
    ):
        with pytest.raises(ValueError, match="map of") as error:
            call()
        one_line(error)


def test_plot_explanation(tmp_path):
    path = tmp_path / "explanation.png"
    seen = answers(attention_map(7))
    where = routing_map(steps=(5, 6))
    figure = plot_explanation(seen, images_for(), where, index=1, path=path)
    assert path.read_bytes().startswith(PNG)
    found = titles(figure)
    assert found[:2] == ["model: 1, 58 %", "most probable classes"]
    steps = [title.split(":")[0] for title in found[2:7]]
    assert steps == ["step 0", "step 2", "step 3", "step 4", "step 6"]
    assert found[7:] == ["step 5", "step 6", LOAD.format("this image", 0.25)]
    shares = [float(text.get_text()) for text in load_axis(figure).texts]
    wanted = [(where.experts[0, 1] == expert).mean() for expert in range(4)]
    np.testing.assert_allclose(shares[:4], wanted, atol=0.005)
    bars = [bar.get_width() for bar in figure.axes[1].patches]
    np.testing.assert_allclose(bars, [0.576, 0.212, 0.212], atol=1e-3)


def test_plot_explanation_of_a_vit_has_attention_alone():
    figure = plot_explanation(attention_map(), images_for())
    assert len(titles(figure)) == 4
    assert not any("fraction" in title for title in titles(figure))


def test_experts_have_one_colour_in_all_pictures():
    few, many = (expert_colors(count).colors for count in (3, 20))
    assert few == many[:3]
    assert len(set(EXPERT_COLORS)) == 20
    assert expert_colors(24).N == 20


def test_plot_patches(tmp_path):
    routing, images = routing_map(), images_for()
    path = tmp_path / "patches.png"
    figure = plot_patches(routing, images, ["cat", "dog"], path)
    assert path.read_bytes().startswith(PNG)
    # The steps are named once, above the first row.
    assert titles(figure) == ["cat", "step 0", "step 1", "step 2", "dog"]
    second = figure.axes[4 + 3].images[1].get_array()
    np.testing.assert_array_equal(second, routing.patch_experts(1)[2])
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        f"expert {index}" for index in range(4)
    ]


def test_plot_patches_of_many_steps():
    figure = plot_patches(routing_map(steps=tuple(range(24))), images_for())
    # Twelve of 24, 23 / 11 apart.
    steps = [0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21, 23]
    assert titles(figure) == ["image", *(f"step {step}" for step in steps), "image"]


@pytest.mark.parametrize("given", [(images_for(count=3),), (images_for(), ["cat"])])
def test_plot_patches_of_other_images(given):
    with pytest.raises(ValueError, match="plot_patches") as error:
        plot_patches(routing_map(), *given)
    one_line(error)


def classes_map():
    """Returns one step of three images of two tokens, and their two classes."""
    experts = np.array([[[[0], [0]], [[0], [1]], [[1], [1]]]])
    return RoutingMap(experts, experts * 0.5, (5,), 3, (1, 2), False), [0, 0, 2]


def test_class_usage():
    # Over all images experts 0 and 1 have a half each; class 0 has 3 of its 4
    # choices at expert 0, class 2 none. Nobody uses expert 2.
    usage, present = class_usage(*classes_map())
    assert present == [0, 2]
    np.testing.assert_allclose(usage, [[[1.5, 0.5, 1.0], [0.0, 2.0, 1.0]]])


def test_plot_class_experts(tmp_path):
    path = tmp_path / "classes.png"
    figure = plot_class_experts(*classes_map(), ["cat", "dog", "owl"], path)
    assert path.read_bytes().startswith(PNG)
    axis = panel(figure, "step 5")
    assert [label.get_text() for label in axis.get_yticklabels()] == ["cat", "owl"]
    assert axis.images[0].get_array().shape == (2, 3)


@pytest.mark.parametrize(
    "labels", [[0, 1], [[0], [1], [1]], [0.0, 1.0, 1.0], [-1, 0, 1]]
)
def test_plot_class_experts_with_wrong_labels(labels):
    with pytest.raises(ValueError, match="labels of shape") as error:
        plot_class_experts(classes_map()[0], labels)
    one_line(error)


def test_plot_class_experts_with_too_few_names():
    with pytest.raises(ValueError, match="2 class names and the label 2") as error:
        plot_class_experts(*classes_map(), ["cat", "dog"])
    one_line(error)


@pytest.mark.parametrize("epochs", [[1], [2, 4, 6]])
def test_plot_load_history(tmp_path, epochs):
    loads = np.full((len(epochs), 2, 4), 0.25)
    path = tmp_path / "load.png"
    figure = plot_load_history(epochs, [0, 3], loads, path)
    assert path.read_bytes().startswith(PNG)
    assert titles(figure) == ["step 0", "step 3"]
    axis = panel(figure, "step 3")
    assert len(axis.collections) == 4
    assert all(tick == round(tick) for tick in axis.get_xticks())


@pytest.mark.parametrize("steps", [1, 2, 8])
@pytest.mark.parametrize("experts", [2, 4, 32])
def test_the_legend_is_inside_and_over_nothing(steps, experts):
    loads = np.full((3, steps, experts), 1 / experts)
    figure = plot_load_history([1, 2, 3], range(steps), loads)
    figure.canvas.draw()
    whole, legend = figure.bbox, figure.legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.y0 >= 0
    assert legend.x1 <= whole.x1
    for axis in figure.axes:
        if axis.axison:
            assert axis.get_tightbbox().y0 >= legend.y1


def test_the_lowest_panel_of_every_column_has_numbers():
    usage = plot_class_experts(
        routing_map(steps=tuple(range(6)), images=3), [0, 1, 1], path=None
    )
    history = plot_load_history([1, 2], range(6), np.full((2, 6, 4), 0.25))
    for figure in (usage, history):
        figure.canvas.draw()
        named = {
            axis.get_title(): any(
                label.get_visible() and label.get_text()
                for label in axis.get_xticklabels()
            )
            for axis in figure.axes
        }
        # Four in a row: below steps 2 and 3 there is nothing.
        assert [named[f"step {step}"] for step in range(6)] == [False] * 2 + [True] * 4


def test_of_many_classes_those_are_drawn_that_differ_most():
    experts = np.zeros((1, 100, 1, 1), int)
    experts[0, [7, 60]] = 1
    routing = RoutingMap(experts, experts * 0.5, (0,), 2, (1, 1), False)
    figure = plot_class_experts(routing, np.arange(100))
    names = [text.get_text() for text in panel(figure, "step 0").get_yticklabels()]
    assert len(names) == 40
    assert {"7", "60"} <= set(names)


def test_plot_history(tmp_path):
    path = tmp_path / "history.png"
    figure = plot_history(HISTORY, path=path)
    assert path.read_bytes().startswith(PNG)
    assert titles(figure) == ["loss", "accuracy", "routing"]
    drawn = [[line.get_label() for line in axis.lines] for axis in figure.axes]
    assert drawn == [
        ["loss", "task_loss", "val_loss"],
        ["accuracy", "val_accuracy"],
        ["utilization"],
    ]


def test_plot_history_puts_rare_values_where_they_were_taken():
    lines = {line.get_label(): line for line in plot_history(HISTORY).axes[0].lines}
    assert lines["loss"].get_xdata().tolist() == [1, 2, 3, 4]
    assert lines["val_loss"].get_xdata().tolist() == [2, 4]
    assert lines["val_loss"].get_ydata().tolist() == [2.0, 1.0]


def test_plot_history_of_a_frequency_that_does_not_divide_the_epochs():
    history = {"loss": [3.0, 2.0, 1.0, 0.5, 0.2], "val_loss": [2.0, 1.0]}
    [_, line] = plot_history(history, validation_freq=2).axes[0].lines
    assert line.get_xdata().tolist() == [2, 4]
    history["val_loss"] = [float("nan"), 2.0, float("nan"), 1.0, float("nan")]
    [_, line] = plot_history(history).axes[0].lines
    assert line.get_xdata().tolist() == [2, 4]
    assert line.get_ydata().tolist() == [2.0, 1.0]


def test_plot_history_of_validation_at_some_epochs():
    history = {"accuracy": [0.1, 0.2, 0.3, 0.4, 0.5], "val_accuracy": [0.2, 0.4]}
    [_, line] = plot_history(history, validation_freq=[5, 2, 9]).axes[0].lines
    assert line.get_xdata().tolist() == [2, 5]
    with pytest.raises(ValueError, match="names 1 epochs and there are 2") as error:
        plot_history(history, validation_freq=[2])
    one_line(error)
    with pytest.raises(ValueError, match="names 1 epochs and there are 2") as error:
        plot_history(history, validation_freq=5)
    one_line(error)
    # Epochs 2 to 6, as `initial_epoch=1` has them.
    [_, line] = plot_history(history, validation_freq=3).axes[0].lines
    assert line.get_xdata().tolist() == [3, 6]
    # None came to be validated.
    [line] = plot_history(history | {"val_accuracy": []}).axes[0].lines
    assert line.get_label() == "accuracy"


def test_plot_history_draws_one_value_as_a_point():
    history = {"loss": [2.0, 1.0], "val_loss": [float("nan"), 1.5]}
    line, point = plot_history(history).axes[0].lines
    assert (line.get_marker(), point.get_marker()) == ("None", "o")
    [axis] = plot_history({"accuracy": [0.5]}).axes
    assert axis.lines[0].get_marker() == "o"


def test_plot_history_leaves_out_empty_panels():
    figure = plot_history({"loss": [2.0, 1.0]})
    assert titles(figure) == ["loss"]
    # Two epochs have nothing between them, and one has nothing beside it.
    for losses in ([2.0, 1.0], [2.0]):
        [axis] = plot_history({"loss": losses}).axes
        assert all(tick == round(tick) for tick in axis.get_xticks())


def test_plot_history_of_nothing_says_so():
    with pytest.raises(ValueError, match="plot_history") as error:
        plot_history({})
    one_line(error)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot_history(HISTORY),
        lambda: plot_routing(routing_map(), images_for()),
        lambda: plot_class_experts(*classes_map()),
    ],
)
def test_without_matplotlib(monkeypatch, draw):
    load = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install") as error:
        draw()
    assert "matplotlib" in one_line(error)
