"""SavedModel and LiteRT files: same answers, dynamic batch, small, no leftovers."""

import numpy as np
import pytest
from conftest import BACKEND, SLOW_ON_JAX, numpy, one_line, tiny_images, tiny_model

import widenet_keras
from widenet_keras.export import export as export_module

pytest.importorskip("tensorflow")
# The converter and the second process are slow; TensorFlow covers all kinds.
KINDS_HERE = ["widenet", "vit", "vit_moe"] if BACKEND == "tensorflow" else ["vit_moe"]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="once is enough")
def test_a_model_in_mixed_precision_is_exported_in_float32(tmp_path):
    model = tiny_model(dtype="mixed_bfloat16")
    # Eight bits are wrong by more than the 1e-4 that an export may be.
    assert widenet_keras.export_saved_model(model, tmp_path / "export") <= 1e-4
    assert model.compute_dtype == "bfloat16"


@pytest.mark.parametrize("kind", KINDS_HERE)
@pytest.mark.parametrize(
    "export",
    [pytest.param("export_saved_model", marks=SLOW_ON_JAX), "export_litert"],
)
def test_exports_agree_with_the_model(kind, export, tmp_path):
    model = tiny_model(kind)
    difference = getattr(widenet_keras, export)(
        model, tmp_path / "exported", tiny_images(7)
    )
    assert 0 <= difference < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="reads the files in this process")
class TestFiles:
    def test_saved_model_takes_any_batch_and_stores_weights_once(self, tmp_path):
        from widenet_keras.export.tensorflow_export import run_saved_model

        # Wide enough for the weights to be most of the file.
        model = tiny_model(width=96, expert_dim=256)
        path = tmp_path / "saved_model"
        widenet_keras.export_saved_model(model, path)
        images = tiny_images(9)
        for count in (1, 9):
            np.testing.assert_allclose(
                run_saved_model(path, images[:count]),
                numpy(model(images[:count])),
                atol=1e-5,
            )
        stored = (path / "variables" / "variables.data-00000-of-00001").stat().st_size
        assert stored < 1.03 * 4 * model.count_params() + 8192

    def test_litert_has_builtin_operators_only_and_weights_once(self, tmp_path):
        import tensorflow as tf

        model = tiny_model(width=96, expert_dim=256, steps=4)
        path = tmp_path / "model.tflite"
        widenet_keras.export_litert(model, path)
        with pytest.warns(UserWarning, match="deprecated"):
            interpreter = tf.lite.Interpreter(model_path=str(path))
        operators = {op["op_name"] for op in interpreter._get_ops_details()}
        assert not [name for name in operators if name.startswith("Flex")]
        [entry] = interpreter.get_input_details()
        assert list(entry["shape_signature"]) == [-1, 12, 12, 3]
        # Four steps share one block: stored per step, the file were four times.
        assert path.stat().st_size < 1.1 * 4 * model.count_params() + 65536


def test_a_failed_check_keeps_the_old_file(tmp_path, monkeypatch):
    old = tmp_path / "model.tflite"
    old.write_text("old")
    model = tiny_model()
    if BACKEND == "tensorflow":
        module = "widenet_keras.export.tensorflow_export.write_and_compare"
        monkeypatch.setattr(module, lambda *a: 0.5)
    else:
        monkeypatch.setattr(export_module, "_export_in_tensorflow", lambda *a: 0.5)
    with pytest.raises(RuntimeError) as error:
        widenet_keras.export_litert(model, old)
    assert "differs from the model by 0.5" in one_line(error)
    assert old.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.tflite"]


def test_without_tensorflow_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(export_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError) as error:
        widenet_keras.export_litert(tiny_model(), tmp_path / "model.tflite")
    assert "pip install 'widenet_keras[tensorflow]'" in one_line(error)
