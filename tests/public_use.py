"""What users write, for the type checker: nothing here is run.

`mypy` reads it in `.ci/run`. A line that must be refused says so with `type: ignore`,
and mypy tells of one that is not refused.
"""

from pathlib import Path

import keras
import numpy as np

import widenet_keras
from widenet_keras import ImageClassifier, plot
from widenet_keras.data import (
    Augmentation,
    evaluation_batches,
    load_digits,
    open_source,
    training_batches,
)
from widenet_keras.layers import Attention, Block, Encoder, FeedForward
from widenet_keras.training import Consistency, Distillation, Optimization


def ten_lines() -> None:
    (x_train, y_train), (x_test, y_test) = load_digits()
    model = ImageClassifier.from_preset("widenet_digits", num_classes=10, seed=1)
    model.compile()
    model.fit(x_train, y_train, epochs=20, validation_data=(x_test, y_test))
    plot.plot_routing(model.routing(x_test), x_test, path="routing.png")
    model.save(Path("model.keras"))
    report = widenet_keras.export(model, "model.tflite", "litert", images=x_test)
    smaller: float = report.size_ratio
    said: str = f"{smaller:.2f} {report.to_dict()}"
    print(said)
    model.compile(metrics=["accuracy"], terms=Consistency())  # type: ignore[arg-type]
    ImageClassifier.from_preset(3)  # type: ignore[arg-type]
    ImageClassifier.from_preset("widenet_digits", seed="1")  # type: ignore[arg-type]


def verbs(images: np.ndarray, labels: np.ndarray) -> None:
    vit = ImageClassifier.from_preset("vit_digits")
    wide = widenet_keras.tie(vit, base="average", moe_blocks="none")
    relaxed = widenet_keras.relax(vit, rank=8, sharing="cycle")
    plain = widenet_keras.untie(widenet_keras.merge(relaxed))
    narrow = widenet_keras.extract(plain, width=0.5)
    cut: ImageClassifier = widenet_keras.prune(vit, images, labels, target=0.5)
    lora = vit.adapted(pieces=[widenet_keras.LoRA(4)], frozen=("embedding", "core"))
    tuned: ImageClassifier = lora.with_image_size(16)
    tuned.frozen = ("core",)
    folder, config = widenet_keras.to_timm(narrow, "out/model.safetensors")
    print(wide.config.tokens + cut.config.grid[0], folder.parent, config.name)
    widenet_keras.relax(vit, rank="8")  # type: ignore[arg-type]
    widenet_keras.extract(vit, 0.5, widths=0.5)  # type: ignore[arg-type]
    widenet_keras.tie(vit, seed=None)  # type: ignore[arg-type]


def files(model: ImageClassifier, images: np.ndarray) -> None:
    widenet_keras.export(model, "m", "onnx", quantize="int8", batch=1, input="uint8")
    widenet_keras.export(model, "m", "tflite")  # type: ignore[arg-type]
    widenet_keras.export(model, "m", quantize="int4")  # type: ignore[arg-type]
    widenet_keras.export(model, "m", batch="all")  # type: ignore[arg-type]
    predictor = widenet_keras.open_predictor(Path("m.onnx"), trust=False)
    names: list[str] = predictor.class_names
    likely: np.ndarray = predictor.probabilities(images)
    print(names[likely.argmax()], model.preprocessing.crop_pct)
    predictor.confidence(images)  # type: ignore[attr-defined]
    loaded: keras.Model = widenet_keras.load_model("m.keras", compile=False)
    loaded.summary()


def training() -> None:
    train = open_source("flowers", "train")
    test = open_source(Path("flowers"), "validation", data_dir=None)
    augmentation = Augmentation(mixup=0.2)
    stream = training_batches(train, 224, 3, train.num_classes, 64, augmentation)
    held_out = evaluation_batches(test, 224, 3, train.num_classes, 64)
    batches: int = stream.batches_per_epoch
    optimizer = Optimization(optimizer="lamb", ema=0.999, rates={"norms": 2.0})
    distribution = widenet_keras.distribute("auto", expert_devices=1)
    run = widenet_keras.Run("run", {"seed": 0}, distribution)
    with distribution.scope():
        model = ImageClassifier.from_preset("widenet_b16")
        teacher = widenet_keras.ImageClassifier.from_preset("vit_b16")
        terms = [Distillation(teacher, alpha=0.9, kind="soft"), Consistency(1.0)]
        model.compile(optimizer.build(20 * batches, batches), terms=terms)
    done = run.restore(model, 20, batches)
    model.fit(
        distribution.training(stream, done.batches),
        initial_epoch=done.epochs,
        callbacks=run.callbacks(model, 64),
    )
    found = widenet_keras.evaluate_classifier(model, held_out)
    run.finish(model, {"top1": found.top1})
    print(found.to_markdown())
    Distillation(teacher, kind="hints")  # type: ignore[arg-type]
    widenet_keras.distribute("all")  # type: ignore[arg-type]
    run.restore(model, 20)  # type: ignore[call-arg]
    widenet_keras.Run("run")  # type: ignore[call-arg]


def parts(images: np.ndarray) -> None:
    config = widenet_keras.preset_config("vit_digits", steps=4)
    rows, columns = config.grid
    flops: float = widenet_keras.forward_flops(config)
    print(rows * columns, flops, widenet_keras.presets()[0].upper())
    pixels = widenet_keras.scale_pixels(images)
    blocks = [Block(Attention(4), FeedForward(256), dropout=0.1) for _ in range(2)]
    encoder = Encoder(blocks, steps=4, sharing="cycle", pieces=[widenet_keras.LoRA(4)])
    tokens, record = encoder(pixels)
    print(tokens.shape, record.balance_loss)
    Encoder(blocks, steps="4")  # type: ignore[arg-type]
    widenet_keras.WideNetConf(steps=4)  # type: ignore[attr-defined]
