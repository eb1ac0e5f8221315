"""The tables of the README, for tests that hold them to the files of the runs."""

from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
LINES = README.read_text().splitlines()


def table(header):
    """Returns the cells of the table whose header starts with a text."""
    [first] = [place for place, line in enumerate(LINES) if line.startswith(header)]
    cells = []
    for line in LINES[first + 2 :]:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.strip("|").split("|")])
    return cells
