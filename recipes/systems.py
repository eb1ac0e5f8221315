"""Make a trained ViT smaller, or tune it for another task: one row for each way.

    pip install -e '.[tensorflow,recipes,digits]'
    python recipes/systems.py --data digits --seeds 0 1 2 --output runs/systems

`--rows relax` shares the blocks of a ViT in many ways, trains on for some epochs, and
says how accurate the model is at once and after each of them. `--rows prune` takes
units out until half of the operations are left; `--rows nested` trains one model for
four widths and takes these out of it. `--rows heads prompts adapters` tunes the ViT,
most of it frozen, for images that are turned by a quarter and inverted, of which there
are few. Methods are rows of `systems_methods.py` and `systems_smaller.py`;
`--methods rank_8 tie_stepwise` takes some of them only.

`--data digits` needs no data and trains the ViT itself, one for each seed. Otherwise
give an .npz file, or for `--rows relax` class folders, with `--source model.keras`.
Each run is one of `cifar10.py`, so that the same command goes on where a killed one
was; `rows/` has a file for each finished one, `results.md` the tables.
"""

import dataclasses
import time
from pathlib import Path

import widenet_keras  # first: it chooses a backend that is installed

# isort: split
import cifar10
import keras
import numpy as np
from study import keep_settings
from study_rows import Rows
from systems_methods import BANKS, GROUPS, METHODS, members
from systems_tables import SystemRow, write_tables
from tyro.conf import OmitArgPrefixes

from widenet_keras.data import Augmentation, open_source
from widenet_keras.data.digits import load_digits
from widenet_keras.data.labelled import labelled_batches, labelled_images
from widenet_keras.models.frozen import trained_parameters
from widenet_keras.training.optimization import Optimization
from widenet_keras.training.terms_options import Terms
from widenet_keras.utils.checks import check_choice, check_integer
from widenet_keras.utils.command_line import run_command
from widenet_keras.utils.digests import sha256_of
from widenet_keras.utils.files import check_folder, replaced_when_done
from widenet_keras.utils.tables import read_rows

AS_THEY_ARE = Augmentation(
    crop="none", flip=False, randaugment_ops=0, mixup=0.0, smoothing=0.0
)
# Low, so that what a start has is not lost.
OPTIMIZATION = Optimization(
    optimizer="adamw",
    learning_rate=2e-4,
    final_learning_rate=1e-5,
    warmup_epochs=0.0,
    decay="cosine",
    weight_decay=0.05,
)
# A ViT that weight decay has had time to work on: what random starts left in its blocks
# is no low-rank difference, and goes.
OF_THE_SOURCE = dataclasses.replace(
    OPTIMIZATION, learning_rate=3e-3, warmup_epochs=2.0, weight_decay=0.5
)
DIGITS = "digits"
# Images of which gradients are taken, where not all are.
LOOKED_AT = 2000
# The ViT of the digits: deep for its size, so that blocks can be shared.
SOURCE = {
    "steps": "8",
    "width": "32",
    "mlp_dim": "64",
    "representation": "False",
    "class_token": "False",
    "pooling": "'mean'",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Systems:
    """Make a trained ViT smaller, or tune it for another task."""

    data: str
    """"digits", which need no data, an .npz file, or class folders."""
    output: Path
    """Folder of the results; the same command goes on with one that is there."""
    source: Path | None = None
    """The trained ViT, a .keras file; the digits train their own."""
    rows: tuple[str, ...] = GROUPS
    """Groups of methods: relax, prune, nested, heads, prompts, adapters."""
    methods: tuple[str, ...] = ()
    """Methods of these groups; all if not given."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of data, noise and fresh weights, and of the ViT of the digits."""
    epochs: int = 4
    """Passes over the images after a model is made smaller."""
    source_epochs: int = 60
    """Passes over the digits that their ViT is trained for."""
    tuning_images: int = 300
    """Images of the shifted task to tune on, evenly spaced."""
    tuning_epochs: int = 20
    """Passes over them."""
    batch_size: int = 64
    """Images per batch; of the shifted task a quarter."""
    augmentation: OmitArgPrefixes[Augmentation] = AS_THEY_ARE
    optimization: OmitArgPrefixes[Optimization] = OPTIMIZATION

    def __post_init__(self):
        for group in self.rows:
            check_choice("systems", "rows", group, GROUPS)
        for name in self.methods:
            check_choice("systems", "methods", name, tuple(METHODS))
        for name in ("epochs", "source_epochs", "tuning_images", "tuning_epochs"):
            check_integer("systems", name, getattr(self, name), 1)
        check_integer("systems", "batch_size", self.batch_size, 4)
        for seed in self.seeds:
            check_integer("systems", "seeds", seed, 0)
        for name in self.methods:
            if (group := METHODS[name].group) not in self.rows:
                raise ValueError(
                    f"systems: --methods {name} is one of --rows {group}; add it there."
                )
        if self.source is None and self.data != DIGITS:
            raise ValueError(
                "systems: give the trained ViT as --source model.keras; only "
                "--data digits trains its own."
            )

    def settings(self):
        """Returns what the accuracies depend on."""
        settings = dataclasses.asdict(self)
        for name in ("output", "rows", "methods", "seeds", "source"):
            settings.pop(name)
        if self.source is not None:
            settings["source"] = sha256_of(self.source)
        return {**settings, "backend": keras.backend.backend()}

    def names(self):
        """Returns the methods of the run, in the order of the table."""
        return [
            name
            for name, method in METHODS.items()
            if method.group in self.rows and (not self.methods or name in self.methods)
        ]


def main(systems):
    """Runs what is not there yet; writes the tables after every run."""
    check_folder(systems.output)
    keep_settings(systems)
    data = data_of(systems)
    rows = Rows(systems.output, SystemRow)
    names, order = systems.names(), [*METHODS]
    for seed in systems.seeds:
        source = source_of(systems, data, seed)
        if not rows.has("source", seed):
            row = row_of("source", None, source, seed, [accuracy(source, data[0])], 0)
            rows.add(row)
        for name in names:
            if not rows.has(name, seed):
                rows.add(trained(systems, name, seed, source, data))
                write_tables(systems.output, rows.all(["source", *order]))
            row = rows.of(name, seed)
            print(
                f"{time.strftime('%H:%M')} {name}, seed {seed}: "
                f"{row.accuracies[0]:.4f} at once, {row.accuracies[-1]:.4f} at the end",
                flush=True,
            )
    write_tables(systems.output, rows.all(["source", *order]))
    print((systems.output / "results.md").read_text())


def data_of(systems):
    """Returns the data of the ViT's own task, and those of the shifted one."""
    own, shifted = systems.data, systems.output / "shifted.npz"
    if own == DIGITS:
        own = str(systems.output / "digits.npz")
        if not Path(own).exists():
            save_arrays(own, *(as_bytes(*part) for part in load_digits()))
    if not shifted.exists() and set(systems.rows) != {"relax"}:
        parts = [open_source(own, split) for split in ("train", "validation")]
        if parts[0].kind != "arrays":
            raise ValueError(
                f"systems: {own} is no .npz file, which --rows "
                f"{' '.join(group for group in systems.rows if group != 'relax')} "
                "needs; give one, or --rows relax."
            )
        pairs = [(255 - np.rot90(p.images, axes=(1, 2)), p.labels) for p in parts]
        save_arrays(shifted, *pairs)
    return own, str(shifted)


def as_bytes(images, labels):
    """Returns images in [-1, 1] as pixels."""
    return np.rint((images + 1) * 127.5).astype("uint8"), labels


def save_arrays(path, train, test):
    """Writes images and labels as an .npz file."""
    with replaced_when_done(path) as there:
        names = ("x_train", "y_train", "x_test", "y_test")
        np.savez_compressed(there, **dict(zip(names, (*train, *test), strict=True)))


def source_of(systems, data, seed):
    """Returns the path of the ViT, which for digits may have to be trained."""
    if systems.source is not None:
        return systems.source
    folder = systems.output / "source" / f"seed_{seed}"
    recipe = cifar10.Recipe(
        data=data[0],
        output=folder,
        preset="vit_digits",
        fields=SOURCE,
        epochs=systems.source_epochs,
        batch_size=systems.batch_size,
        seed=seed,
        validate_every=systems.source_epochs,
        augmentation=systems.augmentation,
        optimization=OF_THE_SOURCE,
    )
    if not (folder / "model.keras").exists():
        cifar10.main(recipe)
    return folder / "model.keras"


def trained(systems, name, seed, source, data):
    """Makes the model of a method, trains it, and returns its `SystemRow`."""
    method, folder = METHODS[name], systems.output / name / f"seed_{seed}"
    data = data[method.shifted]
    begun, start = time.perf_counter(), folder / "start.keras"
    if method.start is None:
        return row_of(name, method, source, seed, [accuracy(source, data)], 0)
    if not start.exists():
        check_folder(folder)
        keras.utils.set_random_seed(seed)
        made(systems, method, seed, source, data).save(start)
    accuracies = [accuracy(start, data)]
    if method.epochs == 0:
        return row_of(name, method, start, seed, accuracies, 0)
    optimization, length, batch = systems.optimization, systems.epochs, 1
    length = method.epochs or length
    if method.fresh is not None:
        optimization = OF_THE_SOURCE
        length = round(method.fresh * systems.source_epochs)
    if method.shifted:
        length, batch = systems.tuning_epochs, 4
        optimization = dataclasses.replace(
            optimization, learning_rate=method.learning_rate
        )
    teacher = base_of(systems, method, seed, source)
    recipe = cifar10.Recipe(
        data=data,
        output=folder,
        checkpoint=start,
        epochs=length,
        batch_size=systems.batch_size // batch,
        seed=seed,
        train_images=systems.tuning_images if method.shifted else None,
        augmentation=systems.augmentation,
        optimization=optimization,
        terms=Terms(
            teacher=teacher if method.teacher else None,
            alpha=method.teacher or Terms.alpha,
            consistency=method.consistency,
        ),
    )
    goes_on = (folder / "checkpoints").exists()
    cifar10.main(recipe)
    epochs = read_rows(folder / "history.csv")
    accuracies += [round(float(epoch["val_accuracy"]), 4) for epoch in epochs]
    minutes = None if goes_on else round((time.perf_counter() - begun) / 60, 1)
    each = []
    if name in BANKS:
        model = widenet_keras.load_model(folder / "model.keras", compile=False)
        each = [accuracy(one, data) for one in members(model)]
    return row_of(name, method, start, seed, accuracies, minutes, each)


def made(systems, method, seed, source, data):
    """Returns the model that a method trains."""
    path = base_of(systems, method, seed, source)
    model = widenet_keras.load_model(path, compile=False)
    if not method.looks:
        return method.start(model)
    most = systems.tuning_images if method.shifted else LOOKED_AT
    images, labels, _ = labelled_images(model, data, "train", None, most, "raise")
    return method.start(model, images, labels)


def base_of(systems, method, seed, source):
    """Returns the path of the model that a method starts from."""
    if method.of is None:
        return source
    path = systems.output / method.of / f"seed_{seed}" / "model.keras"
    if not path.exists():
        raise ValueError(
            f"systems: {path} is missing; run --methods {method.of} first."
        )
    return path


def accuracy(model, data):
    """Returns the accuracy of a model, or of one in a file, on the test images."""
    if isinstance(model, str | Path):
        model = widenet_keras.load_model(model, compile=False)
    model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    batches, *_ = labelled_batches(model, data, "validation", None, 256, "raise")
    return round(float(model.evaluate(batches, verbose=0)[1]), 4)


def row_of(name, method, path, seed, accuracies, minutes, members=()):
    """Returns the `SystemRow` of a model in a file."""
    model = widenet_keras.load_model(path, compile=False)
    return SystemRow(
        variant=name,
        group=method.group if method else "relax",
        against=method.against if method else None,
        seed=seed,
        parameters=model.count_params(),
        trained=trained_parameters(model) if method and method.start else 0,
        gflops=round(widenet_keras.forward_flops(model.config) / 1e9, 5),
        accuracies=accuracies,
        members=list(members),
        minutes=minutes,
    )


if __name__ == "__main__":
    run_command(main, Systems)
