"""Exports models in every format: size, agreement, and latency of LiteRT files.

    python benchmarks/exports.py --json benchmarks/results/exports.json

Weights are random, and so are the images, smooth ones of many colours. Of those the
model is surest of, every export must have the model's top class within the bounds of
`widenet_keras.export`, as anybody's export.

Latency is that of LiteRT files at batch 1, timed turn by turn in one process, over
that of the first preset's file of the same quantisation. It stands beside two ratios of
arithmetic: of what the graph executes, and of the K experts that a token uses. "listed"
is the engine that exports have; "all_experts" is timed for comparison.
"""

import tempfile
from pathlib import Path

import harness

PRESETS = ["vit_b16", "widenet_b16"]
COMPARED = 16


def main():
    """Parses the command line and runs."""
    arguments = harness.parser(__doc__.splitlines()[0], devices=["cpu"])
    # The other backends export through the same code in a process of TensorFlow's.
    arguments.set_defaults(backends=["tensorflow"])
    arguments.add_argument("--presets", nargs="+", default=PRESETS)
    arguments.add_argument(
        "--formats", nargs="*", default=["saved_model", "litert", "onnx", "keras"]
    )
    arguments.add_argument("--timed", nargs="*", default=["none", "dynamic_int8"])
    arguments.add_argument("--threads", type=int, default=2)
    harness.run(__file__, arguments.parse_args(), measure, present, draw)


def measure(arguments):
    """Yields a row per preset, format and quantisation, and one per timed file."""
    import keras

    import widenet_keras

    contents, configs = {}, {}
    for preset in arguments.presets:
        keras.utils.set_random_seed(0)
        model = widenet_keras.ImageClassifier.from_preset(preset)
        images = decided(model)
        for format in arguments.formats:
            yield from exported(preset, model, format, images)
        configs[preset] = model.config
        for engine in ("listed", "all_experts"):
            if engine == "listed" or model.config.routed_steps:
                for quantize in arguments.timed:
                    contents[preset, engine, quantize] = litert_file(
                        model, engine, quantize, images
                    )
    yield from timed_files(contents, configs, arguments)


def decided(model):
    """Returns the images, of many, whose top class stands out most."""
    import keras
    import numpy as np

    random = np.random.default_rng(0)
    size, _, channels = model.config.image_shape
    images = []
    for cells in (2, 3, 4, 7, 14):
        coarse = random.uniform(-1, 1, (2 * COMPARED // 4, cells, cells, channels))
        images.append(keras.ops.image.resize(coarse, (size, size), "bicubic"))
    images = np.clip(np.concatenate(images), -1, 1).astype("float32")
    logits = model.predict(images, batch_size=8, verbose=0)
    second, first = np.sort(logits, axis=-1)[:, -2:].T
    return images[np.argsort(second - first)[:COMPARED]]


def exported(preset, model, format, images):
    """Yields the row of each quantisation that the format has."""
    import widenet_keras
    from widenet_keras.exports.options import QUANTIZATIONS, Options

    names = {"saved_model": "model", "litert": "model.tflite"}
    for quantize in QUANTIZATIONS:
        try:
            Options(format=format, quantize=quantize)
        except ValueError:
            # The format has no such quantisation.
            continue
        harness.progress(f"{preset}: {format}, {quantize}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / names.get(format, f"model.{format}")
            report = widenet_keras.export(
                model,
                path,
                format,
                quantize=quantize,
                images=images,
                say=lambda line: None,
            )
        yield {
            "benchmark": "exports",
            "mode": "file",
            "preset": preset,
            "format": format,
            "quantize": quantize,
            "bytes": report.size,
            "size_ratio": round(report.size_ratio, 4),
            "largest_difference": float(f"{report.largest_difference:.2g}"),
            "agreement": round(report.agreement, 4),
            "milliseconds": round(report.latency, 1),
        }


def litert_file(model, engine, quantize, images):
    """Returns the bytes of a LiteRT model."""
    from widenet_keras.exports.litert_tensorflow import converted
    from widenet_keras.exports.options import Options

    harness.progress(f"{model.config.steps} steps, {engine}, {quantize}: to be timed")
    options = Options(format="litert", quantize=quantize)
    return converted(model, options, images, engine)


def timed_files(contents, configs, arguments):
    """Yields one row per LiteRT file, with its time over that of the first preset."""
    import numpy as np

    from widenet_keras.inference.litert import interpreter_of

    cases = {}
    for name, content in contents.items():
        serve = interpreter_of(content, arguments.threads).get_signature_runner("serve")
        shape = (1, *configs[name[0]].image_shape)
        image = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
        cases[name] = lambda serve=serve, image=image: serve(images=image)
    found = harness.median_milliseconds(cases, arguments.repeats)
    first = configs[arguments.presets[0]]
    for (preset, engine, quantize), milliseconds in found.items():
        base = found[arguments.presets[0], "listed", quantize]
        chosen, run = flops(configs[preset], engine)
        least, least_run = flops(first, "listed")
        ratio = milliseconds / base
        yield {
            "benchmark": "exports",
            "mode": "latency",
            "preset": preset,
            "engine": engine,
            "quantize": quantize,
            "threads": arguments.threads,
            "milliseconds": round(milliseconds, 1),
            "time_ratio": round(ratio, 3),
            "executed_ratio": round(run / least_run, 3),
            "chosen_ratio": round(chosen / least, 3),
            "over_executed": round(ratio * least_run / run, 3),
            "over_chosen": round(ratio * least / chosen, 3),
        }


def flops(config, engine):
    """Returns the arithmetic of the chosen experts, and what an engine executes."""
    import widenet_keras

    chosen = widenet_keras.forward_flops(config)
    if engine == "all_experts":
        everything = config.replace(top_k=config.num_experts)
        return chosen, widenet_keras.forward_flops(everything)
    # One row behind those of each expert (`listed_tensorflow.py`).
    spare = 4 * config.width * config.expert_dim * config.num_experts
    return chosen, chosen + spare * len(config.routed_steps)


def present(rows, arguments):
    """Prints both tables."""
    files = [row for row in rows if row["mode"] == "file"]
    harness.print_table(
        files,
        {
            "preset": "{}",
            "format": "{}",
            "quantize": "{}",
            "size_ratio": "{:.3f}",
            "largest_difference": "{:.1e}",
            "agreement": "{:.3f}",
            "milliseconds": "{:.0f}",
        },
    )
    print()
    times = [row for row in rows if row["mode"] == "latency"]
    harness.print_table(
        times,
        {
            "preset": "{}",
            "engine": "{}",
            "quantize": "{}",
            "milliseconds": "{:.0f}",
            "time_ratio": "{:.2f}",
            "executed_ratio": "{:.2f}",
            "over_executed": "{:.2f}",
            "chosen_ratio": "{:.2f}",
            "over_chosen": "{:.2f}",
        },
    )


def draw(rows):
    """Returns the figure of sizes and latencies."""
    files = [row for row in rows if row["mode"] == "file"]
    times = [row for row in rows if row["mode"] == "latency"]
    last = files[-1]["preset"] if files else None
    bars = {
        (f"{last}: files", "bytes over those of float32 weights"): [
            (f"{row['format']}, {row['quantize']}", row["size_ratio"])
            for row in files
            if row["preset"] == last
        ],
        ("LiteRT: latency", "time over that of the arithmetic it executes"): [
            (f"{row['preset']}, {row['engine']}, {row['quantize']}", value)
            for row in times
            if (value := row["over_executed"]) is not None
        ],
    }
    bars = {names: some for names, some in bars.items() if some}
    counts = [len(some) for some in bars.values()]
    figure, axes = harness.pyplot().subplots(
        len(bars),
        1,
        squeeze=False,
        figsize=(8, 0.27 * sum(counts) + len(bars)),
        height_ratios=counts,
        layout="constrained",
    )
    for axis, ((title, unit), some) in zip(axes[:, 0], bars.items(), strict=True):
        names, values = zip(*some, strict=True)
        # By place: a name that stands twice has two bars.
        drawn = axis.barh(range(len(values)), values, color=harness.CYCLE[0])
        axis.bar_label(drawn, fmt="%.2f", padding=3, fontsize=9)
        axis.set_yticks(range(len(names)), names, fontsize=9)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.12 * max(values))
        axis.set_title(title, fontsize=11)
        axis.set_xlabel(unit)
    return figure


if __name__ == "__main__":
    main()
