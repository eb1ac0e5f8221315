"""What the benchmarks share: one process per backend, timing, tables, pictures."""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")
_TURN = "WIDENET_BENCHMARK_TURN"  # a file that is locked
_STARTED = time.monotonic()
# Of Okabe and Ito, told apart by who sees no red or no green.
COLORS = {"tensorflow": "#E69F00", "jax": "#0072B2", "torch": "#009E73"}
CYCLE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")


def parser(description, devices=("cpu", "gpu")):
    """Returns the parser of the arguments that all benchmarks take.

    Args:
        description: What the benchmark is.
        devices: Where it can measure.
    """
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument(
        "--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS)
    )
    arguments.add_argument("--device", choices=devices, default="cpu")
    arguments.add_argument(
        "--repeats", type=int, default=7, help="timings per case, of which the median"
    )
    arguments.add_argument("--json", metavar="FILE", help="write flat rows here")
    arguments.add_argument("--png", metavar="FILE", help="write the picture here")
    arguments.add_argument(
        "--draw",
        metavar="FILE",
        help="measure nothing and draw the rows that an earlier run wrote here",
    )
    arguments.add_argument("--child", metavar="FILE", help=argparse.SUPPRESS)
    return arguments


def run(script, arguments, measure, present, draw=None, at_once=False):
    """Measures on each backend in a process of its own, then shows all rows.

    Args:
        script: Path of the benchmark.
        arguments: Parsed arguments, of a parser made by `parser`.
        measure: Function of the arguments that yields rows, in a child process.
        present: Function of rows and arguments that prints them.
        draw: Function of rows that returns a matplotlib figure; None without picture.
        at_once: Whether all processes run side by side; `measure` then says by `turn`
            what must be alone.
    """
    if draw is None and (arguments.png or arguments.draw):
        sys.exit(f"{Path(script).name} has no picture; leave --png and --draw out.")
    if arguments.draw:
        if not arguments.png:
            sys.exit("--draw needs --png FILE, where to write the picture.")
        text = Path(arguments.draw).read_text()
        _save_picture(draw(json.loads(text)), arguments.png, text)
        return
    if arguments.child:
        rows = []
        for row in measure(arguments):
            rows.append({**row, **about_this_run(arguments.device)})
            _write(rows, arguments.child)
        return
    backends = arguments.backends
    with tempfile.TemporaryDirectory() as folder:
        for some in [backends] if at_once else [[backend] for backend in backends]:
            children = [_child(script, each, folder, arguments.device) for each in some]
            while any(child.poll() is None for child in children):
                time.sleep(0.2)
                # What is there so far, for who stops this.
                rows = _rows(backends, folder)
                if arguments.json and rows:
                    _write(rows, arguments.json)
            if any(child.returncode for child in children):
                sys.exit("A backend's process failed; see above.")
        rows = _rows(backends, folder)
    if not rows:
        sys.exit("Nothing was measured; see above.")
    print()
    present(rows, arguments)
    print(f"\nOn {rows[0]['device']}, medians of {arguments.repeats} or more:")
    for backend, number, keras in dict.fromkeys(
        (row["backend"], row["version"], row["keras"]) for row in rows
    ):
        print(f"  {backend} {number}, Keras {keras}")
    if arguments.json:
        _write(rows, arguments.json)
        print(f"Rows are in {arguments.json}")
    if arguments.png:
        _save_picture(draw(rows), arguments.png, _text_of(rows))


def _write(rows, path):
    """Writes rows so that a file is whole, or as it was."""
    fresh = Path(path + ".part")
    fresh.write_text(_text_of(rows))
    fresh.replace(path)


def _text_of(rows):
    """Returns rows as they stand in a file."""
    return "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n"


def _rows(backends, folder):
    """Returns the rows that the processes have written so far."""
    files = (Path(folder, f"{backend}.json") for backend in backends)
    return [
        row for file in files if file.exists() for row in json.loads(file.read_text())
    ]


def _child(script, backend, folder, device):
    """Starts the benchmark for one backend; its progress goes to the terminal."""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if device == "cpu":
        # As the rows will say, also on a machine that has more.
        environment |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    else:
        # Other processes share it: of other backends, or of one model alone.
        environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        environment.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    environment[_TURN] = str(Path(folder, "turn"))
    command = [sys.executable, script, *sys.argv[1:]]
    command += ["--child", str(Path(folder, f"{backend}.json"))]
    return subprocess.Popen(command, env=environment)


@contextlib.contextmanager
def turn():
    """Context in which no process of another backend is in one."""
    with contextlib.ExitStack() as stack:
        if path := os.environ.get(_TURN):
            file = stack.enter_context(open(path, "w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    # Who waits comes first.
    time.sleep(0.1)


def about_this_run(device):
    """Returns the facts that make a row's numbers comparable with others."""
    import keras

    backend = keras.backend.backend()
    return {
        "backend": backend,
        "version": version(backend),
        "keras": keras.version(),
        "device": _device_name(device),
    }


def _device_name(device):
    if device == "cpu":
        return f"{os.cpu_count()} CPU cores ({platform.machine()})"
    found = subprocess.run(
        ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip().splitlines()[0] if found.stdout.strip() else "GPU"


def median_milliseconds(cases, repeats, calls=None):
    """Times cases turn by turn, so that a slow moment of the machine hits all.

    Each turn has an order of its own: what a case follows decides how warm a GPU is.

    Args:
        cases: Dict of functions without arguments, each of which waits for its
            result.
        repeats: Timings per case, after one that is not counted.
        calls: How many calls of a function of `timed` one timing takes before it
            waits; None for one call. A device that works while the host goes on is
            then busy, as within a model.

    Returns:
        Dict of medians, milliseconds of a call.
    """
    times = {name: [] for name in cases}
    more = () if calls is None else (calls,)
    for function in cases.values():
        function(*more)
    for turn in range(repeats):
        for name in random.Random(turn).sample(list(cases), len(cases)):
            start = time.perf_counter()
            cases[name](*more)
            taken = time.perf_counter() - start
            times[name].append(1e3 * taken / (calls or 1))
    return {name: statistics.median(found) for name, found in times.items()}


def print_table(rows, columns):
    """Prints rows as an aligned table; nothing where there are none.

    Args:
        rows: List of dicts.
        columns: Dict of column name to format, for instance "{:.2f}".
    """
    if not rows:
        return
    cells = [list(columns)]
    for row in rows:
        cells.append(
            [
                "-" if row.get(name) is None else form.format(row[name])
                for name, form in columns.items()
            ]
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print(
            "  ".join(
                cell.rjust(width) for cell, width in zip(line, widths, strict=True)
            )
        )


def progress(text):
    """Prints a line of progress at once."""
    seconds = time.monotonic() - _STARTED
    print(f"[{seconds:5.1f} s] {text}", file=sys.stderr, flush=True)


def pyplot():
    """Returns matplotlib's pyplot, drawing to files only."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save_picture(figure, path, text):
    """Writes a matplotlib figure, which knows of what rows it was made.

    Args:
        figure: The figure.
        path: PNG to write.
        text: Content of the file of these rows; its SHA-256 stands in the picture.
    """
    source = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    figure.savefig(path, dpi=150, bbox_inches="tight", metadata={"Source": source})
    print(f"\nThe picture is in {path}")
