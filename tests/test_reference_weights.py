"""Weights of the authors' network, by their names, give their logits."""

import numpy as np
import pytest
from conftest import numpy, one_line, tiny_config, tiny_images
from oracle import model_forward

import widenet_keras


def reference_arrays(config, first=0):
    """Returns random arrays under the names that the authors' code gives.

    Their automatic numbers start at `first`, as in a session that has built
    other models before; Keras leaves out the number 0.
    """
    random = np.random.default_rng(0)
    arrays, counts = {}, {}
    width, heads = config.width, config.heads
    size = width // heads

    def add(kind, prefix="", **shapes):
        number = counts[kind] = counts.get(kind, first - 1) + 1
        name = f"{kind}_{number}" if number else kind
        for part, shape in shapes.items():
            key = f"{prefix}{name}/{part.replace('__', '/')}:0"
            arrays[key] = (random.normal(size=shape) * 0.3).astype("float32")

    def dense(rows, columns):
        add("dense", kernel=(rows, columns), bias=(columns,))

    patch = config.patch_size
    add("conv2d", kernel=(patch, patch, 3, width), bias=(width,))
    tokens = 1 + config.grid[0] * config.grid[1]
    add("embedding", prefix="patch_encoder/", embeddings=(tokens, width))
    for block in range(config.num_unique_blocks):
        per_head = {"kernel": (width, heads, size), "bias": (heads, size)}
        parts = {
            f"{n}__{p}": s
            for n in ("query", "key", "value")
            for p, s in per_head.items()
        }
        parts["attention_output__kernel"] = (heads, size, width)
        parts["attention_output__bias"] = (width,)
        add("multi_head_attention", **parts)
        routed = block in config.routed_blocks
        hidden = config.expert_dim if routed else config.mlp_dim
        for _ in range(config.num_experts if routed else 1):
            dense(width, hidden)
            dense(hidden, width)
        if routed:
            shape = (width, config.num_experts)
            add("dense", prefix="switch/router/", kernel=shape)
    for _ in range(2 * config.steps + 1):
        add("layer_normalization", gamma=(width,), beta=(width,))
    dense(width, width)
    dense(width, config.num_classes)
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

    Written apart from the conversion: layers are looked up here by the position
    of their name in the dict, there by kind and number.
    """
    by_kind = {}
    for name, array in arrays.items():
        kind = next(
            k
            for k in ("multi_head", "layer_norm", "embedding", "conv2d", "dense")
            if k in name
        )
        by_kind.setdefault(kind, []).append(array.astype("float64"))
    norms = np.array(by_kind["layer_norm"])
    w = {
        "embedding/projection/kernel": by_kind["conv2d"][0],
        "embedding/projection/bias": by_kind["conv2d"][1],
        "embedding/position": by_kind["embedding"][0],
        "encoder/norm1/gamma": norms[0:-2:4],
        "encoder/norm1/beta": norms[1:-2:4],
        "encoder/norm2/gamma": norms[2:-2:4],
        "encoder/norm2/beta": norms[3:-2:4],
        "head/norm/gamma": norms[-2],
        "head/norm/beta": norms[-1],
    }
    dense = iter(by_kind["dense"])
    attention = iter(by_kind["multi_head"])
    for block in range(config.num_unique_blocks):
        path = f"encoder/block_{block}/"
        for part in ("query", "key", "value", "output"):
            kernel = next(attention).reshape(config.width, config.width)
            w[f"{path}attention/{part}/kernel"] = kernel
            w[f"{path}attention/{part}/bias"] = next(attention).ravel()
        path += "feed_forward/"
        if block in config.routed_blocks:
            bank = [[next(dense) for _ in range(4)] for _ in range(config.num_experts)]
            for place, name in enumerate(
                ("hidden_kernel", "hidden_bias", "outer_kernel", "outer_bias")
            ):
                w[f"{path}experts/{name}"] = np.array([e[place] for e in bank])
            w[f"{path}router/kernel"] = next(dense)
        else:
            for name in ("hidden", "outer"):
                w[f"{path}{name}/kernel"] = next(dense)
                w[f"{path}{name}/bias"] = next(dense)
    for name in ("representation", "logits"):
        w[f"head/{name}/kernel"] = next(dense)
        w[f"head/{name}/bias"] = next(dense)
    return model_forward(w, config, images)[0]


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
            "embedding/projection/bias",
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
