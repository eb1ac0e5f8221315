"""One table of many runs."""

import json

import pytest
from conftest import one_line

pytest.importorskip("tyro")

from collect import Collection, main

from widenet_keras.utils.json_files import write_json
from widenet_keras.utils.tables import read_rows, write_rows

SHARED = {"preset": "vit_digits", "checkpoint": None, "optimization": {"ema": 0.5}}


def a_run(folder, settings, metrics=None, epochs=1):
    """Makes a folder as a run leaves it."""
    write_json(folder / "settings.json", {**SHARED, **settings})
    lines = [{"epoch": epoch + 1, "loss": 0.5} for epoch in range(epochs)]
    write_rows(folder / "history.csv", lines)
    if metrics is not None:
        write_json(folder / "metrics.json", metrics)


def test_runs_become_one_table(tmp_path):
    runs, output = tmp_path / "runs", tmp_path / "tables"
    # Texts that look like other values, and fields of the preset that one run names.
    a_run(runs / "a/seed_0", {"fields": {"width": "48"}, "data": "7"}, {"loss": 0.1})
    a_run(runs / "b", {"fields": {"steps": "2"}, "data": "x, y", "frozen": []}, None, 2)
    main(Collection(runs=runs, output=output))
    first, second = read_rows(output / "results.csv")
    assert (first["run"], second["run"]) == ("a/seed_0", "b")
    assert (first["loss"], second["loss"]) == ("0.1", "")
    assert (first["data"], second["data"]) == ('"7"', "x, y")
    assert (first["frozen"], second["frozen"]) == ("", "[]")
    for name in ("model.width", "model.steps"):
        values = {int(line[name]) for line in (first, second)}
        assert len(values) == 2
        assert int((first if name == "model.width" else second)[name]) in (48, 2)
    settings = json.loads((output / "settings.json").read_text())
    assert settings["optimization"] == {"ema": 0.5}
    assert "width" not in settings["model"]
    assert settings["model"]["image_size"] == 8
    epochs = [(e["run"], e["epoch"]) for e in read_rows(output / "history.csv")]
    assert epochs == [("a/seed_0", "1"), ("b", "1"), ("b", "2")]


def test_tables_among_the_runs_are_no_runs(tmp_path):
    a_run(tmp_path / "st/vit/seed_0", {"fields": {}}, {"loss": 0.1})
    write_json(tmp_path / "st/settings.json", {"data": "x"})
    write_rows(tmp_path / "st/results.csv", [{"variant": "vit"}])
    # One whose first run goes on yet.
    a_run(tmp_path / "new/vit/seed_0", {"fields": {}})
    write_json(tmp_path / "new/settings.json", {"data": "x"})
    output = tmp_path / "tables"
    for _ in range(2):
        main(Collection(runs=tmp_path, output=output))
        names = [line["run"] for line in read_rows(output / "results.csv")]
        assert names == ["new/vit/seed_0", "st/vit/seed_0"]
        assert len(read_rows(output / "history.csv")) == 2


def test_a_run_with_another_below_it_is_one(tmp_path):
    a_run(tmp_path / "runs/a", {"fields": {}}, {"loss": 0.1})
    a_run(tmp_path / "runs/a/tuned", {"fields": {}}, {"loss": 0.2})
    # One that goes on yet.
    a_run(tmp_path / "runs/b", {"fields": {}})
    (tmp_path / "runs/b/checkpoints").mkdir()
    a_run(tmp_path / "runs/b/tuned", {"fields": {}}, {"loss": 0.3})
    output = tmp_path / "tables"
    main(Collection(runs=tmp_path / "runs", output=output))
    names = [line["run"] for line in read_rows(output / "results.csv")]
    assert names == ["a", "a/tuned", "b", "b/tuned"]


def test_a_preset_may_be_a_folder(tmp_path):
    folder = {"preset": "saved/vit", "fields": {"dropout": "0"}}
    a_run(tmp_path / "runs/a", folder, {"loss": 0.1})
    a_run(tmp_path / "runs/b", {"fields": {}}, {"loss": 0.1})
    main(Collection(runs=tmp_path / "runs", output=tmp_path / "tables"))
    first, second = read_rows(tmp_path / "tables/results.csv")
    assert (first["preset"], first["fields.dropout"]) == ("saved/vit", '"0"')
    assert (second["preset"], second["model.image_size"]) == ("", "8")


def test_settings_of_scripts_stay_as_they_are(tmp_path):
    """The notebook's fields are a text, and a script need not have any."""
    a_run(tmp_path / "runs/a", {"fields": "steps=2"}, {"loss": 0.1})
    a_run(tmp_path / "runs/b", {}, {"loss": 0.1})
    main(Collection(runs=tmp_path / "runs", output=tmp_path / "tables"))
    first, second = read_rows(tmp_path / "tables/results.csv")
    assert (first["fields"], second["fields"]) == ("steps=2", "")


def test_a_folder_without_runs_is_told(tmp_path):
    with pytest.raises(ValueError, match="has no run in it") as error:
        main(Collection(runs=tmp_path, output=tmp_path / "tables"))
    one_line(error)
    assert not (tmp_path / "tables").exists()
