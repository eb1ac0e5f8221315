"""Parts of batches for the processes of a job: together the whole batch."""

import numpy as np
import pytest
from conftest import one_line

from widenet_keras.data import Augmentation, open_source, training_batches
from widenet_keras.data.process_rows import Part


@pytest.fixture
def source(tmp_path, rng):
    path = tmp_path / "data.npz"
    images = rng.integers(0, 256, (26, 10, 10, 3)).astype("uint8")
    labels = rng.integers(0, 4, 26)
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return open_source(path, "train")


def batches_of(source, augmentation, part=None, count=4):
    """Returns images and labels of the first batches of 12, from batch 1 on."""
    stream = training_batches(source, 8, 3, 5, 12, augmentation, 3)
    stream = stream.from_batch(1, part)
    if hasattr(stream, "take"):
        taken = list(stream.take(count))
    else:
        taken = [stream[index] for index in range(count)]
    return [tuple(map(np.asarray, batch)) for batch in taken]


@pytest.mark.parametrize("with_tensorflow", [True, False])
@pytest.mark.parametrize(
    "fields",
    [
        {"mixup": 0.0},
        {"mixup": 0.5},
        {"mixup": 0.5, "cutmix": 1.0, "erasing": 0.5, "crop": "pad"},
    ],
    ids=["alone", "mixup", "all"],
)
def test_parts_are_the_rows_of_the_whole_batch(
    source, fields, with_tensorflow, monkeypatch
):
    if not with_tensorflow:
        monkeypatch.setattr("widenet_keras.data.batches.has_tensorflow", lambda: False)
    augmentation = Augmentation(randaugment_ops=0, **fields)
    whole = batches_of(source, augmentation)
    for count in (2, 3):
        parts = [
            batches_of(source, augmentation, Part(index, count))
            for index in range(count)
        ]
        for number, batch in enumerate(whole):
            for place, values in enumerate(batch):
                joined = np.concatenate([part[number][place] for part in parts])
                # XLA may round a smaller batch otherwise.
                np.testing.assert_allclose(joined, values, rtol=0, atol=1e-6)


def test_parts_that_do_not_exist_are_refused_in_one_line():
    for part in ({"index": 2, "count": 2}, {"index": -1, "count": 2}, {"count": 0}):
        with pytest.raises(ValueError, match="Part") as error:
            Part(**part)
        one_line(error)
    with pytest.raises(ValueError, match="a multiple of 3") as error:
        Part(0, 3).rows(8)
    one_line(error)
