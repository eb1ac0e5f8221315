"""The page of a report in a browser: it draws, answers, and can be read."""

import numpy as np
import pytest
from chromium import chromium
from conftest import tiny_images, tiny_model

from widenet_keras.evaluation import evaluate_classifier
from widenet_keras.reports import write_report
from widenet_keras.utils.tables import write_rows

STRANGER = "</script><img src=x onerror=alert(1)>"
LONG = "a name without any break " + "x" * 120
NAMES = ("cat", STRANGER, LONG, "ship", "truck")
WIDTHS = (400, 1400)
# Where the middle of a patch is in the window; the stage is brought there first.
PLACE = """(() => {
  const stage = document.querySelector('.stage');
  stage.scrollIntoView({ block: 'center', behavior: 'instant' });
  const box = stage.getBoundingClientRect();
  return [box.left + box.width * (%d + 0.5) / 3, box.top + box.height * (%d + 0.5) / 3];
})()"""
SHOWN = """[...document.querySelectorAll('.of-step')].map((step) =>
  [...step.querySelectorAll('.bar-line')].map((line) =>
    ['.name', '.value'].map((name) => line.querySelector(name).textContent)))
"""
TOLD = "document.querySelector('#explorer .told').textContent"
SMALLEST = """Math.min(...[...document.querySelectorAll('body *')]
  .filter((each) => [...each.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
  .filter((each) => each.getClientRects().length)
  .map((each) => parseFloat(getComputedStyle(each).fontSize)))"""
# Elements that stand out of the window and that nothing around them lets scroll.
OUTSIDE = """[...document.querySelectorAll('body *')].filter((each) => {
  const box = each.getBoundingClientRect();
  const inside = each.closest('.scrolls, .thumbs, pre, .name, .thumb');
  return !inside && box.width && (box.left < -1 || box.right > innerWidth + 1);
}).map((each) => `${each.tagName} ${each.className}`)"""


@pytest.fixture(scope="module")
def page():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def images():
    return tiny_images(4)


@pytest.fixture(scope="module")
def widenet():
    model = tiny_model(class_token=True)
    model.class_names = NAMES
    return model


@pytest.fixture(scope="module")
def report(widenet, images, tmp_path_factory):
    """A report with everything in it; no image of it is a mistake."""
    folder = tmp_path_factory.mktemp("run")
    epochs = range(1, 4)
    # The last is a term of somebody's own.
    own = ("loss", "val_loss", "pretext_task_loss")
    table = [{"epoch": e, **dict.fromkeys(own, 2 / e)} for e in epochs]
    write_rows(folder / "history.csv", table)
    (folder / "load").mkdir()
    loads = [
        {"epoch": epoch, "step": step} | {f"expert_{e}": 0.25 for e in range(4)}
        for epoch in epochs
        for step in (0, 1)
    ]
    write_rows(folder / "load" / "load.csv", loads)
    (folder / "settings.json").write_text('{"epochs": 3, "data": "somewhere"}')
    logits = widenet.predict(images, verbose=0)
    labels = logits.argmax(axis=1)
    batches = [(images, labels)]
    evaluation = evaluate_classifier(widenet, batches, progress=False)
    path = folder / "report.html"
    found = {"evaluation": evaluation, "run": folder, "data": "four images"}
    write_report(widenet, path, images=images, labels=labels, **found)
    return path


@pytest.fixture(scope="module")
def vit_report(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("vit") / "report.html"
    write_report(tiny_model("vit"), path, images=images)
    return path


def expected(model, images, image, token):
    """Returns what the explorer must say of a token: experts and gates by step."""
    routing = model.routing(images)
    return [
        [
            [f"expert {expert}", f"{gate:.2f}"]
            for expert, gate in zip(experts, gates, strict=True)
        ]
        for experts, gates in zip(
            routing.experts[:, image, token],
            np.rint(routing.gates[:, image, token] * 255) / 255,
            strict=True,
        )
    ]


def test_pointing_shows_experts_and_gates(page, report, widenet, images):
    page.open(report)
    for row, column in ((0, 0), (2, 1), (1, 2)):
        page.point(*page.run(PLACE % (column, row)))
        # The class token is in front of the patches.
        token = 1 + 3 * row + column
        assert page.run(SHOWN) == expected(widenet, images, 0, token)
        assert f"row {row + 1}, column {column + 1}" in page.run(TOLD)
    assert page.errors == []


def test_keys_images_steps_and_the_class_token(page, report, widenet, images):
    page.open(report)
    page.point(*page.run(PLACE % (0, 0)))
    page.run("document.querySelector('.stage').focus()")
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown"):
        page.press(key)
    assert page.run(SHOWN) == expected(widenet, images, 0, 1 + 3 * 2 + 1)
    page.press("PageDown")
    assert "at step 1" in page.run(TOLD)
    page.run("document.querySelectorAll('.thumb')[2].click()")
    assert page.run(SHOWN) == expected(widenet, images, 2, 1 + 3 * 2 + 1)
    page.run("document.querySelector('.controls .quiet').click()")
    assert page.run(SHOWN) == expected(widenet, images, 2, 0)
    assert "Class token at step 1" in page.run(TOLD)
    assert page.errors == []


def test_a_finger(page, report, widenet, images):
    page.open(report, width=400, touch=True)
    page.tap(*page.run(PLACE % (2, 0)))
    page.wait(f"{TOLD}.includes('row 1, column 3')")
    assert page.run(SHOWN) == expected(widenet, images, 0, 1 + 2)
    assert page.errors == []


def test_a_vit_shows_where_a_patch_looks(page, vit_report, images):
    page.open(vit_report)
    weights = tiny_model("vit").attention(images).weights.mean(axis=2)
    for row, column in ((0, 1), (2, 2)):
        page.point(*page.run(PLACE % (column, row)))
        looks = weights[0, 0, 1 + 3 * row + column, 1:]
        best = int(looks.argmax())
        told = page.run(TOLD)
        assert f"Patch in row {row + 1}, column {column + 1} at step 0" in told
        assert f"most, {100 * looks.max():.1f} %" in told
        assert f"to the patch in row {best // 3 + 1}, column {best % 3 + 1}" in told
    page.run("document.querySelector('.controls .quiet').click()")
    assert "What the head reads at step 0" in page.run(TOLD)
    assert page.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_can_be_read(page, report, vit_report, width, scheme):
    for path in (report, vit_report):
        page.open(path, width=width, scheme=scheme)
        assert page.errors == []
        assert page.run("document.documentElement.scrollWidth") == width
        assert page.run(OUTSIDE) == []
        assert page.run(SMALLEST) >= 12
        page.run(
            "document.querySelectorAll('details').forEach((d) => { d.open = true })"
        )
        assert page.run("document.documentElement.scrollWidth") == width


def test_it_asks_for_nothing_and_takes_no_markup(page, report):
    page.open(report)
    asked = {each for each in page.requests if not each.startswith("data:")}
    assert asked == {report.resolve().as_uri()}
    assert page.run("document.querySelectorAll('script').length") == 2
    assert page.run("document.querySelectorAll('img[onerror]').length") == 0
    assert STRANGER in page.run("document.body.innerText")
    # The policy refuses what is not of the page.
    page.run(
        "document.body.append(Object.assign(new Image(), { src: 'file:///x.png' }))"
    )
    page.wait("true")
    page.run("new Promise((done) => setTimeout(done, 50))")
    assert "Content Security Policy" in " ".join(page.errors)


def test_parts_that_are_missing_are_named(page, tmp_path):
    path = tmp_path / "report.html"
    write_report(tiny_model(), path)
    page.open(path)
    text = page.run("document.body.innerText")
    for said in ("nothing was evaluated", "No images were given", "file alone"):
        assert said in text
    write_report(tiny_model(), path, run=tmp_path)
    page.open(path)
    assert "has not ended" in page.run("document.body.innerText")
    assert page.errors == []
