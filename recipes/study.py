"""Train many variants under one recipe: accuracy against parameters and arithmetic.

    pip install 'widenet_keras[tensorflow,recipes]'
    python recipes/study.py --data cifar10 --output runs/study

Every variant sees the same images in the same order, with the same augmentation,
optimizer and epochs; what differs is one row of `VARIANTS`. Finished runs are not
trained again, and one that was killed goes on: `results.csv` in the output folder has
a row per run, `results.md` the means and spreads over the seeds, and
`accuracy_parameters.png` and `accuracy_flops.png` the pictures.

`--budget` scales model and epochs: "smoke" is one epoch of tiny models, to see that
everything runs, "cpu" is for 2 cores, "gpu" is a size worth quoting. A part of the set
is trained with `--variants vit widenet --seeds 0 1 2`.
"""

import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Literal

import cifar10
import keras

import widenet_keras
from widenet_keras.plot import load_matplotlib
from widenet_keras.utils.checks import check_choice
from widenet_keras.utils.command_line import run_command
from widenet_keras.utils.files import replaced_when_done
from widenet_keras.utils.tables import read_rows, write_rows

VIT = {"sharing": "none", "moe_blocks": "none", "pooling": "token"}
VARIANTS = {
    # The three of the paper, at equal width and depth.
    "vit": lambda base: VIT,
    "vit_moe": lambda base: {
        "sharing": "none",
        "moe_blocks": tuple(range(-max(1, base["steps"] // 4), 0)),
    },
    "widenet": lambda base: {},
    # The paper's first ablation.
    "shared_norms": lambda base: {"shared_norms": True},
    # Half as deep, with a width that costs as much.
    "wider_shallower": lambda base: {
        "steps": base["steps"] // 2,
        "width": base["width"] * 3 // 2,
        "expert_dim": base["expert_dim"] * 3 // 2,
    },
    "one_dense_expert": lambda base: {"moe_blocks": "none"},
    "not_shared": lambda base: {"sharing": "none"},
    "two_groups": lambda base: {"sharing": "sequence", "unique_blocks": 2},
    "experts_2": lambda base: {"num_experts": 2},
    "experts_8": lambda base: {"num_experts": 8},
    "top_1": lambda base: {"top_k": 1},
    "grouped_top_1": lambda base: {"router": "grouped_top_1"},
    "no_balance_loss": lambda base: {"balance_loss_weight": 0.0},
}
MAIN = ("vit", "vit_moe", "widenet", "shared_norms")


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
    "cpu": Budget(
        {"width": 128, "steps": 4, "heads": 4, "mlp_dim": 192, "expert_dim": 256},
        14,
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

    def __post_init__(self):
        for name in self.variants:
            check_choice("study", "variants", name, tuple(VARIANTS))

    def runs(self):
        """Returns (variant, seed) of every run; first seeds come first."""
        runs = []
        for name in self.variants:
            seeds = self.seeds or ((0, 1, 2) if name in MAIN else (0,))
            runs += [(name, seed) for seed in seeds]
        return sorted(runs, key=lambda run: run[1])

    def fields_of(self, variant):
        """Returns the fields of a variant's configuration."""
        base = {
            **widenet_keras.preset_config("widenet_small_32").to_dict(),
            "dropout": 0.0,
            **BUDGETS[self.budget].fields,
            **widenet_keras.parse_fields(self.fields, settled=("num_classes",)),
        }
        base.pop("num_classes")
        return {**base, **VARIANTS[variant](base)}

    def recipe(self, variant, seed):
        """Returns the recipe of a run."""
        budget = BUDGETS[self.budget]
        return cifar10.Recipe(
            data=self.data,
            output=self.output / variant / f"seed_{seed}",
            fields={name: repr(v) for name, v in self.fields_of(variant).items()},
            epochs=self.epochs or budget.epochs,
            batch_size=budget.batch_size,
            seed=seed,
            augmentation=dataclasses.replace(cifar10.SMALL_IMAGES, crop="none"),
        )


def main(study):
    """Trains what is not there yet; writes the tables after every run."""
    study.output.mkdir(parents=True, exist_ok=True)
    table = Table(study)
    for number, (variant, seed) in enumerate(study.runs(), 1):
        print(f"\n{number} of {len(study.runs())}: {variant}, seed {seed}", flush=True)
        if table.has(variant, seed):
            print("finished before")
            continue
        keras.utils.clear_session()
        recipe = study.recipe(variant, seed)
        goes_on = (recipe.output / "checkpoints" / "last.keras").exists()
        start = time.perf_counter()
        cifar10.main(recipe)
        # Of a run that was killed nobody knows how long it took.
        minutes = "" if goes_on else round((time.perf_counter() - start) / 60, 1)
        table.add(row_of(recipe, variant, seed, minutes))
    print(f"\n{table.text()}\nTables and pictures are in {study.output}/")


def row_of(recipe, variant, seed, minutes):
    """Returns what a finished run is known by."""
    metrics = json.loads((recipe.output / "metrics.json").read_text())
    last = read_rows(recipe.output / "history.csv")[-1]
    model = widenet_keras.load_model(recipe.output / "model.keras", compile=False)
    return {
        "variant": variant,
        "seed": seed,
        "accuracy": round(metrics["accuracy"], 4),
        "train_accuracy": round(float(last["accuracy"]), 4),
        "parameters": model.count_params(),
        "gflops": round(widenet_keras.forward_flops(model.config) / 1e9, 5),
        "minutes": minutes,
    }


class Table:
    """The rows of all finished runs, as CSV, as Markdown and as pictures."""

    def __init__(self, study):
        self.folder = study.output
        self.path = study.output / "results.csv"
        settings = {
            "data": study.data,
            "budget": study.budget,
            "epochs": study.epochs,
            "fields": study.fields,
            "backend": keras.backend.backend(),
        }
        kept = study.output / "study.json"
        if kept.exists() and json.loads(kept.read_text()) != settings:
            raise ValueError(
                f"{study.output} is a study with {kept.read_text().strip()}; start "
                "again with its settings, or give another output folder."
            )
        with replaced_when_done(kept) as path:
            path.write_text(json.dumps(settings) + "\n")
        self.rows = read_rows(self.path)

    def has(self, variant, seed):
        """Whether a run is finished."""
        return any(
            row["variant"] == variant and int(row["seed"]) == seed for row in self.rows
        )

    def add(self, row):
        """Adds a run and writes everything anew."""
        self.rows.append(row)
        write_rows(self.path, self.rows)
        with replaced_when_done(self.folder / "results.md") as path:
            path.write_text(self.text() + "\n")
        for column, label in (
            ("parameters", "parameters"),
            ("gflops", "GFLOP of one image"),
        ):
            with replaced_when_done(self.folder / picture_name(column)) as path:
                self.draw(column, label, path)

    def summary(self):
        """Returns one dict per variant: mean and spread of the accuracy over seeds."""
        by_variant = {}
        for row in self.rows:
            by_variant.setdefault(row["variant"], []).append(row)
        return [
            {
                "variant": name,
                "seeds": len(rows),
                "accuracy": statistics.mean(float(row["accuracy"]) for row in rows),
                "spread": statistics.stdev(float(row["accuracy"]) for row in rows)
                if len(rows) > 1
                else None,
                "train_accuracy": statistics.mean(
                    float(row["train_accuracy"]) for row in rows
                ),
                "parameters": int(rows[0]["parameters"]),
                "gflops": float(rows[0]["gflops"]),
                "minutes": mean(row["minutes"] for row in rows),
            }
            for name, rows in by_variant.items()
        ]

    def text(self):
        """Returns the summary as a Markdown table."""
        lines = [
            "| variant | seeds | test accuracy | +- | training accuracy | parameters "
            "| GFLOP | minutes |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in sorted(self.summary(), key=lambda row: -row["accuracy"]):
            spread = "-" if row["spread"] is None else f"{row['spread']:.4f}"
            cells = [
                row["variant"],
                row["seeds"],
                f"{row['accuracy']:.4f}",
                spread,
                f"{row['train_accuracy']:.4f}",
                f"{row['parameters']:,}",
                f"{row['gflops']:.4f}",
                "-" if row["minutes"] is None else f"{row['minutes']:.1f}",
            ]
            lines.append(f"| {' | '.join(map(str, cells))} |")
        return "\n".join(lines)

    def draw(self, column, label, path):
        """Draws the accuracy of every variant against a column."""
        figure = load_matplotlib()(figsize=(7, 4.5), layout="constrained")
        axis = figure.subplots()
        for row in self.summary():
            main = row["variant"] in MAIN
            axis.errorbar(
                row[column],
                row["accuracy"],
                yerr=row["spread"],
                marker="o" if main else "s",
                markersize=8 if main else 5,
                capsize=3,
                color="#2f6fb5" if main else "#999999",
            )
            axis.annotate(
                row["variant"],
                (row[column], row["accuracy"]),
                textcoords="offset points",
                xytext=(6, 4),
                fontsize=8,
            )
        axis.set_xscale("log")
        axis.set_xlabel(label)
        axis.set_ylabel("test accuracy")
        axis.grid(alpha=0.3)
        figure.savefig(path, dpi=120)


def mean(values):
    """Returns the mean of the texts that are numbers; None if none is."""
    numbers = [float(value) for value in values if value != ""]
    return statistics.mean(numbers) if numbers else None


def picture_name(column):
    """Returns the name of the picture of accuracy against a column."""
    return f"accuracy_{'flops' if column == 'gflops' else column}.png"


if __name__ == "__main__":
    run_command(main, Study)
