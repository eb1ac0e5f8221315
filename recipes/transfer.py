"""Take a model that somebody trained to images of your own.

    pip install -e '.[tensorflow,recipes]'
    python recipes/transfer.py --weights vit_small/ --data flowers --output runs/tuned

`--weights` takes a .keras file of this library, whatever `widenet_keras.from_weights`
opens (a file or a folder of timm, Hugging Face, KerasHub, Google, OpenCLIP), or
hub:OWNER/NAME. `--data` takes class folders, a NumPy .npz file, TFRecords or tfds:NAME,
with images of any size: the model's own preprocessing says what is taken of each, and
grey ones become three equal channels of a model that takes colour. The last layer
starts anew; all other weights are those that were given. `--train` says which learn:

    probe           the last layer alone, a linear classifier of the model's features
    norms_and_head  the norms of the steps and the head
    everything      everything
    from_nothing    everything, of the same model with fresh weights, to compare with

and `--frozen embedding norms` leaves any parts as they are. Each wants a learning rate
of its own: on 1,000 images of Fashion-MNIST a ViT of CIFAR-10 got 0.594, 0.737, 0.781
and 0.694 with these four, in one to five minutes on 2 cores (results/README.md).
Started again with the same command, a run that was killed goes on.
"""

import dataclasses
from typing import Literal

import widenet_keras
from widenet_keras.data import Augmentation
from widenet_keras.files.named import named_classifier
from widenet_keras.optimizers.optimization import Optimization
from widenet_keras.runs.recipe import FROM_SCRATCH, SMALL_IMAGES, train
from widenet_keras.runs.recipe import Recipe as Training
from widenet_keras.utils.command_line import run_command

FROZEN = {
    "probe": ("embedding", "core", "norms", "pieces"),
    "norms_and_head": ("embedding", "core", "pieces"),
    "everything": (),
    "from_nothing": (),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(Training):
    """Take a model that somebody trained to images of your own."""

    weights: str
    """A .keras file, weights of another library, or hub:OWNER/NAME."""
    train: Literal[tuple(FROZEN)] = "everything"
    """Which weights learn."""
    frozen: tuple[str, ...] = ()
    """Parts that do not learn, where --train is "everything": embedding, core, norms,
    pieces."""
    epochs: int = 20
    batch_size: int = 64
    augmentation: Augmentation = SMALL_IMAGES
    optimization: Optimization = FROM_SCRATCH

    def __post_init__(self):
        super().__post_init__()
        if self.frozen and self.train != "everything":
            raise ValueError(
                f"recipe: --frozen {' '.join(self.frozen)} and --train {self.train} "
                "both say what learns; leave one out."
            )

    def settings(self):
        """Returns what the weights at the end depend on."""
        # Also where nothing is, as runs of version 0.1.0 have it.
        return {**super().settings(), "frozen": sorted(set(self.frozen))}

    def starting_model(self, data):
        """Returns the model to train: the weights given, and a new last layer."""
        if self.weights.endswith(".keras"):
            given = named_classifier(self.weights)
        else:
            given = widenet_keras.from_weights(self.weights)
        given.seed = self.seed
        if self.train == "from_nothing":
            origin = given.origin() | {"trained_on": None}
            given = type(given)(
                given.config, dtype=given.dtype_policy, origin=origin, seed=self.seed
            )
        fields = widenet_keras.models.parse_fields(
            self.fields, settled=("num_classes",)
        )
        # Without classes first: the last layer starts anew, also for as many of them.
        model = given.adapted(num_classes=0, frozen=()).adapted(
            dtype=self.precision,
            class_names=data.class_names if data.named else None,
            num_classes=data.num_classes,
            frozen=FROZEN[self.train] + self.frozen,
            **fields,
        )
        if self.train == "probe":
            for weight in model.head.weights:
                weight.trainable = any(weight is w for w in model.head.logits.weights)
        return model


if __name__ == "__main__":
    run_command(train, Recipe)
