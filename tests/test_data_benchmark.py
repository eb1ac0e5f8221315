"""The benchmark of the input pipeline runs: small sizes, the promised fields."""

import sys

import harness
import input_pipeline

SMALL = "--image-size 32 --batch 4 --seconds 0.05 --repeats 1"


def test_the_benchmark(monkeypatch, capsys, tmp_path):
    parsed = []
    monkeypatch.setattr(harness, "run", lambda path, found, *_: parsed.append(found))
    monkeypatch.setattr(input_pipeline, "MADE", 6)
    rows = list(input_pipeline.CASES)
    # One row of this package is enough, and the plain one comes by itself.
    words = ["benchmark", *SMALL.split(), "--rows", rows[2]]
    monkeypatch.setattr(sys, "argv", words)
    input_pipeline.main()
    found = list(input_pipeline.measure(parsed[0]))
    assert [row["pipeline"] for row in found] == [rows[0], rows[2]]
    assert found[0]["ratio"] == 1.0
    assert all(row["images_per_second"] > 0 for row in found)
    # As large as ImageNet's images, whose mean is 110 kB.
    assert 70 < found[0]["kilobytes_per_image"] < 160
    input_pipeline.present(found, parsed[0])
    assert "images_per_second" in capsys.readouterr().out
    input_pipeline.draw(found).savefig(tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
