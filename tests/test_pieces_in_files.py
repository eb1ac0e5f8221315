"""Pieces in int8, in exported files, and before what cannot hold them."""

import numpy as np
import pytest
from conftest import numpy, one_line, slow, tiny_images, tiny_model
from test_kinds_of_pieces import EVERYWHERE

import widenet_keras
from widenet_keras import (
    Bottleneck,
    HeadMix,
    KeyValuePrompt,
    LoRA,
    Projection,
    Prompt,
    RelativeKeys,
    ResidualScale,
)
from widenet_keras.exports.int8 import is_router, router_kernels

PIECES = (
    LoRA(8, on=EVERYWHERE),
    Bottleneck(5),
    Prompt(2, segments=4),
    KeyValuePrompt(3),
    RelativeKeys(),
    HeadMix(),
    ResidualScale(),
    Projection(0.7),
)
# Large enough that every format stores its kernels in fewer bits.
WIDE = {"width": 192, "heads": 4, "num_experts": 8, "expert_dim": 64}


def stored(model):
    """Returns the weights of pieces by name."""
    weights = model.encoder.stacked_pieces.weights
    return {weight.path.split("/")[-1]: weight for weight in weights}


def test_int8_has_a_scale_for_each_row_of_a_step(tmp_path):
    model = tiny_model(pieces=PIECES)
    copy, images = model.adapted(), tiny_images(16)
    copy.quantize("int8")
    floats, found = stored(model), stored(copy)
    small = ("bias", "router", "mask", "gamma", "beta", "factors")
    small += ("head_mix", "relative_keys")
    kept = {n for n in floats if any(word in n for word in small)}
    int8 = {name for name, weight in found.items() if weight.dtype == "int8"}
    assert int8 == set(floats) - kept
    assert not any(found[name].trainable for name in int8)
    for name, shape in (
        ("lora_query_down", (2, 1, 8)),
        ("lora_query_up", (2, 8, 1)),
        ("lora_experts_hidden_down", (2, 4, 1, 8)),
        ("prompt_prompt", (2, 2, 1)),
        ("projection_hidden_kernel", (2, 1, 8)),
        ("projection_outer_kernel", (2, 1, 12)),
        ("key_value_prompt_pair", (2, 3, 1)),
    ):
        assert tuple(found[f"{name}_scale"].shape) == shape
    for name in int8:
        scale = numpy(found[f"{name}_scale"])
        difference = np.abs(numpy(found[name]) * scale - numpy(floats[name]))
        assert (difference <= 0.501 * scale).all(), name
        assert np.abs(numpy(found[name])).max() == 127
    wanted, answers = numpy(model(images)), numpy(copy(images))
    assert 0 < np.abs(answers - wanted).max() < 0.15 * np.ptp(wanted)
    copy.save(tmp_path / "int8.keras")
    again = widenet_keras.load_model(tmp_path / "int8.keras")
    np.testing.assert_array_equal(numpy(again(images)), answers)
    assert again.config == model.config
    again.frozen = ()
    assert not any(stored(again)[name].trainable for name in int8)


def test_int8_files_are_smaller(tmp_path):
    sizes, fields = [], {"width": 48, "heads": 4, "steps": 8, "moe_blocks": "none"}
    model = tiny_model(pieces=[LoRA(16, bias=False)], **fields)
    for name in ("float", "int8"):
        if name == "int8":
            model.quantize("int8")
        model.save(tmp_path / f"{name}.keras")
        sizes.append((tmp_path / f"{name}.keras").stat().st_size)
    assert sizes[1] < 0.5 * sizes[0]


def export(model, folder, format, **options):
    """Exports into a folder and returns the report and the predictor."""
    from test_exports import export as exported

    return exported(model, folder, format, **options)


@pytest.mark.parametrize(
    ("format", "quantize"),
    [
        ("litert", "none"),
        *(
            slow(*case)
            for case in (
                ("saved_model", "none"),
                ("litert", "float16"),
                ("litert", "dynamic_int8"),
                ("litert", "int8"),
                ("onnx", "none"),
                ("onnx", "float16"),
                ("onnx", "dynamic_int8"),
                ("onnx", "int8"),
            )
        ),
    ],
)
def test_files_of_all_kinds_are_the_model(format, quantize, tmp_path):
    """The export's own check passes, and so does another number of images."""
    from test_exports import assert_files_are_the_model

    model = tiny_model("vit_moe", pieces=PIECES)
    assert_files_are_the_model(model, format, quantize, tmp_path)


def test_kernels_of_routers_are_those_of_the_steps():
    model = tiny_model("widenet", pieces=PIECES[:1])
    own, *changed = router_kernels(model)
    w, router = stored(model), model.encoder.blocks[0].feed_forward.router
    np.testing.assert_array_equal(own, numpy(router.kernel))
    factors = zip(numpy(w["lora_router_down"]), numpy(w["lora_router_up"]), strict=True)
    for kernel, (down, up) in zip(changed, factors, strict=True):
        np.testing.assert_allclose(kernel, own + down @ up, atol=1e-6)
        assert is_router(own + down @ up, [kernel])
        assert not is_router(own, [kernel])
        assert not is_router((own + down @ up) * (1 + 1e-3), [kernel])
    plain = tiny_model("widenet", pieces=PIECES[1:])
    assert len(router_kernels(tiny_model("widenet"))) == 1
    assert len(router_kernels(plain)) == 1


def floats_of(path, predictor, shape):
    """Returns the float32 matrices of a shape that an exported file holds."""
    if path.suffix == ".onnx":
        import onnx

        tensors = onnx.load(path).graph.initializer
        found = [onnx.numpy_helper.to_array(tensor) for tensor in tensors]
    else:
        interpreter = predictor._interpreter
        found = [
            interpreter.get_tensor(each["index"]).T
            for each in interpreter.get_tensor_details()
            if tuple(each["shape"]) == shape[::-1]
        ]
    return [v for v in found if v.dtype == "float32" and v.shape == shape]


@pytest.mark.parametrize(
    ("format", "quantize"),
    [
        slow("litert", "int8"),
        slow("onnx", "dynamic_int8"),
        slow("onnx", "int8"),
    ],
)
def test_routers_that_steps_change_stay_in_float(format, quantize, tmp_path):
    from test_exports import NAMES, decided_images

    model = tiny_model(pieces=[LoRA(8, on=("router",))], **WIDE)
    options = {"quantize": quantize, "images": decided_images(model)}
    _, predictor = export(model, tmp_path, format, **options)
    own, *changed = router_kernels(model)
    floats = floats_of(tmp_path / NAMES[format], predictor, own.shape)
    assert len(changed) == 2
    for kernel in changed:
        assert any(is_router(value, [kernel]) for value in floats)
    assert not any(is_router(kernel, [own]) for kernel in changed)


@pytest.mark.parametrize("kind", ["widenet", "vit"])
def test_what_reads_a_model_reads_its_pieces(kind):
    """Features of the last step are what the head takes, pieces and all."""
    model = tiny_model(kind, pieces=PIECES, representation=False)
    images = tiny_images(3)
    features = numpy(model.features(images, pooled=True))
    head = model.head
    wanted = features @ numpy(head.logits.kernel) + numpy(head.logits.bias)
    np.testing.assert_allclose(numpy(model(images)), wanted, atol=1e-5)
    first = numpy(model.features(images, step=0))
    _, _, seen = model.encoder(model.embedding(images), look_at=(0,))
    np.testing.assert_allclose(first, numpy(seen.tokens[0]), atol=1e-5)
    if kind == "widenet":
        _, record = model(images, return_routing=True)
        experts = np.swapaxes(numpy(record.experts), 2, 3)
        np.testing.assert_array_equal(model.routing(images).experts, experts)


def test_timm_has_no_pieces(tmp_path):
    fields = {"representation": False, "activation": "gelu", "pieces": PIECES[1:2]}
    model = tiny_model("vit", **fields)
    with pytest.raises(ValueError, match="no pieces") as error:
        widenet_keras.to_timm(model, tmp_path / "model.safetensors")
    one_line(error)
    assert not list(tmp_path.iterdir())
