"""The recipe that draws where a trained model sends images."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import one_line

import widenet_keras

pytest.importorskip("tyro")
pytest.importorskip("sklearn")

ROOT = Path(__file__).parents[1]
import routing_pictures  # noqa: E402


def test_the_committed_model(tmp_path, capsys):
    pictures = routing_pictures.Pictures(
        model=ROOT / "saved_models/digits/model.keras",
        data="digits",
        output=tmp_path / "pictures",
        images=40,
        shown=3,
    )
    routing_pictures.main(pictures)
    for name in ("patches.png", "classes.png"):
        assert (tmp_path / "pictures" / name).read_bytes().startswith(b"\x89PNG")
    assert "450 images" in capsys.readouterr().out


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_images_that_cannot_be_read(monkeypatch, tmp_path, on_error):
    line = (
        "The image a.png cannot be read (it ends too early); replace it, or "
        "on_error='skip' leaves it out."
    )

    def batches(*given):
        yield np.zeros((1, 8, 8, 1), "float32"), np.zeros(1, int)
        if given[-1] == "raise":
            # As what reads in threads of its own tells it.
            raise RuntimeError(f"2 root errors: {line} [[iterator]]")

    monkeypatch.setattr(
        routing_pictures,
        "labelled_batches",
        lambda *given: (batches(*given), ["a name"], "one image"),
    )
    pictures = routing_pictures.Pictures(
        model=ROOT / "saved_models/digits/model.keras",
        data="folder",
        output=tmp_path,
        on_error=on_error,
    )
    if on_error == "skip":
        routing_pictures.main(pictures)
        return
    with pytest.raises(ValueError, match="cannot be read") as error:
        routing_pictures.main(pictures)
    assert one_line(error) == line


def test_images_are_drawn_from_all():
    images = np.arange(1000.0).reshape(10, 100)
    labels = np.arange(1000).reshape(10, 100)
    batches = list(zip(images, labels, strict=True))
    found, whose = routing_pictures.drawn(batches, 200)
    np.testing.assert_array_equal(found, whose)
    assert len(set(whose.tolist())) == 200
    # 200 of 1,000 without replacement: the mean of their numbers deviates by
    # sqrt((1000^2 / 12) * (0.8 / 200)) = 18 from 499.5.
    assert abs(whose.mean() - 499.5) < 3 * 18
    one_hot = [(images[0], np.eye(100)[:, ::-1])]
    np.testing.assert_array_equal(
        np.sort(routing_pictures.drawn(one_hot, 500)[1]), np.arange(100)
    )


def test_shown_are_the_first_of_every_class():
    labels = np.array([2, 2, 0, 2, 1, 0])
    assert routing_pictures.of_every_class(labels, 4).tolist() == [2, 4, 0, 5]


def test_batches_are_not_kept():
    def batches():
        for _ in range(50):
            yield np.ones((64, 32, 32, 3), "float32"), np.zeros(64)

    tracemalloc.start()
    routing_pictures.drawn(batches(), 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 20 images of 12 kB twice and one batch of 64; all of them are 39 MB.
    assert peak < 4e6


def test_no_images():
    with pytest.raises(ValueError, match="no images to draw") as error:
        routing_pictures.drawn([], 5)
    one_line(error)


def test_a_model_without_experts_is_told_first(tmp_path):
    widenet_keras.ImageClassifier.from_preset("vit_digits").save(tmp_path / "vit.keras")
    given = {"model": tmp_path / "vit.keras", "data": "nowhere", "output": tmp_path}
    with pytest.raises(ValueError, match="no mixture of experts") as error:
        routing_pictures.main(routing_pictures.Pictures(**given))
    one_line(error)
    given["output"] = tmp_path / "vit.keras"
    with pytest.raises(ValueError, match="is a file") as error:
        routing_pictures.main(routing_pictures.Pictures(**given))
    one_line(error)


def test_no_images_asked_for():
    with pytest.raises(ValueError, match="images=0") as error:
        routing_pictures.Pictures(model=".", data="digits", output=".", images=0)
    one_line(error)
