"""The same files on the other backends: equal logits, and one backend is enough."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import BACKEND, KINDS, slow, tiny_images, tiny_model

OTHERS = [name for name in ("tensorflow", "jax", "torch") if name != BACKEND]
# Files of earlier versions are read across backends in `test_frozen.py`, without a
# process; one that writes here and reads there is enough.
READER = {"tensorflow": "torch"}.get(BACKEND)
MODELS = {kind: {"kind": kind} for kind in KINDS}
# Where a ring is read is in no file, but found out from a seed.
MODELS["ring"] = {"kind": "vit", "ring_size": 300, "ring_seed": 5}
MODELS["pieces"] = {
    "moe_blocks": "none",
    "class_token": False,
    "pieces": [
        {"kind": "relative_keys"},
        {"kind": "head_mix"},
        {"kind": "token_conv", "size": 3},
    ],
}

LOAD = """
import sys
import numpy as np
import widenet_keras

folder, kinds = sys.argv[1], sys.argv[2:]
images = np.load(f"{folder}/images.npy")
for kind in kinds:
    model = widenet_keras.load_model(f"{folder}/{kind}.keras")
    logits = model.predict(images, verbose=0)
    fresh = widenet_keras.ImageClassifier(model.config)
    fresh.load_weights(f"{folder}/{kind}.weights.h5")
    assert np.array_equal(fresh.predict(images, verbose=0), logits)
    preset = widenet_keras.ImageClassifier.from_preset(f"{folder}/{kind}")
    assert np.array_equal(preset.predict(images, verbose=0), logits)
    np.save(f"{folder}/{kind}.out.npy", logits)
"""

ALONE = """
import sys

BACKEND, REFUSED = sys.argv[1], sys.argv[2:]

from importlib.machinery import PathFinder

class Hide(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.split(".")[0] in REFUSED
        return None if hidden else super().find_spec(name, path, target)

sys.meta_path = [Hide if f is PathFinder else f for f in sys.meta_path]
import numpy as np
import keras
import widenet_keras

assert keras.backend.backend() == BACKEND
model = widenet_keras.ImageClassifier.from_preset("widenet_digits", steps=1)
model.compile()
images = np.zeros((4, 8, 8, 1), "float32")
loss = model.fit(images, np.arange(4), verbose=0).history["loss"][0]
assert np.isfinite(loss)
"""


def run(backend, code, *arguments):
    """Runs a program on a backend in a process of its own."""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "backend",
    [slow(name, when=name != READER) for name in OTHERS],
)
def test_saved_here_gives_the_same_logits_there(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    images = tiny_images(5)
    np.save(tmp_path / "images.npy", images)
    expected = {}
    for kind, fields in MODELS.items():
        model = tiny_model(**fields)
        model.save(tmp_path / f"{kind}.keras")
        model.save_weights(tmp_path / f"{kind}.weights.h5")
        model.save_to_preset(tmp_path / kind)
        expected[kind] = model.predict(images, verbose=0)
    run(backend, LOAD, str(tmp_path), *MODELS)
    for kind, logits in expected.items():
        found = np.load(tmp_path / f"{kind}.out.npy")
        np.testing.assert_allclose(found, logits, atol=1e-5, err_msg=kind)


def test_imports_and_trains_with_this_backend_alone():
    run(BACKEND, ALONE, BACKEND, "sklearn", "matplotlib", *OTHERS)
