"""The tables of the README, for tests that hold them to the files of the runs."""

from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
LINES = README.read_text().splitlines()


def table(header, lines=LINES):
    """Returns the cells of the table whose header starts with a text."""
    [first] = [place for place, line in enumerate(lines) if line.startswith(header)]
    cells = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.strip("|").split("|")])
    return cells
