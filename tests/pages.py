"""README and the pages of docs/: their tables, blocks and commands, for tests."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
# What a newcomer reads, and the pages of folders beside.
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
OTHERS = [ROOT / "results" / "README.md", ROOT / "saved_models" / "README.md"]
FRONT = "\n".join(page.read_text() for page in PAGES)
LINES = FRONT.splitlines()
PROGRAM = re.compile(r"(?:recipes|benchmarks)/\w+\.py|widenet")


def name_of(page):
    """Returns the path of a page inside the repository."""
    return page.relative_to(ROOT).as_posix()


def table(header, lines=LINES):
    """Returns the cells of the table whose header starts with a text."""
    [first] = [place for place, line in enumerate(lines) if line.startswith(header)]
    cells = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.strip("|").split("|")])
    return cells


def blocks(page, language):
    """Returns the blocks of code of a page in a language."""
    text = page.read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def lines_of_shell(page):
    """Returns the lines of a page's blocks of bash, those that go on joined."""
    text = "".join(blocks(page, "bash")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def commands(page):
    """Returns the words of every command of a page, from its program on."""
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^    (\S.*)$|`([^`\n]+)`", text, re.MULTILINE)
    lines = [part for both in lines for part in both if part]
    found = []
    for line in [*lines, *lines_of_shell(page)]:
        try:
            words = shlex.split(line)
        except ValueError:  # an apostrophe of a sentence
            continue
        if words := _from_program(words):
            found.append(words)
    return found


def _from_program(words):
    """Returns the words from a program on; `[]` where none is called."""
    words = [word for word in words if word != "&&"]
    places = [i for i, word in enumerate(words) if PROGRAM.fullmatch(word)]
    if not places:
        return []
    called = "python" in words[: places[0]]
    words = words[places[0] :]
    # A sentence says `recipes/study.py` or `widenet predict`, without arguments.
    if called or len(words) > (2 if words[0] == "widenet" else 1):
        return words
    return []
