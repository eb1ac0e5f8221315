"""Prompts that matter little: which they are, and what is left without them."""

import keras
import numpy as np
import pytest
from conftest import numpy, one_line, slow_on, tiny_images, tiny_model

import widenet_keras
from widenet_keras import prune_prompts
from widenet_keras.conversions.prune_prompts import segment_importance
from widenet_keras.layers.attention import attention
from widenet_keras.layers.pieces.step_pieces import StepPieces
from widenet_keras.models.weights import weights_by_path
from widenet_keras.models.widenet import WideNet
from widenet_keras.routing.random_draws import SILENT

PROMPT, MASK = "encoder/pieces/prompt_prompt", "encoder/pieces/prompt_mask"
IMAGES, LABELS = tiny_images(8), np.arange(8) % 5
# Of what training draws nothing is to be seen.
NOISY = {"dropout": 0.3, "attention_dropout": 0.3, "stochastic_depth": 0.3}


def prompted(kind="vit", **fields):
    """Returns a model of 4 prompts with 3 segments, without a mask yet."""
    pieces = [
        widenet_keras.Prompt(4, segments=3),
        widenet_keras.KeyValuePrompt(2),
        widenet_keras.Bottleneck(2, bank=2),
    ]
    model = tiny_model(kind, pieces=pieces, **fields)
    mask = weights_by_path(model)[MASK]
    mask.assign(np.ones(mask.shape))
    return model


def task_loss(model, images=IMAGES, labels=LABELS):
    """Returns the cross-entropy at inference, float64."""
    logits = numpy(model(images)).astype(float)
    logits -= logits.max(axis=1, keepdims=True)
    likely = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -likely[np.arange(len(labels)), labels].mean()


@slow_on("jax")
def test_a_segment_is_worth_what_the_loss_moves_by_it():
    model = prompted(**NOISY)
    found = segment_importance(model, IMAGES, LABELS, batch_size=8)
    assert found.shape == (4, 3)
    mask, size = weights_by_path(model)[MASK], 0.02
    for prompt, segment in ((0, 0), (1, 2), (3, 1)):
        losses = []
        for factor in (1 + size, 1 - size):
            value = np.ones(mask.shape)
            value[:, prompt, segment] = factor
            mask.assign(value)
            losses.append(task_loss(model))
        wanted = abs(losses[0] - losses[1]) / (2 * size)
        assert found[prompt, segment] == pytest.approx(wanted, rel=0.02, abs=2e-5)


def test_batches_are_averaged_and_pruned_segments_are_worth_nothing():
    model = prompted()
    mask = weights_by_path(model)[MASK]
    value = np.ones(mask.shape)
    value[:, 2, 1] = 0.0
    mask.assign(value)
    one, other = (
        segment_importance(model, IMAGES[rows], LABELS[rows])
        for rows in (slice(4), slice(4, 8))
    )
    both = segment_importance(model, IMAGES, LABELS, batch_size=4)
    np.testing.assert_allclose(both, (one + other) / 2, rtol=1e-4, atol=1e-7)
    assert both[2, 1] == 0.0
    assert (both == 0.0).sum() == 1


def test_only_the_loss_of_the_task_counts():
    model = prompted("widenet")
    found, wanted = (
        segment_importance(each, IMAGES, LABELS)
        for each in (model.adapted(balance_loss_weight=9.0), model)
    )
    np.testing.assert_array_equal(found, wanted)


def test_what_is_worth_least_goes():
    model = prompted(dtype="mixed_bfloat16")
    model.frozen = ("embedding", "core", "norms")
    prompts = weights_by_path(model)[PROMPT]
    value = numpy(prompts).astype("float32")
    # A prompt of zeros is worth nothing.
    value[:, [0, 2]] = 0.0
    prompts.assign(value)
    pruned = prune_prompts(
        model, IMAGES, LABELS, keep=np.float32(0.5), segments_keep=0.5
    )
    counts = [getattr(piece, "count", None) for piece in pruned.config.pieces]
    assert counts == [2, 2, None]
    assert pruned.frozen == model.frozen
    assert pruned.dtype_policy.name == "mixed_bfloat16"
    before, after = weights_by_path(model), weights_by_path(pruned)
    for path in after.keys() - {PROMPT, MASK}:
        np.testing.assert_array_equal(numpy(after[path]), numpy(before[path]))
    worth = segment_importance(model, IMAGES, LABELS)[[1, 3]]
    least = np.sort(worth, axis=None)[3]
    for step in range(2):
        found = numpy(after[MASK])[step]
        np.testing.assert_array_equal(found, (worth >= least).astype("float32"))


def test_prompts_return_to_their_start_or_are_drawn_anew():
    start = prompted()
    model = start.adapted(pieces=[widenet_keras.Prompt(4)])
    prompts = weights_by_path(model)[PROMPT]
    value = numpy(prompts).copy()
    value[:, 1] = 0.0
    prompts.assign(value)

    def pruned(**fields):
        found = prune_prompts(model, IMAGES, LABELS, keep=0.75, **fields)
        return numpy(weights_by_path(found)[PROMPT])

    began = numpy(weights_by_path(start)[PROMPT])
    np.testing.assert_array_equal(pruned(start=start), began[:, [0, 2, 3]])
    drawn = pruned(seed=3)
    np.testing.assert_array_equal(drawn, pruned(seed=3))
    assert (drawn != pruned(seed=4)).all()
    # Uniform, as `Prompt` says, for a width of 12.
    assert 0.4 < np.abs(drawn).max() <= (3 / 12) ** 0.5


def test_pruned_segments_stay_pruned_in_training():
    pruned = prune_prompts(prompted(), IMAGES, LABELS, keep=0.5, segments_keep=0.3)
    mask = weights_by_path(pruned)[MASK]
    before = numpy(mask).copy()
    assert before[0].sum() == 2
    pruned.compile("adamw", run_eagerly=True)
    pruned.fit(IMAGES, LABELS, batch_size=2, epochs=2, verbose=0)
    np.testing.assert_array_equal(numpy(mask), before)
    # What is pruned has no part in the answers.
    prompts, answers = weights_by_path(pruned)[PROMPT], numpy(pruned(IMAGES))
    value = numpy(prompts).copy()
    channels = np.tile(before, 4) == 0.0
    value[channels] += 9.0
    prompts.assign(value)
    np.testing.assert_array_equal(numpy(pruned(IMAGES)), answers)


def test_pruned_segments_stay_pruned_when_more_is():
    model = prompted()
    mask, prompts = (weights_by_path(model)[path] for path in (MASK, PROMPT))
    before = np.repeat(np.arange(2.0), 6).reshape(4, 3) * np.ones(mask.shape)
    mask.assign(before)
    # Alike in their worth, nothing: which were left is not to be seen from that.
    prompts.assign(np.zeros(prompts.shape))
    pruned = prune_prompts(model, IMAGES, LABELS, keep=1.0, segments_keep=0.5)
    after = numpy(weights_by_path(pruned)[MASK])
    assert (after <= before).all()
    assert after[0].sum() == 3


def test_removed_is_as_masked_with_minus_infinity(rng):
    block = tiny_model("vit").encoder.blocks[0].attention
    weights, spec = block.read(lambda variable: variable.value), block.spec
    tokens = rng.normal(size=(2, 5, 12)).astype("float32")
    prompts = rng.normal(size=(1, 3, 12)).astype("float32")
    pieces = StepPieces.of((widenet_keras.Prompt(3),), ((),))
    left = prompts[:, [0, 2]]
    given = [keras.ops.convert_to_tensor(rows) for rows in (tokens, left)]
    found, _ = attention(given[0], weights, spec, SILENT, pieces, given[1:])

    def product(rows, layer):
        made = rows @ numpy(layer.kernel) + numpy(layer.bias)
        return made.reshape(*rows.shape[:2], 3, 4).transpose(0, 2, 1, 3)

    rows = np.concatenate([np.repeat(prompts, 2, axis=0), tokens], axis=1)
    query = product(tokens, block.query_projection)
    key, value = (
        product(rows, layer) for layer in (block.key_projection, block.value_projection)
    )
    logits = query @ key.transpose(0, 1, 3, 2) / 2
    logits[..., 1] = -np.inf
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    mixed = (odds / odds.sum(axis=-1, keepdims=True)) @ value
    mixed = mixed.transpose(0, 2, 1, 3).reshape(2, 5, 12)
    output = block.output_projection
    wanted = mixed @ numpy(output.kernel) + numpy(output.bias)
    np.testing.assert_allclose(numpy(found), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        ({"keep": 0}, ["keep=0", "(0, 1]"]),
        ({"keep": 1.5}, ["keep=1.5", "(0, 1]"]),
        ({"keep": float("nan")}, ["keep=nan"]),
        ({"segments_keep": "half"}, ["segments_keep='half'"]),
        ({"batch_size": 0}, ["batch_size=0"]),
        ({"seed": -1}, ["seed=-1"]),
        ({"labels": LABELS[:3]}, ["8", "3"]),
        ({"images": tiny_images(8, size=16)}, ["16, 16, 3"]),
        ({"start": "vit.keras"}, ["a str is not a model"]),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, pieces):
    refused(prompted(), arguments, pieces)


def test_other_models_are_refused_with_one_line():
    pairs = tiny_model("vit", pieces=[widenet_keras.KeyValuePrompt(2)])
    refused(pairs, {}, ["has no prompts", "pieces=[Prompt(10)]"])
    plain = tiny_model("vit", pieces=[widenet_keras.Prompt(2)])
    refused(prompted(), {"start": plain}, ["has no prompts (2, 4, 12)"])
    refused(plain, {"segments_keep": 0.5}, ["segments_keep=0.5", "segments=16"])
    plain = tiny_model("vit", pieces=prompted().config.pieces)
    # As quantize() leaves it, which takes long.
    plain.quantization = "int8"
    refused(prompted(), {"start": plain}, ["quantised to 'int8'", "float"])
    network = WideNet(plain.config)
    refused(network, {}, ["a WideNet is not trained", "ImageClassifier"])


def test_a_model_without_prompts_has_no_importance():
    with pytest.raises(ValueError, match="has no prompts") as error:
        segment_importance(tiny_model("vit"), IMAGES, LABELS)
    one_line(error)


def refused(model, arguments, pieces):
    """Expects a `ValueError` of one line that has all the pieces."""
    arguments = {"images": IMAGES, "labels": LABELS, **arguments}
    with pytest.raises(ValueError) as error:  # noqa: PT011
        prune_prompts(model, **arguments)
    line = one_line(error)
    assert [piece for piece in pieces if piece not in line] == [], line
