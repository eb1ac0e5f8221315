"""The models that come with the repository are what their card says."""

import hashlib
import re
from pathlib import Path

import pytest
from conftest import BACKEND

from widenet_keras.data.sources.digits import load_digits
from widenet_keras.inference import open_predictor

FOLDER = Path(__file__).parents[1] / "saved_models"
CARD = (FOLDER / "README.md").read_text()


def test_checksums_of_the_card():
    found = re.findall(r"([\w./]+) `([0-9a-f]{64})`", CARD)
    assert [name for name, _ in found] == [
        "model.keras",
        "model.tflite",
        "saved_model/manifest.json",
    ]
    for name, digest in found:
        content = (FOLDER / "digits" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest, name


@pytest.mark.parametrize("name", ["model.keras", "model.tflite", "saved_model"])
def test_accuracy_of_the_card(name):
    if name != "model.keras" and BACKEND != "tensorflow":
        pytest.skip("the file does not depend on the backend")
    images, labels = load_digits()[1]
    predictor = open_predictor(FOLDER / "digits" / name)
    found = (predictor.logits(images).argmax(-1) == labels).mean()
    assert f"| accuracy | {found:.4f} of the 450 test images" in CARD
