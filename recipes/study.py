"""Train many variants under one recipe: accuracy against parameters and arithmetic.

    pip install -e '.[tensorflow,recipes]'
    python recipes/study.py --data cifar10 --output runs/study

Every variant sees the same images in the same order, with the same augmentation,
optimizer and epochs; what differs is one row of `study_variants.py`. Finished runs are
not trained again, and one that was killed goes on. The output folder has `results.csv`,
a line per run, `history.csv`, a line per epoch of each, `settings.json`, `results.md`,
means and spreads over the seeds and the variants of the paper's claims compared seed by
seed, and `accuracy_parameters.png` and `accuracy_flops.png`, the pictures. These tables
are all that it takes to go on; `study_tables.py` draws them anew.

`--budget` scales model and epochs: "smoke" is one epoch of tiny models, to see that
everything runs, "cpu" is for 2 cores, "gpu" is a size worth quoting. A part of the set
is trained with `--variants vit widenet --seeds 0 1 2`. Small models use many cores
badly: `--jobs 2` trains two of them at a time, each on its share of the cores. All of
CIFAR-10 takes half an hour to two hours a run then; ViT got 0.670, WideNet 0.681 and
ViT-MoE 0.698 (results/README.md).
`--train-images 5000 --epochs 60` asks which variant makes most of few images.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Literal

import widenet_keras  # first: it chooses a backend that is installed

# isort: split
import keras
from side_by_side import side_by_side
from study_rows import Row, Rows, keep_settings, run_folder
from study_tables import write_tables
from study_variants import BUDGETS, MAIN, PAIRS, VARIANTS

from widenet_keras.data import Augmentation
from widenet_keras.models.config import WideNetConfig
from widenet_keras.optimizers.optimization import Optimization
from widenet_keras.runs.recipe import (
    FROM_SCRATCH,
    SMALL_IMAGES,
    PresetRecipe,
    train,
)
from widenet_keras.utils.checks import check_choice, check_integer
from widenet_keras.utils.command_line import run_command
from widenet_keras.utils.files import check_folder
from widenet_keras.utils.tables import read_rows

PRESET = "widenet_small_32"
OPTIMIZATION = dataclasses.replace(FROM_SCRATCH, weight_decay=0.3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Train many variants under one recipe."""

    data: str
    """Class folders, an .npz file, TFRecords, tfds:NAME, or digits."""
    output: Path
    """Folder of the study; the same command goes on with one that is there."""
    data_dir: Path | None = None
    """Where TensorFlow Datasets keeps its data."""
    budget: Literal["smoke", "cpu", "gpu"] = "cpu"
    """Size of the models and length of the training."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which variants to train."""
    seeds: tuple[int, ...] = ()
    """Seeds of each variant; 0 1 2 for the main ones and 0 for the others if not
    given."""
    epochs: int | None = None
    """Passes over the data, where not those of the budget."""
    train_images: int | None = None
    """Train on that many of the images, evenly spaced; on all if not given."""
    precision: Literal["float32", "mixed_bfloat16"] | None = None
    """What is computed in, with weights in float32; float32 if not given."""
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    """Fields of WideNetConfig for all variants, for example: image_size 28 channels 1
    patch_size 7."""
    validate_every: int = 1
    """Epochs from one validation to the next; it takes a good part of the time where
    there are fewer training images than test images."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do about a broken image."""
    jobs: int = 1
    """Runs at a time, each a process with its share of the cores. They share one GPU
    on JAX with XLA_PYTHON_CLIENT_PREALLOCATE=false."""
    augmentation: Augmentation = SMALL_IMAGES
    optimization: Optimization = OPTIMIZATION

    def __post_init__(self):
        if not self.variants:
            raise ValueError("study: variants are none; name one, or leave it out.")
        for name in self.variants:
            check_choice("study", "variants", name, tuple(VARIANTS))
        check_integer("study", "jobs", self.jobs, 1)
        check_integer("study", "validate_every", self.validate_every, 1)
        for seed in self.seeds:
            check_integer("study", "seeds", seed, 0)
        if self.epochs is not None:
            check_integer("study", "epochs", self.epochs, 1)
        if self.train_images is not None:
            least = BUDGETS[self.budget].batch_size
            check_integer("study", "train_images", self.train_images, least)
        for name in self.variants:
            WideNetConfig().replace(**self.fields_of(name))

    def settings(self):
        """Returns what the accuracies depend on."""
        return {
            "data": self.data,
            "train_images": self.train_images,
            "fields": self.base(),
            "epochs": self.epochs or BUDGETS[self.budget].epochs,
            "batch_size": BUDGETS[self.budget].batch_size,
            "precision": self.precision,
            "augmentation": dataclasses.asdict(self.augmentation),
            "optimization": dataclasses.asdict(self.optimization),
            "backend": keras.backend.backend(),
        }

    def runs(self):
        """Returns (variant, seed) of every run; first seeds come first."""
        runs = []
        for name in self.variants:
            seeds = self.seeds or ((0, 1, 2) if name in MAIN else (0,))
            runs += [(name, seed) for seed in seeds]
        return sorted(dict.fromkeys(runs), key=lambda run: run[1])

    def base(self):
        """Returns the fields of the configuration that the variants start from."""
        base = {
            **widenet_keras.preset_config(PRESET).to_dict(),
            "dropout": 0.0,
            **BUDGETS[self.budget].fields,
            **widenet_keras.models.parse_fields(self.fields, settled=("num_classes",)),
        }
        base.pop("num_classes")
        return base

    def changes_of(self, variant):
        """Returns the fields that a variant changes."""
        return VARIANTS[variant](self.base())

    def fields_of(self, variant):
        """Returns the fields of a variant's configuration."""
        return {**self.base(), **self.changes_of(variant)}

    def recipe(self, variant, seed):
        """Returns the recipe of a run."""
        settings = self.settings()
        return PresetRecipe(
            preset=PRESET,
            data=self.data,
            data_dir=self.data_dir,
            output=run_folder(self.output, variant, seed),
            fields={name: repr(v) for name, v in self.fields_of(variant).items()},
            epochs=settings["epochs"],
            batch_size=settings["batch_size"],
            precision=self.precision,
            seed=seed,
            train_images=self.train_images,
            validate_every=self.validate_every,
            on_error=self.on_error,
            augmentation=self.augmentation,
            optimization=self.optimization,
        )


def main(study):
    """Trains what is not there yet; writes the tables after every run."""
    check_data(study)
    check_folder(study.output)
    keep_settings(study)
    rows, runs = Rows(study.output, order=VARIANTS), study.runs()
    check_rows(rows, study)
    rows.add()
    waiting = [run for run in runs if not rows.has(*run)]
    print(f"{len(runs)} runs, {len(runs) - len(waiting)} of them finished before")
    calls = [(study.output, *run, study.recipe(*run)) for run in waiting]
    calls = [(*call, study.changes_of(call[1])) for call in calls]
    if study.jobs > 1:
        logs = [recipe.output.with_suffix(".log") for *_, recipe, _ in calls]
        finished = side_by_side(run_of, calls, logs, study.jobs)
    else:
        finished = (run_of(*call) for call in calls)
    for number, row in enumerate(finished, len(runs) - len(waiting) + 1):
        write_tables(study.output, rows.all(), MAIN, PAIRS)
        minutes = "" if row.minutes is None else f", {row.minutes} minutes"
        print(
            f"{time.strftime('%H:%M')} {number} of {len(runs)}: {row.variant}, seed "
            f"{row.seed}: {row.accuracy:.4f}{minutes}",
            flush=True,
        )
    write_tables(study.output, rows.all(), MAIN, PAIRS)
    print((study.output / "results.md").read_text())
    print(f"Tables and pictures are in {study.output}/")


def check_data(study):
    """Raises what a run would raise about the data, before anything is written."""
    images, _ = study.recipe(*study.runs()[0]).sources()
    batch_size = BUDGETS[study.budget].batch_size
    if images.count < batch_size:
        raise ValueError(
            f"{study.data} has {images.count} training images, fewer than a batch of "
            f'the budget "{study.budget}", {batch_size}; give more images.'
        )


def check_rows(rows, study):
    """Raises if a row is of a variant that was another one then."""
    for row in rows.all():
        if row.variant not in VARIANTS:
            continue
        now = json.loads(json.dumps(study.changes_of(row.variant)))
        if row.changes != now:
            raise ValueError(
                f"{rows.source(row.variant, row.seed)} has a {row.variant} with "
                f"{row.changes} and that now has {now}; remove the row and the folder "
                "of the run to train it again."
            )


def run_of(folder, variant, seed, recipe, changes):
    """Trains a run of the study in a folder, keeps its `Row` and returns it."""
    rows = Rows(folder, order=VARIANTS)
    if rows.has(variant, seed):
        return rows.of(variant, seed)
    keras.utils.clear_session()
    goes_on = (recipe.output / "checkpoints" / "last.keras").exists()
    start = time.perf_counter()
    metrics = train(recipe)
    if rows.has(variant, seed):
        # Another process was in it before this one.
        return rows.of(variant, seed)
    minutes = round((time.perf_counter() - start) / 60, 1)
    last = read_rows(recipe.output / "history.csv")[-1]
    path = recipe.output / "model.keras"
    model = widenet_keras.load_model(path, compile=False)
    row = Row(
        variant=variant,
        seed=seed,
        changes=json.loads(json.dumps(changes)),
        accuracy=round(metrics["accuracy"], 4),
        train_accuracy=round(float(last["accuracy"]), 4),
        parameters=model.count_params(),
        gflops=round(widenet_keras.forward_flops(model.config) / 1e9, 5),
        # Of a run that was killed nobody knows how long it took.
        minutes=None if goes_on else minutes,
    )
    rows.add(row)
    return row


if __name__ == "__main__":
    run_command(main, Study)
