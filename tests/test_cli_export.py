"""`widenet export` and `widenet predict` from the command line."""

import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import one_line, slow, tiny_images, tiny_model
from matplotlib.image import imsave
from PIL import Image
from test_cli import DIGITS, stopped

pytest.importorskip("tyro")

import widenet_keras
from widenet_keras.cli.export import Export
from widenet_keras.cli.main import main
from widenet_keras.cli.predict import _check_explains
from widenet_keras.inference import open_predictor
from widenet_keras.inference.litert import LiteRTPredictor
from widenet_keras.models.preprocessing import usual_preprocessing

OTHER = ["--output", "other.keras"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved WideNet of 12-pixel colour images and 5 classes, with its labels."""
    path = tmp_path_factory.mktemp("model") / "model.keras"
    tiny_model().save(path)
    (path.parent / "labels.txt").write_text("ant\nbee\ncat\ndog\neel\n")
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of four images of other sizes, two grey, one of 16 bits."""
    folder = tmp_path_factory.mktemp("photos")
    images = (tiny_images(2, size=20) + 1) / 2
    imsave(folder / "a.jpg", images[0])
    imsave(folder / "b.png", images[1])
    (folder / "more").mkdir()
    imsave(folder / "more" / "grey.png", images[0, :, :, 0], cmap="gray")
    deep = (images[1, :, :, 0] * 65535).astype("uint16")
    Image.fromarray(deep).save(folder / "more" / "sixteen_bits.png")
    return folder


@pytest.mark.parametrize(
    ("format", "name"),
    [
        slow("saved_model", "model_saved_model"),
        ("litert", "model.tflite"),
        slow("onnx", "model.onnx"),
        slow("keras", "model_dynamic_int8.keras"),
    ],
)
def test_all_formats_predict_alike(model, photos, capsys, format, name):
    arguments = ["export", str(model), "--format", format]
    if format == "keras":
        arguments += ["--quantize", "dynamic_int8"]
    main(arguments)
    printed = capsys.readouterr().out
    assert "latency" in printed
    path = model.with_name(name)
    assert open_predictor(path).class_names == ["ant", "bee", "cat", "dog", "eel"]
    main(["predict", str(photos), "--model", str(path), "--top", "2"])
    found = capsys.readouterr().out.splitlines()
    main(["predict", str(photos), "--model", str(model), "--top", "2"])
    wanted = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].rsplit("/", 1)[1] for line in wanted] == [
        "a.jpg",
        "b.png",
        "grey.png",
        "sixteen_bits.png",
    ]
    if format == "keras":
        # Rounded weights change what is nearly a tie.
        wanted, found = (
            [float(line.split()[2].rstrip(",")) for line in lines]
            for lines in (wanted, found)
        )
        np.testing.assert_allclose(found, wanted, atol=0.05)
    else:
        assert found == wanted


def test_a_picture_says_where_the_patches_went(model, photos, tmp_path, capsys):
    picture = tmp_path / "routing.png"
    image = str(photos / "a.jpg")
    main(["predict", image, "--model", str(model), "--explain", str(picture)])
    assert picture.stat().st_size > 1000
    first, last = capsys.readouterr().out.splitlines()
    name, classes = first.split(": ")
    assert name == image
    values = [float(word.rstrip(",")) for word in classes.split()[1::2]]
    assert values == sorted(values, reverse=True)
    # Five roundings to three digits.
    assert abs(sum(values) - 1) < 0.003
    assert last == f"attention and experts of the first image: {picture}"


def test_a_picture_of_a_vit_says_what_it_looks_at(photos, tmp_path, capsys):
    path, picture = tmp_path / "vit.keras", tmp_path / "attention.png"
    vit = tiny_model("vit", channels=1)
    vit.class_names = ["$a", "b\nc", "狐", "d", "e"]
    vit.save(path)
    image = str(photos / "more" / "grey.png")
    main(["predict", image, "--model", str(path), "--explain", str(picture)])
    assert picture.stat().st_size > 1000
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"attention of the first image: {picture}"
    # 2 steps, 3 heads, 10 x 10 tokens, 4 bytes.
    with pytest.raises(ValueError, match="10 tokens") as error:
        _check_explains(open_predictor(path), max_memory=2399)
    assert "--max-memory" in one_line(error)
    assert "GiB" in str(error.value)
    _check_explains(open_predictor(path), max_memory=2400)


def test_broken_images_are_named_and_the_others_predicted(model, tmp_path, capsys):
    imsave(tmp_path / "good.png", (tiny_images(1)[0] + 1) / 2)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(SystemExit) as end:
        main(["predict", str(tmp_path), "--model", str(model)])
    printed = capsys.readouterr()
    assert end.value.code == 1
    assert "good.png: " in printed.out
    first, last = printed.err.splitlines()
    assert "bad.jpg cannot be read" in first
    assert "1 of 2 images cannot be read" in last
    # Alone in what is read at a time, too.
    for index in range(31):
        shutil.copy(tmp_path / "good.png", tmp_path / f"good{index}.png")
    (tmp_path / "bad.jpg").rename(tmp_path / "z.jpg")
    with pytest.raises(SystemExit):
        main(["predict", str(tmp_path), "--model", str(model)])
    first, last = capsys.readouterr().err.splitlines()
    assert "z.jpg cannot be read" in first
    assert "1 of 33 images cannot be read" in last
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(SystemExit):
        main(["predict", str(tmp_path), "--model", str(model)])
    *lines, last = capsys.readouterr().err.splitlines()
    assert len(lines) == 33
    assert "33 of 33 images cannot be read" in last


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        (["export", "MODEL", "--format", "keras", "--output", "MODEL"], ["itself"]),
        (["export", "MODEL", "--format", "keras", "--input", "uint8", *OTHER], ["use"]),
        (["export", "MODEL", "--format", "litert", "--quantize", "int8"], ["--data"]),
        (["export", DIGITS, "--format", "litert", "--data", "none"], ["none"]),
        (["export", DIGITS, "--format", "keras", "--split", "tset"], ["'tset'"]),
        (["predict", "nowhere", "--model", "MODEL"], ["nowhere does not exist"]),
        (["predict", "MODEL", "--model", "nothing.onnx"], ["nothing.onnx"]),
        (["predict", "MODEL", "--model", "MODEL"], ["cannot be read"]),
        (
            ["export", "MODEL", "--format", "keras", "--samples", "4"],
            ["--samples 4 is"],
        ),
        (
            ["report", "MODEL", "--images", "4"],
            ["--images 4 is of the images of --data"],
        ),
    ],
)
def test_what_cannot_be_is_one_line(model, capsys, arguments, pieces):
    arguments = [str(model) if word == "MODEL" else word for word in arguments]
    stopped(capsys, arguments, 1, *pieces)


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        (["export", "MODEL", "--format", "keras", "--batch", "some"], ["--batch some"]),
        (["export", "MODEL", "--format", "keras", "--samples", "0"], ["--samples 0"]),
        (["predict", "MODEL", "--model", "MODEL", "--top", "0"], ["--top 0"]),
    ],
)
def test_flags_out_of_range_are_one_line(model, capsys, arguments, pieces):
    arguments = [str(model) if word == "MODEL" else word for word in arguments]
    stopped(capsys, arguments, 2, *pieces)


def test_explaining_needs_a_keras_file(photos, tmp_path, capsys):
    path = DIGITS.replace("model.keras", "model.tflite")
    picture = str(tmp_path / "x.png")
    command = ["predict", str(photos), "--model", path, "--explain", picture]
    stopped(capsys, command, 1, "has logits only", "give the .keras file")


def test_images_are_read_the_same_way_without_tensorflow(photos, monkeypatch):
    from widenet_keras.inference import images

    for path in images.image_files(photos):
        for shape in ((12, 12, 3), (8, 8, 1)):
            taken = usual_preprocessing(shape[0])
            wanted = images.read_pixels(path, shape, taken).astype(int)
            with monkeypatch.context() as patch:
                patch.setattr(images, "has_tensorflow", lambda: False)
                found = images.read_pixels(path, shape, taken).astype(int)
            # A sum at a half may round the other way.
            assert np.abs(found - wanted).max() <= 1


def test_a_model_that_diverged_is_told(tmp_path):
    model = tiny_model("vit", steps=1)
    bias = model.head.logits.bias
    bias.assign(np.full(bias.shape, np.nan, "float32"))
    model.save(tmp_path / "model.keras")
    predictor = open_predictor(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="answers 2 of 2 images with what are no num"):
        predictor.probabilities(tiny_images(2))
    with pytest.raises(ValueError, match=r"export: .* diverged"):
        widenet_keras.export(model, tmp_path / "other.keras", "keras", say=str)
    assert not (tmp_path / "other.keras").exists()


def test_an_export_is_held_against_images_of_all_classes(model, tmp_path):
    # A class after the other, more of each than are looked at.
    for index in range(12):
        path = tmp_path / "test" / f"{'ab'[index // 6]}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        imsave(path, np.full((12, 12, 3), index / 12))
    (tmp_path / "test" / "b" / "12.png").write_bytes(b"no image")
    words = {"model": model, "data": str(tmp_path), "split": "test", "samples": 4}
    loaded = SimpleNamespace(model=tiny_model())
    loaded.model.class_names = tuple("abcde")
    with pytest.raises(ValueError, match=r"12\.png cannot be read") as error:
        Export(**words)._images(loaded)
    one_line(error)
    images, names = Export(**words, on_error="skip")._images(loaded)
    assert names == tuple("abcde")
    assert len(images) <= 4
    assert images.min() < 0 < images.max()


def test_features_are_held_against_images_of_any_classes(tmp_path, capsys):
    for name in "ab":
        path = tmp_path / "test" / name / "image.png"
        path.parent.mkdir(parents=True)
        imsave(path, tiny_images(1)[0] / 2 + 0.5)
    tiny_model(num_classes=0).save(tmp_path / "model.keras")
    output = tmp_path / "features.keras"
    words = ["export", tmp_path / "model.keras", "keras", "--output", output]
    main([*map(str, words), "--data", str(tmp_path), "--split", "test"])
    assert "same largest feature  100.00% of 2 images" in capsys.readouterr().out
    assert open_predictor(output).class_names == []


def test_no_photo_is_drawn_over(model, photos, capsys):
    photo = photos / "a.jpg"
    before = photo.read_bytes()
    for given in (photo, photos):
        words = ["predict", str(given), "--model", str(model), "--explain", str(photo)]
        stopped(capsys, words, 1, "is read itself", "--explain")
    assert photo.read_bytes() == before


class Interpreter:
    """As LiteRT's, for at most 8 images."""

    def get_input_details(self):
        return [{"index": 0}]

    get_output_details = get_input_details

    def resize_tensor_input(self, index, shape):
        self.shape = shape

    def allocate_tensors(self):
        if self.shape[0] > 8:
            raise RuntimeError("too large")

    def set_tensor(self, index, images):
        assert images.shape == self.shape

    def invoke(self):
        pass

    def get_tensor(self, index):
        return np.zeros(self.shape)


def test_a_batch_that_is_too_large_spoils_no_other():
    predictor = LiteRTPredictor.__new__(LiteRTPredictor)
    predictor._interpreter, predictor._shape = Interpreter(), None
    predictor._one_by_one = threading.Lock()
    for count in (2, 9, 2):
        images = np.zeros((count, 12, 12, 3), "float32")
        if count > 8:
            with pytest.raises(RuntimeError, match="too large"):
                predictor.run(images)
        else:
            assert predictor.run(images).shape == images.shape
