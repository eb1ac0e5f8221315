"""Models of other libraries, with random weights, give their answers here.

timm, transformers, OpenCLIP and KerasHub write the files as they do, and are the
judges; Google's .npz files are judged by timm, which reads them too.
"""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import numpy, one_line, shake
from test_families import IMAGE, C, D, F, H, L, N, P, google_arrays, scanned
from timm_names import timm_names

import widenet_keras
from widenet_keras.conversions.architectures import check_architecture

SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
PLAIN = {**SMALL, "intermediate_size": 96}
DINO = {**SMALL, "mlp_ratio": 2}
CLASSES = {"num_labels": 5}
# Nothing is hidden from the encoder.
MAE = {**PLAIN, "mask_ratio": 0.0}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
TOWERS = {"vision_config": PLAIN, "text_config": TEXT}
HALF = [0.5] * 3, [0.5] * 3
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLIP = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def logits(model, images):
    return model(images).logits


def pooled(model, images):
    return model(images).pooler_output


def class_token(model, images):
    """Of a masked autoencoder, whose patches stay in their order."""
    noise = images.new_zeros(2, 16).cumsum(1)
    encoder = getattr(model, "vit", model)
    return encoder(images, noise=noise).last_hidden_state[:, 0]


# Of each model its configuration, fields of it, its answer, and what its library's
# files say, or else its family's, of mean and deviation.
TRANSFORMERS = {
    "ViTForImageClassification": ("ViT", {**PLAIN, **CLASSES}, logits, HALF),
    "ViTModel": ("ViT", PLAIN, pooled, HALF),
    "DeiTForImageClassification": ("DeiT", {**PLAIN, **CLASSES}, logits, IMAGENET),
    "DeiTForImageClassificationWithTeacher": (
        "DeiT",
        {**PLAIN, **CLASSES},
        logits,
        IMAGENET,
    ),
    "Dinov2ForImageClassification": ("Dinov2", {**DINO, **CLASSES}, logits, IMAGENET),
    "Dinov2Model": ("Dinov2", {**DINO, "use_swiglu_ffn": True}, pooled, IMAGENET),
    "Dinov2WithRegistersForImageClassification": (
        "Dinov2WithRegisters",
        {**DINO, **CLASSES},
        logits,
        IMAGENET,
    ),
    "CLIPVisionModel": ("CLIPVision", PLAIN, pooled, CLIP),
    "CLIPVisionModelWithProjection": (
        "CLIPVision",
        {**PLAIN, "projection_dim": 6},
        lambda model, images: model(images).image_embeds,
        CLIP,
    ),
    "CLIPModel": (
        "CLIP",
        {**TOWERS, "projection_dim": 6},
        lambda model, images: model.get_image_features(images).pooler_output,
        CLIP,
    ),
    "SiglipVisionModel": ("SiglipVision", PLAIN, pooled, HALF),
    "SiglipModel": (
        "Siglip",
        TOWERS,
        lambda model, images: model.get_image_features(images).pooler_output,
        HALF,
    ),
    "SiglipForImageClassification": ("Siglip", {**TOWERS, **CLASSES}, logits, HALF),
    "ViTMAEModel": ("ViTMAE", MAE, class_token, IMAGENET),
    "ViTMAEForPreTraining": ("ViTMAE", MAE, class_token, IMAGENET),
}
# Of each family the image processor that its files name.
PROCESSORS = {
    "ViTForImageClassification": ("ViT", {}),
    "DeiTForImageClassification": ("DeiT", {}),
    "Dinov2ForImageClassification": ("Bit", {"image_mean": IMAGENET[0]}),
    "CLIPVisionModel": ("CLIP", {}),
    "SiglipModel": ("Siglip", {}),
}
pytestmark = pytest.mark.slow


def shaken(model):
    """Returns a model of torch whose weights are all away from their start."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        parameter.data += noise * (0.1 if parameter.ndim < 2 else 0.02)
    return model.eval()


def assert_alike(model, answer, mean, std):
    """Compares answers on pixels, which each library scales as it does.

    Args:
        model: One of this package.
        answer: Function of (B, 3, height, width) to answers.
        mean: Of pixels / 255, per channel.
        std: Likewise.
    """
    torch = pytest.importorskip("torch")
    size = model.config.image_size
    pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3))
    normal = (pixels / 255 - np.array(mean)) / np.array(std)
    with torch.no_grad():
        expected = answer(torch.tensor(normal.transpose(0, 3, 1, 2)).float()).numpy()
    found = numpy(model((pixels / 127.5 - 1).astype("float32")))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


NAMES = {name.name: name for name in timm_names()}


def more_here(name):
    """Parameters of a model of two steps and 7 classes that timm does not have."""
    has, width = name.has, name.width
    # Rows of leading tokens and LayerScale are folded; absent biases are zeros.
    more = -width * has.get("rows", 1)
    more -= 4 * width * has.get("scale", 0)
    more += width * has.get("pre", 0)
    more += {"none": 6 * width, "keyless": 2 * width}.get(has.get("qkv"), 0)
    # The query of attention pooling is one vector, and two heads have one bias.
    more -= (width**2 + width) * has.get("probe", 0)
    return more - 7 * has.get("dist", 0)


@pytest.mark.parametrize("name", NAMES)
def test_timm(name, tmp_path):
    timm = pytest.importorskip("timm")
    side = 3 * int((re.search(r"patch(\d+)", name) or [0, 16])[1])
    arguments = {"img_size": side, "depth": 2}
    theirs = shaken(timm.create_model(name, num_classes=7, **arguments))
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    known = theirs.pretrained_cfg
    told = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
    companion = {
        "architecture": name,
        "num_classes": 7,
        "num_features": theirs.num_features,
        "model_args": arguments,
        "pretrained_cfg": {key: known[key] for key in told},
    }
    (tmp_path / "config.json").write_text(json.dumps(companion))
    model = widenet_keras.from_weights(tmp_path, say=str)
    config = model.config
    assert (config.width, config.heads) == (NAMES[name].width, NAMES[name].heads)
    assert config.activation == NAMES[name].activation
    assert config.pooling == NAMES[name].pooling
    count = sum(parameter.numel() for parameter in theirs.parameters())
    assert model.count_params() == count + more_here(NAMES[name])
    assert_alike(model, theirs, known["mean"], known["std"])


def test_all_names_of_timm_are_taken_or_refused():
    """Of its vision transformers, and of what is near them."""
    timm = pytest.importorskip("timm")
    if timm.__version__ != "1.0.31":
        pytest.skip("the table of names is of timm 1.0.31")
    for name in set(timm.list_models()) - set(NAMES):
        with pytest.raises(ValueError, match=name) as error:
            check_architecture(name, "a folder")
        one_line(error)
    assert set(timm.list_models()) >= set(NAMES)


def of_transformers(name):
    """Returns a model of transformers, its answer, and mean and deviation."""
    transformers = pytest.importorskip("transformers")
    kind, fields, answer, scale = TRANSFORMERS[name]
    config = getattr(transformers, f"{kind}Config")(**fields)
    theirs = shaken(getattr(transformers, name)(config))
    return theirs, lambda images: answer(theirs, images), scale


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name, tmp_path):
    theirs, answer, scale = of_transformers(name)
    theirs.save_pretrained(tmp_path)
    model = widenet_keras.from_weights(tmp_path, say=str)
    assert_alike(model, answer, *scale)


@pytest.mark.parametrize("saved", ["new names", "shards", ".bin", "bfloat16"])
def test_files_of_transformers(saved, tmp_path):
    torch = pytest.importorskip("torch")
    name = "Dinov2WithRegistersForImageClassification"
    theirs, answer, scale = of_transformers(name)
    if saved == "bfloat16":
        theirs.to(torch.bfloat16).save_pretrained(tmp_path)
        theirs.to(torch.float32)
    elif saved == "shards":
        theirs.save_pretrained(tmp_path, max_shard_size="50KB")
        assert len(list(tmp_path.glob("*.safetensors"))) > 2
    else:
        theirs.save_pretrained(tmp_path, save_original_format=False)
    if saved == ".bin":
        (tmp_path / "model.safetensors").unlink()
        torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    model = widenet_keras.from_weights(tmp_path, say=str)
    assert_alike(model, answer, *scale)


@pytest.mark.parametrize("name", PROCESSORS)
def test_processors_of_transformers(name, tmp_path):
    """Pixels as each library scales them, by the file that it wrote."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    theirs, answer, _ = of_transformers(name)
    theirs.save_pretrained(tmp_path)
    kind, fields = PROCESSORS[name]
    processor = getattr(transformers, f"{kind}ImageProcessorPil")(**fields)
    processor.save_pretrained(tmp_path)
    said = []
    model = widenet_keras.from_weights(tmp_path, say=said.append)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype="uint8")
    sized = {"do_resize": False, "do_center_crop": False, "return_tensors": "pt"}
    prepared = processor(pixels, **sized)["pixel_values"]
    with torch.no_grad():
        expected = answer(prepared).numpy()
    found = numpy(model(widenet_keras.scale_pixels(pixels[None])))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert "preprocessing by the library" not in said[0]


NAFLEX = {name: value for name, value in PLAIN.items() if name != "image_size"}
REFUSED = {
    "CLIPForImageClassification": ("CLIP", {**TOWERS, **CLASSES}, "classifier"),
    "Siglip2Model": (
        "Siglip2",
        {"vision_config": NAFLEX, "text_config": TEXT},
        "patches must be square",
    ),
    "BeitModel": ("Beit", {**PLAIN, "use_relative_position_bias": True}, "BEiT"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_form_here(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    kind, fields, word = REFUSED[name]
    config = getattr(transformers, f"{kind}Config")(**fields)
    getattr(transformers, name)(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=word) as error:
        widenet_keras.from_weights(tmp_path, say=str)
    one_line(error)


GOOGLE = {
    "old": ({}, "opt/target/", {}),
    "token without a row": (
        {"new": True, "rows": N},
        "params/",
        {"no_embed_class": True},
    ),
    "gap": (
        {"new": True, "rows": N, "cls": False},
        "",
        {"class_token": False, "global_pool": "avg", "fc_norm": False},
    ),
    "siglip": (
        {"new": True, "rows": N, "cls": False, "probe": True},
        "params/img/",
        {"class_token": False, "global_pool": "map", "num_classes": 0},
    ),
}


@pytest.mark.parametrize(
    ("case", "is_scanned"),
    [*((case, False) for case in GOOGLE), ("siglip", True)],
)
def test_google(case, is_scanned, tmp_path):
    timm = pytest.importorskip("timm")
    made, prefix, fields = GOOGLE[case]
    arrays = google_arrays(**made)
    # timm leaves them out.
    arrays = {n: a for n, a in arrays.items() if not n.startswith("pre_logits")}
    arrays = scanned(arrays) if is_scanned else arrays
    path = tmp_path / "weights.npz"
    np.savez(path, **{prefix + n: a.astype("float32") for n, a in arrays.items()})
    sizes = {"img_size": IMAGE, "patch_size": P, "embed_dim": D, "depth": L}
    sizes |= {"num_heads": H, "mlp_ratio": F / D, "num_classes": C}
    theirs = timm.models.VisionTransformer(**{**sizes, **fields})
    theirs.load_pretrained(str(path))
    # As timm computes it; Google's own has the other one.
    model = widenet_keras.from_weights(path, activation="gelu", say=str)
    assert_alike(model, theirs.eval(), *HALF)


TIMM_TOWER = {"timm_pool": "", "timm_proj": "linear"}
SIGLIP_TOWER = {
    "timm_model_name": "vit_base_patch16_siglip_224",
    "timm_pool": "map",
    "timm_proj": "none",
}
PLAIN_TOWER = {"layers": 2, "width": 48, "head_width": 12, "patch_size": 8}
CLIPA = {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}
# Of each model its `vision_cfg`, other fields, and how images are prepared.
OPEN_CLIP = {
    "plain": ({**PLAIN_TOWER, "image_size": 32}, {}, {}),
    "quick gelu": ({**PLAIN_TOWER, "image_size": 32}, {"quick_gelu": True}, {}),
    "CLIPA": (
        {**PLAIN_TOWER, **CLIPA, "image_size": 32},
        {},
        {"mean": IMAGENET[0], "std": IMAGENET[1], "interpolation": "bilinear"},
    ),
    "average": ({**PLAIN_TOWER, "pool_type": "avg", "image_size": 32}, {}, {}),
    "LayerScale": (
        {**PLAIN_TOWER, "ls_init_value": 0.1, "image_size": 32, "mlp_ratio": 3},
        {"custom_text": True},
        {},
    ),
    "norms": (
        {
            **PLAIN_TOWER,
            "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
            "image_size": 32,
        },
        {},
        {},
    ),
    "SigLIP": (
        {**SIGLIP_TOWER, "image_size": 224},
        {"embed_dim": 768, "custom_text": True, "init_logit_bias": -10},
        {"mean": HALF[0], "std": HALF[1], "resize_mode": "squash"},
    ),
    "gap": (
        {
            **TIMM_TOWER,
            "timm_model_name": "vit_medium_patch16_gap_256",
            "image_size": 256,
        },
        {},
        {},
    ),
    "tower with an average": (
        {
            **TIMM_TOWER,
            "timm_pool": "avg",
            "timm_model_name": "vit_tiny_patch16_224",
            "image_size": 224,
        },
        {},
        {},
    ),
    "tower with a head": (
        {
            "timm_pool": "token",
            "timm_proj": None,
            "timm_model_name": "vit_tiny_patch16_224",
            "image_size": 224,
        },
        {},
        {},
    ),
}


@pytest.mark.parametrize("case", OPEN_CLIP)
def test_open_clip(case, tmp_path):
    open_clip = pytest.importorskip("open_clip")
    saving = pytest.importorskip("open_clip.push_to_hf_hub")
    vision, fields, images = OPEN_CLIP[case]
    text = {"context_length": 8, "vocab_size": 30, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, **fields}
    (tmp_path / "tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny.json")
    theirs = shaken(open_clip.create_model("tiny", force_preprocess_cfg=images))
    folder = tmp_path / "saved"
    tokenizer = SimpleNamespace(save_pretrained=lambda folder: None)
    # One of them as open_clip_pytorch_model.bin.
    safe = {"safe_serialization": case != "plain"}
    saving.save_for_hf(theirs, tokenizer, config, folder, **safe)
    model = widenet_keras.from_weights(folder, say=str)
    mean_std = images.get("mean", CLIP[0]), images.get("std", CLIP[1])
    assert_alike(model, theirs.encode_image, *mean_std)


VIT = {
    "image_shape": (32, 32, 3),
    "patch_size": 8,
    "num_layers": 12,
    "num_heads": 4,
    "hidden_dim": 48,
}
BARE = {"use_mha_bias": False, "use_mlp_bias": False, "use_patch_bias": False}
HEAD = {"num_classes": 5}
# Of each model its backbone's fields, and its head's.
KERAS_HUB = {
    "ViT": (VIT, None),
    "ViT without biases": ({**VIT, **BARE}, HEAD),
    "ViT classifier": (VIT, HEAD),
    "ViT with a representation": (VIT, {**HEAD, "intermediate_dim": 48}),
    "ViT gap": (VIT, {**HEAD, "pooling": "gap"}),
    "ViT without a class token": (
        {**VIT, "use_class_token": False},
        {**HEAD, "pooling": "gap"},
    ),
    "DeiT": (VIT, None),
    "DeiT classifier": (VIT, HEAD),
    "DeiT gap": (VIT, {**HEAD, "pooling": "gap"}),
}


@pytest.mark.parametrize("case", KERAS_HUB)
@pytest.mark.parametrize("scale", [None, "half", "per channel"])
def test_keras_hub(case, scale, tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    fields, head = KERAS_HUB[case]
    kind = case[:4].strip()
    inner = "mlp_dim" if kind == "ViT" else "intermediate_dim"
    backbone = getattr(keras_hub.models, f"{kind}Backbone")(**fields, **{inner: 96})
    shake(backbone.weights)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype="uint8")
    images = {
        None: {},
        "half": {"scale": 1 / 127.5, "offset": -1.0},
        "per channel": {"scale": [0.017, 0.018, 0.019], "offset": [-2.1, -2.0, -1.8]},
    }[scale]
    converter = getattr(keras_hub.layers, f"{kind}ImageConverter")(
        image_size=(32, 32), **images
    )
    if head is None:
        backbone.save_to_preset(tmp_path)
        converter.save_to_preset(tmp_path)
        expected = numpy(backbone(converter(pixels)))[:, 0]
    else:
        tasks = keras_hub.models
        preprocessor = getattr(tasks, f"{kind}ImageClassifierPreprocessor")(converter)
        task = getattr(tasks, f"{kind}ImageClassifier")
        theirs = task(backbone, preprocessor=preprocessor, **head)
        shake(theirs.weights)
        theirs.save_to_preset(tmp_path)
        expected = numpy(theirs(preprocessor(pixels)))
    model = widenet_keras.from_weights(tmp_path, say=str)
    found = numpy(model(widenet_keras.scale_pixels(pixels)))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_backbones_of_keras_hub_that_have_no_form_here(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 16, "patch_size": 8}
    sizes |= {"intermediate_dim": 32, "image_shape": (32, 32, 3)}
    keras_hub.models.DINOV2Backbone(**sizes).save_to_preset(tmp_path)
    with pytest.raises(ValueError, match="Supported") as error:
        widenet_keras.from_weights(tmp_path, say=str)
    one_line(error)
