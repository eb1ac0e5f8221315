"""Weights of the authors' network, by their names, give their logits."""

import numpy as np
import pytest
from conftest import numpy, one_line, tiny_config, tiny_images
from oracle import model_forward

import widenet_keras


def reference_layers(config):
    """Yields the layers in the order in which the authors' code makes them.

    Each as its kind, a path of ours, and for a norm its row there. Their code has a
    loop over the steps, in which a new group begins every G steps.
    """
    shares = {
        part: config.sharing in ("all", "sequence", part)
        for part in ("attention", "feed_forward")
    }
    group = config.steps // (config.unique_blocks or 1)
    with_norm = config.moe_blocks == "none" and config.shared_norms
    yield "conv2d", "embedding/projection/", None
    yield "embedding", "embedding/position", None
    names = {"attention": "encoder/norm1/", "feed_forward": "encoder/norm2/"}
    one_block = all(shares.values())

    def part_of(part, step):
        block = step // group if one_block else step
        path = f"encoder/block_{block}/{part}/"
        if part == "attention":
            yield "multi_head_attention", path, None
        elif block in config.routed_blocks:
            for expert in range(config.num_experts):
                yield "dense", f"{path}experts/hidden_", expert
                yield "dense", f"{path}experts/outer_", expert
            yield "dense", f"{path}router/", "router"
        else:
            yield "dense", f"{path}hidden/", None
            yield "dense", f"{path}outer/", None

    for step in range(config.steps):
        if step % group == 0:
            for part in [part for part in shares if shares[part]]:
                if with_norm:
                    yield "layer_normalization", names[part], step // group
                yield from part_of(part, step)
        for part, is_shared in shares.items():
            if not (is_shared and with_norm):
                yield "layer_normalization", names[part], step
            if not is_shared:
                yield from part_of(part, step)
    yield "layer_normalization", "head/norm/", None
    if config.pooling == "token_attention":
        yield "multi_head_attention", "head/attention/", None
    if config.representation:
        yield "dense", "head/representation/", None
    yield "dense", "head/logits/", None


def shapes_of(kind, path, index, config):
    """Returns the shapes of the variables of one of their layers, by their names."""
    width, heads, patch = config.width, config.heads, config.patch_size
    if kind == "conv2d":
        return {"kernel": (patch, patch, 3, width), "bias": (width,)}
    if kind == "embedding":
        return {"embeddings": (1 + config.grid[0] * config.grid[1], width)}
    if kind == "layer_normalization":
        return {"gamma": (width,), "beta": (width,)}
    if kind == "multi_head_attention":
        size = width // heads
        inner = {"kernel": (width, heads, size), "bias": (heads, size)}
        outer = {"kernel": (heads, size, width), "bias": (width,)}
        parts = dict.fromkeys(("query", "key", "value"), inner)
        parts["attention_output"] = outer
        return {f"{n}/{p}": s for n, part in parts.items() for p, s in part.items()}
    if index == "router":
        return {"kernel": (width, config.num_experts)}
    hidden = config.expert_dim if "experts" in path else config.mlp_dim
    rows, columns = width, width
    if "hidden" in path:
        columns = hidden
    elif "outer" in path:
        rows = hidden
    elif "logits" in path:
        columns = config.num_classes
    return {"kernel": (rows, columns), "bias": (columns,)}


def reference_arrays(config, first=0):
    """Returns random arrays under the names that the authors' code gives.

    Their automatic numbers start at `first`, as in a session that has built
    other models before; Keras leaves out the number 0.
    """
    random = np.random.default_rng(0)
    arrays, counts = {}, {}
    prefixes = {"embedding": "patch_encoder/", "router": "switch/router/"}
    for kind, path, index in reference_layers(config):
        number = counts[kind] = counts.get(kind, first - 1) + 1
        name = f"{kind}_{number}" if number else kind
        prefix = prefixes.get(index, prefixes.get(kind, ""))
        for part, shape in shapes_of(kind, path, index, config).items():
            value = random.normal(size=shape) * 0.3
            arrays[f"{prefix}{name}/{part}:0"] = value.astype("float32")
    return arrays


def model_for(kind, **fields):
    fields = {"output_activation": "gelu_tanh", **fields}
    return widenet_keras.ImageClassifier(tiny_config(kind, **fields))


@pytest.mark.parametrize("first", [0, 11])
def test_converted_weights_reproduce_the_reference_forward_pass(kind, first):
    model = model_for(kind, steps=3)
    arrays = reference_arrays(model.config, first)
    widenet_keras.convert_reference_weights(arrays, model)
    expected = reference_logits(arrays, model.config, tiny_images(3))
    np.testing.assert_allclose(
        model.predict(tiny_images(3), verbose=0), expected, atol=1e-4
    )


def test_names_of_a_h5_file_repeat_the_layer():
    model, other = model_for("widenet"), model_for("widenet")
    arrays = reference_arrays(model.config)
    widenet_keras.convert_reference_weights(arrays, model)
    named = {f"{name.split('/')[0]}/{name}": each for name, each in arrays.items()}
    assert "conv2d/conv2d/kernel:0" in named
    widenet_keras.convert_reference_weights(named, other)
    for one, two in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(numpy(one), numpy(two))


def reference_logits(arrays, config, images):
    """The authors' forward pass on their own arrays, through the oracle.

    Written apart from the conversion: layers are looked up here by the place of their
    arrays in the dict, there by kind and number.
    """
    w, stacks, values = {}, {}, iter(arrays.values())
    for kind, path, index in reference_layers(config):
        for part in shapes_of(kind, path, index, config):
            value = next(values).astype("float64")
            if kind == "multi_head_attention":
                part = part.removeprefix("attention_")
                shape = (config.width,) * (2 if "kernel" in part else 1)
                w[path + part] = value.reshape(shape)
            elif kind == "embedding":
                w[path] = value
            elif isinstance(index, int):
                stacks.setdefault(path + part, {})[index] = value
            else:
                w[path + part] = value
    w |= {
        path: np.array([rows[i] for i in sorted(rows)]) for path, rows in stacks.items()
    }
    return model_forward(w, config, images)[0]


# Switches of their train.py: --use_moe, --share_att, --share_ffn, --switch_deepth.
SWITCHES = {
    "share_att": {"sharing": "attention"},
    "share_ffn": {"sharing": "feed_forward"},
    "share_ffn, map": {
        "sharing": "feed_forward",
        "pooling": "token_attention",
        "representation": False,
    },
    "share_att, switch_deepth 2": {
        "sharing": "attention",
        "unique_blocks": 2,
        "moe_blocks": (-2, -1),
    },
    "share_ffn, switch_deepth 2": {
        "sharing": "feed_forward",
        "unique_blocks": 2,
        "moe_blocks": (-2, -1),
    },
    "both, switch_deepth 2": {
        "sharing": "sequence",
        "unique_blocks": 2,
        "moe_blocks": (-1,),
    },
    "dense": {"moe_blocks": "none", "shared_norms": True},
    "dense, share_att": {
        "sharing": "attention",
        "moe_blocks": "none",
        "shared_norms": True,
    },
    "dense, share_ffn": {
        "sharing": "feed_forward",
        "moe_blocks": "none",
        "shared_norms": True,
    },
}


@pytest.mark.parametrize("fields", SWITCHES.values(), ids=list(SWITCHES))
def test_the_switches_of_the_reference_code(fields):
    model = model_for("widenet", steps=4, **fields)
    arrays = reference_arrays(model.config)
    widenet_keras.convert_reference_weights(arrays, model)
    expected = reference_logits(arrays, model.config, tiny_images(3))
    assert np.ptp(expected, axis=0).min() > 1e-3
    np.testing.assert_allclose(numpy(model(tiny_images(3))), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("conv2d/bias:0"), "A conv2d layer"),
        (lambda a: a.pop("layer_normalization/gamma:0"), "layer_normalization"),
        (
            lambda a: a.update({"dense_99/kernel:0": np.zeros(3)}),
            "layers that the model",
        ),
        (lambda a: a.update({"Adam/iter:0": np.zeros(1)}), "'Adam/iter:0'"),
        (
            lambda a: a.update({"conv2d/bias:0": np.zeros(3)}),
            "embedding/projection/bias has shape",
        ),
        (
            lambda a: a.update({"conv2d/bias:0": np.full(12, np.nan)}),
            "embedding/projection/bias has values that are no numbers",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_the_model_stays(change, message):
    model = model_for("widenet")
    before = [numpy(weight) for weight in model.weights]
    arrays = reference_arrays(model.config)
    change(arrays)
    with pytest.raises(ValueError, match=message) as error:
        widenet_keras.convert_reference_weights(arrays, model)
    assert message in one_line(error)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(numpy(weight), value)


def test_a_model_without_the_second_gelu_is_refused():
    model = model_for("widenet", output_activation=None)
    with pytest.raises(ValueError, match="gelu_tanh") as error:
        widenet_keras.convert_reference_weights({}, model)
    one_line(error)
