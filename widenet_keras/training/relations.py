"""Relations between tokens: a model learns those that a teacher's last step finds."""

import math

import keras
from keras import ops

from widenet_keras.layers.step import Seen
from widenet_keras.models.widenet import WideNet
from widenet_keras.training.teachers import Taught
from widenet_keras.training.terms import looking, mean_over_images
from widenet_keras.utils import numerics
from widenet_keras.utils.checks import check_integer, check_number
from widenet_keras.utils.types import Tensor

# Rows whose squares add up to less have no direction.
_NOTHING = 1e-24


class OfLastStep(Taught):
    """A term that compares what the last steps of model and teacher computed with.

    Args:
        teacher: As for `Taught`; of as many patches and leading tokens as the model.
        weight: Factor of the term.

    Raises:
        ValueError: If one of them is wrong.
    """

    looks = True

    def __init__(self, teacher: WideNet, weight: float):
        super().__init__(teacher)
        check_number(self.owner, "weight", weight, 0.0)
        self.weight = float(weight)

    def check_teacher(self, model: keras.Model) -> None:
        """Raises `ValueError` unless the teacher has the tokens of a model."""
        super().check_teacher(model)
        mine, theirs = (_tokens_of(each.config) for each in (model, self.teacher))
        if mine != theirs:
            raise ValueError(
                f"{self.owner}: it compares tokens one by one, and the teacher has "
                f"{theirs} and the model {mine}; give a teacher of the model's "
                "patch_size, class_token and registers."
            )

    def __call__(self, answer_of, sample_weight, first, again):
        """Returns the term of a batch, a scalar; see `Term`."""
        values = self.of_images(first.seen, answer_of(self.teacher).seen)
        return self.weight * mean_over_images(values, sample_weight)

    def of_images(self, mine: Seen, theirs: Seen) -> Tensor:
        """Returns what is minimised of every image, (B,) float32.

        Args:
            mine: `Seen` of the model's last step, (1, B, ...).
            theirs: That of the teacher.
        """
        raise NotImplementedError


class RelationDistillation(OfLastStep):
    """A term: how queries, keys and values of tokens relate, as the teacher has it.

    ```python
    terms = [
        widenet_keras.Distillation(teacher, alpha=1.0),
        widenet_keras.RelationDistillation(teacher),
        widenet_keras.HiddenDistillation(teacher),
    ]
    ```

    The queries, keys and values of the last step are each cut anew into relation heads
    of c channels. For all 9 pairs (X, Y) of the three, the rows of softmax(X Y^T /
    sqrt(c)), (T, T), are compared with those of the teacher by cross-entropy: its mean
    over images, relation heads, rows and pairs. The least is the entropy of the
    teacher's rows, where the model's are the same. No logits are compared, so that
    widths, heads, depth and classes may differ; tokens may not.

    The task loss stays whole. The three terms above have the weights published for
    Mini-Swin, whose labels have none: `alpha=1.0` leaves them out. There, layers of
    choice are compared, here the last step. Source: "MiniViT: Compressing Vision
    Transformers with Weight Multiplexing" (arXiv 2204.07154), weight distillation.

    Args:
        teacher: An `ImageClassifier`, or a `WideNet`, for the same images and of the
            same tokens; may be int8. Over several devices it is made inside
            `distribution.scope()`.
        weight: Factor of the term. Images weigh as in the task loss.
        heads: Relation heads; must divide the H h channels of both. Each takes (3 T)^2
            numbers for an image.

    Raises:
        ValueError: If one of them is wrong; `compile` raises where the teacher does
            not fit the model.
    """

    name = "relation_distillation"

    def __init__(self, teacher: WideNet, weight: float = 1.0, heads: int = 1):
        super().__init__(teacher, weight)
        check_integer(self.owner, "heads", heads, 1)
        self.heads = heads

    def check_teacher(self, model: keras.Model) -> None:
        """Raises `ValueError` unless relation heads can be cut of both models."""
        super().check_teacher(model)
        channels = {}
        for whose, each in (("teacher", self.teacher), ("model", model)):
            heads = _seen_by(each).heads
            *_, count, size = heads.queries.shape
            if heads.values.shape[-1] != size:
                raise ValueError(
                    f"{self.owner}: queries and keys of the {whose}'s last step have "
                    f"{size} channels in a head and values {heads.values.shape[-1]}, "
                    "and it multiplies all three; use HiddenDistillation, or a model "
                    "whose key_dim and value_dim are equal there."
                )
            channels[whose] = count * size
        every = math.gcd(*channels.values())
        if every % self.heads:
            raise ValueError(
                f"{self.owner}: heads={self.heads} must divide the channels of all "
                f"heads, {channels['teacher']} of the teacher and {channels['model']} "
                f"of the model; use a divisor of {every}."
            )

    def of_images(self, mine: Seen, theirs: Seen) -> Tensor:
        """Returns the cross-entropy of relations, (B,); see `OfLastStep`."""
        wanted = numerics.softmax(_relations(theirs, self.heads))
        found = ops.log_softmax(_relations(mine, self.heads), axis=-1)
        return -ops.mean(ops.sum(wanted * found, axis=-1), axis=(1, 2, 3))


class HiddenDistillation(OfLastStep):
    """A term: the angles between tokens, as the teacher has them.

    Tokens of the last step are brought to length 1. The (T, T) products of all pairs
    of an image are compared with those of the teacher: T times their mean squared
    difference, mean over images. It is 0 for tokens that are turned or mirrored all
    alike, and widths, depth and classes may differ; tokens may not. The task loss stays
    whole. Source: as for `RelationDistillation`, beside which it stands; published for
    windows of 49 tokens, whose number is the factor.

    Args:
        teacher: As for `RelationDistillation`.
        weight: As for `RelationDistillation`.

    Raises:
        ValueError: As for `RelationDistillation`.
    """

    name = "hidden_distillation"

    def __init__(self, teacher: WideNet, weight: float = 0.1):
        super().__init__(teacher, weight)

    def of_images(self, mine: Seen, theirs: Seen) -> Tensor:
        """Returns T times the mean squared difference, (B,); see `OfLastStep`."""
        difference = _angles(mine) - _angles(theirs)
        return difference.shape[-1] * ops.mean(ops.square(difference), axis=(1, 2))


def _relations(seen, heads):
    """Returns the logits of all rows of the 9 pairs, (B, heads, 3 T, 3, T) float32."""
    rows = []
    for each in seen.heads:
        _, _, tokens, count, size = each.shape
        cut = (-1, tokens, heads, count * size // heads)
        rows.append(ops.reshape(ops.cast(each, "float32"), cut))
    # All three below each other make one product of the nine.
    rows = ops.transpose(ops.concatenate(rows, axis=1), (0, 2, 1, 3))
    scaled = rows * rows.shape[-1] ** -0.5
    products = ops.matmul(scaled, ops.transpose(rows, (0, 1, 3, 2)))
    return ops.reshape(products, (-1, heads, 3 * tokens, 3, tokens))


def _angles(seen):
    """Returns the products of tokens of length 1, (B, T, T) float32."""
    tokens = ops.cast(seen.tokens[0], "float32")
    squares = ops.sum(ops.square(tokens), axis=-1, keepdims=True)
    # No gradient goes through what has no direction.
    empty = squares < _NOTHING
    lengths = ops.sqrt(ops.where(empty, 1.0, squares))
    normal = ops.where(empty, 0.0, tokens / lengths)
    return ops.matmul(normal, ops.transpose(normal, (0, 2, 1)))


def _tokens_of(config):
    """Returns what is known of the tokens of a model, for comparison and message."""
    rows, columns = config.grid
    class_token = "a class token" if config.class_token else "no class token"
    return f"{rows} x {columns} patches, {class_token} and {config.registers} registers"


def _seen_by(model):
    """Returns the `Seen` of a model's last step, as specs."""
    images = keras.KerasTensor((None, *model.config.image_shape))
    return model.compute_output_spec(images, **looking(model))[1]
