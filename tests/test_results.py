"""What the pages say of trainings is what the files of the runs say."""

import dataclasses
import json
import shutil
import statistics
from pathlib import Path

import pytest
from pages import FRONT, README, commands, table

pytest.importorskip("tyro")

ROOT = Path(__file__).parents[1]
import study as studies  # noqa: E402
import study_tables  # noqa: E402
from matplotlib import __version__ as matplotlib_version  # noqa: E402
from PIL import Image  # noqa: E402
from study import Study  # noqa: E402
from study_rows import Rows  # noqa: E402
from study_tables import compare, markdown_tables, summarize  # noqa: E402
from study_variants import MAIN, PAIRS, VARIANTS  # noqa: E402

import widenet_keras  # noqa: E402
from widenet_keras.models.config import WideNetConfig  # noqa: E402
from widenet_keras.utils.command_line import parse  # noqa: E402
from widenet_keras.utils.tables import read_rows  # noqa: E402

RESULTS = ROOT / "results"
PAGE = (RESULTS / "README.md").read_text()
STUDIES = sorted(path.parent for path in RESULTS.glob("study_*/results.csv"))
TUNING = read_rows(RESULTS / "tuning" / "results.csv")
RUNS = sorted(path.parent for path in RESULTS.glob("*/metrics.json"))
ON_FRONT = {"CIFAR-10": "study_cifar10", "Fashion-MNIST": "study_fashion_mnist"}
CLAIMS = {
    "vit": "| against ViT |",
    "vit_mean_pooling": "| against ViT that reads the mean |",
    "vit_moe": "| against ViT-MoE |",
    "shared_norms": "| against shared norms |",
    "not_shared": "| against blocks of its own |",
}
EPOCHS = (10, 20, 30, 39)
WAYS = ("probe", "norms_and_head", "everything", "from_nothing")
DIGITS = {
    "tensorflow_seed_0": "--seed 0",
    "tensorflow_seed_1": "--seed 1",
    "tensorflow_seed_2": "--seed 2",
    "jax_seed_0": "--seed 0 --backend jax",
    "torch_seed_0": "--seed 0 --backend torch",
}


def rows_of(folder):
    """Returns the rows of a study."""
    return Rows(RESULTS / folder, order=VARIANTS).all()


def row_of(name):
    """Returns the one row of the page that ends with the name of a folder."""
    [row] = [line for line in PAGE.splitlines() if line.endswith(f"| `{name}` |")]
    return row


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_a_run_on_the_page(folder):
    accuracy = json.loads((folder / "metrics.json").read_text())["accuracy"]
    assert f"| {accuracy:.3f} |" in row_of(folder.name)
    assert f"{accuracy:.3f}" in FRONT


@pytest.mark.parametrize("run", TUNING, ids=lambda run: run["run"])
def test_a_tuning_run_on_the_page(run):
    # Those that were stopped have none.
    if run["accuracy"]:
        row = row_of(run["run"])
        assert f"| {float(run['accuracy']):.4f} |" in row
        rate = float(run["optimization.learning_rate"])
        assert rate in [number(cell) for cell in row.split("|")]
        assert f"| {run['epochs']} |" in row
    else:
        assert f"`{run['run']}`" in PAGE


def number(cell):
    """Returns the number in a cell, None if there is none."""
    try:
        return float(cell)
    except ValueError:
        return None


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_study_on_the_page(folder):
    assert markdown_tables(rows_of(folder), PAIRS).strip() in PAGE


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_the_epochs_of_a_study_end_where_its_rows_do(folder):
    last = {}
    for line in read_rows(folder / "history.csv"):
        last[line["variant"], int(line["seed"])] = line
    settings = json.loads((folder / "settings.json").read_text())
    for row in rows_of(folder):
        line = last.pop((row.variant, row.seed))
        assert line["epoch"] == str(settings["epochs"])
        assert round(float(line["accuracy"]), 4) == row.train_accuracy
    assert not last


def study_of(folder):
    """Returns the study that the first command of the page with a folder asks for."""
    for program, *words in commands(RESULTS / "README.md"):
        if program == "recipes/study.py" and folder.name in words:
            return parse(Study, words, "")


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_study_goes_on_from_what_is_kept_of_it(folder, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "study"
    shutil.copytree(folder, copy)
    kept = json.loads((folder / "settings.json").read_text())
    settings = Study.settings
    monkeypatch.setattr(studies, "check_data", lambda study: None)
    monkeypatch.setattr(
        Study,
        "settings",
        lambda study: {**settings(study), "backend": kept["backend"]},
    )
    study = dataclasses.replace(study_of(folder), output=copy)
    rows = rows_of(folder)
    for row in rows:
        runs = {"variants": (row.variant,), "seeds": (row.seed,)}
        studies.check_rows(Rows(copy), dataclasses.replace(study, **runs))
    seeds_of = {}
    for row in rows:
        seeds_of.setdefault(row.variant, []).append(row.seed)
    # Variants of which all have the same seeds are one command.
    for seeds in dict.fromkeys(map(tuple, seeds_of.values())):
        variants = tuple(name for name, own in seeds_of.items() if tuple(own) == seeds)
        studies.main(dataclasses.replace(study, variants=variants, seeds=seeds))
        count = len(variants) * len(seeds)
        assert f"{count} runs, {count} of them finished" in capsys.readouterr().out
    for name in ("results.csv", "history.csv", "settings.json"):
        assert (copy / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_the_pictures_of_a_study_are_of_its_rows(folder, tmp_path):
    study_tables.write_tables(tmp_path, rows_of(folder), MAIN, PAIRS)
    for name in study_tables.AXES:
        with Image.open(folder / name) as kept, Image.open(tmp_path / name) as fresh:
            made_by = f"Matplotlib version{matplotlib_version}"
            if not kept.text["Software"].startswith(made_by):
                pytest.skip("other versions place a pixel here and there otherwise")
            assert kept.tobytes() == fresh.tobytes(), name


def test_the_unfinished_study_on_the_page():
    folder = RESULTS / "study_gpu_unfinished"
    study = Study(data="", output=folder, budget="gpu")
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["fields"] == json.loads(json.dumps(study.base()))
    history = read_rows(folder / "history.csv")
    for variant in ("vit", "vit_moe", "widenet"):
        lines = [line for line in history if line["variant"] == variant]
        tables = [[line for line in lines if line["seed"] == s] for s in "012"]
        seen = [[float(row["val_accuracy"]) for row in rows[:39]] for rows in tables]
        means = [f"{statistics.mean(each[n - 1] for each in seen):.4f}" for n in EPOCHS]
        last = [each[38] for each in seen]
        model = widenet_keras.ImageClassifier(
            WideNetConfig().replace(**study.fields_of(variant), num_classes=10)
        )
        model.build((None, *model.config.image_shape))
        flops = f"{widenet_keras.forward_flops(model.config) / 1e9:.4f}"
        spread = f"{statistics.stdev(last):.4f}"
        each = ", ".join(f"{value:.4f}" for value in last)
        cells = [f"{model.count_params():,}", flops, *means, spread, each]
        assert f"| `{variant}` | {' | '.join(cells)} |" in PAGE


def test_there_is_something_to_hold_the_pages_to():
    assert all((STUDIES, TUNING, RUNS))


def test_the_studies_of_the_front_page():
    rows = []
    for images, folder in ON_FRONT.items():
        summary = summarize(rows_of(folder))
        summary = {row["variant"]: row for row in summary}
        shown = ("vit", "vit_mean_pooling", "vit_moe", "widenet", "shared_norms")
        rows += [
            [
                images,
                f"`{row['variant']}`",
                f"{row['parameters']:,}",
                f"{row['parameters'] / summary['vit']['parameters']:.2f}",
                f"{row['seeds']}",
                f"{row['accuracy']:.4f} ± {row['spread']:.4f}",
            ]
            for row in (summary[name] for name in shown if name in summary)
        ]
    assert table("| images | variant |") == rows
    short = [
        [variant, parameters, ratio, accuracy]
        for images, variant, parameters, ratio, seeds, accuracy in rows
        if images == "CIFAR-10" and variant != "`shared_norms`" and seeds == "3"
    ]
    assert table("| variant | parameters | over ViT's |") == short


def test_the_claims_in_one_place():
    names = ("study_cifar10", "study_fashion_mnist", "study_few_images")
    found = [compare(rows_of(name), PAIRS) for name in names]
    for other in CLAIMS:
        [row] = [line for line in PAGE.splitlines() if line.startswith(CLAIMS[other])]
        cells = [
            f"{each['mean']:+.3f} at {each['parameters']:.2f}"
            for compared in found
            for each in compared
            if each["pair"] == ("widenet", other)
        ]
        said = [cell.strip() for cell in row.split("|")[3:6]]
        assert [cell for cell in said if cell] == cells


@pytest.mark.parametrize("way", WAYS)
def test_the_transfers_on_the_page(way):
    lines = read_rows(RESULTS / "transfer" / "results.csv")
    runs = [line for line in lines if line["run"].startswith(f"{way}/")]
    seen = [float(run["accuracy"]) for run in runs]
    assert [run["seed"] for run in runs] == ["0", "1", "2"]
    settings = json.loads((RESULTS / "transfer" / "settings.json").read_text())
    assert settings["train_images"] == 1000
    assert {run["train"] for run in runs} == {way}
    mean = statistics.mean(seen)
    assert f"{mean:.3f}" in FRONT
    each = ", ".join(f"{accuracy:.4f}" for accuracy in seen)
    rate, epochs = float(runs[0]["optimization.learning_rate"]), runs[0]["epochs"]
    spread = f"{statistics.stdev(seen):.4f}"
    cells = [f"{rate:g}", epochs, f"{mean:.4f}", spread, each]
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{way}` |")]
    assert [row for row in rows if row.endswith(f"| {' | '.join(cells)} |")]


def test_how_the_transfers_were_tuned():
    tries = read_rows(RESULTS / "transfer" / "tuning.csv")
    assert {each["train"] for each in tries} == set(WAYS)
    for tried in tries:
        assert f"| {' | '.join(tried.values())} |" in PAGE


def test_the_digits_of_the_front_page():
    rows = []
    found = {line["run"]: line for line in read_rows(RESULTS / "digits/results.csv")}
    assert found.keys() == DIGITS.keys()
    for name, flags in DIGITS.items():
        rows.append(
            [
                f"`python recipes/digits.py {flags}`",
                f"{float(found[name]['test_accuracy']):.3f}",
                f"{float(found[name]['seconds']):.0f}",
            ]
        )
    assert table("| command | test accuracy on 450 digits |") == rows


def minutes_of(folder, images, name="run", of="", epochs=None):
    """Returns the median over runs of the minutes that their epochs took."""
    spent = {}
    for line in read_rows(RESULTS / folder / "history.csv"):
        of_these = line.get(name, "").partition("/")[0] == of
        if of_these and int(line["epoch"]) <= (epochs or int(line["epoch"])):
            run = line.get("seed", line.get("run"))
            seconds = images / float(line["images_per_second"])
            spent[run] = spent.get(run, 0.0) + seconds / 60
    return f"{statistics.median(spent.values()):.1f}"


def of_digits():
    """Yields the rows of the digits in the table for who begins."""
    lines = read_rows(RESULTS / "digits" / "results.csv")
    lines = [line for line in lines if line["backend"] == "tensorflow"]
    minutes = statistics.median(float(line["seconds"]) / 60 for line in lines)
    mean = statistics.mean(float(line["test_accuracy"]) for line in lines)
    first = lines[0]
    yield (int(first["parameters"]), first["epochs"], f"{minutes:.1f}¹", "-", mean)


def of_transfers():
    """Yields those of 1,000 images of Fashion-MNIST."""
    lines = read_rows(RESULTS / "transfer" / "results.csv")
    for way in ("everything", "norms_and_head", "probe", "from_nothing"):
        runs = [line for line in lines if line["run"].startswith(f"{way}/")]
        mean = statistics.mean(float(run["accuracy"]) for run in runs)
        spent = minutes_of("transfer", 1000, of=way)
        yield 698_218, runs[0]["epochs"], spent, "-", mean


def of_study(folder, images, variants):
    """Yields those of a study, whose runs had one core each."""
    settings = json.loads((RESULTS / folder / "settings.json").read_text())
    summary = {row["variant"]: row for row in summarize(rows_of(folder))}
    for name in variants:
        spent = f"{minutes_of(folder, images, 'variant', name)}\\*"
        found = summary[name]
        epochs = str(settings["epochs"])
        yield found["parameters"], epochs, spent, "-", found["accuracy"]


def of_one_run(folder, images, parameters):
    """Yields that of a single run."""
    metrics = json.loads((RESULTS / folder / "metrics.json").read_text())
    epochs = str(len(read_rows(RESULTS / folder / "history.csv")))
    spent = minutes_of(folder, images)
    yield parameters, epochs, spent, "-", metrics["accuracy"]


def of_smaller(folder, methods):
    """Yields those of models that were made smaller."""
    for name in methods:
        lines = read_rows(RESULTS / folder / "results.csv")
        rows = [line for line in lines if line["variant"] == name]
        accuracies = [json.loads(row["accuracies"]) for row in rows]
        spent = statistics.median(
            float(row["minutes"]) for row in rows if row["minutes"]
        )
        mean = statistics.mean(each[-1] for each in accuracies)
        epochs = str(len(accuracies[0]) - 1)
        # Each seed leaves other sizes.
        count = round(statistics.mean(int(row["parameters"]) for row in rows))
        yield count, epochs, f"{spent:.1f}¹", "-", mean


def of_gpu():
    """Yields those of the study on a GPU."""
    folder = "study_gpu_unfinished"
    lines = read_rows(RESULTS / folder / "history.csv")
    for name, count in (("vit", 8_014_602), ("widenet", 1_966_858)):
        runs = [line for line in lines if line["variant"] == name]
        last = [float(line["val_accuracy"]) for line in runs if line["epoch"] == "39"]
        spent = f"{minutes_of(folder, 25_000, 'variant', name, 39)}†"
        yield count, "39 of 60", "-", spent, statistics.mean(last)


def test_the_table_for_who_begins():
    rows = [
        *of_digits(),
        *of_smaller("systems_smaller_digits", ("prune",)),
        *of_transfers(),
        *of_study("study_few_images", 5000, ("vit", "widenet")),
        *of_study("study_cifar10", 50_000, ("vit", "widenet", "vit_moe")),
        *of_smaller("systems_smaller_cifar10", ("prune",)),
        *of_smaller("systems_cifar10", ("rank_16",)),
        *of_study("study_fashion_mnist", 60_000, ("vit", "widenet")),
        *of_one_run("fashion_mnist", 60_000, 204_682),
        *of_gpu(),
    ]
    wanted = [(f"{row[0]:,}", *row[1:4], f"{row[4]:.3f}") for row in rows]
    shown = [cells[2:] for cells in table("| images | model |", PAGE.splitlines())]
    assert [tuple(cells) for cells in shown] == wanted


@pytest.mark.skipif((ROOT / "PKG-INFO").exists(), reason="sources without pictures")
def test_every_picture_is_there_and_shown():
    pictures = {
        path.relative_to(RESULTS).as_posix()
        for path in RESULTS.rglob("*.png")
        if path.parent in (RESULTS, RESULTS / "routing", *STUDIES)
    }
    for name in pictures:
        assert f"]({name})" in PAGE or f"](results/{name})" in FRONT, name
    for page, folder in ((PAGE, RESULTS), (README.read_text(), ROOT)):
        for link in page.split("](")[1:]:
            target = link.split(")")[0]
            if not target.startswith("http"):
                assert (folder / target).exists(), target
