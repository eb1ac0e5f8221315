"""Times the first training step of models of growing depth: what a user waits for.

    python benchmarks/compile_time.py --json benchmarks/results/compile_time.json

The model is `widenet_small_32` with 6 to 48 steps, so that compiling outweighs
computing. With `scan` the steps are one loop and neither the program nor its
compile time grows with them; with scan="never" both do. torch compiles nothing.
"""

import time

import harness


def main():
    """Parses the command line and runs."""
    arguments = harness.parser(__doc__.splitlines()[0])
    arguments.add_argument("--depths", type=int, nargs="+", default=[6, 12, 24, 32, 48])
    arguments.add_argument("--preset", default="widenet_small_32")
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--scans", nargs="+", default=["auto", "never"])
    arguments.set_defaults(repeats=3)
    harness.run(__file__, arguments.parse_args(), measure, present, draw)


def measure(arguments):
    """Yields one row per depth and way of taking the steps."""
    import statistics

    import timed

    timed.require_device(arguments.device)
    first_step(arguments, arguments.depths[0], "auto")  # loads what all share
    # torch takes the steps one by one in any case.
    scans = arguments.scans[:1] if timed.BACKEND == "torch" else arguments.scans
    for scan in scans:
        for depth in arguments.depths:
            harness.progress(f"{timed.BACKEND}: {depth} steps, scan={scan}")
            found = [
                first_step(arguments, depth, scan) for _ in range(arguments.repeats)
            ]
            yield {
                "benchmark": "compile_time",
                "mode": "first step",
                "scan": scan,
                "depth": depth,
                "milliseconds": round(
                    1e3 * statistics.median(seconds for seconds, _ in found), 1
                ),
                "operations": timed.operations(*found[0][1]),
            }


def first_step(arguments, depth, scan):
    """Returns the seconds that the first step of a fresh model takes, and the model."""
    import keras
    import numpy as np

    import widenet_keras

    keras.utils.clear_session()
    model = widenet_keras.ImageClassifier.from_preset(
        arguments.preset, steps=depth, scan=scan
    )
    model.compile()
    shape = (arguments.batch, *model.config.image_shape)
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    labels = np.arange(arguments.batch) % model.config.num_classes
    start = time.perf_counter()
    model.train_on_batch(images, labels)
    return time.perf_counter() - start, (model, images)


def present(rows, arguments):
    """Prints the table."""
    for row in rows:
        base = next(
            (
                r["milliseconds"]
                for r in rows
                if r["depth"] == 12
                and (r["backend"], r["scan"]) == (row["backend"], row["scan"])
            ),
            None,
        )
        row["ratio_to_12"] = base and round(row["milliseconds"] / base, 3)
    harness.print_table(
        rows,
        {
            "backend": "{}",
            "scan": "{}",
            "depth": "{}",
            "milliseconds": "{:.0f}",
            "ratio_to_12": "{:.2f}",
            "operations": "{}",
        },
    )


def draw(rows):
    """Returns the figure of the seconds over the depth."""
    plt = harness.pyplot()
    figure, axis = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for backend in dict.fromkeys(row["backend"] for row in rows):
        for scan, style in (("auto", "o-"), ("never", "x--"), ("always", "+:")):
            mine = [r for r in rows if (r["backend"], r["scan"]) == (backend, scan)]
            if mine:
                axis.plot(
                    [row["depth"] for row in mine],
                    [row["milliseconds"] / 1e3 for row in mine],
                    style,
                    color=harness.COLORS[backend],
                    label=f"{backend}, scan={scan}",
                )
    axis.set(xlabel="steps", ylabel="seconds to the first step", ylim=(0, None))
    axis.set_xticks(sorted({row["depth"] for row in rows}))
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


if __name__ == "__main__":
    main()
