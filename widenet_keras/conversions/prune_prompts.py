"""Prompts that matter little taken out of a tuned model."""

import dataclasses

import numpy as np
from keras import ops

from widenet_keras.conversions.importance import check_classifier, importance
from widenet_keras.conversions.remade import check_model, remade
from widenet_keras.layers.pieces import Prompt
from widenet_keras.models.weights import check_plain, read, weights_by_path
from widenet_keras.models.widenet import WideNet
from widenet_keras.training.image_classifier import ImageClassifier
from widenet_keras.utils.checks import check_fraction, check_integer

_PROMPT, _MASK = "encoder/pieces/prompt_prompt", "encoder/pieces/prompt_mask"


def prune_prompts(
    model: ImageClassifier,
    images: object,
    labels: object = None,
    keep: float = 0.5,
    segments_keep: float = 1.0,
    batch_size: int = 32,
    start: WideNet | None = None,
    seed: int = 0,
    loss: object = "auto",
) -> ImageClassifier:
    """Returns a model with the prompts that matter most, to be tuned once more.

    ```python
    tuned = vit.adapted(pieces=[widenet_keras.Prompt(10)], frozen=("embedding", "core"))
    ...
    pruned = widenet_keras.prune_prompts(tuned, images, labels, keep=0.5)
    ```

    After "E2VPT" (arXiv 2307.13770): a segment of the channels of a prompt is worth the
    mean over the batches of |d loss / d m|, of a factor m on this segment at all steps.
    There a whole prompt is worth the same of a factor on all of it; but behind the norm
    that follows nothing is seen of that, and what comes out is rounding. So here a
    prompt is worth what its segments are together, or its channels where it has none.

    Prompts that are worth least are removed from all steps alike; segments become zeros
    in the mask, which nothing trains. Prompts that are left begin anew. All other
    weights are those of the model.

    Args:
        model: An `ImageClassifier` with prompts.
        images: (N, height, width, channels), or what else `fit` takes.
        labels: (N,) integers, or as `loss` takes them; None if the images have them.
        keep: Which part of the prompts stays; at least one does.
        segments_keep: Which part of the segments of these that are not zeros yet
            stays; below 1 the prompts need some, see `Prompt`.
        batch_size: Images per batch.
        start: The model before it was tuned, whose prompts those that stay return to;
            None draws them by `seed`.
        seed: Seed of that draw.
        loss: As for `ImageClassifier.compile`.

    Returns:
        A new, uncompiled model of the same class and dtype policy; the same groups are
        frozen.

    Raises:
        ValueError: If the model has no prompts, a part is not in (0, 1], or images and
            labels do not fit the model.
    """
    check_integer("prune_prompts", "batch_size", batch_size, 1)
    check_integer("prune_prompts", "seed", seed, 0)
    check_fraction("prune_prompts", "keep", keep, zero=False)
    check_fraction("prune_prompts", "segments_keep", segments_keep, zero=False)
    prompt = checked_prompt(model, segments_keep, start)
    shape = weights_by_path(model)[_PROMPT].shape
    if start is None:
        limit = (3 / model.config.width) ** 0.5
        begin = np.random.default_rng(seed).uniform(-limit, limit, shape)
    else:
        begin = read(weights_by_path(start)[_PROMPT])
    worth = segment_importance(model, images, labels, batch_size, loss)
    count = max(1, round(keep * prompt.count))
    kept = np.sort(np.argsort(-worth.sum(axis=1), kind="stable")[:count])
    values = {_PROMPT: begin[:, kept].astype("float32")}
    if prompt.segments:
        there = read(weights_by_path(model)[_MASK])[0, kept] > 0
        # What was pruned before is worth nothing, as what is left may be too.
        worth = np.where(there, worth[kept], -1.0)
        order = np.argsort(-worth, axis=None, kind="stable")
        mask = np.zeros(worth.size, "float32")
        mask[order[: max(1, round(segments_keep * there.sum()))]] = 1.0
        stacked = (shape[0], count, prompt.segments)
        values[_MASK] = np.broadcast_to(mask.reshape(stacked[1:]), stacked)
    pieces = [
        dataclasses.replace(piece, count=count) if piece is prompt else piece
        for piece in model.config.pieces
    ]
    return remade(model, model.config.replace(pieces=tuple(pieces)), values)


def checked_prompt(
    model: WideNet, segments_keep: float = 1.0, start: WideNet | None = None
) -> Prompt:
    """Returns the `Prompt` of a model that `prune_prompts` can take.

    Args:
        model: As for `prune_prompts`.
        segments_keep: As for `prune_prompts`.
        start: As for `prune_prompts`.

    Raises:
        ValueError: If the model has no prompts, none of segments where these are
            pruned, or others than `start`, or one of them is quantised.
    """
    check_classifier("prune_prompts", model)
    prompts = [piece for piece in model.config.pieces if isinstance(piece, Prompt)]
    if not prompts:
        raise ValueError(
            f"prune_prompts: {model.name} has no prompts; give one that was tuned with "
            "pieces=[Prompt(10)]."
        )
    [prompt] = prompts
    if segments_keep < 1 and not prompt.segments:
        raise ValueError(
            f"prune_prompts: segments_keep={segments_keep} needs prompts of segments "
            f"and those of {model.name} have none; use segments_keep=1, or "
            "adapted(pieces=[Prompt(..., segments=16)]), which keeps their weights."
        )
    if start is not None:
        check_model("prune_prompts", start)
        check_plain("prune_prompts", start)
        shape = weights_by_path(model)[_PROMPT].shape
        prompts = weights_by_path(start).get(_PROMPT)
        if prompts is None or prompts.shape != shape:
            raise ValueError(
                f"prune_prompts: start={start.name!r} has no prompts {tuple(shape)} as "
                f"{model.name} has; give the model before it was tuned, or leave it "
                "out."
            )
    return prompt


def segment_importance(
    model: ImageClassifier,
    images: object,
    labels: object = None,
    batch_size: int = 32,
    loss: object = "auto",
) -> np.ndarray:
    """Returns what each segment of each prompt is worth, (P, S); see `prune_prompts`.

    Without segments, every channel is one.

    Args:
        model: An `ImageClassifier` with prompts.
        images: As for `prune_prompts`.
        labels: As for `prune_prompts`.
        batch_size: As for `prune_prompts`.
        loss: As for `prune_prompts`.

    Raises:
        ValueError: If the model has no prompts, or images and labels do not fit it.
    """
    prompt = checked_prompt(model)
    segments = prompt.segments or model.config.width

    def of_segments(moves):
        steps, count, width = moves.shape
        moves = ops.reshape(moves, (steps, count, width // segments, segments))
        return ops.sum(moves, axis=(0, 2))

    sets, look = {_PROMPT: {_PROMPT: of_segments}}, (images, labels, batch_size, loss)
    return importance(model, sets, ops.abs, "pieces", *look)[_PROMPT]
