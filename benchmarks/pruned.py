"""Times models that were pruned to a part of their FLOPs over what they were made of.

    python benchmarks/pruned.py --json benchmarks/results/pruned.json

Weights, images and labels are random: what is cut says nothing of a task, but blocks of
many sizes come out. LiteRT files run at batch 1, models of Keras at `--batch`, the
whole and the pruned one turn by turn in one process. The last column is the ratio of
their times over the ratio of their FLOPs: at 1.0 every operation that is left out is
time saved.
"""

import harness

PRESETS = ["vit_small_32", "vit_b16"]
LOOKED_AT = 8


def main():
    """Parses the command line and runs."""
    arguments = harness.parser(__doc__.splitlines()[0])
    arguments.add_argument("--presets", nargs="+", default=PRESETS)
    arguments.add_argument("--target", type=float, default=0.5)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--threads", type=int, default=2, help="of LiteRT")
    harness.run(__file__, arguments.parse_args(), measure, present)


def measure(arguments):
    """Yields a row for each preset and way to run it."""
    import keras
    import numpy as np
    import timed

    import widenet_keras

    timed.require_device(arguments.device)
    random = np.random.default_rng(0)
    for preset in arguments.presets:
        keras.utils.set_random_seed(0)
        whole = widenet_keras.ImageClassifier.from_preset(preset)
        config = whole.config
        shape = (max(arguments.batch, LOOKED_AT), *config.image_shape)
        images = random.uniform(-1, 1, shape).astype("float32")
        labels = random.integers(config.num_classes, size=len(images))
        harness.progress(f"{timed.BACKEND}: {preset} is pruned")
        pruned = widenet_keras.prune(whole, images, labels, target=arguments.target)
        models = {"whole": whole, "pruned": pruned}
        flops = [widenet_keras.forward_flops(m.config) for m in (pruned, whole)]
        runs = {"keras": (keras_cases(models, images[: arguments.batch]), None)}
        if timed.BACKEND == "tensorflow":
            runs["litert"] = (litert_cases(models, images, arguments.threads), 1)
        for name, (cases, batch) in runs.items():
            harness.progress(f"{timed.BACKEND}: {preset} is timed, {name}")
            found = harness.median_milliseconds(cases, arguments.repeats)
            ratio, of_flops = found["pruned"] / found["whole"], flops[0] / flops[1]
            yield {
                "benchmark": "pruned",
                "preset": preset,
                "run": name,
                "batch": batch or arguments.batch,
                "milliseconds_whole": round(found["whole"], 2),
                "milliseconds_pruned": round(found["pruned"], 2),
                "time_ratio": round(ratio, 3),
                "flop_ratio": round(of_flops, 3),
                "over_flops": round(ratio / of_flops, 3),
            }


def keras_cases(models, images):
    """Returns a function for each model that computes its logits."""
    import timed

    return {
        name: timed.forward(
            lambda x, model=model: model(x, training=False), model.variables, images
        )
        for name, model in models.items()
    }


def litert_cases(models, images, threads):
    """Returns a function for each model that asks its LiteRT file for logits."""
    from widenet_keras.exports.options import Options
    from widenet_keras.exports.tensorflow_litert import converted
    from widenet_keras.inference.litert import interpreter_of

    cases = {}
    for name, model in models.items():
        content = converted(model, Options(format="litert"), images)
        serve = interpreter_of(content, threads).get_signature_runner("serve")
        cases[name] = lambda serve=serve: serve(images=images[:1])
    return cases


def present(rows, arguments):
    """Prints the table."""
    harness.print_table(
        rows,
        {
            "backend": "{}",
            "preset": "{}",
            "run": "{}",
            "batch": "{}",
            "milliseconds_whole": "{:.1f}",
            "milliseconds_pruned": "{:.1f}",
            "time_ratio": "{:.3f}",
            "flop_ratio": "{:.3f}",
            "over_flops": "{:.2f}",
        },
    )


if __name__ == "__main__":
    main()
