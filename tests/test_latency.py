"""What parts take by their sizes: the table, its file, and how it is measured."""

import json

import numpy as np
import pytest
from conftest import one_line, tiny_config, tiny_model
from test_cli import stopped

from widenet_keras.conversions import measure
from widenet_keras.conversions.latency import AXES, LatencyTable, facts_of
from widenet_keras.conversions.latency_grid import Grid
from widenet_keras.conversions.measure import measure_latency
from widenet_keras.models.block_sizes import BlockSize
from widenet_keras.models.flops import forward_flops
from widenet_keras.models.widenet import WideNet
from widenet_keras.utils import devices as devices_module

pytest.importorskip("tyro")

from widenet_keras.cli.main import main

# Milliseconds that are a sum over the axes, so that between points it is that too.
HEADS, DIMS, HIDDEN = (1, 2, 3), (2, 4), (4, 10)
SUM = np.add.outer(np.add.outer(HEADS, DIMS), np.array(DIMS) * 10.0)


def table(kind="vit", **fields):
    """Returns the table of a tiny ViT, or of another kind."""
    grids = {
        "attention": Grid.of((HEADS, DIMS, DIMS), SUM),
        "dense": Grid.of((HIDDEN,), [1.0, 4.0]),
    }
    if kind == "widenet":
        del grids["dense"]
    if kind != "vit":
        grids["routed"] = Grid.of(((2, 4), (7, 14)), [[3.0, 5.0], [4.0, 8.0]])
    model = {"name": kind, **facts_of(tiny_config(kind))}
    measured = {"batch_size": 1}
    return LatencyTable(model, measured, 0.5, 90.0, grids, **fields)


def test_what_was_measured_and_what_lies_between():
    found = table("vit_moe")
    for heads in HEADS:
        for key_dim in DIMS:
            for value_dim in (2, 3, 4):
                size = BlockSize(heads, key_dim, value_dim, 1)
                assert found.attention(size) == pytest.approx(
                    heads + key_dim + 10 * value_dim
                )
    widths = {1: 1.0, 4: 1.0, 6: 2.0, 10: 4.0, 99: 4.0}
    for hidden, wanted in widths.items():
        size = BlockSize(1, 2, 2, hidden)
        assert found.feed_forward(size, False) == pytest.approx(wanted)
    size = BlockSize(1, 2, 2, 14)
    assert found.feed_forward(size, True) == 8.0
    assert found.feed_forward(size, True, experts=3) == pytest.approx(6.5)
    assert found.feed_forward(size, True, experts=2) == 5.0


def test_a_smaller_part_never_takes_longer():
    random = np.random.default_rng(0).uniform(1, 9, (4, 3, 2))
    grid = Grid.of((range(1, 5), (8, 16, 24), (8, 16)), random)
    for axis in range(3):
        assert (np.diff(grid.milliseconds, axis=axis) >= 0).all()
    assert (grid.milliseconds <= random).all()
    # What is largest is as it was measured.
    assert grid.at(4, 24, 16) == random[-1, -1, -1]
    even = Grid.of(((1, 2), (8, 16)), [[1.0, 2.0], [3.0, 4.0]])
    assert even.milliseconds.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_whole_model_is_its_steps_and_what_is_around():
    config = tiny_config("vit_moe")
    attention, dense, routed = 3 + 4 + 40, 4.0, 8.0
    wanted = 0.5 + 3 * attention + dense + 2 * routed
    assert table("vit_moe").forward(config) == pytest.approx(wanted)
    smaller = config.replace(num_experts=2)
    assert table("vit_moe").forward(smaller) == pytest.approx(wanted - 2 * 3.0)


@pytest.mark.parametrize("kind", ["vit", "vit_moe", "widenet"])
def test_a_file_holds_it(kind, tmp_path):
    path = tmp_path / "table.json"
    path.write_text("older")
    table(kind).write(path)
    found = LatencyTable.read(path)
    assert found.origin == str(path)
    assert found.grids.keys() == table(kind).grids.keys()
    for name, grid in table(kind).grids.items():
        assert found.grids[name].axes == grid.axes
        np.testing.assert_array_equal(found.grids[name].milliseconds, grid.milliseconds)
    assert (found.model, found.measured) == (table(kind).model, {"batch_size": 1})
    assert (found.rest, found.whole) == (0.5, 90.0)
    found.check(tiny_config(kind))


def _without(*keys):
    def damage(content):
        *around, last = keys
        for key in around:
            content = content[key]
        del content[last]

    return damage


def _with(value, *keys):
    def damage(content):
        *around, last = keys
        for key in around:
            content = content[key]
        content[last] = value

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without("format"), "no latency table of this version"),
        (_with("widenet_keras latency table 2", "format"), "of this version"),
        (_without("attention"), "not the times of all parts"),
        (_without("dense"), "not the times of all parts"),
        (_without("rest"), "no 'rest'"),
        (_without("attention", "heads"), "no 'heads'"),
        (_with(None, "model"), "damaged"),
        (_with("slow", "whole"), "damaged"),
        (_with(-1.0, "rest"), "no positive numbers"),
        (_with(3, "dense"), "damaged"),
        (_with([10, 4], "dense", "hidden"), "no increasing whole numbers"),
        (_with([4, 10.5], "dense", "hidden"), "no increasing whole numbers"),
        (_with([], "dense", "hidden"), "no increasing whole numbers"),
        (_with([1.0], "dense", "milliseconds"), "not every size has a time"),
        (_with([[1.0], 2.0], "dense", "milliseconds"), "damaged"),
        (_with([1.0, float("nan")], "dense", "milliseconds"), "no positive numbers"),
        (_with([1.0, -2.0], "dense", "milliseconds"), "no positive numbers"),
        (_with(["1", "4"], "dense", "milliseconds"), "times are no numbers"),
        (_with([True, 4.0], "dense", "milliseconds"), "times are no numbers"),
        (_with([1.0, 10**400], "dense", "milliseconds"), "damaged"),
        (_with(True, "rest"), "no positive numbers"),
        (_with("0.5", "whole"), "no positive numbers"),
    ],
)
def test_damaged_files_are_told(damage, said, tmp_path):
    path = tmp_path / "table.json"
    table().write(path)
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match="write it anew with `widenet measure"
    ) as error:
        LatencyTable.read(path)
    line = one_line(error)
    assert said in line
    assert str(path) in line


def test_files_that_are_no_tables(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('{"format": ')
    for path in (broken, tmp_path / "missing.json", tmp_path):
        with pytest.raises(ValueError, match="widenet measure") as error:
            LatencyTable.read(path)
        assert one_line(error).startswith(str(path))


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("vit", {"image_size": 16}, "tokens 10 and the model has image_size 16, tok"),
        ("vit", {"num_classes": 7}, "num_classes 5 and the model has num_classes 7"),
        ("vit", {"channels": 1}, "channels 3 and the model has channels 1"),
        ("vit", {"pooling": "mean"}, "and the model has pooling mean"),
        ("vit", {"activation": "relu"}, "and the model has activation relu"),
        ("vit", {"representation": False}, "and the model has representation False"),
        ("vit", {"class_token": False, "pooling": "mean"}, "the model has tokens 9"),
        ("vit_moe", {"router": "grouped_top_1"}, "has router grouped_top_1"),
        ("vit", {"moe_blocks": "all"}, "no experts and the model has some"),
        ("vit", {"width": 24}, "width 12 and the model has width 24"),
        ("vit", {"gated": True}, "gated False and the model has gated True"),
        ("vit_moe", {"top_k": 3}, "top_k 2 and the model has top_k 3"),
        ("vit_moe", {"engine": "sorted"}, "engine auto and the model has engine so"),
        ("vit", {"width": 24, "gated": True}, "width 12, gated False and the model"),
        ("vit", {"heads": 4}, "heads up to 3 of attention parts and the model has"),
        ("vit", {"heads": 2}, "key_dim up to 4 of attention parts and the model has"),
        ("vit", {"mlp_dim": 11}, "hidden up to 10 of dense parts and the model has"),
        ("vit_moe", {"num_experts": 5}, "experts up to 4 of routed parts and the"),
        ("vit_moe", {"expert_dim": 15}, "hidden up to 14 of routed parts and the"),
        ("widenet", {"moe_blocks": "none"}, "no dense feed-forward"),
        ("widenet", {"sharing": "none", "moe_blocks": (0,)}, "no dense feed-forward"),
    ],
)
def test_a_model_that_it_is_not_for(kind, fields, said):
    found = table(kind, origin="table.json")
    with pytest.raises(ValueError, match="was measured for") as error:
        found.check(tiny_config(kind, **fields))
    line = one_line(error)
    assert said in line
    assert line.startswith("table.json was measured for")
    assert line.endswith("run `widenet measure` on the model.")


def test_a_model_of_another_dtype():
    found = table()
    found.model["dtype"] = "float32\n"
    with pytest.raises(ValueError, match="the model has dtype bfloat16") as error:
        found.check(tiny_config("vit"), "bfloat16")
    assert "dtype float32\\n and" in one_line(error)


def test_smaller_parts_are_fine():
    sizes = (BlockSize(2, 3, 2, 9), BlockSize(1, 4, 4, 1), BlockSize(3, 1, 1, 14))
    table("vit_moe").check(tiny_config("vit_moe", block_sizes=sizes, num_experts=2))


def test_measuring_a_model():
    fields = {"mlp_dim": 1024, "expert_dim": 512, "num_experts": 2}
    model = tiny_model("vit_moe", **fields)
    found = measure_latency(model, repeats=5, batch_size=16)
    found.check(model.config)
    attention, dense, routed = (found.grids[kind] for kind in AXES)
    assert attention.axes == ((1, 2, 3), (4,), (4,))
    assert dense.axes == ((128, 304, 488, 664, 848, 1024),)
    assert routed.axes == ((2,), (64, 216, 360, 512))
    # What is between the sizes is noise on a busy machine.
    assert dense.at(1024) > 0
    assert routed.at(2, 512) > 0
    assert found.whole > 0
    assert found.measured["batch_size"] == 16
    assert found.model["name"] == model.name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vit", "vit_moe", "widenet"])
def test_a_table_foretells_the_whole_model(kind):
    # Large enough that nothing around the products counts.
    fields = {"width": 192, "heads": 4, "mlp_dim": 512, "expert_dim": 512}
    model = tiny_model(kind, image_size=32, steps=6, **fields)
    found = measure_latency(model, batch_size=8)
    assert found.forward(model.config) == pytest.approx(found.whole, rel=0.3)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("vit", {"steps": 3}),
        ("vit", {"gated": True, "pieces": [{"kind": "lora", "rank": 2}]}),
        ("vit", {"sharing": "attention"}),
        ("vit", {"sharing": "feed_forward"}),
        ("vit", {"steps": 4, "sharing": "cycle", "unique_blocks": 2}),
        ("vit", {"block_sizes": [(3, 16, 16, 16), (2, 24, 8, 30)]}),
        ("vit", {"step_widths": (9, 10)}),
        ("widenet", {}),
        ("vit_moe", {"moe_blocks": (1,)}),
        ("vit_moe", {"router": "grouped_top_1"}),
    ],
)
def test_what_takes_as_long_as_its_arithmetic(kind, fields, monkeypatch):
    def times(model, configs, images, repeats):
        flops = [float(forward_flops(config)) for config in configs]
        return np.repeat(np.reshape(flops, (-1, 1)), repeats, axis=1)

    monkeypatch.setattr(measure, "_times", times)
    model = WideNet(tiny_config(kind, **fields))
    found = measure_latency(model, repeats=2)
    config = model.config.replace(pieces=())
    found.check(config)
    assert found.whole == forward_flops(config)
    assert found.forward(config) == pytest.approx(found.whole)
    sizes = (BlockSize(2, *size[1:3], size.hidden - 1) for size in config.sizes)
    smaller = config.replace(
        block_sizes=tuple(sizes), step_widths=None, num_experts=config.top_k
    )
    found.check(smaller)
    assert found.forward(smaller) == pytest.approx(forward_flops(smaller))


def test_models_that_cannot_be_measured():
    model = tiny_model("vit")
    backend = devices_module.keras.backend.backend()
    with pytest.raises(ValueError, match="use one of cpu") as error:
        measure_latency(model, device="gpu:7")
    assert f"measure: {backend} has no device 'gpu:7' here" in one_line(error)
    with pytest.raises(ValueError, match="repeats=0"):
        measure_latency(model, repeats=0)
    with pytest.raises(ValueError, match="give an ImageClassifier"):
        measure_latency("model.keras")
    with pytest.raises(ValueError, match="models to be timed") as error:
        measure_latency(model, max_memory=1000)
    assert "more than the allowed" in one_line(error)
    assert "--max-memory" in one_line(error)
    model.quantization = "int8"
    with pytest.raises(ValueError, match="give the float model"):
        measure_latency(model)


def test_names_of_devices(monkeypatch):
    there = ["cpu", "gpu:0", "gpu:1"]
    monkeypatch.setattr(devices_module, "devices", lambda: there)
    named = devices_module.device_named
    asked = {None: "gpu:0", "gpu": "gpu:0", "cuda:1": "gpu:1", "CPU": "cpu"}
    asked |= {"cpu:0": "cpu", "gpu:0": "gpu:0"}
    assert {name: named("measure", name) for name in asked} == asked
    there[:] = ["cpu:0"]
    assert named("measure") == named("measure", "cpu") == "cpu:0"


def is_rough(found):
    """Whether a tiny ViT takes 20 % more or less than by its steps."""
    steps = found.forward(tiny_config("vit"))
    return abs(steps - found.whole) > 0.2 * found.whole


def test_the_command(tmp_path, capsys):
    model, output = tmp_path / "vit.keras", tmp_path / "new" / "table.json"
    tiny_model("vit").save(model)
    words = ["measure", str(model), "--output", str(output), "--device", "cpu"]
    main([*words, "--repeats", "2"])
    printed = capsys.readouterr().out
    assert "1 image at once" in printed
    assert "  dense, hidden           8: " in printed
    assert "2 steps by the table" in printed
    assert f"written: {output}" in printed
    assert ("rough guide" in printed) == is_rough(LatencyTable.read(output))
    assert [path.name for path in output.parent.iterdir()] == ["table.json"]
    found = LatencyTable.read(output)
    found.check(tiny_config("vit"))
    assert found.measured["repeats"] == 2
    stopped(capsys, [*words[:-1], "gpu:7"], 1, "no device 'gpu:7'", "use one of cpu")
    stopped(capsys, [*words, "--repeats", "0"], 2, "--repeats 0 must be at least 1")
    stopped(capsys, [*words[:2], "--output", "x.txt"], 1, "x.txt must end in .json")
    stopped(capsys, ["measure", "y.keras", *words[2:]], 1, "y.keras does not exist")
