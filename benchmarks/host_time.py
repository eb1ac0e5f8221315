"""Times what Python costs on torch: models of almost no arithmetic, and optimizers.

    python benchmarks/host_time.py --json benchmarks/results/host_time.json

Three tables, each against plain torch in the same process, turn by turn, as the least
of three runs' medians of CPU seconds on one thread:

- `python`: a ViT and a WideNet of 12 steps and width 16 on two images of 32 pixels, so
  that only Python counts, over the same ViT as plain functions with fused products and
  `AdamW(foreach)`. With the number of `aten::` operations of an inference.
- `arithmetic`: a ViT of B's width with three blocks on two images of 224 pixels, which
  this package's AdamW trains.
- `optimizers`: one step of all tensors of the small ViT.
"""

import functools
import os
import statistics
import time

import harness

os.environ.setdefault("OMP_NUM_THREADS", "1")
RUNS = 3
STILL = {"dropout": 0.0, "router_noise": 0.0, "channels": 3, "num_classes": 10}
SMALL = {
    **STILL,
    "image_size": 32,
    "patch_size": 8,
    "width": 16,
    "steps": 12,
    "heads": 2,
    "mlp_dim": 32,
    "expert_dim": 32,
}
WIDE = {
    **STILL,
    "image_size": 224,
    "patch_size": 16,
    "width": 768,
    "steps": 3,
    "heads": 12,
    "mlp_dim": 3072,
}
VIT = {"sharing": "none", "moe_blocks": "none", "pooling": "token"}


def main():
    """Parses the command line and runs."""
    arguments = harness.parser(__doc__.splitlines()[0], devices=["cpu"])
    arguments.set_defaults(backends=["torch"], repeats=21)
    harness.run(__file__, arguments.parse_args(), measure, present)


def measure(arguments):
    """Yields the rows of the three tables."""
    import torch

    torch.set_num_threads(1)
    for table in (python, arithmetic, optimizers):
        harness.progress(f"torch: timing {table.__name__}")
        yield from table(arguments)


def present(rows, arguments):
    """Prints the rows."""
    columns = {"table": "{}", "case": "{}", "milliseconds": "{:.2f}"}
    harness.print_table(rows, {**columns, "over_plain": "{:.2f}", "aten": "{:,}"})


def least_median_milliseconds(cases, repeats):
    """Returns the least of several runs' medians of each case, in CPU time.

    Args:
        cases: Dict from names to functions without arguments.
        repeats: Calls of each case in a run, taken in turn.
    """
    for function in cases.values():
        for _ in range(3):
            function()
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(RUNS):
        found = {name: [] for name in cases}
        for _ in range(repeats):
            for name, function in cases.items():
                start = time.process_time()
                function()
                found[name].append(time.process_time() - start)
        for name, seconds in found.items():
            best[name] = min(best[name], 1000 * statistics.median(seconds))
    return best


def rows_of(table, milliseconds, plain, **more):
    """Yields a row for each case, with its time over that of plain torch.

    Args:
        table: Name of the table.
        milliseconds: Dict from the names of the cases.
        plain: Function from a case to the plain one that it is set against.
        **more: Dicts from the names of cases to what a row has besides.
    """
    for name, time_of_case in milliseconds.items():
        yield {
            "table": table,
            "case": name,
            "milliseconds": round(time_of_case, 2),
            "over_plain": round(time_of_case / milliseconds[plain(name)], 2),
            **{key: found.get(name) for key, found in more.items()},
        }


def cases_of(fields, models, optimizer="adamw"):
    """Returns inference and training step of the plain ViT and of models.

    Args:
        fields: Fields of `WideNetConfig` of all of them.
        models: Dict from a name to more fields of a model.
        optimizer: What `compile` takes; by name it is Keras' own.
    """
    import torch
    from plain_torch import PlainVit, training

    import widenet_keras
    from widenet_keras.models.config import WideNetConfig

    plain = PlainVit(fields)
    steps = torch.optim.AdamW(plain.parameters, foreach=True)
    side = fields["image_size"]
    images = torch.rand(2, 3, side, side) * 2 - 1
    labels, ours = torch.tensor([1, 2]), images.permute(0, 2, 3, 1).contiguous()

    def inference(model, images, **how):
        with torch.no_grad():
            model(images, **how)

    cases = {
        "plain ViT, inference": functools.partial(inference, plain, images),
        "plain ViT, training": training(plain, steps, images, labels),
    }
    for name, more in models.items():
        config = WideNetConfig().replace(**fields, **more)
        model = widenet_keras.ImageClassifier(config, seed=0)
        model.compile(optimizer)
        run = functools.partial(inference, model, ours, training=False)
        cases[f"{name}, inference"] = run
        train = functools.partial(model.train_step, (ours, labels))
        cases[f"{name}, training"] = train
    return cases


def plain_case(name):
    """Returns the case of the plain ViT that a case is set against."""
    return f"plain ViT, {name.split(', ')[1]}"


def python(arguments):
    """Yields the rows of models of almost no arithmetic."""
    cases = cases_of(SMALL, {"ViT": VIT, "WideNet": {}})
    found = least_median_milliseconds(cases, max(arguments.repeats, 5))
    count = {name: aten(case) for name, case in cases.items() if "inference" in name}
    yield from rows_of("python", found, plain_case, aten=count)


def aten(function):
    """Returns how many `aten::` operations a call has, nested ones included."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as found:
        function()
    events = found.key_averages()
    return sum(event.count for event in events if event.key.startswith("aten::"))


def arithmetic(arguments):
    """Yields the rows of a model whose products count."""
    from widenet_keras.optimizers.optimizers import AdamW

    cases = cases_of(WIDE, {"ViT": VIT}, AdamW(1e-3))
    found = least_median_milliseconds(cases, arguments.repeats)
    yield from rows_of("arithmetic", found, plain_case)


def optimizers(arguments):
    """Yields the rows of one step of all tensors of the small ViT."""
    import torch

    import widenet_keras
    from widenet_keras.models.config import WideNetConfig
    from widenet_keras.optimizers.optimizers import SGD, AdamW, Lamb

    config = WideNetConfig().replace(**SMALL, **VIT)
    model = widenet_keras.ImageClassifier(config, seed=0)
    variables = model.trainable_variables
    weights = [torch.nn.Parameter(v.value.detach().clone()) for v in variables]
    gradients = [0.01 * torch.randn_like(weight) for weight in weights]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    clipped = {"global_clipnorm": 1.0}
    cases = {"torch AdamW(foreach)": torch.optim.AdamW(weights, foreach=True).step}
    for name, optimizer in {
        "AdamW": AdamW(1e-3),
        "SGD": SGD(1e-3),
        "LAMB, clipping": Lamb(1e-3, **clipped),
        "LAMB, clipping, average": Lamb(1e-3, use_ema=True, **clipped),
    }.items():
        optimizer.build(variables)
        cases[name] = functools.partial(step, optimizer, gradients, variables)
    found = least_median_milliseconds(cases, max(arguments.repeats, 5))
    yield from rows_of("optimizers", found, lambda name: "torch AdamW(foreach)")


def step(optimizer, gradients, variables):
    """Takes one step, as a training step does."""
    import torch

    with torch.no_grad():
        optimizer.apply(gradients, variables)


if __name__ == "__main__":
    main()
