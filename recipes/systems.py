"""Make a ViT smaller, tune it, or build it otherwise: one row for each way.

    pip install -e '.[tensorflow,recipes,digits]'
    python recipes/systems.py --data digits --seeds 0 1 2 --output runs/systems

`--rows relax` shares the blocks of a ViT in many ways, trains on for some epochs, and
says how accurate the model is at once and after each of them. `--rows prune` takes
units out until half of the operations are left; `--rows nested` trains one model for
four widths and takes these out of it. `--rows heads prompts adapters` tunes the ViT,
most of it frozen, for images that are turned by a quarter and inverted, of which there
are few. `--rows structures taught` trains other structures from nothing, with the
budget that the ViT has, by themselves and with the ViT as a teacher. Methods are rows
of `systems_methods.py`, `systems_smaller.py` and `systems_structures.py`;
`--methods rank_8 tie_stepwise` takes some of them only.

`--data digits` needs no data; most methods take less than a minute a seed on it, and
results/README.md has what came of all. Otherwise give an .npz file, or class folders
where nothing is tuned. Unless `--source model.keras` is given the ViT is trained first,
one for each seed. The same command goes on where a killed one was: `results.csv` has a
line for each finished run, `history.csv` one for each of its epochs, `results.md` the
tables. What a run starts from is trained as well where its model is not there.
`--jobs 2` trains two at a time, each on its share of the cores; they share a GPU on JAX
with XLA_PYTHON_CLIENT_PREALLOCATE=false.
"""

import dataclasses
import time
from pathlib import Path
from typing import Literal

import widenet_keras  # first: it chooses a backend that is installed

# isort: split
import keras
import numpy as np
from side_by_side import side_by_side
from study_rows import Rows, keep_settings, run_folder
from study_variants import BUDGETS
from systems_method import Method
from systems_methods import BANKS, GROUPS, METHODS, members
from systems_tables import FRESH_GROUPS, ORDER, SystemRow, write_tables

from widenet_keras.data import Augmentation, evenly_spaced, open_source
from widenet_keras.data.classes import in_classes_of
from widenet_keras.data.labelled import labelled_batches, labelled_images
from widenet_keras.data.pixels import whole_pixels
from widenet_keras.data.sources.digits import load_digits
from widenet_keras.files.named import named_classifier
from widenet_keras.models.frozen import trained_parameters
from widenet_keras.optimizers.optimization import Optimization
from widenet_keras.runs.recipe import PresetRecipe, train
from widenet_keras.utils.checks import check_choice, check_integer, check_positive
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
# Epochs of it, of what is trained from nothing.
WARMUP = 2.0
# The ViT, as if it were a method.
VIT = Method("relax", None, fresh=1.0)
DIGITS = "digits"
# Images of which gradients are taken, where not all are.
LOOKED_AT = 2000
_PLAIN = {"representation": False, "class_token": False, "pooling": "mean"}
# The ViT of the digits is deep for its size, so that blocks can be shared; that of
# other images has the size of the study on two cores.
SOURCES = {
    "vit_digits": {"steps": 8, "width": 32, "mlp_dim": 64, **_PLAIN},
    "vit_small_32": {**BUDGETS["cpu"].fields, "dropout": 0.0, **_PLAIN},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Systems:
    """Make a ViT smaller, tune it for another task, or build it otherwise."""

    data: str
    """"digits", which need no data, an .npz file, or class folders."""
    output: Path
    """Folder of the results; the same command goes on with one that is there."""
    source: Path | None = None
    """The trained ViT, a .keras file; one is trained for each seed if not given."""
    rows: tuple[str, ...] = ()
    """Groups of methods: relax, prune, nested, heads, prompts, adapters, structures,
    taught. If not given all; with --source all but structures and taught, which are
    held against a ViT that is trained as they are."""
    methods: tuple[str, ...] = ()
    """Methods of these groups, and what they start from where that is not there; all if
    not given."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of data, noise and fresh weights, and of the ViT."""
    epochs: int = 4
    """Passes over the images after --rows relax made a model smaller; what --rows prune
    takes units out of has two whatever is said here."""
    source_epochs: int = 60
    """Passes over the images that the ViT is trained for, and what else starts from
    nothing."""
    fresh_learning_rate: float = 3e-3
    """Learning rate of these, which is not that of --learning-rate."""
    fresh_weight_decay: float = 0.5
    """Weight decay of these: what random starts leave in the blocks of a ViT is no
    low-rank difference, and goes."""
    tuning_images: int = 300
    """Images of the shifted task to tune on, evenly spaced."""
    tuning_epochs: int = 20
    """Passes over them."""
    batch_size: int = 64
    """Images per batch; of the shifted task a quarter."""
    train_images: int | None = None
    """Train on that many of the images, evenly spaced; on all if not given. Not of the
    shifted task, which has its own number."""
    precision: Literal["float32", "mixed_bfloat16"] | None = None
    """What is computed in while training, with weights in float32; that of the source
    if not given, or float32."""
    jobs: int = 1
    """Runs at a time, each a process with its share of the cores."""
    augmentation: Augmentation = AS_THEY_ARE
    optimization: Optimization = OPTIMIZATION
    """How weights are learned. --learning-rate is that of models which were made
    smaller, where their rows have none of their own; what is tuned has its own. What
    starts from nothing has --fresh-learning-rate, --fresh-weight-decay and two epochs
    of warm-up instead of those here, and the rest of this."""

    def __post_init__(self):
        for group in self.rows:
            check_choice("systems", "rows", group, GROUPS)
        for name in self.methods:
            check_choice("systems", "methods", name, tuple(METHODS))
        if not self.seeds:
            raise ValueError("systems: seeds are none; name one, or leave it out.")
        for name in ("epochs", "source_epochs", "tuning_images", "tuning_epochs"):
            check_integer("systems", name, getattr(self, name), 1)
        check_integer("systems", "batch_size", self.batch_size, 4)
        check_integer("systems", "jobs", self.jobs, 1)
        fresh = [group for group in self.rows if group in FRESH_GROUPS]
        if self.source is not None and fresh:
            raise ValueError(
                f"systems: --rows {' '.join(fresh)} are held against a ViT that is "
                "trained as they are; leave --source out, or give other --rows."
            )
        if self.train_images is not None:
            check_integer("systems", "train_images", self.train_images, 1)
        for name in ("fresh_learning_rate", "fresh_weight_decay"):
            check_positive("systems", name, getattr(self, name))
        for seed in self.seeds:
            check_integer("systems", "seeds", seed, 0)
        for name in self.methods:
            if (group := METHODS[name].group) not in self.groups():
                raise ValueError(
                    f"systems: --methods {name} is one of --rows {group}; add it there."
                )
        self._check_warmups()

    def _check_warmups(self):
        """Raises if something is to be trained for less than its warm-up."""
        bases = [METHODS[name].of for name in self.names()]
        methods = {name: METHODS[name] for name in (*bases, *self.names()) if name}
        methods = {name: each for name, each in methods.items() if each.trains}
        if self.source is None:
            methods = {"source": VIT, **methods}
        for name, method in methods.items():
            epochs = self.epochs_of(method)
            warmup = self.optimization_of(method).warmup_epochs
            if epochs < warmup:
                fresh = method.fresh is not None
                raise ValueError(
                    f"systems: {name} is trained for {epochs} epochs, of which "
                    f"{warmup:g} are warm-up; give "
                    f"{'more --source-epochs' if fresh else 'less --warmup-epochs'}."
                )

    def settings(self):
        """Returns what the accuracies depend on."""
        settings = dataclasses.asdict(self)
        for name in ("output", "rows", "methods", "seeds", "source", "jobs"):
            settings.pop(name)
        if self.source is not None:
            settings["source"] = sha256_of(self.source)
        return {**settings, "backend": keras.backend.backend()}

    def groups(self):
        """Returns the groups of methods to take from."""
        fresh = FRESH_GROUPS if self.source is not None else ()
        return self.rows or tuple(group for group in GROUPS if group not in fresh)

    def epochs_of(self, method):
        """Returns how many passes over the images a method has."""
        if method.fresh is not None:
            return round(method.fresh * self.source_epochs)
        if method.shifted:
            return self.tuning_epochs
        return self.epochs if method.epochs is None else method.epochs

    def optimization_of(self, method):
        """Returns the `Optimization` of a method."""
        if method.fresh is not None:
            return dataclasses.replace(
                self.optimization,
                warmup_epochs=WARMUP,
                learning_rate=self.fresh_learning_rate,
                weight_decay=self.fresh_weight_decay,
            )
        if method.learning_rate is None:
            return self.optimization
        return dataclasses.replace(
            self.optimization, learning_rate=method.learning_rate
        )

    def source_of(self, seed):
        """Returns the path of the ViT, which may have to be trained."""
        return self.source or self.folder_of("source", seed) / "model.keras"

    def folder_of(self, name, seed):
        """Returns the folder of a run."""
        return run_folder(self.output, name, seed)

    def names(self):
        """Returns the methods of the run, in the order of the table."""
        return [
            name
            for name, method in METHODS.items()
            if method.group in self.groups()
            and (not self.methods or name in self.methods)
        ]


def main(systems):
    """Runs what is not there yet; writes the tables after every run."""
    check_data(systems)
    check_folder(systems.output)
    keep_settings(systems)
    data, rows = data_of(systems), Rows(systems.output, SystemRow, ORDER)
    rows.add()
    for wave in range(3):
        runs = [run for run in waiting(systems, rows) if wave_of(run[0]) == wave]
        calls = [(systems, *run, data) for run in runs]
        if systems.jobs > 1:
            folders = [systems.folder_of(*run) for _, *run, _ in calls]
            logs = [folder.with_suffix(".log") for folder in folders]
            finished = side_by_side(run_of, calls, logs, systems.jobs)
        else:
            finished = (run_of(*call) for call in calls)
        for row in finished:
            write_tables(systems.output, rows.all())
            print(
                f"{time.strftime('%H:%M')} {row.variant}, seed {row.seed}: "
                f"{row.accuracies[0]:.4f} at once, {row.accuracies[-1]:.4f} at the end",
                flush=True,
            )
    write_tables(systems.output, rows.all())
    print((systems.output / "results.md").read_text())


def check_data(systems):
    """Raises what a run would raise about the data, before anything is written."""
    parts = [open_source(systems.data, split) for split in ("train", "validation")]
    names = systems.names()
    groups = dict.fromkeys(METHODS[n].group for n in names if METHODS[n].shifted)
    if groups and not parts[0].in_memory:
        raise ValueError(
            f"systems: {systems.data} is no .npz file, which --rows "
            f"{' '.join(groups)} needs; give one, or other --rows."
        )
    counts = [systems.train_images, systems.tuning_images if groups else None]
    for count in counts:
        if count is not None:
            evenly_spaced(parts[0], count)
    if systems.source is not None:
        model = named_classifier(systems.source)
        for part in parts:
            in_classes_of(part, model)


def waiting(systems, rows):
    """Returns (method, seed) of the runs that are to be done.

    One that is finished, or was not asked for, is among them if another starts from its
    model and that is not there.
    """
    names, seeds = ("source", *systems.names()), dict.fromkeys(systems.seeds)
    runs = [(n, seed) for seed in seeds for n in names if not rows.has(n, seed)]
    # Grows meanwhile, by what these start from.
    for name, seed in runs:
        if name == "source":
            continue
        run = (METHODS[name].of or "source", seed)
        if run not in runs and not base_of(systems, METHODS[name], seed).exists():
            runs.append(run)
    return runs


def wave_of(name):
    """Returns a number; a method needs models of methods with lower ones at most."""
    if name == "source":
        return 0
    return 1 if METHODS[name].of is None else 2


def run_of(systems, name, seed, data):
    """Returns the `SystemRow` of a run, which is kept as well."""
    if name == "source":
        row = row_of_source(systems, seed, data[0])
    else:
        row = trained(systems, name, seed, data)
    Rows(systems.output, SystemRow, ORDER).add(row)
    return row


def data_of(systems):
    """Returns the data of the ViT's own task, and those of the shifted one."""
    own, shifted = systems.data, systems.output / "shifted.npz"
    if own == DIGITS:
        own = str(systems.output / "digits.npz")
        if not Path(own).exists():
            save_arrays(own, *(as_bytes(*part) for part in load_digits()))
    needed = any(METHODS[name].shifted for name in systems.names())
    if needed and not shifted.exists():
        parts = [open_source(own, split) for split in ("train", "validation")]
        pairs = [(255 - np.rot90(p.images, axes=(1, 2)), p.labels) for p in parts]
        save_arrays(shifted, *pairs)
    return own, str(shifted)


def as_bytes(images, labels):
    """Returns images in [-1, 1] as pixels."""
    return whole_pixels(images), labels


def save_arrays(path, train, test):
    """Writes images and labels as an .npz file."""
    with replaced_when_done(path) as there:
        names = ("x_train", "y_train", "x_test", "y_test")
        np.savez_compressed(there, **dict(zip(names, (*train, *test), strict=True)))


def row_of_source(systems, seed, data):
    """Returns the `SystemRow` of the ViT, which may have to be trained."""
    path, begun, minutes = systems.source_of(seed), time.perf_counter(), None
    if not path.exists():
        preset = "vit_digits" if systems.data == DIGITS else "vit_small_32"
        fields = {name: repr(value) for name, value in SOURCES[preset].items()}
        how = {"preset": preset, "fields": fields}
        how["train_images"] = systems.train_images
        goes_on = (path.parent / "checkpoints").exists()
        train(recipe_of(systems, data, path.parent, seed, VIT, **how))
        minutes = None if goes_on else minutes_since(begun)
    return row_of(systems, "source", path, seed, [accuracy(path, data)], minutes)


class SystemRecipe(PresetRecipe):
    """A training in which a model in a file takes of an image what it did before."""

    def starting_model(self, data):
        """Returns the model to train."""
        model = super().starting_model(data)
        if self.checkpoint:
            model.preprocessing = named_classifier(self.checkpoint).preprocessing
        return model


def recipe_of(systems, data, folder, seed, method, **how):
    """Returns the recipe of a run."""
    epochs = systems.epochs_of(method)
    return SystemRecipe(
        data=data,
        output=folder,
        epochs=epochs,
        batch_size=how.pop("batch_size", systems.batch_size),
        precision=systems.precision,
        seed=seed,
        # Of what starts from nothing the end is what counts.
        validate_every=1 if method.fresh is None else epochs,
        augmentation=systems.augmentation,
        optimization=systems.optimization_of(method),
        **how,
    )


def minutes_since(begun):
    """Returns the minutes since a time of `time.perf_counter`."""
    return round((time.perf_counter() - begun) / 60, 1)


def trained(systems, name, seed, data):
    """Makes the model of a method, trains it, and returns its `SystemRow`."""
    method, folder = METHODS[name], systems.folder_of(name, seed)
    data = data[method.shifted]
    begun, start = time.perf_counter(), folder / "start.keras"
    if method.start is None:
        source = systems.source_of(seed)
        return row_of(systems, name, source, seed, [accuracy(source, data)], 0)
    base = base_of(systems, method, seed)
    if not start.exists():
        check_folder(folder)
        keras.utils.set_random_seed(seed)
        made(systems, method, base, data, seed).save(start)
    accuracies = [accuracy(start, data)]
    if method.epochs == 0:
        return row_of(systems, name, start, seed, accuracies, 0)
    recipe = recipe_of(
        systems,
        data,
        folder,
        seed,
        method,
        checkpoint=start,
        batch_size=systems.batch_size // (4 if method.shifted else 1),
        train_images=systems.tuning_images if method.shifted else systems.train_images,
        terms=method.terms(base),
    )
    goes_on = (folder / "checkpoints").exists()
    train(recipe)
    epochs = read_rows(folder / "history.csv")
    found = [epoch["val_accuracy"] for epoch in epochs if epoch["val_accuracy"]]
    accuracies += [round(float(each), 4) for each in found]
    minutes = None if goes_on else minutes_since(begun)
    each = []
    if name in BANKS:
        model = widenet_keras.load_model(folder / "model.keras", compile=False)
        each = [accuracy(one, data) for one in members(model)]
    return row_of(systems, name, start, seed, accuracies, minutes, each)


def made(systems, method, path, data, seed):
    """Returns the model that a method trains, with what is drawn from a seed."""
    model = widenet_keras.load_model(path, compile=False)
    # A source that was given has one of its own, or none.
    model.seed = seed
    if not method.looks:
        return method.start(model)
    most = systems.tuning_images if method.shifted else LOOKED_AT
    # It looks at no image that it is not trained on.
    of = systems.tuning_images if method.shifted else systems.train_images
    where = (data, "train", None)
    images, labels, *_ = labelled_images(model, *where, most, "raise", of)
    return method.start(model, images, labels)


def base_of(systems, method, seed):
    """Returns the path of the model that a method starts from."""
    if method.of is None:
        return systems.source_of(seed)
    return systems.folder_of(method.of, seed) / "model.keras"


def accuracy(model, data):
    """Returns the accuracy of a model, or of one in a file, on the test images."""
    if isinstance(model, str | Path):
        model = widenet_keras.load_model(model, compile=False)
    model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    batches, *_ = labelled_batches(model, data, "validation", None, 256, "raise")
    return round(float(model.evaluate(batches, verbose=0)[1]), 4)


def from_nothing(name):
    """Whether the model of a method has nothing of a ViT that was given."""
    if name == "source":
        return False
    method = METHODS[name]
    return method.fresh is not None if method.of is None else from_nothing(method.of)


def against_of(systems, name):
    """Returns the method that one is held against, or None.

    A ViT that was given was trained otherwise than what starts from nothing here.
    """
    against = METHODS.get(name, VIT).against
    if systems.source is None or against is None:
        return against
    return against if from_nothing(name) == from_nothing(against) else None


def row_of(systems, name, path, seed, accuracies, minutes, members=()):
    """Returns the `SystemRow` of a model in a file."""
    method = METHODS.get(name, VIT)
    model = widenet_keras.load_model(path, compile=False)
    return SystemRow(
        variant=name,
        group=method.group,
        against=against_of(systems, name),
        seed=seed,
        parameters=model.count_params(),
        trained=trained_parameters(model) if method.trains else 0,
        gflops=round(widenet_keras.forward_flops(model.config) / 1e9, 5),
        accuracies=accuracies,
        members=list(members),
        minutes=minutes,
    )


if __name__ == "__main__":
    run_command(main, Systems)
