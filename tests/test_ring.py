"""Kernels that are read from a ring: against explicit matrices and a NumPy loop."""

import keras
import numpy as np
import oracle
import pytest
from conftest import (
    numpy,
    one_line,
    shake,
    slow,
    tiny_config,
    tiny_images,
    tiny_model,
)
from gradients import value_and_gradients

import widenet_keras
from widenet_keras import forward_flops, layers, untie
from widenet_keras.conversions.measure import measure_latency
from widenet_keras.layers.ring import places
from widenet_keras.models.description import describe, parameters_of_parts
from widenet_keras.models.memory_use import built_size, parameter_count
from widenet_keras.utils.roles import role_of

GATED = {"gated": True, "activation": "silu"}
NOISY = {"dropout": 0.2, "attention_dropout": 0.1, "stochastic_depth": 0.3}
# One token of one image.
LEAST = {"image_size": 4, "class_token": False, "pooling": "mean"}
LORA = {"kind": "lora", "rank": 3, "on": ["query", "outer"]}


def ring_model(size=300, **fields):
    return tiny_model("vit", **{"ring_size": size, "ring_seed": 5, **fields})


def matrices(model):
    """Returns R of every kernel by its path in a plain model, one entry at a time.

    A kernel, row after row, is R @ ring.
    """
    config, ring = model.config, model.encoder.ring
    d, f = config.width, config.mlp_dim
    maps = dict.fromkeys(("query", "key", "value", "output"), ("attention", d, d))
    maps |= dict.fromkeys(
        ("hidden", "gate")[: 1 + config.gated], ("feed_forward", d, f)
    )
    maps["outer"] = ("feed_forward", f, d)
    count = config.steps * sum(rows * columns for _, rows, columns in maps.values())
    found, place = {}, iter(places(ring.size, count, config.ring_seed))
    for name in sorted(maps):
        part, rows, columns = maps[name]
        for step in range(config.steps):
            path = f"encoder/block_{step}/{part}/{name}/kernel"
            found[path] = np.zeros((rows * columns, ring.size))
            for row in range(rows * columns):
                turns, entry = divmod(next(place), ring.size)
                size = np.sqrt(2 / (rows + columns))
                found[path][row, entry] = -size if turns else size
    assert next(place, None) is None
    return found


def plain_weights(model):
    """Returns float64 weights by the paths of the model without its ring."""
    found = oracle.weights_by_path(model)
    vector = found.pop("encoder/ring/ring")
    for path, matrix in matrices(model).items():
        *start, step, part, name, _ = path.split("/")
        biases = found[f"encoder/ring/{name}_bias"]
        found[path] = (matrix @ vector).reshape(-1, biases.shape[1])
        bias = "/".join([*start, step, part, name, "bias"])
        found[bias] = biases[int(step.removeprefix("block_"))]
    return {p: v for p, v in found.items() if "/ring/" not in p}


def squares(model, images, **how):
    return lambda: keras.ops.sum(keras.ops.square(model(images, **how)))


@pytest.mark.parametrize("fields", [{**GATED, "steps": 3}, LEAST])
def test_answers_are_those_of_numpy_and_of_kernels(fields):
    model = ring_model(**fields)
    images = tiny_images(*((1, 4) if fields == LEAST else (3,)))
    wanted = oracle.model_forward(plain_weights(model), model.config, images)[0]
    found = numpy(model(images))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    apart = untie(model)
    np.testing.assert_array_equal(numpy(apart(images)), found)
    if fields != LEAST:
        # Both go on: they have no memory in common.
        for each in (model, apart, model):
            each.predict(images, verbose=0)


def test_gradients_are_sums_of_those_of_the_kernels():
    """Also in a loop whose steps are computed again, with all that is drawn."""
    model = ring_model(**GATED, **NOISY, steps=3, scan="always", remat="full")
    plain = untie(model).adapted(scan="never", remat="none")
    images, how = tiny_images(3), {"training": True}
    value, found = value_and_gradients(
        squares(model, images, **how), model.trainable_variables
    )
    expected, gradients = value_and_gradients(
        squares(plain, images, **how), plain.trainable_variables, traced=False
    )
    assert value == pytest.approx(expected, rel=1e-5)
    paths = [v.path.split("/", 1)[1] for v in plain.trainable_variables]
    gradients = dict(zip(paths, gradients, strict=True))
    ring = model.encoder.ring
    wanted = {}
    for path, matrix in matrices(model).items():
        _, block, _, name, _ = path.split("/")
        wanted.setdefault("encoder/ring/ring", 0)
        wanted["encoder/ring/ring"] += matrix.T @ gradients.pop(path).reshape(-1)
        bias = gradients.pop(path.replace("kernel", "bias"))
        wanted.setdefault(f"encoder/ring/{name}_bias", {})[block] = bias
    assert wanted["encoder/ring/ring"].shape == (ring.size,)
    for variable, mine in zip(model.trainable_variables, found, strict=True):
        path = variable.path.split("/", 1)[1]
        theirs = gradients.pop(path, wanted.get(path))
        if isinstance(theirs, dict):
            theirs = np.stack([theirs[f"block_{step}"] for step in range(3)])
        largest = max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(mine, theirs, atol=2e-5 * largest, err_msg=path)
    assert not gradients


@pytest.mark.parametrize("fields", [{**GATED, "width": 132}, {"pieces": [LORA]}])
def test_untied_it_is_a_plain_vit(fields):
    model, images = ring_model(**fields, steps=3), tiny_images(3)
    apart = untie(model)
    assert apart.config == model.config.replace(ring_size=None, ring_seed=0, pieces=())
    # With LoRA a kernel is another sum of the same numbers.
    bound = 1e-5 if "pieces" in fields else 0.0
    difference = np.abs(numpy(apart(images)) - numpy(model(images))).max()
    assert difference <= bound
    once_more = model.adapted(ring_size=None)
    np.testing.assert_array_equal(numpy(once_more(images)), numpy(apart(images)))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(("steps", "width"), [(1, 6), (2, 12), (5, 9)])
def test_what_is_trained(steps, width, gated):
    fields = {"steps": steps, "width": width, "gated": gated, "mlp_dim": 7}
    model = ring_model(size=77, **fields)
    biases = steps * (5 * width + 7 * (1 + gated))
    norms = 4 * steps * width
    rest = sum(
        int(np.prod(weight.shape))
        for part in (model.embedding, model.head)
        for weight in part.weights
    )
    trained = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert trained == 77 + biases + norms + rest == model.count_params()
    assert parameter_count(model.config.to_dict()) == trained
    plain = model.config.replace(ring_size=None)
    assert forward_flops(model.config) == forward_flops(plain)
    count = steps * (4 * width**2 + (2 + gated) * 7 * width)
    assert f"{count:,} weights" in describe(model)
    assert parameters_of_parts(model)["ring"] == 77
    assert untie(model).count_params() == trained - 77 + count


def test_roles():
    model = ring_model()
    roles = {w.name: role_of(w) for w in model.encoder.ring.weights}
    ring = roles.pop("ring")
    assert (ring.group, ring.decayed, ring.stacked) == ("core", True, None)
    for role in roles.values():
        assert (role.group, role.decayed, role.stacked) == ("core", False, "steps")
    model.frozen = ("encoder/ring",)
    assert model.frozen == untie(model).frozen == ("core",)


RESNETS = {"ResNet-18": (11_160_576, 11_157_504), "ResNet-34": (2_359_296, 21_258_240)}


@pytest.mark.parametrize(
    ("size", "count"),
    [(7, 7), (7, 21), (7, 25), (1, 5), (300, 2808)]
    + [slow(*sizes) for sizes in RESNETS.values()],
)
def test_how_often_an_entry_is_read(size, count):
    found = places(size, count, 3)
    used = np.bincount(found % size, minlength=size)
    assert set(used) <= {count // size, -(-count // size)}
    assert used.sum() == count
    # Half of the signs are negative, and neighbours are not neighbours.
    if count > 100:
        assert abs((found >= size).mean() - 0.5) < 4 * 0.5 / np.sqrt(count)
        places_of_ring = found % size
        assert abs(np.corrcoef(places_of_ring[1:], places_of_ring[:-1])[0, 1]) < 0.1


def test_places_are_the_same_for_ever():
    """Files hold no places: were these others, all rings would be noise."""
    assert places(5, 12, 3).tolist() == [0, 4, 9, 7, 6, 5, 5, 1, 6, 3, 3, 2]


def test_kernels_start_as_glorot_has_them():
    shapes = {"square": (4, 64, 64), "wide": (2, 64, 160)}
    ring = layers.Ring(9000, shapes)
    ring.build()
    for kernels, _, _ in ring.read(keras.ops.convert_to_tensor).values():
        kernels = numpy(kernels).reshape(len(kernels), -1)
        count = kernels.shape[1]
        spread = np.sqrt(2 / {4096: 128, 10240: 224}[count])
        assert abs(kernels.std(axis=1) - spread).max() < 4 * spread / np.sqrt(2 * count)
        between = np.corrcoef(kernels) - np.eye(len(kernels))
        assert np.abs(between).max() < 4 / np.sqrt(count)


def test_a_ring_of_all_weights_can_be_any_vit():
    vit = tiny_model("vit")
    model = ring_model(1632)
    source, values = oracle.weights_by_path(vit), oracle.weights_by_path(model)
    vector = 0
    for path, matrix in matrices(model).items():
        square = (matrix**2).sum(axis=1)
        vector = vector + matrix.T @ (source[path].reshape(-1) / square)
        _, block, _, name, _ = path.split("/")
        row = int(block.removeprefix("block_"))
        values[f"encoder/ring/{name}_bias"][row] = source[
            path.replace("kernel", "bias")
        ]
    for weight in model.weights:
        path = weight.path.split("/", 1)[1]
        value = source.get(path, values.get(path))
        weight.assign(vector if path == "encoder/ring/ring" else value)
    images = tiny_images(3)
    for weight, other in zip(untie(model).weights, vit.weights, strict=True):
        np.testing.assert_allclose(numpy(weight), numpy(other), rtol=1e-6)
    np.testing.assert_allclose(numpy(model(images)), numpy(vit(images)), atol=1e-5)


def test_files_hold_the_ring_alone(tmp_path):
    import h5py

    model = ring_model()
    model.save_weights(tmp_path / "m.weights.h5")
    sizes = []
    with h5py.File(tmp_path / "m.weights.h5") as file:
        file.visititems(lambda _, item: sizes.append(getattr(item, "size", 0)))
    assert sum(sizes) == model.count_params()
    # What it takes to find the places is asked for before it is done.
    fields = {**model.config.to_dict(), "width": 120_000}
    assert built_size(fields) > 32 * 2 * (4 * 120_000**2)


def test_other_verbs_work_on_it():
    model, images = ring_model(nested_widths=(0.5, 1.0)), tiny_images(3)
    half = widenet_keras.extract(untie(model), width=0.5)
    assert [size.hidden for size in half.config.sizes] == [5, 5]
    # What is extracted has kernels, and is described so.
    assert f"{half.count_params():,}" in describe(model)
    bank = model.adapted(pieces=[{"kind": "bottleneck", "rank": 2, "bank": 2}])
    assert widenet_keras.merge(bank).config.ring_size == model.config.ring_size
    pieces = [LORA, {"kind": "prompt", "count": 2}]
    tuned = model.adapted(pieces=pieces, num_classes=3)
    shake(tuned.encoder.stacked_pieces.trainable_weights)
    # What blocks have is that of the step alone.
    assert tuned.encoder.stacked_pieces.block_of_step == (0, 1)
    apart = untie(tuned)
    assert [piece.kind for piece in apart.config.pieces] == ["prompt"]
    np.testing.assert_allclose(numpy(apart(images)), numpy(tuned(images)), atol=1e-5)


VERBS = {
    "tie": widenet_keras.tie,
    "relax": lambda model: widenet_keras.relax(model, 2),
    "extract": lambda model: widenet_keras.extract(model, width=0.5),
    "prune": lambda model: widenet_keras.prune(model, tiny_images(2), np.arange(2)),
    "to_timm": lambda model: widenet_keras.to_timm(model, "model.safetensors"),
    "measure": measure_latency,
    "quantize": lambda model: model.quantize("int8"),
}


def test_what_needs_kernels_says_so_in_one_line():
    model = ring_model()
    for name, verb in VERBS.items():
        with pytest.raises(ValueError, match=f"^{name}: .* a ring") as error:
            verb(model)
        assert "untie()" in one_line(error)
    with pytest.raises(ValueError, match=r"^merge: .* untie\(\) takes LoRA"):
        widenet_keras.merge(model.adapted(pieces=[LORA]))
    for fields in ({"ring_size": 200}, {"ring_seed": 6}, {"ring_size": 10, "steps": 1}):
        with pytest.raises(
            ValueError, match=r"^adapted: ring_s.* another ring"
        ) as error:
            model.adapted(**fields)
        assert "ring_size=None" in one_line(error)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ring_size": 0}, "ring_size=0"),
        ({"ring_size": 2.5}, "ring_size=2.5"),
        ({"ring_size": 1633}, "at most 1632"),
        ({"ring_seed": -1}, "ring_seed=-1"),
        ({"sharing": "all"}, "use sharing='none'"),
        ({"sharing": "attention"}, "use sharing='none'"),
        ({"moe_blocks": (1,)}, "moe_blocks is (1,); use moe_blocks='none'"),
        ({"shared_norms": True}, "use shared_norms=False"),
        ({"block_sizes": [(2, 5, 3, 8)] * 2}, "use block_sizes=None"),
        ({"step_widths": (3, 10)}, "use step_widths=None"),
    ],
)
def test_what_no_ring_can_be_is_one_line(fields, words):
    with pytest.raises(ValueError, match=r"^WideNetConfig: ") as error:
        tiny_config("vit", **{"ring_size": 9, **fields})
    line = one_line(error)
    assert words in line, line
    assert len(line) < 400


def test_layers_that_do_not_fit_are_one_line():
    shapes = {"a": (2, 3, 4)}
    for make, words in (
        (lambda: layers.Ring(25, shapes), "size=25 is more than the 24 weights"),
        (lambda: layers.Ring(0, shapes), "size=0"),
        (lambda: layers.Ring(5, shapes, seed=1.5), "seed=1.5"),
        (lambda: layers.Ring(5, {}), "must be a dict"),
        (lambda: layers.Ring(5, {"a": (3, 4)}), "must be (L, Din, Dout)"),
        (lambda: layers.Ring(5, {"a": (2, 3, 0)}), "shapes['a']=0"),
    ):
        with pytest.raises(ValueError, match=r"^Ring: ") as error:
            make()
        assert words in one_line(error)
    blocks = [
        layers.Block(layers.Attention(3), layers.FeedForward(5)) for _ in range(2)
    ]
    paths = layers.ParallelPaths([layers.Attention(3, name=name) for name in "ab"])
    for encoder in (
        layers.Encoder(blocks, 2, "none", ring_size=9),
        layers.Encoder([layers.Block(paths, layers.FeedForward(5))], 2, ring_size=9),
    ):
        with pytest.raises(ValueError, match=r"Encoder: .* give one Block, n") as error:
            encoder.build((None, 4, 6))
        one_line(error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "quantize"),
    [
        ("saved_model", "none"),
        ("litert", "none"),
        ("litert", "int8"),
        ("onnx", "none"),
        ("onnx", "int8"),
        ("keras", "none"),
        ("keras", "dynamic_int8"),
    ],
)
def test_exports_have_the_kernels(format, quantize, tmp_path):
    from test_exports import export

    model, images, said = ring_model(), tiny_images(3), []
    how = {"min_agreement": 0.1} if quantize != "none" else {}
    options = {"quantize": quantize, "say": said.append, **how}
    _, predictor = export(model, tmp_path, format, **options)
    bound = 1e-5 if quantize == "none" else 0.3
    difference = predictor.logits(images) - numpy(model(images))
    assert np.abs(difference).max() < bound
    written = (format, quantize) != ("keras", "none")
    assert any("written out: 2,821 parameters" in str(line) for line in said) == written
