"""What the pages say of speed is what the files of the benchmarks say."""

import json
from pathlib import Path

from pages import LINES, table

ROOT = Path(__file__).parents[1]
BACKENDS = ("tensorflow", "jax", "torch")


def rows(name, **fields):
    """Returns the rows of a benchmark that have some fields."""
    file = ROOT / "benchmarks" / "results" / f"{name}.json"
    return [
        row
        for row in json.loads(file.read_text())
        if all(row.get(field) == value for field, value in fields.items())
    ]


def value(name, column, **fields):
    """Returns a column of the one row that has some fields."""
    [row] = rows(name, **fields)
    return row[column]


def test_the_experts_over_their_floor():
    def ratio(**fields):
        return f"{value('moe_layer', 'ratio_to_floor', **fields):.2f}"

    def sorted_rows(backend):
        for mode in ("inference", "training"):
            for tokens in (197, 788, 6304):
                yield ratio(backend=backend, mode=mode, tokens=tokens, engine="sorted")

    assert table("| backend | inference, 197 tokens |") == [
        [
            backend,
            *sorted_rows(backend),
            ratio(backend=backend, mode="inference", tokens=788, engine="all_experts"),
        ]
        for backend in BACKENDS
    ]


def test_a_training_step_over_that_of_vit():
    def time(backend, model):
        row = {"backend": backend, "model": model, "mode": "time"}
        for column in ("time_ratio", "time_over_flop_ratio"):
            yield f"{value('train_step', column, **row):.2f}"

    def memory(backend):
        for remat in ("none", "full"):
            row = {"backend": backend, "model": "widenet_b16", "remat": remat}
            yield f"{value('train_step', 'memory_ratio', **row):.2f}"

    assert table("| backend | WideNet-B / ViT-B time |") == [
        [
            backend,
            *time(backend, "widenet_b16"),
            *time(backend, "vit_moe_b16"),
            *memory(backend),
        ]
        for backend in BACKENDS
    ]


def test_the_cost_of_a_token_and_of_the_first_step():
    def per_token(backend, tokens):
        row = {"backend": backend, "tokens": tokens, "engine": "sorted"}
        return value("moe_layer_50k", "microseconds_per_token", **row)

    def first_step(backend):
        for depth in (32, 48):
            row = {"backend": backend, "depth": depth}
            yield f"{value('compile_time', 'ratio_to_12', **row):.2f}"

    assert table("| backend | cost per token, 50,432 / 1,576 |") == [
        [
            backend,
            f"{per_token(backend, 50432) / per_token(backend, 1576):.2f}",
            *(first_step(backend) if backend != "torch" else ("compiles nothing", "")),
        ]
        for backend in BACKENDS
    ]


def test_images_per_second():
    found = {
        (f"{row['images_per_second']:,.0f}", f"{row['ratio']:.2f}")
        for row in rows("input_pipeline")
    }
    shown = table("| pipeline | images/s | ratio |")
    assert len(shown) == 6
    assert {(speed, ratio) for _, speed, ratio in shown} <= found


def test_exports_of_every_format():
    def cell(format, quantize):
        for row in rows("exports", preset="widenet_b16", mode="file"):
            if (row["format"], row["quantize"]) == (format, quantize):
                size = f"{row['size_ratio']:.3f}"
                served = format != "keras"
                return f"{size}, {row['milliseconds']:.0f} ms" if served else size
        return ""

    assert table("| format | none | float16 |") == [
        [
            f"`{format}`",
            *(cell(format, q) for q in ("none", "float16", "dynamic_int8", "int8")),
        ]
        for format in ("saved_model", "litert", "onnx", "keras")
    ]


def test_litert_files_over_those_of_vit():
    columns = ("time_ratio", "executed_ratio", "over_executed")
    columns += ("chosen_ratio", "over_chosen")
    assert table("| engine | weights | time ratio |") == [
        [
            row["engine"],
            {"none": "float32"}.get(row["quantize"], row["quantize"]),
            *(f"{row[column]:.2f}" for column in columns),
        ]
        for row in rows("exports", preset="widenet_b16", mode="latency")
    ]


def test_exports_of_a_small_model():
    sizes = [
        f"{value('exports_small', 'size_ratio', format=format, quantize='none'):.2f}"
        for format in ("saved_model", "litert", "onnx")
    ]
    text = " ".join(LINES)
    assert "{} as a SavedModel, {} as LiteRT, {} as ONNX".format(*sizes) in text


def test_what_python_costs_on_torch():
    def ratio(table, case):
        found = value("host_time", "over_plain", table=table, case=case)
        return f"{found:.2f}"

    assert table("| over plain torch |") == [
        [
            f"{model}, width {width}",
            *(ratio(of, f"{model}, {mode}") for mode in ("inference", "training")),
        ]
        for model, width, of in (
            ("ViT", 16, "python"),
            ("WideNet", 16, "python"),
            ("ViT", 768, "arithmetic"),
        )
    ]
    names = ("AdamW", "SGD", "LAMB, clipping", "LAMB, clipping, average")
    assert table("| optimizer | over torch's AdamW |") == [
        [name, ratio("optimizers", name)] for name in names
    ]


def test_one_gpu():
    names = {
        "`vit_b16`": "vit_b16",
        "`widenet_b16`": "widenet_b16",
        "plain functions, ViT-B": "plain ViT",
        "timm's ViT-B, eager": "timm ViT",
    }

    def cell(form, column, file="gpu", **fields):
        found = rows(file, benchmark="gpu", **fields)
        number = found[0].get(column) if found else None
        return "-" if number is None else form.format(number)

    def cost(**fields):
        text = cell("{}", "over_no_dropout", "gpu_dropout", **fields)
        return text if text == "-" else f"{100 * (float(text) - 1):.0f} %"

    for name, backend, *cells in table("| model | backend | training, images/s |"):
        fields = {"model": names[name], "backend": backend}
        still = {**fields, "mode": "training", "dropout": 0.0}
        speed = ("{:,}", "images_per_second")
        assert cells == [
            cell(*speed, **still),
            cell("{:.2f}", "share_of_product", **still),
            cost(**{**still, "dropout": 0.1}),
            cell(*speed, **{**still, "mode": "inference"}),
            cell("{}", "first_step_seconds", **still),
            cell("{:.1f}", "peak_gib", **still),
        ], name
    text = " ".join(" ".join(LINES).split())

    def over(backend, *engines):
        modes = zip(("inference", "training"), engines, strict=True)
        return [
            f"{value('gpu', 'ratio_to_floor', backend=backend, mode=m, engine=e):.2f}"
            for m, e in modes
        ]

    jax = over("jax", "slots_or_all", "slots")
    compiled = over("torch", *["sorted, compiled"] * 2)
    called = over("torch", "sorted", "sorted")
    assert f"JAX {jax[0]} at inference and {jax[1]} in training" in text
    assert f"{compiled[0]} and {compiled[1]}, and as it is called {called[0]}" in text
    assert f"{called[0]} and {called[1]}." in text


def test_what_a_training_step_moves_on_a_gpu():
    found = rows("gpu_program")
    moved = {row["scan"]: row["moved_gb"] for row in found}
    line = f"{moved['never']:.0f} GB one by one and {moved['always']:.0f}"
    assert line in " ".join(" ".join(LINES).split())
    # Bounds of what was reached; XLA's program may only get better.
    assert moved["always"] <= 200
    assert moved["never"] <= 140
    assert found[0]["kept_gb_per_step"] <= 1.1


def test_models_that_were_pruned():
    names = {"Keras, batch 8": "keras", "LiteRT, batch 1": "litert"}
    for run, backend, threads, multiple, *cells in table("| run | backend | threads |"):
        fields = {
            "run": names[run],
            "backend": backend,
            "threads": None if threads == "-" else int(threads),
            "multiple": int(multiple),
        }
        assert cells == [
            f"{found[0]['over_flops']:.2f}" if found else "-"
            for preset in ("vit_small_32", "vit_b16")
            for found in [rows("pruned", preset=preset, **fields)]
        ]
