"""Plain fit, evaluate and predict: what is reported, and on what data."""

import keras
import numpy as np
import pytest
from conftest import (
    RUN_EAGERLY,
    numpy,
    slow,
    tiny_config,
    tiny_images,
    tiny_model,
)

import widenet_keras

pytestmark = pytest.mark.usefixtures("optimized_graphs")
ROUTING_METRICS = {"balance_loss", "dropped_fraction", "utilization", "dead_experts"}
LABELS = np.arange(10) % 5


class Batches(keras.utils.PyDataset):
    """Ten images in batches of four; the last has two."""

    def __init__(self):
        super().__init__()
        self.images = tiny_images(10)

    @property
    def num_batches(self):
        return 3

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return self.images[rows], LABELS[rows]


@pytest.mark.parametrize("kind", ["widenet", slow("vit"), "vit_moe"])
def test_fit_reports_losses_apart_and_val_loss_is_the_task_loss(kind):
    model = tiny_model(kind, balance_loss_weight=0.3)
    model.compile()
    history = model.fit(
        tiny_images(10),
        LABELS,
        batch_size=4,
        validation_data=(tiny_images(10), LABELS),
        verbose=0,
    ).history
    expected = {"loss", "task_loss", "accuracy"}
    expected |= ROUTING_METRICS if kind != "vit" else set()
    assert set(history) == expected | {f"val_{name}" for name in expected}
    logs = {name: values[-1] for name, values in history.items()}
    assert logs["val_loss"] == pytest.approx(logs["val_task_loss"])
    auxiliary = 0.3 * logs.get("balance_loss", 0.0)
    assert logs["loss"] == pytest.approx(logs["task_loss"] + auxiliary, rel=1e-5)
    if kind != "vit":
        assert logs["val_dropped_fraction"] == 0.0


def test_evaluate_is_the_weighted_mean_over_a_partial_last_batch():
    model = tiny_model()
    model.compile()
    images = tiny_images(10)
    logs = model.evaluate(images, LABELS, batch_size=4, return_dict=True, verbose=0)
    logits = model.predict(images, batch_size=4, verbose=0)
    losses = keras.losses.sparse_categorical_crossentropy(
        LABELS, logits, from_logits=True
    )
    assert logs["loss"] == pytest.approx(float(numpy(losses).mean()), rel=1e-5)
    assert logs["accuracy"] == pytest.approx((logits.argmax(-1) == LABELS).mean())


def test_utilization_and_dead_experts_of_a_router_with_one_favourite():
    # The class token is zero apart from its position; a large bias of the norm
    # on feature 0 sends every token to expert 1 first and expert 0 second, so
    # each has half of the choices: 4 * 1/2 = 2. Experts 2 and 3 are dead.
    model = tiny_model(steps=2)
    model.encoder.norm2.beta.assign(np.eye(12)[[0, 0]] * 50.0)
    kernel = np.zeros((12, 4))
    kernel[0] = [0.5, 1.0, -1.0, -1.0]
    model.encoder.blocks[0].feed_forward.router.kernel.assign(kernel)
    model.compile()
    logs = model.evaluate(tiny_images(4), LABELS[:4], return_dict=True, verbose=0)
    assert logs["utilization"] == pytest.approx(2.0)
    assert logs["dead_experts"] == 2.0


def test_dead_experts_count_per_bank_not_per_step():
    # Two banks of four; a bank's expert is dead only if no step uses it.
    model = tiny_model(steps=4, sharing="sequence", unique_blocks=2)
    model.compile()
    fraction = np.zeros((4, 4), "float32")
    # Bank 0 is read by steps 0 and 1, which use experts 0 and 1; bank 1 by
    # steps 2 and 3, which use expert 2 only: 2 + 3 dead.
    fraction[0, 0] = fraction[1, 1] = fraction[2, 2] = fraction[3, 2] = 1.0
    _, record = model(tiny_images(), return_routing=True)
    record = record._replace(expert_fraction=keras.ops.convert_to_tensor(fraction))
    model.track(keras.ops.zeros(()), record, 4)
    assert float(numpy(model.trackers["dead_experts"].result())) == 5.0
    assert float(numpy(model.trackers["utilization"].result())) == 4.0


def test_py_datasets_and_generators_train():
    model = tiny_model(steps=1)
    model.compile()
    assert model.fit(Batches(), epochs=2, verbose=0).history["loss"]
    batches = Batches()
    model.fit(
        (batches[i % 3] for i in range(4)), steps_per_epoch=4, shuffle=False, verbose=0
    )


def test_prediction_does_not_depend_on_batch_mates(kind):
    model = tiny_model(kind, images_per_group=4)
    images = tiny_images(64)
    together = model.predict(images, batch_size=64, verbose=0)
    for batch_size in (1, 3, 10):
        apart = model.predict(images[:10], batch_size=batch_size, verbose=0)
        np.testing.assert_allclose(apart, together[:10], atol=1e-5)


def test_inference_is_deterministic_and_training_is_not():
    model = tiny_model(router_noise=1.0, dropout=0.2, stochastic_depth=0.3)
    images = tiny_images()
    np.testing.assert_array_equal(numpy(model(images)), numpy(model(images)))
    first, second = (numpy(model(images, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_no_images_have_no_logits(kind):
    model = tiny_model(kind)
    assert model(tiny_images(0)).shape == (0, 5)


def test_a_seed_repeats_the_training():
    def run(seed):
        keras.utils.set_random_seed(3)
        model = widenet_keras.ImageClassifier(
            tiny_config(steps=1, dropout=0.2), seed=seed
        )
        model.compile()
        return model.fit(tiny_images(8), LABELS[:8], verbose=0).history["loss"][0]

    loss = run(1)
    assert run(1) == loss
    assert run(2) != loss


@pytest.mark.slow
def test_jit_compile_on_gives_the_same_weights():
    def run(jit_compile):
        keras.utils.set_random_seed(3)
        model = tiny_model(router_noise=0.0, dropout=0.0, images_per_group=3)
        model.compile(keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        # Ten images in batches of four: the last batch is partial, and so is the
        # last group of every batch.
        model.fit(tiny_images(10), LABELS, batch_size=4, shuffle=False, verbose=0)
        return [numpy(weight) for weight in model.weights]

    for on, off in zip(run(True), run(False), strict=True):
        np.testing.assert_allclose(on, off, atol=1e-5)


def test_one_hot_labels_work():
    model = tiny_model()
    model.compile(loss="categorical_crossentropy", run_eagerly=RUN_EAGERLY)
    one_hot = keras.utils.to_categorical(LABELS, 5)
    logs = model.fit(tiny_images(10), one_hot, verbose=0).history
    assert "accuracy" in logs
    assert np.isfinite(logs["loss"][0])


def test_saved_model_goes_on_training_where_it_stopped(tmp_path):
    model = tiny_model(steps=1, router_noise=0.0, dropout=0.0)
    model.compile(keras.optimizers.AdamW(1e-2))
    data = {"batch_size": 5, "shuffle": False, "verbose": 0}
    model.fit(tiny_images(10), LABELS, **data)
    model.save(tmp_path / "model.keras")
    again = widenet_keras.load_model(tmp_path / "model.keras")
    expected = model.fit(tiny_images(10), LABELS, **data).history["loss"]
    found = again.fit(tiny_images(10), LABELS, **data).history["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
