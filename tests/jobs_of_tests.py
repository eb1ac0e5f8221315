"""What processes side by side do in tests; imported by the processes."""

import time

from side_by_side import side_by_side


def meet(mine, other):
    """Makes a file and waits for another one."""
    mine.touch()
    for _ in range(600):
        if other.exists():
            return True
        time.sleep(0.05)
    return False


def tick(path):
    """Writes to a file again and again; fails at once without one, once others run."""
    if path is None:
        time.sleep(1.0)
        raise RuntimeError
    while True:
        path.write_text(str(time.time()))
        time.sleep(0.02)


def ticks(path):
    """Whether somebody still writes to a file."""
    time.sleep(0.5)
    before = path.read_text()
    time.sleep(0.5)
    return path.read_text() != before


def parent(path, log):
    """Runs a call that never ends."""
    list(side_by_side(tick, [(path,)], [log], jobs=1))
