"""Train many variants under one recipe: accuracy against parameters and arithmetic.

    pip install 'widenet_keras[tensorflow,recipes]'
    python recipes/study.py --data cifar10 --output runs/study

Every variant sees the same images in the same order, with the same augmentation,
optimizer and epochs; what differs is one row of `VARIANTS`. Finished runs are not
trained again, and one that was killed goes on: `rows/` in the output folder has a file
per run, `results.csv` a line per run, `results.md` means and spreads over the seeds,
and `accuracy_parameters.png` and `accuracy_flops.png` the pictures.

`--budget` scales model and epochs: "smoke" is one epoch of tiny models, to see that
everything runs, "cpu" is for 2 cores, "gpu" is a size worth quoting. A part of the set
is trained with `--variants vit widenet --seeds 0 1 2`. Small models use many cores
badly: `--jobs 2` trains two of them at a time, each on its share of the cores.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Literal

import cifar10
import keras
from side_by_side import side_by_side
from study_tables import Row, Rows, write_tables
from tyro.conf import OmitArgPrefixes

import widenet_keras
from widenet_keras.data import Augmentation
from widenet_keras.training.optimization import Optimization
from widenet_keras.utils.checks import check_choice, check_integer
from widenet_keras.utils.command_line import run_command
from widenet_keras.utils.files import replaced_when_done
from widenet_keras.utils.tables import read_rows

VIT = {"sharing": "none", "moe_blocks": "none", "pooling": "token"}
VARIANTS = {
    # The three of the paper, at equal width and depth.
    "vit": lambda base: VIT,
    "vit_moe": lambda base: {"sharing": "none", "moe_blocks": (-2, -1)},
    "widenet": lambda base: {},
    # As WideNet-L to ViT-B: with one block for all steps, depth costs norms only.
    "deeper": lambda base: {"steps": 2 * base["steps"]},
    # The paper's first ablation.
    "shared_norms": lambda base: {"shared_norms": True},
    # Half as deep, with a width that costs as much.
    "wider_shallower": lambda base: {
        "steps": base["steps"] // 2,
        "width": base["width"] * 3 // 2,
        "expert_dim": base["expert_dim"] * 3 // 2,
    },
    # ViT reads its class token, the others the mean of all tokens.
    "vit_mean_pooling": lambda base: {**VIT, "pooling": "mean"},
    "one_dense_expert": lambda base: {"moe_blocks": "none"},
    "not_shared": lambda base: {"sharing": "none"},
    "two_groups": lambda base: {"sharing": "sequence", "unique_blocks": 2},
    "experts_2": lambda base: {"num_experts": 2},
    "experts_8": lambda base: {"num_experts": 8},
    "top_1": lambda base: {"top_k": 1},
    "grouped_top_1": lambda base: {"router": "grouped_top_1"},
    "no_balance_loss": lambda base: {"balance_loss_weight": 0.0},
}
MAIN = ("vit", "vit_moe", "widenet", "deeper", "shared_norms")
OPTIMIZATION = dataclasses.replace(cifar10.FROM_SCRATCH, weight_decay=0.3)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Size of the models and length of the training."""

    fields: dict
    epochs: int
    batch_size: int


BUDGETS = {
    "smoke": Budget(
        {"width": 12, "steps": 2, "heads": 3, "mlp_dim": 12, "expert_dim": 16}, 1, 32
    ),
    # K experts of a token cost a little less than the MLP of a ViT.
    "cpu": Budget(
        {
            "image_size": 35,
            "patch_size": 7,
            "width": 96,
            "steps": 6,
            "heads": 4,
            "mlp_dim": 384,
            "expert_dim": 176,
        },
        26,
        64,
    ),
    "gpu": Budget(
        {"width": 256, "steps": 12, "heads": 8, "mlp_dim": 768, "expert_dim": 1024},
        60,
        128,
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Train many variants under one recipe."""

    data: str
    """Class folders, an .npz file, TFRecords, or tfds:NAME."""
    output: Path
    """Folder of the study; the same command goes on with one that is there."""
    budget: Literal["smoke", "cpu", "gpu"] = "cpu"
    """Size of the models and length of the training."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which variants to train."""
    seeds: tuple[int, ...] = ()
    """Seeds of each variant; 0 1 2 for the main ones and 0 for the others if not
    given."""
    epochs: int | None = None
    """Passes over the data, where not those of the budget."""
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    """Fields of WideNetConfig for all variants, for example: image_size 28 channels 1
    patch_size 7."""
    jobs: int = 1
    """Runs at a time, each a process with its share of the cores."""
    augmentation: OmitArgPrefixes[Augmentation] = cifar10.SMALL_IMAGES
    optimization: OmitArgPrefixes[Optimization] = OPTIMIZATION

    def __post_init__(self):
        for name in self.variants:
            check_choice("study", "variants", name, tuple(VARIANTS))
        check_integer("study", "jobs", self.jobs, 1)

    def settings(self):
        """Returns what the accuracies depend on."""
        return {
            "data": self.data,
            "fields": self.base(),
            "epochs": self.epochs or BUDGETS[self.budget].epochs,
            "batch_size": BUDGETS[self.budget].batch_size,
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
        return sorted(runs, key=lambda run: run[1])

    def base(self):
        """Returns the fields of the configuration that the variants start from."""
        base = {
            **widenet_keras.preset_config("widenet_small_32").to_dict(),
            "dropout": 0.0,
            **BUDGETS[self.budget].fields,
            **widenet_keras.parse_fields(self.fields, settled=("num_classes",)),
        }
        base.pop("num_classes")
        return base

    def fields_of(self, variant):
        """Returns the fields of a variant's configuration."""
        base = self.base()
        return {**base, **VARIANTS[variant](base)}

    def recipe(self, variant, seed):
        """Returns the recipe of a run."""
        settings = self.settings()
        return cifar10.Recipe(
            data=self.data,
            output=self.output / variant / f"seed_{seed}",
            fields={name: repr(v) for name, v in self.fields_of(variant).items()},
            epochs=settings["epochs"],
            batch_size=settings["batch_size"],
            seed=seed,
            augmentation=self.augmentation,
            optimization=self.optimization,
        )


def main(study):
    """Trains what is not there yet; writes the tables after every run."""
    keep_settings(study)
    rows, runs = Rows(study.output), study.runs()
    waiting = [run for run in runs if not rows.has(*run)]
    print(f"{len(runs)} runs, {len(runs) - len(waiting)} of them finished before")
    if study.jobs > 1:
        logs = [study.recipe(*run).output.with_suffix(".log") for run in waiting]
        calls = [(study, *run) for run in waiting]
        finished = side_by_side(train, calls, logs, study.jobs)
    else:
        finished = (train(study, *run) for run in waiting)
    for number, row in enumerate(finished, len(runs) - len(waiting) + 1):
        write_tables(study.output, rows.all(list(VARIANTS)), MAIN)
        minutes = "" if row.minutes is None else f", {row.minutes} minutes"
        print(
            f"{time.strftime('%H:%M')} {number} of {len(runs)}: {row.variant}, seed "
            f"{row.seed}: {row.accuracy:.4f}{minutes}",
            flush=True,
        )
    write_tables(study.output, rows.all(list(VARIANTS)), MAIN)
    print((study.output / "results.md").read_text())
    print(f"Tables and pictures are in {study.output}/")


def keep_settings(study):
    """Writes the settings of a study, or raises if they are not those it has."""
    settings = json.loads(json.dumps(study.settings()))
    kept = study.output / "study.json"
    there = json.loads(kept.read_text()) if kept.exists() else settings
    here, there = flat(settings), flat(there)
    for name in {**there, **here}:
        if there.get(name) != here.get(name):
            raise ValueError(
                f"{study.output} is a study with {name}={there.get(name)!r} and this "
                f"one has {here.get(name)!r}; start again with its settings, or give "
                "another output folder."
            )
    with replaced_when_done(kept) as path:
        path.write_text(json.dumps(settings, indent=2) + "\n")


def flat(settings):
    """Returns a dict whose values are no dicts: {"a": {"b": 1}} is {"b": 1}."""
    found = {}
    for name, value in settings.items():
        found |= flat(value) if isinstance(value, dict) else {name: value}
    return found


def train(study, variant, seed):
    """Trains a variant and returns its `Row`, which is kept."""
    keras.utils.clear_session()
    recipe = study.recipe(variant, seed)
    goes_on = (recipe.output / "checkpoints" / "last.keras").exists()
    start = time.perf_counter()
    cifar10.main(recipe)
    minutes = round((time.perf_counter() - start) / 60, 1)
    metrics = json.loads((recipe.output / "metrics.json").read_text())
    last = read_rows(recipe.output / "history.csv")[-1]
    model = widenet_keras.load_model(recipe.output / "model.keras", compile=False)
    row = Row(
        variant=variant,
        seed=seed,
        accuracy=round(metrics["accuracy"], 4),
        train_accuracy=round(float(last["accuracy"]), 4),
        parameters=model.count_params(),
        gflops=round(widenet_keras.forward_flops(model.config) / 1e9, 5),
        # Of a run that was killed nobody knows how long it took.
        minutes=None if goes_on else minutes,
    )
    Rows(study.output).add(row)
    return row


if __name__ == "__main__":
    run_command(main, Study)
