"""Train a WideNet on real handwritten digits, look at it, and ship it.

    pip install -e '.[tensorflow,digits]'
    python recipes/digits.py

Trains the `widenet_digits` preset on scikit-learn's 1,797 digits (8x8, no
network needed), prints the test accuracy, saves `model.keras`, exports a
SavedModel and a TFLite file, checks that both give the model's answers, and
draws the training curves and where the patches went. docs/results.md has the accuracy
and the time that were measured. The two exports are written by TensorFlow, whatever
backend trains; where it is not installed they are left out.
"""

import argparse
import dataclasses
import os
import time
from pathlib import Path


@dataclasses.dataclass
class Recipe:
    """What defines the run."""

    preset: str = "widenet_digits"
    batch_size: int = 64
    peak_rate: float = 6e-3
    warmup: float = 0.1
    weight_decay: float = 0.05
    smoothing: float = 0.05
    average: float = 0.99
    validation_freq: int = 10


def parse_arguments():
    """Returns the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=56)
    parser.add_argument("--output-dir", type=Path, default=Path("runs/digits"))
    parser.add_argument("--backend", choices=["tensorflow", "jax", "torch"])
    arguments = parser.parse_args()
    if arguments.epochs < 1:
        parser.error(f"--epochs {arguments.epochs} must be at least 1")
    return arguments


def choose_backend(name):
    """Sets Keras' backend; must run before Keras is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if name:
        os.environ["KERAS_BACKEND"] = name


def exported(model, path, format, images):
    """Returns what `widenet_keras.export` does; None where it cannot be."""
    import widenet_keras
    from widenet_keras.data.requirements import has_tensorflow
    from widenet_keras.utils.install import install_command

    if not has_tensorflow():
        print(
            f"{path} left out: TensorFlow, which writes it, is not installed; run "
            f"{install_command('tensorflow')}"
        )
        return None
    return widenet_keras.export(model, path, format, images=images)


def train(recipe, epochs, seed, data):
    """Returns the trained model and the history of its training."""
    import keras

    import widenet_keras
    from widenet_keras.data.sources.digits import CLASSES, AugmentedDigits
    from widenet_keras.runs.epoch_lines import EpochLines

    (x_train, y_train), (x_test, y_test) = data
    keras.utils.set_random_seed(seed)
    model = widenet_keras.ImageClassifier.from_preset(recipe.preset, seed=seed)
    model.class_names = CLASSES
    model.trained_on = f"{len(x_train)} of scikit-learn's digits"
    batches = AugmentedDigits(
        x_train, y_train, recipe.batch_size, seed=seed, smoothing=recipe.smoothing
    )
    total = epochs * batches.num_batches
    warmup = int(recipe.warmup * total)
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=recipe.peak_rate / 20,
        decay_steps=total - warmup,
        alpha=0.01,
        warmup_target=recipe.peak_rate,
        warmup_steps=warmup,
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(
            rate,
            weight_decay=recipe.weight_decay,
            global_clipnorm=1.0,
            use_ema=True,
            ema_momentum=recipe.average,
        ),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    history = model.fit(
        batches,
        epochs=epochs,
        validation_data=(x_test, keras.utils.to_categorical(y_test, 10)),
        validation_freq=min(recipe.validation_freq, epochs),
        callbacks=[EpochLines()],
        verbose=0,
    )
    # The averaged weights stand in the model now, and training is over: plain
    # SGD has no state, so the saved file holds the weights once.
    model.compile(keras.optimizers.SGD())
    return model, history.history


def main(arguments):
    """Runs the recipe."""
    start = time.perf_counter()
    import keras

    import widenet_keras
    from widenet_keras.data.sources.digits import load_digits
    from widenet_keras.utils.files import check_folder, replaced_when_done
    from widenet_keras.utils.json_files import write_json
    from widenet_keras.utils.locks import lock_folder

    recipe, output = Recipe(), arguments.output_dir
    check_folder(output)
    _lock = lock_folder(output)
    data = load_digits()
    _, (x_test, y_test) = data
    model, history = train(recipe, arguments.epochs, arguments.seed, data)
    # Before anything else, so that nothing that fails later costs it.
    model.save(output / "model.keras")
    logits = model.predict(x_test, verbose=0)
    accuracy = float((logits.argmax(axis=-1) == y_test).mean())
    print(f"test accuracy: {accuracy:.4f} on {len(y_test)} images")

    reloaded = widenet_keras.load_model(output / "model.keras")
    difference = abs(keras.ops.convert_to_numpy(reloaded(x_test)) - logits).max()
    print(f"model.keras: reloaded, logits differ by at most {difference:.1e}")
    exports = {
        "saved_model": exported(model, output / "saved_model", "saved_model", x_test),
        "tflite": exported(model, output / "model.tflite", "litert", x_test),
    }
    with replaced_when_done(output / "curves.png") as path:
        every = min(recipe.validation_freq, len(history["loss"]))
        widenet_keras.plot.plot_history(history, path, every)
    with replaced_when_done(output / "routing.png") as path:
        where = model.routing(x_test)
        widenet_keras.plot.plot_routing(where, x_test, path=path, labels=y_test)
    metrics = {
        "test_accuracy": accuracy,
        "seconds": round(time.perf_counter() - start, 1),
        "backend": keras.backend.backend(),
        **{
            f"{name}_max_difference": e.largest_difference
            for name, e in exports.items()
            if e
        },
        "seed": arguments.seed,
        "epochs": arguments.epochs,
        "parameters": model.count_params(),
    }
    write_json(output / "metrics.json", metrics)
    print(f"{metrics['seconds']} s on {metrics['backend']}; see {output}/")


if __name__ == "__main__":
    words = parse_arguments()
    choose_backend(words.backend)
    # Takes a backend that is installed, and comes before Keras.
    from widenet_keras.utils.command_line import told_in_one_line

    with told_in_one_line("digits.py"):
        main(words)
