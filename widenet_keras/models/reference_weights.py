"""Carrying over weights that were trained with the authors' TensorFlow code.

Their network is this one with `output_activation="gelu_tanh"` (a second GELU on
the output of every feed-forward part), without dropped tokens. Their Keras 2
layers have automatic names, numbered in order of construction, with a prefix
per enclosing layer. The mapping, with ours under the model's name:

| theirs | shape | ours | how |
|---|---|---|---|
| `conv2d/kernel`, `bias` | (p, p, 3, D), (D,) | `embedding/projection/kernel`, `bias` | as is |
| `patch_encoder/embedding/embeddings` | (1 + patches, D) | `embedding/position` | as is |
| `layer_normalization_{2t}/gamma`, `beta` | (D,) | `encoder/norm1/gamma[t]`, `beta[t]` | stacked over the steps; of a shared part see below |
| `layer_normalization_{2t+1}/...` | (D,) | `encoder/norm2/...[t]` | stacked over the steps; of a shared part see below |
| the last `layer_normalization` | (D,) | `head/norm/gamma`, `beta` | as is |
| `multi_head_attention_{u}/query/kernel`, `bias` | (D, H, D/H), (H, D/H) | `encoder/block_{u}/attention/query/kernel`, `bias` | heads merged; key, value alike |
| `multi_head_attention_{u}/attention_output/kernel`, `bias` | (H, D/H, D), (D,) | `encoder/block_{u}/attention/output/kernel`, `bias` | heads merged |
| two `dense` of a plain block | (D, F), (F, D) | `encoder/block_{u}/feed_forward/hidden`, `outer` | as is |
| 2 E `dense` of a routed block | (D, F), (F, D) | `encoder/block_{u}/feed_forward/experts/hidden_kernel[e]`, ... | stacked over the experts |
| the `dense` after them, without bias | (D, E) | `encoder/block_{u}/feed_forward/router/kernel` | as is |
| the last `multi_head_attention`, of `classifier="map"` | as above | `head/attention/query/kernel`, ... | as above |
| the last two `dense`, or the last | (D, D), (D, classes) | `head/representation`, `head/logits` | as is |

The switches of their train.py are fields of the model:

| theirs | ours |
|---|---|
| `--share_att --share_ffn` | `sharing="all"` |
| `--share_att` | `sharing="attention"` |
| `--share_ffn` | `sharing="feed_forward"` |
| neither | `sharing="none"` |
| `--switch_deepth` G with `--use_moe` | `unique_blocks` L / G ("sequence" where both are shared) and `moe_blocks`, those of the last G steps; from L on neither is needed |
| no `--use_moe` | `moe_blocks="none"` and, with a shared part, `shared_norms=True` |
| `--use_representation` | `representation=True`, otherwise and with "map" False |
| `classifier` "gap", "token" or "map" of their configurations | `pooling` "mean", "token" or "token_attention" |

Without experts they share the norm before a shared part as well. Such a norm is made
before those that the first of its steps has for itself, which is how they are numbered.

Their class token is a constant zero, as here. Their ImageNet head has 1001
columns (TFRecord labels 1..1000), so build the model with `num_classes=1001`.
"""  # noqa: E501

import re
from collections.abc import Mapping

import keras
import numpy as np

from widenet_keras.layers.sharing import PART_PLANS
from widenet_keras.models.weights import assign_all

# Layer kinds in their automatic names; "embedding" is the position table.
_KINDS = ("conv2d", "embedding", "layer_normalization", "multi_head_attention", "dense")
_LAYER = re.compile(rf"(?:^|/)({'|'.join(_KINDS)})(?:_(\d+))?(?=/)")


def convert_reference_weights(
    arrays: Mapping[str, np.ndarray], model: keras.Model
) -> keras.Model:
    """Loads weights of the authors' TensorFlow network into a model.

    ```python
    arrays = {w.name: w.numpy() for w in their_model.weights}
    model = widenet_keras.ImageClassifier.from_preset(
        "widenet_b16", output_activation="gelu_tanh", num_classes=1001
    )
    widenet_keras.convert_reference_weights(arrays, model)
    ```

    A checkpoint of TensorFlow has no such names: build their network, call its
    `load_weights(path).expect_partial()`, then make the dict as above.

    Args:
        arrays: Dict from the names of their variables, such as
            "multi_head_attention/query/kernel:0", or of their .h5 files, such as
            "conv2d/conv2d/kernel:0", to arrays. The module's docstring has the mapping
            of every tensor.
        model: A `WideNet` or `ImageClassifier` of the same architecture, with
            `output_activation="gelu_tanh"`.

    Returns:
        The model.

    Raises:
        ValueError: If an array is missing, left over or of another shape. The
            model is changed only if everything fits.
    """
    if model.config.output_activation != "gelu_tanh":
        raise ValueError(
            "The authors' network has a second GELU and the model has "
            f"output_activation={model.config.output_activation!r}; build it with "
            "output_activation='gelu_tanh'."
        )
    source = _Source(arrays)
    values = _converted(source, model.config)
    source.check_used_up()
    assign_all(model, values, "The reference arrays")
    return model


class _Source:
    """Their layers by kind, each kind in order of construction."""

    def __init__(self, arrays):
        self.layers = {kind: {} for kind in _KINDS}
        for name, array in arrays.items():
            found = list(_LAYER.finditer(name))
            if not found:
                raise ValueError(
                    f"The array {name!r} belongs to no layer of the authors' network; "
                    "leave out what is not a weight (optimizer slots, counters)."
                )
            # Of nested layers the innermost holds the variable, except that an
            # attention layer names its own parts. A .h5 file names the layer twice.
            match = next((m for m in found[::-1] if m[1] == _KINDS[3]), found[-1])
            number = int(match[2] or 0)
            part = name[match.end() + 1 :].removesuffix(":0")
            self.layers[match[1]].setdefault(number, {})[part] = np.asarray(array)
        self.queues = {
            kind: [layer for _, layer in sorted(layers.items())]
            for kind, layers in self.layers.items()
        }

    def next(self, kind, *parts):
        """Takes the next layer of a kind and returns its arrays."""
        if not self.queues[kind]:
            raise ValueError(
                f"The reference arrays have too few {kind} layers for this model; "
                "build the model with their number of steps, blocks and experts."
            )
        layer = self.queues[kind].pop(0)
        if sorted(layer) != sorted(parts):
            raise ValueError(
                f"A {kind} layer of the reference arrays has {sorted(layer)} where the "
                f"model needs {sorted(parts)}; build the model with their architecture."
            )
        return [layer[part] for part in parts]

    def check_used_up(self):
        """Raises `ValueError` if a layer was not needed."""
        left = {kind: len(queue) for kind, queue in self.queues.items() if queue}
        if left:
            raise ValueError(
                f"The reference arrays have layers that the model lacks: {left}; build "
                "the model with their number of steps, blocks and experts."
            )


def _converted(source, config):
    """Returns all weights under our paths (without the model's name)."""
    values = {}

    def put(path, names, arrays):
        values.update({f"{path}{n}": a for n, a in zip(names, arrays, strict=True)})

    kernel_bias = ("kernel", "bias")
    put("embedding/projection/", kernel_bias, source.next("conv2d", *kernel_bias))
    [values["embedding/position"]] = source.next("embedding", "embeddings")
    for number, norms in enumerate(_norms(source, config), 1):
        stacked = [np.stack(part) for part in zip(*norms, strict=True)]
        put(f"encoder/norm{number}/", ("gamma", "beta"), stacked)
    put("head/norm/", ("gamma", "beta"), source.next(*_NORM))
    attentions, parts = map(config.holders, PART_PLANS)
    for block in range(config.num_unique_blocks):
        path = f"encoder/block_{block}/"
        if block in attentions:
            _put_attention(values, source, f"{path}attention/", config.width)
        if block not in parts:
            continue
        if block in config.routed_blocks:
            _put_experts(values, source, f"{path}feed_forward/", config.num_experts)
        else:
            for part in ("hidden", "outer"):
                dense = source.next("dense", *kernel_bias)
                put(f"{path}feed_forward/{part}/", kernel_bias, dense)
    if config.pooling == "token_attention":
        _put_attention(values, source, "head/attention/", config.width)
    if config.representation:
        dense = source.next("dense", *kernel_bias)
        put("head/representation/", kernel_bias, dense)
    put("head/logits/", kernel_bias, source.next("dense", *kernel_bias))
    return values


_NORM = ("layer_normalization", "gamma", "beta")


def _norms(source, config):
    """Takes the norms of the steps and returns those before each part, two lists."""
    rows = [config.norm_rows(part) for part in PART_PLANS]
    taken = {}
    for step in range(config.steps):
        # A norm that neighbours share is made before those of the first of them.
        firsts = [which for which in (0, 1) if (which, rows[which][step]) not in taken]
        shared = [w for w in firsts if rows[w].count(rows[w][step]) > 1]
        for which in (*shared, *(w for w in firsts if w not in shared)):
            taken[which, rows[which][step]] = source.next(*_NORM)
    return [[norm for (w, _), norm in taken.items() if w == which] for which in (0, 1)]


def _put_attention(values, source, path, width):
    """Adds one attention layer, its heads merged."""
    names = {"query": "query", "key": "key", "value": "value"}
    names["attention_output"] = "output"
    parts = [f"{theirs}/{part}" for theirs in names for part in ("kernel", "bias")]
    arrays = dict(zip(parts, source.next("multi_head_attention", *parts), strict=True))
    for theirs, ours in names.items():
        kernel = arrays[f"{theirs}/kernel"].reshape(width, width)
        values[f"{path}{ours}/kernel"] = kernel
        values[f"{path}{ours}/bias"] = arrays[f"{theirs}/bias"].reshape(width)


def _put_experts(values, source, path, num_experts):
    """Adds one bank of experts, stacked, and the router made after it."""
    layers = [source.next("dense", "kernel", "bias") for _ in range(2 * num_experts)]
    for which, part in enumerate(("hidden", "outer")):
        kernels, biases = zip(*layers[which::2], strict=True)
        values[f"{path}experts/{part}_kernel"] = np.stack(kernels)
        values[f"{path}experts/{part}_bias"] = np.stack(biases)
    [values[f"{path}router/kernel"]] = source.next("dense", "kernel")
