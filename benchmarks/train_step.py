"""Times training steps of WideNet-B, ViT-B and ViT-MoE-B, and their peak memory.

    python benchmarks/train_step.py --json benchmarks/results/train_step.json

The time of a model over ViT-B's is set against the same ratio of their
arithmetic, by formula (`widenet_keras.forward_flops`, K experts per token): 1.0
means that sharing and routing cost nothing beside their products. Steps are
timed turn by turn in one process per backend; peak memory is that of a process
of its own for each model, and for a WideNet with `remat="full"` as well.

On a GPU, in bfloat16, with the achieved TFLOP/s:

    python benchmarks/train_step.py --device gpu --dtype mixed_bfloat16 \
        --backends jax torch --batch 128
"""

import os
import subprocess
import sys

import harness

PRESETS = ["widenet_b16", "vit_b16", "vit_moe_b16"]


def main():
    """Parses the command line and runs."""
    arguments = harness.parser(__doc__.splitlines()[0])
    arguments.add_argument("--presets", nargs="+", default=PRESETS)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--dtype", default="float32", help="a Keras dtype policy")
    arguments.add_argument(
        "--memory-of",
        nargs=2,
        metavar=("PRESET", "REMAT"),
        help="train one model for two steps and print the peak memory, GiB",
    )
    arguments = arguments.parse_args()
    if arguments.memory_of:
        print(peak_memory(arguments))
        return
    harness.run(__file__, arguments, measure, present, draw)


def trainer(arguments, preset, remat="none"):
    """Returns a function that takes one training step of a fresh model."""
    import timed

    import widenet_keras

    model = widenet_keras.ImageClassifier.from_preset(
        preset, dtype=arguments.dtype, remat=remat
    )
    model.compile()
    images, labels = timed.batch(arguments.batch, model.config)
    # The returned loss is a number, so the step is over when it is there.
    return model, lambda: float(model.train_on_batch(images, labels)[0])


def measure(arguments):
    """Yields one row per model for the time, and one per model and remat."""
    import timed

    import widenet_keras

    timed.require_device(arguments.device)
    harness.progress(f"{timed.BACKEND}: compiling and timing")
    models, cases = {}, {}
    for preset in arguments.presets:
        models[preset], cases[preset] = trainer(arguments, preset)
    if arguments.device == "gpu":
        cases["matmul"] = timed.large_product(arguments.dtype)
    found = harness.median_milliseconds(cases, arguments.repeats)
    flops = {
        name: 3 * arguments.batch * widenet_keras.forward_flops(model.config)
        for name, model in models.items()
    }
    flops["matmul"] = timed.large_product_flops()
    shared = {"benchmark": "train_step", "batch": arguments.batch}
    shared["dtype"] = arguments.dtype
    base = "vit_b16" if "vit_b16" in found else arguments.presets[0]
    for name, milliseconds in found.items():
        ratio = milliseconds / found[base]
        yield {
            **shared,
            "mode": "time",
            "model": name,
            "milliseconds": round(milliseconds, 1),
            "gigaflops": round(flops[name] / 1e9, 1),
            "time_ratio": round(ratio, 3),
            "flop_ratio": round(flops[name] / flops[base], 3),
            "time_over_flop_ratio": round(ratio * flops[base] / flops[name], 3),
            "tflops": round(flops[name] / milliseconds / 1e9, 6),
        }
    models.clear()
    cases.clear()
    peaks = {}
    for preset in arguments.presets:
        # Only where steps share a block are they a loop, which remat makes small.
        for remat in ("none", "full") if "widenet" in preset else ("none",):
            harness.progress(f"{timed.BACKEND}: memory of {preset}, remat={remat}")
            peaks[preset, remat] = _in_a_process_of_its_own(preset, remat)
    for (preset, remat), peak in peaks.items():
        yield {
            **shared,
            "mode": "memory",
            "model": preset,
            "remat": remat,
            "peak_gib": round(peak, 3),
            "memory_ratio": round(peak / peaks[base, "none"], 3),
        }


def _in_a_process_of_its_own(preset, remat):
    """Returns the peak memory of a process that trains one model, GiB."""
    command = [sys.executable, *sys.argv, "--memory-of", preset, remat]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    return float(done.stdout.split()[-1])


def peak_memory(arguments):
    """Trains one model for two steps and returns the peak memory, GiB."""
    import timed

    _, step = trainer(arguments, *arguments.memory_of)
    step()
    step()
    return timed.peak_gib(arguments.device)


def present(rows, arguments):
    """Prints both tables."""
    times = [row for row in rows if row["mode"] == "time"]
    harness.print_table(
        times,
        {
            "backend": "{}",
            "model": "{}",
            "milliseconds": "{:.0f}",
            "gigaflops": "{:.0f}",
            "time_ratio": "{:.2f}",
            "flop_ratio": "{:.2f}",
            "time_over_flop_ratio": "{:.2f}",
            "tflops": "{:.3f}",
        },
    )
    print()
    memory = [row for row in rows if row["mode"] == "memory"]
    harness.print_table(
        memory,
        {
            "backend": "{}",
            "model": "{}",
            "remat": "{}",
            "peak_gib": "{:.2f}",
            "memory_ratio": "{:.2f}",
        },
    )


def draw(rows):
    """Returns the figure of time and memory over those of the first model."""
    modes = {
        "time": ("time_over_flop_ratio", "time of a step over its arithmetic"),
        "memory": ("memory_ratio", "peak memory"),
    }
    present = [mode for mode in modes if any(row["mode"] == mode for row in rows)]
    figure, axes = harness.pyplot().subplots(
        len(present),
        1,
        squeeze=False,
        figsize=(8, 2.9 * len(present)),
        layout="constrained",
    )
    backends = list(dict.fromkeys(row["backend"] for row in rows))
    for axis, mode in zip(axes[:, 0], present, strict=True):
        value, title = modes[mode]
        mine = [r for r in rows if r["mode"] == mode and r["model"] != "matmul"]
        names = list(dict.fromkeys(map(_bar, mine)))
        width = 0.8 / len(backends)
        for place, backend in enumerate(backends):
            found = {_bar(r): r[value] for r in mine if r["backend"] == backend}
            bars = axis.bar(
                [names.index(name) + width * place for name in found],
                list(found.values()),
                0.92 * width,
                label=backend,
                color=harness.COLORS[backend],
            )
            axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
        middle = width * (len(backends) - 1) / 2
        axis.set_xticks([i + middle for i in range(len(names))], names, fontsize=9)
        base = next((r["model"] for r in mine if r[value] == 1.0), "the first")
        axis.axhline(1.0, color="#999999", linewidth=0.8, zorder=0)
        axis.set_title(f"{title}, {base} = 1", fontsize=11)
        axis.margins(y=0.12)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _bar(row):
    """Returns what a bar is named."""
    return row["model"] + ("\nremat" if row.get("remat") == "full" else "")


if __name__ == "__main__":
    main()
