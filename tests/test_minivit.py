"""MiniViT: its counts, starts without effect, conversions, files, what cannot be."""

import dataclasses
from typing import ClassVar

import numpy as np
import oracle_pieces as oracle
import pytest
from conftest import (
    BACKEND,
    numpy,
    one_line,
    shake,
    slow,
    tiny_config,
    tiny_images,
    tiny_model,
)
from oracle import weights_by_path
from test_depth import assert_equal, losses
from test_relax import assert_same_logits, quietly

import widenet_keras
from widenet_keras import (
    HeadMix,
    ImageClassifier,
    LoRA,
    RelativeKeys,
    TokenConv,
    layers,
)
from widenet_keras.layers.pieces import Piece
from widenet_keras.layers.pieces.relative_keys import _edges
from widenet_keras.models.memory_use import parameter_count

SHARED = {"sharing": "sequence", "unique_blocks": 2, "steps": 4, "moe_blocks": "none"}
GRID = {"class_token": False, "pooling": "mean"}
IDLE = (RelativeKeys(), HeadMix())
ALL = (RelativeKeys(), HeadMix(), TokenConv(3))
# Preset -> parameters as published, without pieces, with mixes alone.
COUNTS = {
    "mini_deit_ti16": (3_090_304, 3_052_456, 3_052_672),
    "mini_deit_s16": (11_450_824, 11_412_328, 11_413_192),
    "mini_deit_b16": (44_098_408, 44_057_320, 44_060_776),
}


@dataclasses.dataclass(frozen=True)
class Apart(Piece):
    """Has attention computed in its parts, and changes nothing."""

    kind: ClassVar[str] = "apart"

    def weights(self, sizes):
        return {}

    def logits(self, w, logits, query):
        return logits


def mini_model(pieces=ALL, **fields):
    """Returns a tiny model whose neighbours share blocks."""
    return tiny_model(pieces=pieces, **{**SHARED, **GRID, **fields})


def pieces_of(model):
    """Returns the weights of pieces by name, as NumPy."""
    weights = model.encoder.stacked_pieces.weights
    return {weight.path.split("/")[-1]: numpy(weight) for weight in weights}


def of_oracle(model, images):
    """Returns what a loop in float64 answers with the weights of a model."""
    return oracle.model_forward(weights_by_path(model), model.config, images)[0]


@pytest.mark.parametrize("preset", COUNTS)
def test_parameters_are_those_published(preset):
    config = widenet_keras.preset_config(preset)
    for pieces, count in zip(
        (config.pieces, (), (HeadMix(),)), COUNTS[preset], strict=True
    ):
        assert parameter_count(config.replace(pieces=pieces).to_dict()) == count
    if preset == "mini_deit_b16":
        tied = config.replace(sharing="all", unique_blocks=None)
        assert parameter_count(tied.to_dict()) == 8_674_408 == 8_633_320 + 41_088
        assert parameter_count(tied.replace(pieces=()).to_dict()) == 8_633_320


@pytest.mark.usefixtures("without_values")
def test_the_smallest_is_as_large_as_counted():
    model = ImageClassifier.from_preset("mini_deit_ti16")
    assert model.count_params() == COUNTS["mini_deit_ti16"][0]
    # Keys are added to logits before these are mixed, as in the published code.
    assert [piece.kind for piece in model.config.pieces] == [*map(kind_of, IDLE)]


def kind_of(piece):
    return piece.kind


@pytest.mark.parametrize(
    "class_token", [False, slow(True, when=BACKEND != "torch")], ids=["grid", "token"]
)
def test_mixes_and_keys_start_as_no_change(class_token):
    fields = {**SHARED, "class_token": class_token}
    plain, images = tiny_model(**fields), tiny_images(3)
    apart, model = plain.adapted(pieces=[Apart()]), plain.adapted(pieces=IDLE)
    wanted = numpy(plain(images))
    # A fused kernel adds up in another order than attention in its parts.
    np.testing.assert_allclose(numpy(model(images)), wanted, atol=2e-6)
    atol = 2e-6 if BACKEND == "jax" else 0
    np.testing.assert_allclose(
        numpy(model(images)), numpy(apart(images)), rtol=0, atol=atol
    )
    shake(model.encoder.stacked_pieces.weights)
    assert np.abs(numpy(model(images)) - wanted).max() > 1e-3
    np.testing.assert_array_equal(numpy(model.adapted(pieces=())(images)), wanted)


def test_a_published_start_is_near_zero():
    own = pieces_of(ImageClassifier.from_preset("mini_deit_small_32"))
    for name in ("head_mix_logits", "head_mix_probabilities"):
        assert own[name].shape == (8, 4, 4)
        assert 0.015 < own[name].std() < 0.025
        assert np.abs(own[name]).max() < 0.05
    same = own["head_mix_logits"] == own["head_mix_probabilities"]
    assert not same.any()
    assert not own["relative_keys_table"].any()
    one = ImageClassifier(tiny_config(pieces=ALL, class_token=False))
    for name in ("head_mix_logits", "head_mix_probabilities"):
        np.testing.assert_array_equal(pieces_of(one)[name], [np.eye(3)] * 2)


def test_a_permutation_gives_values_the_probabilities_of_other_heads():
    order, images = [2, 0, 1], tiny_images(2)
    model = mini_model([HeadMix()])
    weights = {w.path.split("/")[-1]: w for w in model.encoder.stacked_pieces.weights}
    weights["head_mix_logits"].assign(np.stack([np.eye(3)] * 4))
    weights["head_mix_probabilities"].assign(np.stack([np.eye(3)[order]] * 4))
    other = model.adapted(pieces=())
    for block in other.encoder.blocks:
        # Head g of the values meets query and key of head order[g].
        for product in (
            block.attention.query_projection,
            block.attention.key_projection,
        ):
            for weight in (product.kernel, product.bias):
                parts = np.split(numpy(weight), 3, axis=-1)
                weight.assign(np.concatenate([parts[h] for h in order], axis=-1))
    wanted = numpy(other(images))
    np.testing.assert_allclose(numpy(model(images)), wanted, atol=2e-6)
    # So it is where logits change places and probabilities do not.
    weights["head_mix_logits"].assign(np.stack([np.eye(3)[order]] * 4))
    weights["head_mix_probabilities"].assign(np.stack([np.eye(3)] * 4))
    np.testing.assert_allclose(numpy(model(images)), wanted, atol=2e-6)


@pytest.mark.parametrize("buckets", [3, 5, 7, 9, 15])
def test_buckets_of_offsets(buckets):
    edges = _edges(buckets)
    for offset in range(-60, 61):
        found = sum(offset >= edge for edge in edges) - buckets // 2
        assert found == oracle.bucket(offset, buckets), offset
    assert buckets != 7 or edges == [-3, -1, 0, 1, 2, 4]


@pytest.mark.parametrize(
    ("class_token", "pieces"), [(True, IDLE), (False, ALL)], ids=["token", "grid"]
)
def test_another_image_size_keeps_what_was_learned(class_token, pieces):
    model = mini_model(pieces, class_token=class_token)
    larger, images = model.with_image_size(20), tiny_images(2, 20)
    before, after = pieces_of(model), pieces_of(larger)
    assert before.keys() == after.keys()
    assert before["relative_keys_table"].shape == (4, 4, 49 + class_token)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    wanted = of_oracle(larger, images)
    np.testing.assert_allclose(numpy(larger(images)), wanted, atol=2e-5)


@pytest.mark.parametrize(
    "plan", [slow(p, when=BACKEND != "torch") for p in ("sequence", "cycle")]
)
def test_loop_and_remat_change_no_number(plan):
    shared = SHARED if plan == "sequence" else {"sharing": "cycle", "steps": 5}
    fields = {**SHARED, **shared, **GRID, "pieces": ALL, "attention_dropout": 0.1}
    expected = losses(fields, scan="never", remat="none", traced=False)
    assert_equal(losses(fields, scan="always", remat="full"), expected)


@pytest.mark.parametrize("policy", ["bfloat16", slow("mixed_bfloat16")])
def test_half_precision_is_close_and_what_is_exact_stays(policy):
    exact = mini_model()
    half = ImageClassifier(exact.config, dtype=policy)
    half.set_weights(exact.get_weights())
    images = tiny_images(3)
    found = numpy(half(images)).astype("float32")
    assert 1e-4 < np.abs(found - numpy(exact(images))).max() < 0.3
    stored = half.encoder.stacked_pieces.weights
    kept = {w.path.split("/")[-1] for w in stored if w.dtype == "float32"}
    if policy == "bfloat16":
        mixes = {"head_mix_logits", "head_mix_probabilities"}
        assert kept == {*mixes, "token_conv_gamma", "token_conv_beta"}


def test_what_is_decayed_and_where_it_is():
    decayed, stacked = set(), set()
    for weight in mini_model().encoder.stacked_pieces.weights:
        role = widenet_keras.utils.roles.role_of(weight)
        stacked.add((role.group, role.stacked))
        decayed |= {weight.path.split("/")[-1]} if role.decayed else set()
    assert decayed == {"token_conv_kernel"}
    assert stacked == {("pieces", "steps")}


@pytest.mark.slow
def test_int8_leaves_these_pieces_in_float(tmp_path):
    model, images = mini_model(), tiny_images(16)
    copy, wanted = model.adapted(), numpy(model(images))
    copy.quantize("int8")
    for name, value in pieces_of(model).items():
        np.testing.assert_array_equal(pieces_of(copy)[name], value)
    found = numpy(copy(images))
    assert 0 < np.abs(found - wanted).max() < 0.15 * np.ptp(wanted)
    copy.save(tmp_path / "int8.keras")
    again = widenet_keras.load_model(tmp_path / "int8.keras")
    np.testing.assert_array_equal(numpy(again(images)), found)


def test_a_trained_vit_is_tied_and_gets_mixes():
    fields = {key: value for key, value in SHARED.items() if key != "steps"}
    vit = tiny_model("vit", steps=4, pooling="mean")
    plain = widenet_keras.tie(vit, **fields)
    tied = widenet_keras.tie(vit, **fields, pieces=IDLE)
    assert tied.config == plain.config.replace(pieces=IDLE)
    assert_same_logits(tied, plain)
    # Without its class token the table of keys has a column less.
    grid = widenet_keras.tie(vit, **fields, pieces=ALL, class_token=False)
    assert pieces_of(grid)["relative_keys_table"].shape == (4, 4, 49)
    # Mixes that a source has are those of its steps.
    mixed = tiny_model("vit", steps=4, pieces=IDLE)
    own = pieces_of(mixed)
    for name, value in pieces_of(widenet_keras.tie(mixed, **fields)).items():
        np.testing.assert_array_equal(value, own[name])
    with pytest.raises(ValueError, match="relative_keys_table") as error:
        widenet_keras.tie(mixed, **fields, class_token=False, pooling="mean")
    one_line(error)
    relaxed = widenet_keras.relax(mixed, 12, unique_blocks=2, say=quietly)
    assert [*map(kind_of, relaxed.config.pieces)] == [*map(kind_of, IDLE), "lora"]
    assert_same_logits(relaxed, mixed)


def test_steps_get_blocks_of_their_own_and_keep_their_pieces():
    model = mini_model()
    apart = widenet_keras.untie(model)
    assert apart.config.sharing == "none"
    assert apart.config.pieces == ALL
    for name, value in pieces_of(model).items():
        np.testing.assert_array_equal(pieces_of(apart)[name], value)
    assert_same_logits(apart, model)
    lora = tiny_model("vit", **GRID, pieces=(*ALL, LoRA(2)))
    merged = widenet_keras.merge(lora)
    assert merged.config.pieces == ALL
    assert_same_logits(merged, lora)


def test_smaller_models():
    model, images = mini_model(), tiny_images(8)
    small = widenet_keras.extract(model, width=0.5)
    assert small.config.mlp_dim == 5
    for name, value in pieces_of(model).items():
        np.testing.assert_array_equal(pieces_of(small)[name], value)
    wanted = of_oracle(small, images[:2])
    np.testing.assert_allclose(numpy(small(images[:2])), wanted, atol=2e-5)
    with pytest.raises(ValueError, match="relative_keys, head_mix") as error:
        widenet_keras.prune(model, images, np.arange(8) % 5)
    assert "adapted(pieces=())" in one_line(error)


def test_a_convolution_changes_what_a_model_gives():
    plain, images = mini_model(()), tiny_images(2)
    model = plain.adapted(pieces=[TokenConv(3)])
    assert np.abs(numpy(model(images)) - numpy(plain(images))).max() > 1e-2
    own = pieces_of(model)
    assert 0.3 < np.abs(own["token_conv_kernel"]).max() <= 1 / 3
    less = model.adapted(pieces=())
    np.testing.assert_array_equal(numpy(less(images)), numpy(plain(images)))


def test_steps_that_are_looked_at():
    model, images = mini_model(representation=False), tiny_images(2)
    features = numpy(model.features(images, pooled=True))
    logits = model.head.logits
    wanted = features @ numpy(logits.kernel) + numpy(logits.bias)
    np.testing.assert_allclose(numpy(model(images)), wanted, atol=1e-5)
    tokens = model.embedding(images)
    _, _, seen = model.encoder(tokens, look_at=(1, 3))
    whole, _ = model.encoder(tokens)
    np.testing.assert_allclose(numpy(seen.tokens)[1], numpy(whole), atol=1e-6)


def encoder(pieces, heads=(3, 3)):
    """Returns an encoder of blocks with these heads."""
    layers = widenet_keras.layers
    blocks = [
        layers.Block(layers.Attention(count), layers.FeedForward(5)) for count in heads
    ]
    return layers.Encoder(blocks, 2, sharing="none", pieces=pieces)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: HeadMix("eye"), "init='eye'"),
        (lambda: RelativeKeys(1), "buckets=1"),
        (lambda: RelativeKeys(7.0), "buckets=7.0"),
        (lambda: RelativeKeys(8), "buckets=8 must be odd"),
        (lambda: TokenConv(0), "size=0"),
        (lambda: TokenConv(4), "size=4 must be odd"),
        (
            lambda: encoder([HeadMix()], (2, 3)).build((None, 9, 12)),
            "'head_mix' needs blocks of one size and heads is 2 and 3",
        ),
        (lambda: tiny_config(pieces=[RelativeKeys()], registers=2), "registers=2"),
        (lambda: tiny_config(pieces=[TokenConv()]), "class_token=True"),
        (
            lambda: tiny_config(pieces=[TokenConv()], **GRID, registers=1),
            "registers=1; use class_token=False, registers=0",
        ),
        (
            lambda: encoder([RelativeKeys()]).build((None, 12, 12)),
            "there are 12; use other tokens",
        ),
        (
            lambda: encoder([TokenConv()]).build((None, 10, 12)),
            "there are 10; use other tokens",
        ),
        (
            lambda: tiny_config(pieces=[{"kind": "head_mix", "bias": True}]),
            "pieces['head_mix'] setting='bias'",
        ),
        (
            lambda: mini_model(IDLE).adapted(pieces=[RelativeKeys(5), HeadMix()]),
            "(4, 4, 49) to (4, 4, 25)",
        ),
    ],
)
def test_what_cannot_be_is_one_line(make, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        make()
    assert words in one_line(error)
    assert len(one_line(error)) < 600


def test_groups_of_tokens_have_no_relative_keys():
    fields = {"steps": 2, "pieces": [RelativeKeys()], **GRID}
    for groups in (3, (1, 3)):
        with pytest.raises(ValueError, match="attention_groups has 3") as error:
            tiny_config("vit", attention_groups=groups, **fields)
        one_line(error)
    tiny_config("vit", attention_groups=(1, 1), **fields)
    blocks = [layers.Block(layers.Attention(3), layers.FeedForward(5))]
    encoder = layers.Encoder(blocks, 2, pieces=[RelativeKeys()], attention_groups=4)
    with pytest.raises(ValueError, match=r"^Encoder: .* attention_groups") as error:
        encoder.build((None, 16, 6))
    one_line(error)


@pytest.mark.parametrize(
    ("format", "quantize"),
    [
        slow("saved_model", "none"),
        slow("litert", "none"),
        slow("litert", "float16"),
        slow("litert", "dynamic_int8"),
        slow("litert", "int8"),
        slow("onnx", "none"),
        slow("onnx", "float16"),
        slow("onnx", "dynamic_int8"),
        slow("onnx", "int8"),
    ],
)
def test_files_are_the_model(format, quantize, tmp_path):
    from test_exports import assert_files_are_the_model

    assert_files_are_the_model(mini_model(), format, quantize, tmp_path)
