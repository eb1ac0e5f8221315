"""Tensors of other libraries give their answers as a WideNet computes them.

Each family's forward pass is written from its own formulas, on its own names.
"""

import math

import numpy as np
import pytest
from conftest import one_line
from timm_names import timm_names

from widenet_keras.conversions import from_weights, google
from widenet_keras.conversions.architectures import heads_by_name
from widenet_keras.conversions.folding import halves, thirds
from widenet_keras.conversions.found import found_in
from widenet_keras.conversions.preprocessing_of import by_transformers, prepared
from widenet_keras.conversions.safetensors_files import write_safetensors
from widenet_keras.conversions.sizes import usual_heads
from widenet_keras.conversions.tensors import Tensors

D, H, P, SIDE, F, C, L = 12, 3, 2, 3, 10, 5, 2
N, IMAGE = SIDE**2, P * SIDE
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
HALF = (0.5,) * 3, (0.5,) * 3
ACT = {
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: (
        x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    ),
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def pixels():
    shape = (2, IMAGE, IMAGE, 3)
    return np.random.default_rng(7).integers(0, 256, shape).astype("float64")


def random(*shape):
    count = random.count = getattr(random, "count", 0) + 1
    return np.random.default_rng(count).normal(size=shape) * 0.4


def norm(x, gamma, beta, epsilon):
    variance = x.var(-1, keepdims=True)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(variance + epsilon) * gamma + beta


def attend(q, k, v, heads):
    """Attention of q (B, Q, D) over k and v (B, T, D)."""
    q, k, v = (a.reshape(*a.shape[:2], heads, -1).swapaxes(1, 2) for a in (q, k, v))
    scores = q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1])
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    out = scores / scores.sum(-1, keepdims=True) @ v
    return out.swapaxes(1, 2).reshape(len(out), q.shape[2], -1)


def cut(images):
    """Images (B, S, S, 3) as patches (B, N, p, p, 3)."""
    parts = images.reshape(len(images), SIDE, P, SIDE, P, 3)
    return parts.transpose(0, 1, 3, 2, 4, 5).reshape(len(images), N, P, P, 3)


def normalised(mean_std):
    mean, std = map(np.asarray, mean_std)
    return (pixels() / 255 - mean) / std


def ours(found):
    """The network of a WideNet, on pixels / 127.5 - 1."""
    f, a = found.fields, found.arrays
    act, epsilon, heads = ACT[f["activation"]], f["norm_epsilon"], f["heads"]

    def dense(x, path):
        return x @ a[f"{path}/kernel"] + a[f"{path}/bias"]

    def normed(x, path, step=...):
        return norm(x, a[f"{path}/gamma"][step], a[f"{path}/beta"][step], epsilon)

    kernel = a["embedding/projection/kernel"]
    x = np.einsum("bnijc,ijcd->bnd", cut(pixels() / 127.5 - 1), kernel)
    x = x + a["embedding/projection/bias"]
    table = a["embedding/position"]
    lead = np.zeros((2, 0, D))
    if f["class_token"]:
        lead, table = np.repeat(table[None, :1], 2, 0), table[1:]
    if f["registers"]:
        registers = np.repeat(a["embedding/registers"][None], 2, 0)
        lead = np.concatenate([lead, registers], 1)
    x = np.concatenate([lead, x + table], 1)
    if f["embedding_norm"]:
        x = normed(x, "embedding/norm")
    for step in range(f["steps"]):
        block = f"encoder/block_{step}"
        y = normed(x, "encoder/norm1", step)
        qkv = (dense(y, f"{block}/attention/{n}") for n in ("query", "key", "value"))
        x = x + dense(attend(*qkv, heads), f"{block}/attention/output")
        y = normed(x, "encoder/norm2", step)
        hidden = act(dense(y, f"{block}/feed_forward/hidden"))
        if f["gated"]:
            hidden = hidden * dense(y, f"{block}/feed_forward/gate")
        x = x + dense(hidden, f"{block}/feed_forward/outer")
    if not f["norm_after_pooling"]:
        x = normed(x, "head/norm")
    pooling, start = f["pooling"], f["class_token"] + f["registers"]
    if pooling == "attention":
        query = np.repeat(a["head/attention/query"][None, None], 2, 0)
        key, value = (dense(x, f"head/attention/{n}") for n in ("key", "value"))
        y = dense(attend(query, key, value, heads), "head/attention/output")[:, 0]
        z = act(dense(normed(y, "head/attention/norm"), "head/attention/hidden"))
        y = y + dense(z, "head/attention/outer")
    else:
        patches = x[:, start:].mean(1)
        y = {
            "token": x[:, 0],
            "mean": x.mean(1),
            "patches": patches,
            "token_and_patches": np.concatenate([x[:, 0], patches], -1),
            "token_and_register": np.concatenate([x[:, 0], x[:, 1]], -1),
        }[pooling]
    if f["norm_after_pooling"]:
        y = normed(y, "head/norm")
    if f["representation"]:
        y = np.tanh(dense(y, "head/representation"))
    return dense(y, "head/logits") if f["num_classes"] else y


def add_linear(a, name, outputs, inputs, bias=True):
    a[f"{name}.weight"] = random(outputs, inputs)
    if bias:
        a[f"{name}.bias"] = random(outputs)


def add_norm(a, name):
    a[f"{name}.weight"], a[f"{name}.bias"] = random(D), random(D)


def lin(a, x, name):
    return x @ a[f"{name}.weight"].T + a.get(f"{name}.bias", 0)


def timm_arrays(
    rows=N + 1,
    cls=True,
    reg=0,
    dist=False,
    scale=None,
    swiglu=None,
    qkv="full",
    after=False,
    probe=False,
    pre=False,
    head=True,
    steps=L,
    chunk="",
):
    a = {"pos_embed": random(1, rows, D), "patch_embed.proj.weight": random(D, 3, P, P)}
    if not pre:
        a["patch_embed.proj.bias"] = random(D)
    else:
        add_norm(a, "norm_pre")
    if cls:
        a["cls_token"] = random(1, 1, D)
    if reg:
        a["register_tokens" if swiglu == "w12" else "reg_token"] = random(1, reg, D)
    if dist:
        a["dist_token"] = random(1, 1, D)
        add_linear(a, "head_dist", C, D)
    for i in range(steps):
        b = f"blocks.{chunk}{i}."
        add_norm(a, f"{b}norm1")
        add_norm(a, f"{b}norm2")
        add_linear(a, f"{b}attn.qkv", 3 * D, D, qkv == "full")
        if qkv == "keyless":
            a[f"{b}attn.q_bias"], a[f"{b}attn.v_bias"] = random(D), random(D)
        add_linear(a, f"{b}attn.proj", D, D)
        names = ("mlp.w12", "mlp.w3") if swiglu == "w12" else ("mlp.fc1", "mlp.fc2")
        add_linear(a, b + names[0], 2 * F if swiglu else F, D)
        add_linear(a, b + names[1], D, F)
        for n in (1, 2) if scale else ():
            a[b + scale.format(n)] = random(D)
    add_norm(a, "fc_norm" if after else "norm")
    if probe:
        a["attn_pool.latent"] = random(1, 1, D)
        for n, rows in (("q", D), ("kv", 2 * D), ("proj", D), ("mlp.fc1", F)):
            add_linear(a, f"attn_pool.{n}", rows, D)
        add_norm(a, "attn_pool.norm")
        add_linear(a, "attn_pool.mlp.fc2", D, F)
    elif head:
        add_linear(a, "head", C, D)
    return a


def timm_forward(a, mean_std=IMAGENET, act="gelu", epsilon=1e-6, pool="token"):
    act = ACT[act]
    x = np.einsum(
        "bnijc,dcij->bnd", cut(normalised(mean_std)), a["patch_embed.proj.weight"]
    ) + a.get("patch_embed.proj.bias", 0)
    names = ("cls_token", "dist_token", "reg_token", "register_tokens")
    lead = [np.repeat(a[n], 2, 0) for n in names if n in a]
    rows, table = a["pos_embed"].shape[1], a["pos_embed"]
    count = sum(t.shape[1] for t in lead)
    if rows == N:
        x = np.concatenate([*lead, x + table], 1)
    elif rows == N + count:
        x = np.concatenate([*lead, x], 1) + table
    else:
        x = np.concatenate([lead[0], x], 1) + table
        x = np.concatenate([x[:, :1], *lead[1:], x[:, 1:]], 1)

    def normed(x, n):
        return norm(x, a[f"{n}.weight"], a[f"{n}.bias"], epsilon)

    if "norm_pre.weight" in a:
        x = normed(x, "norm_pre")
    blocks = {}
    for n in a:
        if n.startswith("blocks."):
            prefix = n[: n.index(".norm1")] if ".norm1" in n else None
            if prefix:
                blocks[int(prefix.split(".")[-1])] = f"{prefix}."
    for _, b in sorted(blocks.items()):
        y = normed(x, f"{b}norm1")
        bias = a.get(f"{b}attn.qkv.bias", 0)
        if f"{b}attn.q_bias" in a:
            none = np.zeros(D)
            bias = np.concatenate([a[f"{b}attn.q_bias"], none, a[f"{b}attn.v_bias"]])
        qkv = y @ a[f"{b}attn.qkv.weight"].T + bias
        y = lin(a, attend(*np.split(qkv, 3, -1), H), f"{b}attn.proj")
        x = x + y * a.get(f"{b}ls1.gamma", a.get(f"{b}gamma_1", 1))
        y = normed(x, f"{b}norm2")
        if f"{b}mlp.w12.weight" in a:
            one, two = np.split(lin(a, y, f"{b}mlp.w12"), 2, -1)
            y = lin(a, ACT["silu"](one) * two, f"{b}mlp.w3")
        elif a[f"{b}mlp.fc1.weight"].shape[0] == 2 * F:
            one, two = np.split(lin(a, y, f"{b}mlp.fc1"), 2, -1)
            y = lin(a, ACT["silu"](one) * two, f"{b}mlp.fc2")
        else:
            y = lin(a, act(lin(a, y, f"{b}mlp.fc1")), f"{b}mlp.fc2")
        x = x + y * a.get(f"{b}ls2.gamma", a.get(f"{b}gamma_2", 1))
    if "norm.weight" in a:
        x = normed(x, "norm")
    if pool == "map":
        q = np.repeat(lin(a, a["attn_pool.latent"], "attn_pool.q"), 2, 0)
        k, v = np.split(lin(a, x[:, count:], "attn_pool.kv"), 2, -1)
        x = lin(a, attend(q, k, v, H), "attn_pool.proj")
        y = act(lin(a, normed(x, "attn_pool.norm"), "attn_pool.mlp.fc1"))
        return (x + lin(a, y, "attn_pool.mlp.fc2"))[:, 0]
    if "head_dist.weight" in a:
        return (lin(a, x[:, 0], "head") + lin(a, x[:, 1], "head_dist")) / 2
    x = x[:, 0] if pool == "token" else x[:, count:].mean(1)
    if "fc_norm.weight" in a:
        x = normed(x, "fc_norm")
    return lin(a, x, "head") if "head.weight" in a else x


TIMM = {
    "plain": ({}, {}),
    "table_without_class_row": ({"rows": N, "scale": "gamma_{}"}, {}),
    "layer_scale": ({"scale": "ls{}.gamma"}, {}),
    "distilled": ({"rows": N + 2, "dist": True}, {}),
    "registers_without_rows": ({"rows": N, "reg": 4, "scale": "ls{}.gamma"}, {}),
    "registers_with_rows": ({"rows": N + 4, "cls": False, "reg": 4}, {"pool": "avg"}),
    "registers_gap": (
        {"rows": N, "cls": False, "reg": 4, "after": True},
        {"pool": "avg"},
    ),
    "packed": ({"swiglu": "packed", "scale": "ls{}.gamma"}, {}),
    "dinov2_w12": (
        {
            "swiglu": "w12",
            "reg": 4,
            "chunk": "0.",
            "head": False,
            "scale": "ls{}.gamma",
        },
        {},
    ),
    "no_qkv_bias": ({"qkv": "none"}, {}),
    "keyless_bias": ({"qkv": "keyless", "after": True}, {"pool": "avg"}),
    "map": (
        {"rows": N, "cls": False, "probe": True},
        {"pool": "map", "mean_std": HALF},
    ),
    "gap": ({"rows": N, "cls": False}, {"pool": "avg"}),
    "clip": ({"pre": True}, {"mean_std": CLIP, "epsilon": 1e-5}),
}


def same(found, expected):
    np.testing.assert_allclose(ours(found), expected, rtol=0, atol=1e-10)
    assert all(array.dtype == np.float64 for array in found.arrays.values())


@pytest.mark.parametrize("case", TIMM)
def test_timm(case):
    made, forward = TIMM[case]
    arrays = timm_arrays(**made)
    same(found_in(arrays, {}, "a file", heads=H), timm_forward(arrays, **forward))


@pytest.mark.parametrize("pool", ["token", "avg", None])
def test_timm_with_a_norm_behind_its_pooling(pool):
    """It averages by itself, and not where its config says that it takes the token."""
    arrays = timm_arrays(after=True)
    config = {"architecture": "vit_tiny_patch16_224", "global_pool": "avg"}
    config["model_args"] = {"fc_norm": True} | ({"global_pool": pool} if pool else {})
    found = found_in(arrays, {"config.json": config}, "a folder", heads=H)
    same(found, timm_forward(arrays, pool=pool or "avg"))


def test_timm_by_its_config():
    arrays = timm_arrays(pre=True)
    config = {
        "architecture": "vit_base_patch32_clip_quickgelu_224.openai",
        "num_classes": C,
        "model_args": {"num_heads": H, "img_size": IMAGE},
        "pretrained_cfg": {
            "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.3, 0.4],
            "crop_pct": 0.9,
            "interpolation": "bilinear",
            "crop_mode": "center",
        },
        "label_names": list("abcde"),
    }
    found = found_in(arrays, {"config.json": config}, "a folder")
    images = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    same(found, timm_forward(arrays, images, "quick_gelu", 1e-5))
    assert found.class_names == tuple("abcde")
    assert found.unknown == ()
    assert found.preprocessing == {
        "crop_mode": "center",
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "antialias": True,
    }
    config["model_args"]["depth"] = 7
    with pytest.raises(ValueError, match="steps=7 does not fit"):
        found_in(arrays, {"config.json": config}, "a folder")


def test_wrappers_and_prefixes():
    plain = timm_arrays(head=False)
    expected = timm_forward(plain)
    training = {f"teacher.backbone.{n}": a for n, a in plain.items()}
    training |= {f"student.backbone.{n}": a * 2 for n, a in plain.items()}
    training["teacher.head.last_layer.weight_g"] = random(3)
    training = {f"module.{n}": a for n, a in training.items()}
    found = found_in(training, {}, "a file", heads=H)
    same(found, expected)
    assert found.family == "DINO"
    assert found.unknown == ()
    # One that is alone is taken whatever it is called.
    found = found_in({f"student.{n}": a for n, a in plain.items()}, {}, "it", heads=H)
    same(found, expected)
    pretraining = {f"model.{n}": a for n, a in plain.items()}
    pretraining["model.decoder_embed.weight"] = random(3, D)
    pretraining["model.mask_token"] = random(1, 1, 3)
    found = found_in(pretraining, {}, "a file", heads=H)
    same(found, expected)
    assert found.family == "MAE"


def test_a_bare_file_of_timm_says_what_is_assumed():
    found = found_in(timm_arrays(), {}, "a file", heads=H)
    assert {
        "norm_epsilon 1e-06 by the library",
        "crop_pct 0.875 by the library",
        "interpolation bicubic by the library",
    } <= set(found.unknown)
    said = found_in(timm_arrays(), {}, "a file", heads=H, norm_epsilon=1e-6)
    assert not any("norm_epsilon" in phrase for phrase in said.unknown)


def test_what_the_user_says_wins():
    arrays = timm_arrays()
    images = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    said = {"activation": "silu", "norm_epsilon": 1e-3}
    found = found_in(arrays, {}, "a file", heads=H, **said, **images)
    same(found, timm_forward(arrays, tuple(images.values()), "silu", 1e-3))
    assert not any("activation" in phrase for phrase in found.unknown)
    for told, assumed in (("mean", "std"), ("std", "mean")):
        found = found_in(arrays, {}, "a file", heads=H, **{told: images[told]})
        assert f"{assumed} by the library" in found.unknown
        assert f"{told} by the library" not in found.unknown


def hf_arrays(new=False, prefix="", kind="vit", rows=N + 1, swiglu=False, reg=0):
    a = {}
    e = f"{prefix}embeddings."
    a[f"{e}cls_token"] = random(1, 1, D)
    a[f"{e}mask_token"] = random(1, D)
    a[f"{e}position_embeddings"] = random(1, rows, D)
    a[f"{e}patch_embeddings.projection.weight"] = random(D, 3, P, P)
    a[f"{e}patch_embeddings.projection.bias"] = random(D)
    if kind == "deit":
        a[f"{e}distillation_token"] = random(1, 1, D)
    if reg:
        a[f"{e}register_tokens"] = random(1, reg, D)
    dino = kind == "dinov2"
    for i in range(L):
        b = f"{prefix}{'layers' if new and not dino else 'encoder.layer'}.{i}."
        names = hf_names(new, dino)
        for n in names[:2]:
            add_norm(a, b + n)
        for n in names[2:6]:
            add_linear(a, b + n, D, D)
        if swiglu and new:
            for n in ("mlp.gate_proj", "mlp.up_proj"):
                add_linear(a, b + n, F, D)
            add_linear(a, f"{b}mlp.down_proj", D, F)
        elif swiglu:
            add_linear(a, f"{b}mlp.weights_in", 2 * F, D)
            add_linear(a, f"{b}mlp.weights_out", D, F)
        else:
            add_linear(a, b + names[6], F, D)
            add_linear(a, b + names[7], D, F)
        for n in (1, 2) if dino else ():
            a[f"{b}layer_scale{n}.lambda1"] = random(D)
    add_norm(a, f"{prefix}layernorm")
    return a


def hf_names(new, dino):
    norms = ("norm1", "norm2") if dino else ("layernorm_before", "layernorm_after")
    if new:
        attention = tuple(f"attention.{n}_proj" for n in "qkvo")
    else:
        attention = tuple(f"attention.attention.{n}" for n in ("query", "key", "value"))
        attention += ("attention.output.dense",)
    short = ("mlp.fc1", "mlp.fc2")
    mlp = short if new or dino else ("intermediate.dense", "output.dense")
    return (*norms, *attention, *mlp)


def hf_tokens(a, new, prefix, kind, mean_std, epsilon):
    e, dino = f"{prefix}embeddings.", kind == "dinov2"
    x = np.einsum(
        "bnijc,dcij->bnd",
        cut(normalised(mean_std)),
        a[f"{e}patch_embeddings.projection.weight"],
    )
    x = x + a[f"{e}patch_embeddings.projection.bias"]
    tokens = [np.repeat(a[f"{e}cls_token"], 2, 0)]
    if kind == "deit":
        tokens.append(np.repeat(a[f"{e}distillation_token"], 2, 0))
    x = np.concatenate([*tokens, x], 1) + a[f"{e}position_embeddings"]
    if f"{e}register_tokens" in a:
        registers = np.repeat(a[f"{e}register_tokens"], 2, 0)
        x = np.concatenate([x[:, :1], registers, x[:, 1:]], 1)
    n1, n2, q, k, v, o, fc1, fc2 = hf_names(new, dino)

    def normed(x, n):
        return norm(x, a[f"{n}.weight"], a[f"{n}.bias"], epsilon)

    for i in range(L):
        b = f"{prefix}{'layers' if new and not dino else 'encoder.layer'}.{i}."
        y = normed(x, b + n1)
        y = attend(*(lin(a, y, b + n) for n in (q, k, v)), H)
        x = x + lin(a, y, b + o) * a.get(f"{b}layer_scale1.lambda1", 1)
        y = normed(x, b + n2)
        if f"{b}mlp.weights_in.weight" in a:
            one, two = np.split(lin(a, y, f"{b}mlp.weights_in"), 2, -1)
            y = lin(a, ACT["silu"](one) * two, f"{b}mlp.weights_out")
        elif f"{b}mlp.gate_proj.weight" in a:
            y = ACT["silu"](lin(a, y, f"{b}mlp.gate_proj")) * lin(
                a, y, f"{b}mlp.up_proj"
            )
            y = lin(a, y, f"{b}mlp.down_proj")
        else:
            y = lin(a, ACT["gelu"](lin(a, y, b + fc1)), b + fc2)
        x = x + y * a.get(f"{b}layer_scale2.lambda1", 1)
    return normed(x, f"{prefix}layernorm")


@pytest.mark.parametrize("new", [False, True])
def test_transformers_vit(new):
    a = hf_arrays(new, "vit.")
    add_linear(a, "classifier", C, D)
    labels = {str(i): f"name {i}" for i in reversed(range(C))}
    config = {
        "model_type": "vit",
        "num_attention_heads": H,
        "hidden_size": D,
        "id2label": labels,
    }
    processor = {
        "size": {"height": 8, "width": 8},
        "resample": 2,
        "image_mean": [0.3] * 3,
    }
    files = {"config.json": config, "preprocessor_config.json": processor}
    found = found_in(a, files, "a folder")
    x = hf_tokens(a, new, "vit.", "vit", ((0.3,) * 3, HALF[1]), 1e-12)
    same(found, lin(a, x[:, 0], "classifier"))
    assert found.class_names == tuple(f"name {i}" for i in range(C))
    assert found.unknown == ()
    assert found.preprocessing["crop_mode"] == "squash"
    assert found.preprocessing["interpolation"] == "bilinear"


def test_transformers_sizes_that_patches_do_not_fill():
    config = {"model_type": "vit", "num_attention_heads": H, "hidden_size": D}
    exact = found_in(hf_arrays(True, "vit."), {"config.json": config}, "a folder")
    size, patch = exact.fields["image_size"], exact.fields["patch_size"]
    config |= {"image_size": [size + 1, size + 1], "patch_size": [patch, patch]}
    found = found_in(hf_arrays(True, "vit."), {"config.json": config}, "a folder")
    assert found.fields == exact.fields
    [phrase] = set(found.unknown) - set(exact.unknown)
    assert f"takes {size + 1} pixels and leaves out the last 1" in phrase
    config["image_size"] = size + patch
    with pytest.raises(ValueError, match="does not fit the tensors") as error:
        found_in(hf_arrays(True, "vit."), {"config.json": config}, "a folder")
    one_line(error)


def test_transformers_images_of_another_size():
    """As those of DINOv2: trained on larger ones than its preprocessor gives."""
    config = {"model_type": "vit", "num_attention_heads": H, "image_size": IMAGE}
    phrase = f"image_size {IMAGE}, where its preprocessor gives 5"
    for images, tells in (
        ({"crop_size": {"height": 5, "width": 5}, "size": {"shortest_edge": 6}}, True),
        ({"crop_size": 5, "do_center_crop": False, "size": IMAGE}, False),
        ({"size": {"shortest_edge": 5}}, True),
        ({"size": {"shortest_edge": IMAGE}}, False),
        ({"size": {"height": 5, "width": 5}}, True),
    ):
        files = {"config.json": config, "preprocessor_config.json": images}
        found = found_in(hf_arrays(True, "vit."), files, "a folder")
        assert (phrase in found.unknown) == tells
    # A pair is left alone.
    config["image_size"] = [IMAGE, IMAGE]
    assert phrase not in found_in(hf_arrays(True, "vit."), files, "a folder").unknown


def test_timm_sizes_that_patches_do_not_fill():
    found = found_in(timm_arrays(), {}, "a folder", heads=H)
    size = found.fields["image_size"] + 1
    config = {"architecture": "vit_small_patch16_224", "num_classes": C}
    config["model_args"] = {"num_heads": H}
    for given, tells in (
        ([3, size, size], True),
        ([3, size - 1, size - 1], False),
        ([3, 5 * size, 5 * size], False),
        (size, False),
    ):
        config["pretrained_cfg"] = {"input_size": given}
        found = found_in(timm_arrays(), {"config.json": config}, "a folder")
        said = [each for each in found.unknown if "leaves out the last 1" in each]
        assert len(said) == tells


def test_transformers_pooler_without_a_form():
    arrays = hf_arrays()
    add_linear(arrays, "pooler.dense", D, D)
    config = {"model_type": "vit", "num_attention_heads": H, "hidden_size": D}
    phrase = "features in front of its pooler, which has no form here"
    assert phrase not in found_in(arrays, {"config.json": config}, "a folder").unknown
    config["pooler_act"] = "gelu"
    assert phrase in found_in(arrays, {"config.json": config}, "a folder").unknown


@pytest.mark.parametrize(
    ("said", "phrase"),
    [
        (
            {"size": {"longest_edge": 8}},
            "no size by longest_edge, but that of its kind",
        ),
        ({"do_resize": False, "size": {"height": 8, "width": 8}}, "are resized"),
    ],
)
def test_transformers_images_without_a_form(said, phrase):
    defaults = prepared(crop_mode="center", crop_pct=0.5)
    found = by_transformers(said, defaults, False)
    assert [each for each in found.unknown if phrase in each]
    whole = "longest_edge" not in said["size"]
    assert found.geometry["crop_pct"] == (1.0 if whole else 0.5)


def test_transformers_pooler():
    a = hf_arrays()
    add_linear(a, "pooler.dense", D, D)
    a["decoder.decoder_embed.weight"] = random(3, D)
    x = hf_tokens(a, False, "", "vit", IMAGENET, 1e-12)
    found = found_in(a, {}, "a file", heads=H)
    same(found, np.tanh(lin(a, x[:, 0], "pooler.dense")))
    assert found.family == "transformers vit_mae"
    encoder = {n: array for n, array in a.items() if not n.startswith("decoder.")}
    config = {"model_type": "vit_mae", "num_attention_heads": H}
    same(found_in(encoder, {"config.json": config}, "a folder"), ours(found))


@pytest.mark.parametrize("two", [False, True])
def test_transformers_deit(two):
    a = hf_arrays(prefix="deit.", kind="deit", rows=N + 2)
    x = hf_tokens(a, False, "deit.", "deit", IMAGENET, 1e-12)
    if two:
        add_linear(a, "cls_classifier", C, D)
        add_linear(a, "distillation_classifier", C, D)
        expected = lin(a, x[:, 0], "cls_classifier")
        expected = (expected + lin(a, x[:, 1], "distillation_classifier")) / 2
    else:
        add_linear(a, "classifier", C, D)
        expected = lin(a, x[:, 0], "classifier")
    same(found_in(a, {}, "a file", heads=H), expected)


@pytest.mark.parametrize("reg", [0, 4])
@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("swiglu", [False, True])
def test_transformers_dinov2(reg, new, swiglu):
    prefix = "dinov2_with_registers." if reg else "dinov2."
    a = hf_arrays(new, prefix, "dinov2", swiglu=swiglu, reg=reg)
    add_linear(a, "classifier", C, 2 * D)
    x = hf_tokens(a, new, prefix, "dinov2", IMAGENET, 1e-6)
    pooled = np.concatenate([x[:, 0], x[:, 1 + reg :].mean(1)], -1)
    found = found_in(a, {}, "a file", heads=H)
    same(found, lin(a, pooled, "classifier"))
    assert found.preprocessing["crop_pct"] == 0.875


def tower_arrays(prefix, siglip=False, head=False, classifier=False):
    a, e = {}, f"{prefix}embeddings."
    a[f"{e}patch_embedding.weight"] = random(D, 3, P, P)
    a[f"{e}position_embedding.weight"] = random(N + (not siglip), D)
    a[f"{e}position_ids"] = np.arange(N)[None]
    if siglip:
        a[f"{e}patch_embedding.bias"] = random(D)
    else:
        a[f"{e}class_embedding"] = random(D)
        add_norm(a, f"{prefix}pre_layrnorm")
        a["visual_projection.weight"] = random(C, D)
        a["text_model.embeddings.position_embedding.weight"] = random(3, D)
        a["logit_scale"] = random()
    for i in range(L):
        b = f"{prefix}encoder.layers.{i}."
        add_norm(a, f"{b}layer_norm1")
        add_norm(a, f"{b}layer_norm2")
        for n in ("q_proj", "k_proj", "v_proj", "out_proj"):
            add_linear(a, f"{b}self_attn.{n}", D, D)
        add_linear(a, f"{b}mlp.fc1", F, D)
        add_linear(a, f"{b}mlp.fc2", D, F)
    add_norm(a, f"{prefix}post_layernorm")
    h = f"{prefix}head."
    if siglip and head:
        a[f"{h}probe"] = random(1, 1, D)
        a[f"{h}attention.in_proj_weight"] = random(3 * D, D)
        a[f"{h}attention.in_proj_bias"] = random(3 * D)
        add_linear(a, f"{h}attention.out_proj", D, D)
        add_norm(a, f"{h}layernorm")
        add_linear(a, f"{h}mlp.fc1", F, D)
        add_linear(a, f"{h}mlp.fc2", D, F)
    if classifier:
        add_linear(a, "classifier", C, D)
    return a


def tower_forward(a, prefix, siglip, mean_std, act, epsilon):
    e, act = f"{prefix}embeddings.", ACT[act]

    def normed(x, n):
        return norm(x, a[f"{n}.weight"], a[f"{n}.bias"], epsilon)

    kernel = a[f"{e}patch_embedding.weight"]
    x = np.einsum("bnijc,dcij->bnd", cut(normalised(mean_std)), kernel)
    x = x + a.get(f"{e}patch_embedding.bias", 0)
    if not siglip:
        token = np.broadcast_to(a[f"{e}class_embedding"], (2, 1, D))
        x = np.concatenate([token, x], 1)
    x = x + a[f"{e}position_embedding.weight"]
    x = x if siglip else normed(x, f"{prefix}pre_layrnorm")
    for i in range(L):
        b = f"{prefix}encoder.layers.{i}."
        y = normed(x, f"{b}layer_norm1")
        qkv = (lin(a, y, f"{b}self_attn.{n}_proj") for n in "qkv")
        x = x + lin(a, attend(*qkv, H), f"{b}self_attn.out_proj")
        y = act(lin(a, normed(x, f"{b}layer_norm2"), f"{b}mlp.fc1"))
        x = x + lin(a, y, f"{b}mlp.fc2")
    if not siglip:
        pooled = normed(x[:, 0], f"{prefix}post_layernorm")
        return pooled @ a["visual_projection.weight"].T
    x = normed(x, f"{prefix}post_layernorm")
    if "classifier.weight" in a:
        return lin(a, x.mean(1), "classifier")
    h = f"{prefix}head."
    weights = np.split(a[f"{h}attention.in_proj_weight"], 3)
    biases = np.split(a[f"{h}attention.in_proj_bias"], 3)
    probe = np.broadcast_to(a[f"{h}probe"], (2, 1, D))
    qkv = [z @ w.T + b for z, w, b in zip((probe, x, x), weights, biases, strict=True)]
    x = lin(a, attend(*qkv, H), f"{h}attention.out_proj")
    y = act(lin(a, normed(x, f"{h}layernorm"), f"{h}mlp.fc1"))
    return (x + lin(a, y, f"{h}mlp.fc2"))[:, 0]


@pytest.mark.parametrize("prefix", ["", "vision_model."])
def test_transformers_clip(prefix):
    a = tower_arrays(prefix)
    with pytest.raises(ValueError, match="give activation="):
        found_in(a, {}, "a file", heads=H)
    config = {"model_type": "clip", "vision_config": {"num_attention_heads": H}}
    found = found_in(a, {"config.json": config}, "a folder")
    same(found, tower_forward(a, prefix, False, CLIP, "quick_gelu", 1e-5))
    assert found.preprocessing["crop_mode"] == "center"


def test_a_projection_is_not_called_classes(tmp_path):
    tower = tower_arrays("vision_model.").items()
    tower = {name: np.asarray(array, "float32") for name, array in tower}
    write_safetensors(tower, tmp_path / "model.safetensors")

    def line(**fields):
        said, fields = [], {"heads": H, "activation": "quick_gelu", **fields}
        from_weights(tmp_path / "model.safetensors", say=said.append, **fields)
        return said[0]

    assert f" {C} numbers of its projection for classes." in line()
    assert f" {C + 1} classes." in line(num_classes=C + 1)
    assert " no classes." in line(num_classes=0)


@pytest.mark.parametrize(
    ("head", "classifier"), [(True, False), (False, True), (True, True)]
)
def test_transformers_siglip(head, classifier):
    a = tower_arrays("vision_model.", True, head, classifier)
    found = found_in(a, {}, "a file", heads=H)
    same(found, tower_forward(a, "vision_model.", True, HALF, "gelu_tanh", 1e-6))


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("prefix", ["", "visual."])
def test_open_clip(prefix, average):
    a = {
        f"{prefix}class_embedding": random(D),
        f"{prefix}positional_embedding": random(N + 1, D),
        f"{prefix}conv1.weight": random(D, 3, P, P),
        f"{prefix}proj": random(D, C),
    }
    for n in ("ln_pre", "ln_post"):
        add_norm(a, prefix + n)
    for i in range(L):
        b = f"{prefix}transformer.resblocks.{i}."
        add_norm(a, f"{b}ln_1")
        add_norm(a, f"{b}ln_2")
        a[f"{b}attn.in_proj_weight"] = random(3 * D, D)
        a[f"{b}attn.in_proj_bias"] = random(3 * D)
        add_linear(a, f"{b}attn.out_proj", D, D)
        add_linear(a, f"{b}mlp.c_fc", F, D)
        add_linear(a, f"{b}mlp.c_proj", D, F)
        a[f"{b}ls_1.gamma"], a[f"{b}ls_2.gamma"] = random(D), random(D)
    if prefix:
        a["transformer.resblocks.0.ln_1.weight"] = random(D)
        a["positional_embedding"], a["logit_scale"] = random(4, D), random()
    with pytest.raises(ValueError, match="give activation="):
        found_in(a, {}, "a file", heads=H)
    found = found_in(a, {}, "a file", heads=H, activation="gelu")
    assert "norm_epsilon 1e-05 by the library" in found.unknown
    vision = {"width": D, "head_width": D // H, "patch_size": P, "layers": L}
    if average:
        vision |= {"pool_type": "avg", "final_ln_after_pool": True}
    config = {"model_cfg": {"quick_gelu": True, "vision_cfg": vision}}
    found = found_in(a, {"open_clip_config.json": config}, "a folder")

    def normed(x, n):
        return norm(x, a[f"{n}.weight"], a[f"{n}.bias"], 1e-5)

    kernel = a[f"{prefix}conv1.weight"]
    x = np.einsum("bnijc,dcij->bnd", cut(normalised(CLIP)), kernel)
    token = np.broadcast_to(a[f"{prefix}class_embedding"], (2, 1, D))
    x = np.concatenate([token, x], 1) + a[f"{prefix}positional_embedding"]
    x = normed(x, f"{prefix}ln_pre")
    for i in range(L):
        b = f"{prefix}transformer.resblocks.{i}."
        y = normed(x, f"{b}ln_1") @ a[f"{b}attn.in_proj_weight"].T
        y = attend(*np.split(y + a[f"{b}attn.in_proj_bias"], 3, -1), H)
        x = x + lin(a, y, f"{b}attn.out_proj") * a[f"{b}ls_1.gamma"]
        y = ACT["quick_gelu"](lin(a, normed(x, f"{b}ln_2"), f"{b}mlp.c_fc"))
        x = x + lin(a, y, f"{b}mlp.c_proj") * a[f"{b}ls_2.gamma"]
    x = x[:, 1:].mean(1) if average else x[:, 0]
    same(found, normed(x, f"{prefix}ln_post") @ a[f"{prefix}proj"])


def test_open_clip_with_a_tower_of_timm():
    inner = timm_arrays(rows=N, cls=False, probe=True)
    a = {f"visual.trunk.{n}": array for n, array in inner.items()}
    a["text.transformer.resblocks.0.ln_1.weight"] = random(D)
    a["visual.head.proj.weight"] = random(C, D)
    vision = {"timm_model_name": "vit_so400m_patch16_siglip_256"}
    files = {"open_clip_config.json": {"model_cfg": {"vision_cfg": vision}}}
    found = found_in(a, files, "a folder", heads=H)
    expected = timm_forward(inner, HALF, "gelu_tanh", pool="map")
    same(found, expected @ a["visual.head.proj.weight"].T)


@pytest.mark.parametrize("told", [{"timm_pool": "avg"}, {}, {"timm_pool": "token"}])
def test_open_clip_with_a_tower_of_timm_that_averages(told):
    inner = timm_arrays(head=False)
    a = {f"visual.trunk.{n}": array for n, array in inner.items()}
    a["visual.head.proj.weight"] = random(C, D)
    vision = {"timm_model_name": "vit_tiny_patch16_224", **told}
    files = {"open_clip_config.json": {"model_cfg": {"vision_cfg": vision}}}
    found = found_in(a, files, "a folder", heads=H)
    expected = timm_forward(inner, CLIP, pool=told.get("timm_pool", "avg"))
    same(found, expected @ a["visual.head.proj.weight"].T)


def google_arrays(new=False, rows=N + 1, cls=True, probe=False, steps=L):
    size = D // H

    def attention(prefix):
        for n in ("query", "key", "value"):
            a[f"{prefix}{n}/kernel"] = random(D, H, size)
            a[f"{prefix}{n}/bias"] = random(H, size)
        a[f"{prefix}out/kernel"], a[f"{prefix}out/bias"] = random(H, size, D), random(D)

    def mlp(prefix):
        a[f"{prefix}Dense_0/kernel"], a[f"{prefix}Dense_0/bias"] = (
            random(D, F),
            random(F),
        )
        a[f"{prefix}Dense_1/kernel"], a[f"{prefix}Dense_1/bias"] = (
            random(F, D),
            random(D),
        )

    def scale_bias(prefix):
        a[f"{prefix}/scale"], a[f"{prefix}/bias"] = random(D), random(D)

    a = {"embedding/kernel": random(P, P, 3, D), "embedding/bias": random(D)}
    table = "pos_embedding" if new else "Transformer/posembed_input/pos_embedding"
    a[table] = random(1, rows, D)
    if cls:
        a["cls"] = random(1, 1, D)
    for i in range(steps):
        b = f"Transformer/encoderblock_{i}/"
        scale_bias(f"{b}LayerNorm_0")
        scale_bias(f"{b}LayerNorm_{1 if new else 2}")
        attention(f"{b}MultiHeadDotProductAttention_{0 if new else 1}/")
        mlp(f"{b}MlpBlock_{0 if new else 3}/")
    scale_bias("Transformer/encoder_norm")
    if probe:
        a["MAPHead_0/probe"] = random(1, 1, D)
        attention("MAPHead_0/MultiHeadDotProductAttention_0/")
        scale_bias("MAPHead_0/LayerNorm_0")
        mlp("MAPHead_0/MlpBlock_0/")
    else:
        a["pre_logits/kernel"], a["pre_logits/bias"] = random(D, D), random(D)
        a["head/kernel"], a["head/bias"] = random(D, C), random(C)
    return a


def google_forward(a, new=False, probe=False, steps=L):
    def attention(q, x, prefix):
        parts = []
        for z, n in ((q, "query"), (x, "key"), (x, "value")):
            y = np.einsum("btd,dhk->bthk", z, a[f"{prefix}{n}/kernel"])
            parts.append((y + a[f"{prefix}{n}/bias"]).reshape(*z.shape[:2], -1))
        y = attend(*parts, H).reshape(*q.shape[:2], H, -1)
        y = np.einsum("bthk,hkd->btd", y, a[f"{prefix}out/kernel"])
        return y + a[f"{prefix}out/bias"]

    def dense(x, n):
        return x @ a[f"{n}/kernel"] + a[f"{n}/bias"]

    def mlp(x, prefix):
        return dense(ACT["gelu_tanh"](dense(x, f"{prefix}Dense_0")), f"{prefix}Dense_1")

    def normed(x, n):
        return norm(x, a[f"{n}/scale"], a[f"{n}/bias"], 1e-6)

    x = np.einsum("bnijc,ijcd->bnd", cut(pixels() / 127.5 - 1), a["embedding/kernel"])
    x = x + a["embedding/bias"]
    table = a["pos_embedding" if new else "Transformer/posembed_input/pos_embedding"]
    first = table.shape[1] == N
    x = x + table if first else x
    if "cls" in a:
        x = np.concatenate([np.repeat(a["cls"], 2, 0), x], 1)
    x = x if first else x + table
    for i in range(steps):
        b = f"Transformer/encoderblock_{i}/"
        y = normed(x, f"{b}LayerNorm_0")
        x = x + attention(y, y, f"{b}MultiHeadDotProductAttention_{0 if new else 1}/")
        y = normed(x, f"{b}LayerNorm_{1 if new else 2}")
        x = x + mlp(y, f"{b}MlpBlock_{0 if new else 3}/")
    x = normed(x, "Transformer/encoder_norm")
    if probe:
        query = np.repeat(a["MAPHead_0/probe"], 2, 0)
        x = attention(query, x, "MAPHead_0/MultiHeadDotProductAttention_0/")
        y = mlp(normed(x, "MAPHead_0/LayerNorm_0"), "MAPHead_0/MlpBlock_0/")
        return (x + y)[:, 0]
    x = x[:, 0] if "cls" in a else x.mean(1)
    return dense(np.tanh(dense(x, "pre_logits")), "head")


GOOGLE = {
    "old": ({}, "opt/target/"),
    "token_without_row": ({"new": True, "rows": N}, "params/"),
    "gap": ({"new": True, "rows": N, "cls": False}, ""),
    "siglip": ({"new": True, "rows": N, "cls": False, "probe": True}, "params/img/"),
}


@pytest.mark.parametrize("case", GOOGLE)
def test_google(case):
    made, prefix = GOOGLE[case]
    plain = google_arrays(**made)
    arrays = {prefix + n: a for n, a in plain.items()}
    if prefix.endswith("img/"):
        arrays |= {"params/txt/head/kernel": random(3), "params/t": random(1)}
    new, probe = made.get("new", False), made.get("probe", False)
    same(found_in(arrays, {}, "a.npz"), google_forward(plain, new, probe))


def scanned(plain):
    """The arrays of one block after the other, stacked."""
    start = "Transformer/encoderblock_0/"
    inner = [n[len(start) :] for n in plain if n.startswith(start)]
    arrays = {n: a for n, a in plain.items() if "encoderblock_" not in n}
    for n in inner:
        steps = [plain[f"Transformer/encoderblock_{i}/{n}"] for i in range(L)]
        arrays[f"Transformer/encoderblock/{n}"] = np.stack(steps)
    return arrays


def test_google_scanned():
    plain = google_arrays(new=True, rows=N, cls=False, probe=True)
    arrays = scanned(plain)
    same(found_in(arrays, {}, "a.npz"), google_forward(plain, True, True))
    arrays["Transformer/encoderblock/more"] = random(L, D)
    with pytest.raises(ValueError, match="encoderblock/more' has no place"):
        found_in(arrays, {}, "a.npz")


def test_scanned_arrays_that_claim_many_steps_end_at_the_first():
    arrays = scanned(google_arrays(new=True, rows=N, cls=False, probe=True))
    for shape in ((10**9, 0), (10**9, 1)):
        claimed = {
            name: np.broadcast_to(np.float32(0), shape) if "block/" in name else array
            for name, array in arrays.items()
        }
        with pytest.raises(ValueError, match="encoderblock/"):
            found_in(claimed, {}, "a.npz")


def test_steps_of_scanned_arrays_are_no_copies(monkeypatch):
    arrays = scanned(google_arrays(new=True, rows=N, cls=False, probe=True))
    seen = []

    class Watched(Tensors):
        def __init__(self, arrays, *rest):
            super().__init__(arrays, *rest)
            seen.extend(arrays.values())

    monkeypatch.setattr(google, "Tensors", Watched)
    google.parts_of(Tensors(arrays, "a.npz"))
    stacked = [a for n, a in arrays.items() if n.startswith("Transformer/encoderblock")]
    assert len(seen) == L * len(stacked)
    assert all(any(each.base is a for a in stacked) for each in seen)


def hub_arrays(plain, deit=False, steps=L):
    """The same network by the names of KerasHub, from those of Google."""
    a = {}
    kind = "dei_t" if deit else "vi_t"
    e = "layers/dei_t_embeddings/" if deit else "layers/vi_t_patching_and_embedding/"
    table = plain["Transformer/posembed_input/pos_embedding"]
    a[f"{e}vars/0"] = plain["cls"]
    a[f"{e}vars/2" if deit else f"{e}position_embedding/vars/0"] = table
    if not deit:
        a[f"{e}position_embedding/vars/0"] = table[0]
    else:
        a[f"{e}vars/1"] = random(1, 1, D)

    def both(to, come, parts=("kernel", "bias")):
        for i, part in enumerate(parts):
            a[f"{to}/vars/{i}"] = plain[f"{come}/{part}"]

    both(f"{e}patch_embedding", "embedding")
    # Names in the order of a file, in which 10 comes before 2.
    for i in sorted(range(steps), key=str):
        number = f"_{i}" if i else ""
        b = f"layers/{kind}_encoder/encoder_layers/{kind}_encoder_block{number}/"
        g = f"Transformer/encoderblock_{i}/"
        both(f"{b}layer_norm_1", f"{g}LayerNorm_0", ("scale", "bias"))
        both(f"{b}layer_norm_2", f"{g}LayerNorm_2", ("scale", "bias"))
        for n, m in (
            ("query", "query"),
            ("key", "key"),
            ("value", "value"),
            ("output", "out"),
        ):
            both(f"{b}mha/{n}_dense", f"{g}MultiHeadDotProductAttention_1/{m}")
        inner = (
            ("mlp/dense", "output_layer/dense")
            if deit
            else ("mlp/dense_1", "mlp/dense_2")
        )
        both(b + inner[0], f"{g}MlpBlock_3/Dense_0")
        both(b + inner[1], f"{g}MlpBlock_3/Dense_1")
    both(
        f"layers/{kind}_encoder/layer_norm",
        "Transformer/encoder_norm",
        ("scale", "bias"),
    )
    return a


def hub_forward(monkeypatch, plain, steps):
    monkeypatch.setitem(ACT, "gelu_tanh", ACT["gelu"])
    return google_forward(plain, steps=steps)


@pytest.mark.parametrize("named", [True, False])
def test_keras_hub_vit_of_twelve_blocks(monkeypatch, named):
    plain = google_arrays(steps=12)
    arrays = hub_arrays(plain, steps=12)
    groups = ("dense_1", "dense") if named else ("dense", "dense_1")
    for group, come in zip(groups, ("pre_logits", "head"), strict=True):
        arrays[f"task/layers/{group}/vars/0"] = plain[f"{come}/kernel"]
        arrays[f"task/layers/{group}/vars/1"] = plain[f"{come}/bias"]
    arrays["task/optimizer/vars/0"] = random(3)
    attributes = {
        "task/layers/dense_1/vars": "pre_logits",
        "task/layers/dense/vars": "predictions",
    }
    converter = {
        "config": {"scale": 1 / 127.5, "offset": -1, "interpolation": "bilinear"}
    }
    found = found_in(
        arrays,
        {"image_converter.json": converter},
        "a preset",
        attributes=attributes if named else None,
    )
    same(found, hub_forward(monkeypatch, plain, 12))
    assert found.fields["heads"] == H
    assert found.preprocessing["antialias"] is False


def test_keras_hub_deit(monkeypatch):
    plain = google_arrays(rows=N + 2)
    arrays = hub_arrays(plain, deit=True)
    plain["cls"] = np.concatenate(
        [plain["cls"], arrays["layers/dei_t_embeddings/vars/1"]], 1
    )
    arrays["task/layers/dense/vars/0"] = plain["head/kernel"]
    arrays["task/layers/dense/vars/1"] = plain["head/bias"]
    found = found_in(arrays, {}, "a preset")
    plain["pre_logits/kernel"], plain["pre_logits/bias"] = np.eye(D), np.zeros(D)
    monkeypatch.setattr(np, "tanh", lambda x: x)
    same(found, hub_forward(monkeypatch, plain, L))


def test_kernels_are_in_memory_once():
    """What reads large files holds no copy or view beside what the model gets."""
    tensors = Tensors({"a.weight": random(6, 4), "a.bias": random(6)}, "a file")
    whole = tensors.linear("a", 4, 6)
    for pair in (whole, *thirds(whole), *halves(whole)):
        assert pair.first.base is None
        assert pair.first.flags.c_contiguous


def without(arrays, part):
    return {n: a for n, a in arrays.items() if part not in n}


REFUSED = {
    "leftover": (timm_arrays() | {"blocks.0.attn.q_norm.weight": random(4)}, "q_norm"),
    "line_breaks": (timm_arrays() | {"a\nb": random(4)}, r"'a\\\\nb' has no place"),
    "missing_block": (without(timm_arrays(steps=3), "blocks.1."), "no block 1 of 3"),
    "missing_tensor": (without(timm_arrays(), "1.mlp.fc2"), "blocks.1.mlp.fc2.weight"),
    "not_square": (timm_arrays(rows=N + 3), "'pos_embed' has 12 rows"),
    "wrong_shape": (timm_arrays() | {"norm.weight": random(D + 1)}, r"\(13\), not"),
    "beit": (
        timm_arrays() | {"blocks.0.attn.relative_position_bias_table": random(4)},
        "is of BEiT",
    ),
    "integers": (timm_arrays() | {"norm.bias": np.zeros(D, "int8")}, "holds int8"),
    "not_finite": (timm_arrays() | {"norm.bias": np.full(D, np.nan)}, "not finite"),
    "unknown": ({"a.b": random(3)}, "no known family .*'a.b'"),
    "none": ({}, "no known family"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_one_line(case):
    arrays, match = REFUSED[case]
    with pytest.raises(ValueError, match=match) as caught:
        found_in(arrays, {}, "a\nfile", heads=H)
    assert str(caught.value).startswith("a\\nfile: ")
    assert "\n" not in str(caught.value)


def test_heads_that_nothing_tells():
    with pytest.raises(ValueError, match="give heads="):
        found_in(timm_arrays(), {}, "a file")
    with pytest.raises(ValueError, match="heads=5 does not divide"):
        found_in(timm_arrays(), {}, "a file", heads=5)
    with pytest.raises(ValueError, match="have 3 heads"):
        found_in(google_arrays(), {}, "a.npz", heads=2)


def test_every_plain_name_of_timm():
    names = timm_names()
    assert len(names) == 142
    for name in names:
        config = {"architecture": f"{name.name}.a_tag", "model_args": {"num_heads": H}}
        has = name.has
        made = {**has, "rows": N + has.get("rows", 1)}
        made |= {"scale": "ls{}.gamma"} if "scale" in has else {}
        made |= {"swiglu": "packed"} if "swiglu" in has else {}
        found = found_in(timm_arrays(**made), {"config.json": config}, "a folder")
        expected = {
            "activation": name.activation,
            "gated": "swiglu" in has,
            "norm_epsilon": 1e-5 if "pre" in has else 1e-6,
            "embedding_norm": "pre" in has,
            "norm_after_pooling": "after" in has,
            "pooling": name.pooling,
            "class_token": has.get("cls", True),
            "registers": has.get("reg", 0) + has.get("dist", 0),
        }
        assert {key: found.fields[key] for key in expected} == expected, name
        heads = heads_by_name(name.name) or usual_heads(name.width, expected["gated"])
        assert heads == name.heads, name


@pytest.mark.parametrize(
    "name",
    [
        # Each with a part of its name that tells what its tensors may not.
        "vit_small_patch16_rope_ape_224",
        "vit_base_patch16_rpn_224",
        "vit_base_patch16_xp_224",
        "vit_base_patch16_18x2_224",
        "vit_pwee_patch16_reg1_gap_256",
        "vit_dwee_patch16_reg1_gap_256",
        "vit_dlittle_patch16_reg1_gap_256",
        "vit_pe_core_base_patch16_224",
        "vit_pe_lang_large_patch14_448",
        "vit_pe_spatial_base_patch16_512",
        "vit_base_patch16_dinov3",
        "vit_base_patch16_radio_v3",
        "vit_base_patch14_reg1_tipsv2",
        "vit_base_patch16_lingbot",
        "vit_base_patch16_sapiens2",
        "vit_relpos_base_patch16_224",
        "vit_srelpos_small_patch16_224",
        "vit_tiny_r_s16_p8_224",
        "vit_base_r26_s32_224",
        "vit_base_r50_s16_224",
        "vit_base_resnet26d_224",
        "vit_base_mci_224",
        "vit_intern300m_patch14_448",
        # And of other beginnings.
        "eva02_base_patch14_224",
        "beit_base_patch16_224",
        "beitv2_base_patch16_224",
        "beit3_base_patch16_224",
        "samvit_base_patch16",
        "aimv2_large_patch14_224",
        "naflexvit_base_patch16_gap",
        "swin_base_patch4_window7_224",
        "hiera_base_224",
        "vitamin_base_224",
        "test_vit",
    ],
)
def test_architectures_that_tensors_do_not_tell(name):
    with pytest.raises(ValueError, match=f"{name}'.* is not a plain vision") as error:
        found_in(timm_arrays(), {"config.json": {"architecture": name}}, "a", heads=H)
    one_line(error)


def test_configs_of_other_models():
    arrays = hf_arrays()
    with pytest.raises(ValueError, match="model_type='beit'"):
        found_in(arrays, {"config.json": {"model_type": "beit"}}, "a folder")
    config = {"model_type": "vit", "num_attention_heads": H, "image_size": 384}
    with pytest.raises(ValueError, match="image_size=384 does not fit"):
        found_in(arrays, {"config.json": config}, "a folder")
    config = {"architecture": "vit_base_patch16_224", "pretrained_cfg": "x"}
    with pytest.raises(ValueError, match="a JSON file beside it"):
        found_in(timm_arrays(), {"config.json": config}, "a folder", heads=H)


def test_a_width_of_the_sizes_that_are_published():
    sizes = {192: 3, 384: 6, 768: 12, 1024: 16, 1152: 16, 1280: 16, 1408: 16, 1664: 16}
    assert {width: usual_heads(width, False) for width in sizes} == sizes
    assert (usual_heads(1536, True), usual_heads(1536, False)) == (24, 16)
    assert usual_heads(100, False) is None


def test_a_crop_of_transformers_and_pixels_without_a_scale():
    from widenet_keras.conversions.preprocessing_of import (
        by_keras_hub,
        by_transformers,
        prepared,
    )

    config = {"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True}
    found = by_transformers({**config, "resample": 1}, prepared(), squashes=True)
    assert found.geometry == {
        "crop_mode": "center",
        "crop_pct": 0.875,
        "interpolation": "lanczos",
        "antialias": True,
    }
    assert prepared(interpolation="lanczos3").geometry["interpolation"] == "lanczos"
    assert "box" in prepared(interpolation="box").unknown[0]
    raw = by_keras_hub({"scale": None, "offset": None})
    np.testing.assert_allclose((*raw.mean, *raw.std), (0, 1 / 255))
