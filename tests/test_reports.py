"""Reports and cards: what is in them, what cannot get out of them."""

import base64
import io
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import one_line, tiny_images, tiny_model
from PIL import Image
from test_cli import stopped

pytest.importorskip("tyro")

from widenet_keras.cli.main import main
from widenet_keras.evaluation import evaluate_classifier
from widenet_keras.reports import write_model_card, write_report
from widenet_keras.reports.run_record import model_file_of, read_run
from widenet_keras.reports.samples import png_uri, sample_content
from widenet_keras.runs.run import Run
from widenet_keras.utils.tables import write_rows

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "saved_models" / "digits" / "model.keras"
STRANGER = "</script><img src=x onerror=alert(1)>"
NAMES = ("cat", STRANGER, "a|b `c` [d](e)", "\u202eevil", "dog & co")
HISTORY = [
    {"epoch": 1, "loss": 1.5, "accuracy": 0.25, "val_loss": 1.25, "val_accuracy": ""},
    {"epoch": 2, "loss": 1.0, "accuracy": 0.5, "val_loss": 0.75, "val_accuracy": 0.5},
]


@pytest.fixture
def images():
    return tiny_images(12)


@pytest.fixture
def labels():
    return np.arange(12) % 5


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has ended, as far as a report reads it."""
    folder = tmp_path / "my run"
    (folder / "load").mkdir(parents=True)
    settings = {"data": STRANGER, "epochs": 2, "optimization": {"rates": {}}}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "metrics.json").write_text(json.dumps({"accuracy": 0.5, "nan": np.nan}))
    write_rows(folder / "history.csv", HISTORY)
    loads = [
        {"epoch": epoch, "step": step, "expert_0": 0.25, "expert_1": 0.75}
        for epoch in (1, 2)
        for step in (0, 1)
    ]
    write_rows(folder / "load" / "load.csv", loads)
    (folder / "model.keras").write_bytes(b"model")
    return folder


def content_of(path):
    """Returns what a page holds, as the browser reads it."""
    page = Path(path).read_text("utf-8")
    [text] = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page)
    return json.loads(text)


def unpacked(content):
    values = zlib.decompress(base64.b64decode(content["data"]))
    return np.frombuffer(values, f"<u{content['bytes']}").reshape(content["shape"])


def test_all_of_a_run(tmp_path, run, images, labels):
    model = tiny_model()
    model.class_names = NAMES
    evaluation = evaluate_classifier(model, [(images, labels)], progress=False)
    path = tmp_path / "report.html"
    found = {"evaluation": evaluation, "run": run, "data": "12 images"}
    write_report(model, path, images=images, labels=labels, samples=8, **found)
    content = content_of(path)
    assert content["name"] == "my run"
    assert content["run"]["finished"]
    assert content["run"]["notes"] == []
    assert content["run"]["epochs"] == [1, 2]
    assert content["run"]["history"]["val_accuracy"] == [None, 0.5]
    assert content["run"]["loads"]["values"] == [[[0.25, 0.75]] * 2] * 2
    assert ["accuracy", "0.5"] in content["run"]["metrics"]
    assert ["epochs", "2"] in content["run"]["settings"]
    assert content["evaluation"]["top1"] == pytest.approx(evaluation.top1, abs=1e-5)
    assert np.sum(content["evaluation"]["confusion"]) == 12
    assert len(content["samples"]["images"]) == 8
    assert dict(content["facts"])["parameters"] == f"{model.count_params():,}"


def test_what_is_looked_at_is_what_the_model_does(tmp_path, images, labels):
    model = tiny_model(class_token=True)
    path = tmp_path / "report.html"
    write_report(model, path, images=images[:4], labels=labels[:4], samples=4)
    samples = content_of(path)["samples"]
    # Mistakes are at the end.
    shown = [decoded(each["png"]) for each in samples["images"]]
    pixels = np.rint((images[:4] + 1) * 127.5)
    order = [int(np.abs(pixels - each).sum(axis=(1, 2, 3)).argmin()) for each in shown]
    assert sorted(order) == [0, 1, 2, 3]
    assert [each["label"] for each in samples["images"]] == labels[order].tolist()
    taken = [each["top"][0][0] for each in samples["images"]]
    wrong = [one != other for one, other in zip(taken, labels[order], strict=True)]
    assert samples["mistakes"] == 1
    assert wrong[-1]
    routing, attention = model.routing(images[order]), model.attention(images[order])
    experts, gates = (unpacked(samples["routing"][n]) for n in ("experts", "gates"))
    np.testing.assert_array_equal(experts, np.swapaxes(routing.experts, 0, 1))
    gap = np.abs(gates / 255 - np.swapaxes(routing.gates, 0, 1))
    assert gap.max() <= 0.5 / 255 + 1e-6
    kept = samples["attention"]
    shares, most = unpacked(kept["weights"]), unpacked(kept["most"])
    weights = shares / kept["levels"] * (most / 65535)[..., None]
    expected = np.swapaxes(attention.weights.mean(axis=2), 0, 1)[..., 1:]
    np.testing.assert_allclose(weights, expected, atol=0.02)
    received = unpacked(kept["received"]) / kept["levels"]
    received = received * (unpacked(kept["received_most"]) / 65535)[..., None]
    for image in range(4):
        expected = attention.received(image).reshape(2, -1)
        np.testing.assert_allclose(received[image], expected, atol=0.02)


def decoded(uri):
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("channels", [1, 3])
def test_png(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), "uint8")
    found = decoded(png_uri(pixels))
    np.testing.assert_array_equal(found.reshape(pixels.shape), pixels)


def test_images_of_other_channels_show_their_mean():
    images = tiny_images(2).repeat(2, axis=-1)[..., :4]
    content = sample_content(tiny_model("vit", channels=4), images)
    shown = np.stack([decoded(each["png"]) for each in content["images"]])
    wanted = (images.mean(axis=-1) + 1) * 127.5
    # Pixels are rounded before their mean is.
    np.testing.assert_allclose(shown, wanted, atol=1.001)


def test_a_vit_shows_attention_only(tmp_path, images):
    path = tmp_path / "vit.html"
    write_report(tiny_model("vit"), path, images=images, samples=3)
    samples = content_of(path)["samples"]
    assert samples["routing"] is None
    assert samples["attention"]["weights"]["shape"] == [3, 2, 10, 9]
    assert [each["label"] for each in samples["images"]] == [None] * 3
    assert samples["mistakes"] == 0


def test_large_models_keep_the_attention_of_fewer_images(tmp_path, images, monkeypatch):
    monkeypatch.setattr("widenet_keras.reports.looked_at._MOST_ATTENTION", 400)
    path = tmp_path / "report.html"
    write_report(tiny_model("vit"), path, images=images, samples=4)
    attention = content_of(path)["samples"]["attention"]
    assert attention["weights"]["shape"] == [2, 2, 10, 9]
    assert attention["received"]["shape"] == [4, 2, 9]


def test_texts_of_strangers_stay_texts(tmp_path, run, images, labels):
    model = tiny_model()
    model.class_names = NAMES
    model.trained_on = STRANGER
    evaluation = evaluate_classifier(model, [(images, labels)], progress=False)
    page, card = tmp_path / "report.html", tmp_path / "card.md"
    found = {"evaluation": evaluation, "run": run, "data": STRANGER}
    write_report(model, page, images=images, labels=labels, **found)
    text = page.read_text("utf-8")
    assert text.count("</script>") == 2
    assert "<img" not in text
    assert "\u202e" not in text
    assert content_of(page)["classes"][1] == STRANGER
    write_model_card(model, card, **found)
    text = card.read_text("utf-8")
    assert "<img" not in text
    assert "\u202e" not in text
    assert "&lt;/script&gt;&lt;img" in text
    assert r"a\|b \`c\` \[d\](e)" in text


def test_the_program_makes_no_markup_of_texts():
    for file in (ROOT / "widenet_keras" / "reports" / "page").glob("*.js"):
        program = file.read_text("utf-8")
        for way in ("innerHTML", "outerHTML", "insertAdjacent", "write(", "eval("):
            assert way not in program, file
        for way in ("fetch(", "XMLHttp", "import(", "import ", "https:", "WebSocket"):
            assert way not in program, file
        assert len(program.splitlines()) <= 250, file


def test_a_run_that_has_not_ended(tmp_path, run):
    (run / "model.keras").unlink()
    (run / "metrics.json").unlink()
    write_report(tiny_model(), tmp_path / "report.html", run=run)
    content = content_of(tmp_path / "report.html")
    assert not content["run"]["finished"]
    assert content["run"]["metrics"] == []
    assert content["samples"] is None
    assert content["evaluation"] is None


def test_a_run_that_ended_and_was_given_more_epochs(tmp_path):
    model = tiny_model("vit", steps=1)
    model.compile("adam")
    first = Run(tmp_path / "run", {"epochs": 2})
    first.restore(model, 2, 1)
    first.finish(model, {"accuracy": 0.5})
    folder = first.folder
    assert read_run(folder).finished
    best = folder / "checkpoints" / "best.keras"
    best.parent.mkdir(exist_ok=True)
    best.write_bytes(b"best")
    Run(folder, {"epochs": 3}).restore(model, 3, 1)
    found = read_run(folder)
    assert (found.finished, found.metrics) == (False, {})
    assert model_file_of(folder, found) == best
    # The model of the shorter run is there until that of the longer one.
    best.unlink()
    assert model_file_of(folder, found) == folder / "model.keras"


def test_damaged_tables_are_left_out_with_a_note(tmp_path, run):
    (run / "history.csv").write_text("epoch,loss\n1,many\n")
    (run / "load" / "load.csv").write_text("epoch,step\none,0\n")
    (run / "settings.json").write_text("[1")
    write_report(tiny_model(), tmp_path / "report.html", run=run)
    found = content_of(tmp_path / "report.html")["run"]
    assert (found["epochs"], found["loads"], found["settings"]) == ([], None, [])
    files = ("history.csv", "load.csv", "settings.json")
    for name, note in zip(files, sorted(found["notes"]), strict=True):
        assert name in note
        assert "is damaged" in note


def test_a_card_has_the_numbers_of_the_model(tmp_path, run, images, labels):
    model = tiny_model()
    evaluation = evaluate_classifier(model, [(images, labels)], progress=False)
    path = tmp_path / "card.md"
    file = run / "model.keras"
    write_model_card(model, path, evaluation=evaluation, run=run, model_file=file)
    text = path.read_text("utf-8")
    assert text.startswith("---\nlibrary_name: widenet_keras\n")
    assert f"{model.count_params():,} parameters" in text
    assert f"{100 * evaluation.top1:.2f} % of 12 images" in text
    assert "| size | model.keras 5 bytes |" in text
    assert "of the model: not stated" in text
    assert "license" not in text
    form = (ROOT / "saved_models" / "model_card.md").read_text()
    rows = re.findall(r"^\| (\w[\w ]*) \|", form, re.MULTILINE)
    assert [row for row in rows if f"\n| {row} |" not in text] == ["made with"]


def test_a_card_of_a_file_alone(tmp_path):
    write_model_card(tiny_model("vit"), tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text()
    assert "| accuracy | not measured |" in text
    assert "mixture-of-experts" not in text


def test_a_card_of_a_run_without_an_evaluation(tmp_path, run):
    write_model_card(tiny_model(), tmp_path / "card.md", run=run)
    text = (tmp_path / "card.md").read_text()
    assert "| accuracy | 50.00 %, as the run measured it |" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"samples": 0}, "samples=0"),
        ({"images": np.zeros((2, 8, 8, 3), "float32")}, "12, 12, 3)"),
        ({"labels": np.zeros(3, int)}, "labels"),
        ({"labels": np.full(12, 7)}, "labels"),
        ({"images": np.zeros((2, 12, 12, 3), "uint8")}, "scale_pixels"),
        ({"images": np.full((2, 12, 12, 3), 255.0)}, "scale_pixels"),
        ({"run": "nowhere"}, "nowhere is no folder"),
    ],
)
def test_wrong_arguments(tmp_path, images, given, said):
    path = tmp_path / "report.html"
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        write_report(tiny_model(), path, **{"images": images, **given})
    one_line(error)
    assert not path.exists()


@pytest.mark.parametrize("write", [write_report, write_model_card])
def test_a_folder_is_not_written_over(tmp_path, monkeypatch, write):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept.txt").write_text("kept")
    monkeypatch.chdir(tmp_path / "mine")
    for path, said in ((tmp_path / "mine", "is a folder"), ("", "the path is ''")):
        with pytest.raises(ValueError, match=said) as error:
            write(tiny_model("vit", steps=1), path)
        one_line(error)
    assert (tmp_path / "mine" / "kept.txt").read_text() == "kept"


def test_a_model_without_classes(tmp_path):
    model = tiny_model(num_classes=0)
    for write in (write_report, write_model_card):
        with pytest.raises(ValueError, match="num_classes=0"):
            write(model, tmp_path / "file")


def test_a_run_writes_both_at_its_end(tmp_path, images, labels):
    model = tiny_model()
    evaluation = evaluate_classifier(model, [(images, labels)], progress=False)
    run = Run(tmp_path / "run", {"epochs": 3})
    run.finish(model, {"accuracy": 0.25}, images, NAMES, labels, evaluation)
    content = content_of(run.folder / "report.html")
    assert content["run"]["finished"]
    assert ["accuracy", "0.25"] in content["run"]["metrics"]
    assert content["evaluation"]["count"] == 12
    assert content["samples"]["images"][0]["label"] is not None
    card = (run.folder / "model_card.md").read_text("utf-8")
    size = (run.folder / "model.keras").stat().st_size
    assert f"model.keras {size:,} bytes" in card


def test_a_run_is_whole_before_its_report(tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("no report")

    monkeypatch.setattr("widenet_keras.runs.run.write_report", fails)
    run = Run(tmp_path / "run", {})
    with pytest.raises(RuntimeError, match="no report"):
        run.finish(tiny_model("vit"), {"accuracy": np.float32(0.25)})
    assert json.loads((run.folder / "metrics.json").read_text()) == {"accuracy": 0.25}
    for name in ("model.keras", "metrics.json", "labels.txt"):
        assert (run.folder / name).exists()


def test_the_command(tmp_path, capsys):
    page, card = tmp_path / "new" / "report.html", tmp_path / "card.md"
    command = ["report", str(DIGITS), "--data", "digits", "--batch-size", "150"]
    command += ["--images", "6", "--output", str(page), "--card", str(card)]
    main(command)
    printed = capsys.readouterr().out
    assert "digits, validation: 450 images, 10 classes" in printed
    assert f"written to {page}" in printed
    content = content_of(page)
    assert content["name"] == "digits/model.keras"
    assert content["evaluation"]["count"] == 450
    assert len(content["samples"]["images"]) == 6
    assert page.stat().st_size < 2**18
    assert "986a06eca604facd063db80848df40340795f2a65595b39bfdd4a48c4738faa0" in (
        card.read_text()
    )


def test_the_command_on_runs(tmp_path, run, capsys):
    page = tmp_path / "report.html"
    command = ["report", str(run), "--output", str(page)]
    (run / "model.keras").unlink()
    (run / "metrics.json").unlink()
    with pytest.raises(SystemExit):
        main(command)
    assert "after its first epoch" in capsys.readouterr().err
    assert not page.exists()
    (run / "checkpoints").mkdir()
    tiny_model().save(run / "checkpoints" / "best.keras")
    (run / "history.csv").write_text("epoch,loss\n1,many\n")
    main(command)
    assert "history.csv is damaged" in capsys.readouterr().out
    content = content_of(page)
    assert not content["run"]["finished"]
    assert content["samples"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "0"], "--images 0"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--max-memory", "much"], "--max-memory"),
        (["--data", "nowhere"], "nowhere does not exist"),
    ],
)
def test_wrong_words(words, said, capsys):
    with pytest.raises(SystemExit):
        main(["report", str(DIGITS), *words])
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def test_the_command_writes_over_nothing_that_it_reads(tmp_path, capsys):
    model, page = tmp_path / "model.keras", tmp_path / "page.html"
    model.write_bytes(DIGITS.read_bytes())
    for words in (["--output", str(model)], ["--card", str(model)]):
        said = f"{model} must end in {'.md' if '--card' in words else '.html'}"
        words = ["report", str(model), "--output", str(page), *words]
        stopped(capsys, words, 1, said)
    assert model.read_bytes() == DIGITS.read_bytes()
    assert not page.exists()
