"""How far a quantised export may be from its model, and what its report shows."""

import dataclasses

import numpy as np
import pytest
from conftest import one_line, tiny_model

from widenet_keras import export
from widenet_keras.exports.compare import chance, check
from widenet_keras.exports.export_report import ExportReport
from widenet_keras.exports.options import Options
from widenet_keras.inference.keras_file import KerasPredictor

REPORT = ExportReport(
    path="model.tflite",
    format="litert",
    quantize="dynamic_int8",
    size=1,
    parameter_bytes=1,
    operators={},
    images=256,
    batch=1,
    largest_difference=0.1,
    far=256,
    agreement=1.0,
    latency=1.0,
)


def report(images, wrong, **fields):
    agreement = (images - wrong) / images
    return dataclasses.replace(REPORT, images=images, agreement=agreement, **fields)


def refusal(*arguments, **options):
    """Returns the line with which an export is refused."""
    with pytest.raises(RuntimeError) as error:
        check(*arguments, **options)
    return one_line(error)


# Where an image differs with a probability of 0.01, the chances of so many of n:
#    n = 256:  5 or more 0.116, 6 or more 0.045
#    n = 2000: 28 or more 0.052, 29 or more 0.034
# and with 0.05, of 256: 19 or more 0.057, 20 or more 0.034; with 0.005, of 200: 3 or
# more 0.080, 4 or more 0.019. Of 8 images 2 or more have 0.003, and one may differ.
@pytest.mark.parametrize(
    ("quantize", "images", "most"),
    [
        ("dynamic_int8", 256, 5),
        ("dynamic_int8", 2000, 28),
        ("int8", 256, 19),
        ("float16", 200, 3),
        ("dynamic_int8", 8, 1),
        ("float16", 2, 1),
    ],
)
def test_a_sample_may_be_worse_by_chance(quantize, images, most):
    check(report(images, most, quantize=quantize))
    refusal(report(images, most + 1, quantize=quantize))


def test_chances_are_those_of_the_binomial_distribution():
    # 1 - 0.99 ** 8, and 1 - 0.99 ** 8 - 8 * 0.01 * 0.99 ** 7.
    assert chance(1, 8, 0.01) == pytest.approx(0.0772553, abs=1e-6)
    assert chance(2, 8, 0.01) == pytest.approx(0.0026901, abs=1e-6)
    assert chance(0, 8, 0.01) == chance(3, 8, 1.0) == 1.0
    assert chance(100_000, 100_000, 0.5) == 0.0


def test_a_bound_that_is_given_holds_for_the_sample():
    # 250 of 256 are 97.66 %.
    found = report(256, 6)
    refusal(found)
    check(found, min_agreement=0.976)
    check(found, min_agreement=0)
    line = refusal(found, min_agreement=0.977)
    assert "250 of 256 images (97.66 %), under the 97.70 % asked for" in line


def test_the_refusal_says_what_to_change():
    line = refusal(report(200, 8))
    assert "192 of 200 images (96.00 %), which is significantly under 99.0 %" in line
    assert "model.tflite was not written" in line
    assert "--min-agreement" in line
    assert "real images" not in line
    assert "Give real images" in refusal(report(8, 3), random_images=True)


def test_logits_that_are_no_numbers_pass_no_bound():
    found = report(8, 0, largest_difference=float("nan"))
    assert "no numbers" in refusal(found, min_agreement=0.0)


def test_features_are_called_so():
    features = report(256, 6, output="features")
    assert "has the model's largest feature on 250 of 256" in refusal(features)
    lines = str(features).splitlines()
    assert lines[2].endswith("in the features")
    assert lines[3].startswith("  same largest feature  97.66%")
    bad = report(256, 0, output="features", largest_difference=np.nan)
    assert "has features that are no numbers" in refusal(bad)
    plain = dataclasses.replace(features, quantize="none")
    assert "in the features, over" in refusal(plain)


def test_an_export_without_answers_is_told_as_such(tmp_path, monkeypatch):
    def answers(self, images):
        return np.full((len(images), 5), np.nan, "float32")

    monkeypatch.setattr(KerasPredictor, "run", answers)
    with pytest.raises(RuntimeError, match="answers with what are no numbers") as error:
        export(tiny_model("vit", steps=1), tmp_path / "a.keras", "keras")
    assert str(tmp_path / "a.keras") in one_line(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [-0.1, 1.5, 99, float("nan"), "x", True])
def test_a_bound_is_a_fraction(value):
    with pytest.raises(ValueError, match="min_agreement") as error:
        Options(min_agreement=value)
    one_line(error)


def test_a_report_names_the_most_frequent_operators():
    operators = {f"KIND_{i}": 1 + i % 7 for i in range(40)}
    text = str(dataclasses.replace(REPORT, operators=operators))
    [line] = [line for line in text.splitlines() if "operators" in line]
    assert line.split()[1:3] == ["KIND_13", "x7,"]
    assert line.endswith(", and 34 others")
    assert len(line) < 120
