"""Times the mixture of experts against the dense MLPs that it replaces.

The floor is K plain dense MLPs on the same tokens: the arithmetic that a token
really uses. Every engine is timed against it, turn by turn in one process per
backend, at inference (nothing dropped) and in training (capacity, forward and
all gradients).

    python benchmarks/moe_layer.py --json benchmarks/results/moe_layer.json

The picture of rows that are there, as it stands beside them:

    python benchmarks/moe_layer.py --draw benchmarks/results/moe_layer.json \
        --png benchmarks/results/moe_layer.png

On a GPU, in bfloat16, with the achieved TFLOP/s beside those of a large matrix
product in the same run; on torch also compiled, as models there run it, over the floor
compiled:

    python benchmarks/moe_layer.py --device gpu --dtype mixed_bfloat16 \
        --backends jax torch --tokens 25216
"""

import harness

COMPILED = ", compiled"
_MARKERS = "osD^vP"
LENGTH = 197  # tokens of an image of 224 px in patches of 16, and a class token


def main():
    """Parses the command line and runs."""
    harness.run(__file__, parser().parse_args(), measure, present, draw)


def parser():
    """Returns the parser of the command line."""
    arguments = harness.parser(__doc__.splitlines()[0])
    arguments.add_argument(
        "--tokens", type=int, nargs="+", default=[197, 788, 1576, 6304, 50432]
    )
    arguments.add_argument(
        "--modes",
        nargs="+",
        choices=["inference", "training"],
        default=["inference", "training"],
    )
    arguments.add_argument(
        "--engines",
        nargs="+",
        default=["sorted", "slots", "one_hot", "all_experts"],
        help='names; "auto" for what that takes in a mode',
    )
    arguments.add_argument("--width", type=int, default=768)
    arguments.add_argument("--expert-dim", type=int, default=3072)
    arguments.add_argument("--experts", type=int, default=4)
    arguments.add_argument("--top-k", type=int, default=2)
    arguments.add_argument("--capacity-factor", type=float, default=1.2)
    arguments.add_argument("--dtype", default="float32", help="a Keras dtype policy")
    arguments.add_argument(
        "--slow-limit",
        type=int,
        default=7000,
        help="engines other than the one that auto takes stop at so many tokens",
    )
    return arguments


def measure(arguments):
    """Yields one row per mode, number of tokens and engine."""
    import numpy as np
    import timed
    from keras import ops

    from widenet_keras.layers.feed_forward import FeedForward
    from widenet_keras.layers.mixture_of_experts import MixtureOfExperts
    from widenet_keras.routing.engines import ENGINES, engine_named

    timed.require_device(arguments.device)
    a = arguments
    names = {engine: name for name, engine in ENGINES.items()}
    autos = {m: names[engine_named("auto", m == "training")] for m in a.modes}
    engines = {
        mode: dict.fromkeys(auto if e == "auto" else e for e in a.engines)
        for mode, auto in autos.items()
    }
    shape = (None, LENGTH, a.width)
    dense = [FeedForward(a.expert_dim, dtype=a.dtype) for _ in range(a.top_k)]
    layers = {
        name: MixtureOfExperts(
            a.experts,
            a.expert_dim,
            a.top_k,
            a.capacity_factor,
            engine=name,
            add_losses=False,
            dtype=a.dtype,
        )
        for name in {name for mode in a.modes for name in engines[mode]}
    }
    for layer in (*dense, *layers.values()):
        layer.build(shape)
    random = np.random.default_rng(0)
    for tokens in a.tokens:
        images = max(1, round(tokens / LENGTH))
        x = random.normal(size=(images, LENGTH, a.width)).astype("float32")
        for mode in a.modes:
            training = mode == "training"
            auto = autos[mode]
            names = [
                name for name in engines[mode] if tokens <= a.slow_limit or name == auto
            ]
            harness.progress(f"{timed.BACKEND}: {mode}, {images * LENGTH} tokens")

            def floor(x):
                return sum(layer(x) for layer in dense)

            def mixture(x, name, training=training):
                layer = layers[name].routed_experts
                return layer(x, training=training)[0]

            functions = {"floor": (floor, [w for d in dense for w in d.weights])}
            for name in names:
                functions[name] = (
                    lambda x, name=name: mixture(x, name),
                    layers[name].trainable_weights,
                )
            if timed.BACKEND == "torch" and a.device == "gpu":
                functions |= compiled_on_torch(
                    dense, {name: layers[name] for name in names}, training
                )
            cases = {}
            for name, (function, weights) in functions.items():
                if training:

                    def loss(x, function=function):
                        return ops.mean(ops.square(function(x)))

                    cases[name] = timed.gradients(loss, weights, x)
                else:
                    cases[name] = timed.forward(function, weights, x)
            if a.device == "gpu":
                cases["matmul"] = timed.large_product(a.dtype)
            calls = 10 if a.device == "gpu" else None
            found = harness.median_milliseconds(cases, a.repeats, calls)
            work = 4 * images * LENGTH * a.width * a.expert_dim * a.top_k
            for name, milliseconds in found.items():
                flops = work * (3 if training else 1)
                base = "floor" + (COMPILED if name.endswith(COMPILED) else "")
                if name == "matmul":
                    flops = timed.large_product_flops()
                yield {
                    "benchmark": "moe_layer",
                    "engine": name,
                    "auto": name == auto,
                    "mode": mode,
                    "tokens": images * LENGTH,
                    "dtype": a.dtype,
                    "milliseconds": round(milliseconds, 3),
                    "ratio_to_floor": round(milliseconds / found[base], 3),
                    "ratio_to_all_experts": (
                        round(milliseconds / found["all_experts"], 3)
                        if "all_experts" in found
                        else None
                    ),
                    "microseconds_per_token": round(
                        1e3 * milliseconds / (images * LENGTH), 3
                    ),
                    "tflops": round(flops / milliseconds / 1e9, 6),
                }


def compiled_on_torch(dense, layers, training):
    """Returns the same functions compiled, each with its weights.

    Args:
        dense: The `FeedForward` layers of the floor.
        layers: Dict of `MixtureOfExperts`.
        training: Whether capacity holds.
    """
    import torch

    from widenet_keras.layers.feed_forward import feed_forward
    from widenet_keras.layers.routed_experts import routed_experts
    from widenet_keras.routing.random_draws import SILENT
    from widenet_keras.utils import numerics

    def half(x):
        return numerics.cast(x, dense[0].compute_dtype)

    with numerics.weights_as_stored() as read:
        products = [layer.read(read) for layer in dense]
        parts = {
            name: (
                layer.routed_experts.read(read, training),
                layer.routed_experts.spec(training, hands_out=False),
            )
            for name, layer in layers.items()
        }

    def floor(x):
        each = zip(products, dense, strict=True)
        return sum(feed_forward(half(x), own, d.mlp, SILENT) for own, d in each)

    found = {"floor": (floor, [w for d in dense for w in d.weights])}
    for name, (weights, spec) in parts.items():
        found[name] = (
            lambda x, weights=weights, spec=spec: routed_experts(
                half(x), weights, spec, SILENT
            )[0],
            layers[name].trainable_weights,
        )
    return {
        name + COMPILED: (torch.compile(function, dynamic=False), weights)
        for name, (function, weights) in found.items()
    }


def present(rows, arguments):
    """Prints the table."""
    harness.print_table(
        rows,
        {
            "backend": "{}",
            "mode": "{}",
            "tokens": "{}",
            "engine": "{}",
            "milliseconds": "{:.1f}",
            "ratio_to_floor": "{:.2f}",
            "ratio_to_all_experts": "{:.2f}",
            "microseconds_per_token": "{:.1f}",
            "tflops": "{:.3f}",
        },
    )


def draw(rows):
    """Returns the figure of the time over the floor, by backend and mode."""
    plt = harness.pyplot()
    backends, modes, engines = (
        list(dict.fromkeys(row[name] for row in rows))
        for name in ("backend", "mode", "engine")
    )
    engines = [e for e in engines if not e.startswith(("floor", "matmul"))]
    tokens = sorted({row["tokens"] for row in rows})
    figure, axes = plt.subplots(
        len(modes),
        len(backends),
        squeeze=False,
        sharex=True,
        sharey="row",
        figsize=(max(4.0, 2.7 * len(backends)), 0.7 + 2.4 * len(modes)),
        layout="constrained",
    )
    for line, mode in zip(axes, modes, strict=True):
        for axis, backend in zip(line, backends, strict=True):
            for place, engine in enumerate(engines):
                wanted = {"backend": backend, "mode": mode, "engine": engine}
                mine = [row for row in rows if wanted.items() <= row.items()]
                axis.plot(
                    [row["tokens"] for row in mine],
                    [row["ratio_to_floor"] for row in mine],
                    marker=_MARKERS[place % len(_MARKERS)],
                    color=harness.CYCLE[place % len(harness.CYCLE)],
                    label=engine,
                )
            axis.axhline(1.0, color="black", linewidth=0.8, label="dense MLPs")
            axis.set(xscale="log", title=f"{backend}, {mode}")
            axis.grid(axis="y", alpha=0.3)
            # The numbers of tokens that were measured, and no powers of ten between.
            axis.set_xticks(tokens, [f"{each:,}" for each in tokens], fontsize=9)
            axis.set_xticks([], minor=True)
            axis.tick_params(axis="x", rotation=40)
        line[0].set_ylim(bottom=0)
    figure.supxlabel("tokens in a call", fontsize=11)
    figure.supylabel("time over that of K dense MLPs", fontsize=11)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=5, frameon=False)
    return figure


if __name__ == "__main__":
    main()
