"""Measures what one GPU makes of the layer and of whole models, on JAX and torch.

    python benchmarks/gpu.py --json benchmarks/results/gpu.json

In bfloat16, on images that are on the GPU already:

- ViT-B and WideNet-B: images per second of `fit`, without and with dropout, and of
  `predict`, the first step of `fit`, the peak memory of training without dropout;
- a ViT-B as plain functions of the framework and, on torch, timm's, if it is installed;
- the mixture of experts over the dense MLPs that it replaces (`moe_layer.py`), with the
  engines that "auto" takes; on torch compiled as well, as within a model.

Each with the share that its arithmetic, by formula, has of the TFLOP/s of a large
product in the same process. The backends run side by side and take turns on the GPU:
while one is timed, the other compiles on the host, on torch with first steps on the
GPU.
"""

import contextlib
import functools
import gc
import itertools
import time
import traceback

import harness

PRESETS = ("vit_b16", "widenet_b16")
STEPS = 10  # of an epoch: what is timed before anything is waited for


def main():
    """Parses the command line and runs."""
    arguments = harness.parser(__doc__.splitlines()[0])
    arguments.set_defaults(device="gpu", backends=["jax", "torch"])
    arguments.add_argument("--presets", nargs="+", default=PRESETS)
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--tokens", type=int, default=25216)
    arguments.add_argument("--dropouts", type=float, nargs="+", default=[0.0])
    arguments.add_argument("--dtype", default="mixed_bfloat16")
    arguments.add_argument("--side", type=int, default=8192, help="of that product")
    arguments.add_argument("--parts", nargs="+", help="only these, of all named here")
    arguments = arguments.parse_args()
    arguments.parts = arguments.parts or [*arguments.presets, "plain", "layer"]
    harness.run(__file__, arguments, measure, present, at_once=True)


def measure(arguments):
    """Yields the rows of all parts; one that fails does not take the others along."""
    import timed

    timed.require_device(arguments.device)
    timed.LARGE = arguments.side
    product = timed.large_product(arguments.dtype)
    with harness.turn():
        found = harness.median_milliseconds({0: product}, arguments.repeats, 10)
    [taken] = found.values()
    best = timed.large_product_flops() / taken / 1e9
    for part in arguments.parts:
        harness.progress(f"{timed.BACKEND}: {part}")
        try:
            if part == "layer":
                yield from layer(arguments)
            elif part == "plain":
                yield from finished(plain(arguments), arguments, best)
            else:
                yield from finished(model(arguments, part), arguments, best)
        except Exception:
            traceback.print_exc()
            harness.progress(f"{timed.BACKEND}: {part} failed, see above")
        gc.collect()


def finished(rows, arguments, best):
    """Yields rows with what follows from their milliseconds and operations.

    Args:
        rows: Dicts, `flops` of an image among them.
        arguments: Those of the command line.
        best: TFLOP/s of the large product.
    """
    for row in rows:
        images = 1e3 * arguments.batch / row["milliseconds"]
        tflops = row.pop("flops") * images / 1e12
        yield {
            "benchmark": "gpu",
            "batch": arguments.batch,
            "dtype": arguments.dtype,
            **row,
            "milliseconds": round(row["milliseconds"], 2),
            "images_per_second": round(images),
            "tflops": round(tflops, 1),
            "share_of_product": round(tflops / best, 3),
        }


def layer(arguments):
    """Yields the rows of the mixture of experts alone."""
    import moe_layer

    options = ["--device", arguments.device, "--dtype", arguments.dtype]
    options += ["--engines", "auto", "--tokens", str(arguments.tokens)]
    options += ["--repeats", str(arguments.repeats)]
    with harness.turn():
        yield from list(moe_layer.measure(moe_layer.parser().parse_args(options)))


def model(arguments, preset):
    """Yields the rows of a preset."""
    import timed

    import widenet_keras
    from widenet_keras.optimizers.optimizers import AdamW

    for dropout in arguments.dropouts:
        before = timed.start_of_peak(arguments.device)
        classifier = widenet_keras.ImageClassifier.from_preset(
            preset, dtype=arguments.dtype, dropout=dropout
        )
        classifier.compile(AdamW(1e-3))
        config = classifier.config
        images, labels = on_device(arguments, config)
        flops = widenet_keras.forward_flops(config)
        shared = {"model": preset, "dropout": dropout}

        def training(count=1, classifier=classifier, images=images, labels=labels):
            batches = itertools.repeat((images, labels))
            classifier.fit(
                (batch for batch in batches), steps_per_epoch=count, verbose=0
            )

        def inference(count=1, classifier=classifier, images=images):
            batches = (batch for batch in itertools.repeat((images,)))
            classifier.predict(batches, steps=count, verbose=0)

        with compilation():
            start = time.perf_counter()
            training()
            first = time.perf_counter() - start
        harness.progress(f"{timed.BACKEND}: first step {first:.1f} s")
        yield {
            **shared,
            "mode": "training",
            "milliseconds": milliseconds(training, arguments),
            "flops": 3 * flops,
            "first_step_seconds": round(first, 1),
            "peak_gib": peak_since(before, arguments),
        }
        if dropout == arguments.dropouts[0]:
            yield {
                **shared,
                "mode": "inference",
                "milliseconds": milliseconds(inference, arguments),
                "flops": flops,
            }
        del classifier, training, inference
        gc.collect()


def plain(arguments):
    """Yields the rows of the ViT of plain functions, and of timm's on torch."""
    import timed

    import widenet_keras

    config = widenet_keras.preset_config(arguments.presets[0])
    # Of the preset it has the sizes alone.
    sizes = ("image_size", "channels", "patch_size", "width", "steps", "heads")
    sizes = {name: getattr(config, name) for name in (*sizes, "mlp_dim")}
    config = widenet_keras.preset_config("vit_b16", **sizes, representation=False)
    flops = widenet_keras.forward_flops(config)
    cases = plain_torch if timed.BACKEND == "torch" else plain_jax
    for name, (inference, training) in cases(arguments, config):
        for mode, case, times in (
            ("training", training, 3),
            ("inference", inference, 1),
        ):
            yield {
                "model": name,
                "dropout": 0.0,
                "mode": mode,
                "milliseconds": milliseconds(case, arguments),
                "flops": times * flops,
            }


def plain_torch(arguments, config):
    """Yields names with a function for inference and one for training."""
    import torch
    from plain_torch import PlainVit, training

    where = {"cpu": "cpu", "gpu": "cuda"}[arguments.device]
    dtype = computed_in(arguments)
    half = torch.autocast(where, getattr(torch, dtype), enabled=dtype != "float32")
    images, labels = on_device(arguments, config)
    images = images.permute(0, 3, 1, 2).contiguous()

    def cases(model, parameters):
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
        step = training(half(model), optimizer, images, labels)
        infer = torch.no_grad()(half(model))

        def inference(count=1):
            found = [infer(images) for _ in range(count)]
            return [logits.float().cpu() for logits in found]

        def train(count=1):
            return [step() for _ in range(count)][-1].item()

        return inference, train

    with torch.device(where):
        mine = PlainVit(config.to_dict())
    yield "plain ViT", cases(mine, mine.parameters)
    del mine
    try:
        import timm
    except ImportError:
        return
    if (config.image_size, config.width) != (224, 768):
        return
    with torch.device(where):
        other = timm.create_model("vit_base_patch16_224", num_classes=1000)
    yield "timm ViT", cases(other.__call__, other.parameters())


def computed_in(arguments):
    """Returns the dtype of the products of `--dtype`."""
    import keras

    return keras.dtype_policies.get(arguments.dtype).compute_dtype


def plain_jax(arguments, config):
    """Yields a name with a function for inference and one for training."""
    import jax
    import numpy as np
    import plain_jax

    images, labels = on_device(arguments, config)
    how = {"heads": config.heads, "dtype": computed_in(arguments)}
    weights = plain_jax.weights_of(config.to_dict())
    state = [weights, *(jax.tree.map(jax.numpy.zeros_like, weights) for _ in range(2))]
    infer = jax.jit(functools.partial(plain_jax.logits, **how))
    step = jax.jit(functools.partial(plain_jax.training_step, **how), donate_argnums=0)

    def training(count=1):
        for _ in range(count):
            state[:], loss = step(state, images, labels)
        return float(loss)

    def inference(count=1):
        found = [infer(state[0], images) for _ in range(count)]
        return [np.asarray(logits) for logits in found]

    yield "plain ViT", (inference, training)


def peak_since(before, arguments):
    """Returns the peak memory in GiB; None if it was reached before."""
    import timed

    found = timed.peak_gib(arguments.device)
    return round(found, 2) if found > before else None


def milliseconds(case, arguments):
    """Returns the median time of a step, `STEPS` of which run before a wait.

    Args:
        case: Function of a number of steps.
        arguments: Those of the command line.
    """
    with compilation():
        case()
    with harness.turn():
        return harness.median_milliseconds({0: case}, arguments.repeats, STEPS)[0]


def compilation():
    """Context of what compiles; a turn on JAX, which tries kernels on the GPU."""
    import timed

    return harness.turn() if timed.BACKEND == "jax" else contextlib.nullcontext()


def on_device(arguments, config):
    """Returns a random batch as tensors on the device of the running backend."""
    import keras
    import timed

    return map(keras.ops.convert_to_tensor, timed.batch(arguments.batch, config))


def present(rows, arguments):
    """Prints both tables, and adds the ratios to the plain ViT and of dropout."""
    layers = [row for row in rows if row["benchmark"] == "moe_layer"]
    harness.print_table(
        layers,
        {
            "backend": "{}",
            "mode": "{}",
            "tokens": "{}",
            "engine": "{}",
            "milliseconds": "{:.2f}",
            "ratio_to_floor": "{:.2f}",
            "tflops": "{:.0f}",
        },
    )
    print()
    models = [row for row in rows if row["benchmark"] == "gpu"]
    speed = {
        (r["backend"], r["model"], r["mode"], r["dropout"]): r["milliseconds"]
        for r in models
    }
    for row in models:
        backend, name, mode = row["backend"], row["model"], row["mode"]
        plain = speed.get((backend, "plain ViT", mode, 0.0))
        if plain:
            row["over_plain"] = round(row["milliseconds"] / plain, 2)
        still = speed.get((backend, name, mode, 0.0))
        if row["dropout"] and still:
            row["over_no_dropout"] = round(row["milliseconds"] / still, 3)
    harness.print_table(
        models,
        {
            "backend": "{}",
            "model": "{}",
            "mode": "{}",
            "dropout": "{}",
            "milliseconds": "{:.1f}",
            "images_per_second": "{:,}",
            "share_of_product": "{:.2f}",
            "over_plain": "{:.2f}",
            "over_no_dropout": "{:.2f}",
            "first_step_seconds": "{:.1f}",
            "peak_gib": "{:.1f}",
        },
    )


if __name__ == "__main__":
    main()
