"""Files of earlier versions open, with the answers that they had."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import BACKEND, slow
from frozen import FIELDS, answers

import widenet_keras

VERSIONS = sorted(Path(__file__).with_name("frozen").glob("*.tar.xz"))
BACKENDS = ("tensorflow", "jax", "torch")


def is_near(kind, backend):
    """Whether a file is this backend's own, or of two kinds that have all weights.

    JAX, which compiles for long, reads its own; the others also read JAX's.
    """
    if backend == BACKEND:
        return True
    return BACKEND != "jax" and backend == "jax" and kind in ("vit_moe", "int8")


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda path: path.name)
def folder(request, tmp_path_factory):
    """The files of a version."""
    folder = tmp_path_factory.mktemp("frozen")
    with tarfile.open(request.param) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize(
    ("kind", "backend"),
    [slow(k, b, when=not is_near(k, b)) for k in FIELDS for b in BACKENDS],
)
def test_answers_are_those_of_the_version_that_wrote_the_file(folder, kind, backend):
    path = folder / f"{kind}_{backend}.keras"
    found = answers(widenet_keras.load_model(path))
    with np.load(path.with_suffix(".npz")) as file:
        wanted = dict(file)
    assert found.keys() == set(wanted)
    atol = 1e-6 if backend == BACKEND else 1e-5
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], 0, atol, err_msg=name)
