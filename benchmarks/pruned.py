"""Times models that were pruned to a part of their FLOPs over what they were made of.

    python benchmarks/pruned.py --json benchmarks/results/pruned.json

Weights, images and labels are random: what is cut says nothing of a task, but blocks of
many sizes come out, multiples of `--multiples`. LiteRT files run at batch 1 with each
of `--threads`, models of Keras at `--batch`, the whole and the pruned ones turn by turn
in one process, the whole one for two seconds at least. The last column is the ratio of
their times over the ratio of their FLOPs: at 1.0 every operation that is left out is
time saved.
"""

import time

import harness

PRESETS = ["vit_small_32", "vit_b16"]
LOOKED_AT = 8
LEAST_SECONDS = 2.0


def main():
    """Parses the command line and runs."""
    arguments = harness.parser(__doc__.splitlines()[0])
    arguments.add_argument("--presets", nargs="+", default=PRESETS)
    arguments.add_argument("--target", type=float, default=0.5)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--multiples", type=int, nargs="+", default=[8, 16])
    arguments.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="of LiteRT"
    )
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
        models = {None: whole}
        for multiple in arguments.multiples:
            models[multiple] = widenet_keras.prune(
                whole, images, labels, target=arguments.target, multiple=multiple
            )
        flops = {m: widenet_keras.forward_flops(models[m].config) for m in models}
        batch = images[: arguments.batch]
        runs = {("keras", None, len(batch)): keras_cases(models, batch)}
        if timed.BACKEND == "tensorflow":
            for threads in arguments.threads:
                cases = litert_cases(models, images, threads)
                runs["litert", threads, 1] = cases
        for (run, threads, images_at_once), cases in runs.items():
            harness.progress(f"{timed.BACKEND}: {preset} is timed, {run}")
            found = harness.median_milliseconds(cases, repeats_of(cases, arguments))
            for multiple in arguments.multiples:
                ratio = found[multiple] / found[None]
                of_flops = flops[multiple] / flops[None]
                yield {
                    "benchmark": "pruned",
                    "preset": preset,
                    "run": run,
                    "threads": threads,
                    "batch": images_at_once,
                    "multiple": multiple,
                    "milliseconds_whole": round(found[None], 2),
                    "milliseconds_pruned": round(found[multiple], 2),
                    "time_ratio": round(ratio, 3),
                    "flop_ratio": round(of_flops, 3),
                    "over_flops": round(ratio / of_flops, 3),
                }


def repeats_of(cases, arguments):
    """Returns how many timings a case gets: more of what is short."""
    cases[None]()
    start = time.perf_counter()
    cases[None]()
    taken = time.perf_counter() - start
    return max(arguments.repeats, round(LEAST_SECONDS / taken))


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
    from widenet_keras.exports.litert_tensorflow import converted
    from widenet_keras.exports.options import Options
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
            "threads": "{}",
            "batch": "{}",
            "multiple": "{}",
            "milliseconds_whole": "{:.1f}",
            "milliseconds_pruned": "{:.1f}",
            "time_ratio": "{:.3f}",
            "flop_ratio": "{:.3f}",
            "over_flops": "{:.2f}",
        },
    )


if __name__ == "__main__":
    main()
