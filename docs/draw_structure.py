"""Draws the folders of the package and who imports whom, from the imports themselves.

    python docs/draw_structure.py

writes docs/pictures/structure.svg; `tests/test_structure.py` holds it to the code.
"""

import ast
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "widenet_keras"
PICTURE = Path(__file__).parent / "pictures" / "structure.svg"
# What stands beside the folders is imported by the package itself.
_BESIDE = {"version", "moved"}
_ROW, _TOP, _LEFT, _DOTS = 27, 118, 16, 660
_FONT = "font-family='sans-serif'"
_HEAD = (
    "A row imports the columns that have a dot.",
    "Imports point down, so dots are right of the squares. Hollow: methods of the",
    "network that hand on to a verb, such as model.adapted.",
)


def order():
    """Returns the folders in the order that the test of the structure holds."""
    nodes = ast.parse((ROOT / "tests" / "test_structure.py").read_text()).body
    [value] = [
        node.value
        for node in nodes
        if isinstance(node, ast.Assign) and node.targets[0].id == "ORDER"
    ]
    return ast.literal_eval(value)


def purpose(folder):
    """Returns the first line of the docstring of a folder's `__init__.py`."""
    text = (PACKAGE / folder / "__init__.py").read_text()
    line = ast.get_docstring(ast.parse(text)).splitlines()[0]
    return line.rstrip(".").replace("`", "")


def imported_by(folder):
    """Returns the other folders that files of a folder import."""
    found = set()
    for path in (PACKAGE / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            parts = [name.split(".") for name in names]
            found |= {p[1] for p in parts if p[0] == "widenet_keras" and p[1:]}
    return found - {folder} - _BESIDE


def picture():
    """Returns the drawing, SVG text."""
    folders = [name for name in reversed(order()) if name not in _BESIDE]
    width = _DOTS + _ROW * len(folders) + 12
    height = _TOP + _ROW * len(folders) + 12
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' "
        f"width='{width}' height='{height}'>",
        "<title>The folders of widenet_keras and what each of them imports</title>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
        *(
            _text(_LEFT, 26 + 20 * i, line, 13, "normal" if i else "bold")
            for i, line in enumerate(_HEAD)
        ),
    ]
    for place, name in enumerate(folders):
        x, y = _DOTS + _ROW * place + _ROW // 2, _TOP + _ROW * place
        if place % 2 == 0:
            lines.append(
                f"<rect x='0' y='{y}' width='{width}' height='{_ROW}' fill='#f2f4f7'/>"
            )
        lines += [
            f"<g transform='rotate(-60 {x + 4} {_TOP - 8})'>"
            f"{_text(x + 4, _TOP - 8, name, 12)}</g>",
            _text(_LEFT, y + 18, f"{name}/", 13, "bold"),
            _text(_LEFT + 104, y + 18, purpose(name), 12),
            f"<rect x='{x - 5}' y='{y + 8}' width='10' height='10' fill='#c5ccd6'/>",
        ]
    for row, name in enumerate(folders):
        y = _TOP + _ROW * row + _ROW // 2
        for other in sorted(imported_by(name)):
            column = folders.index(other)
            x = _DOTS + _ROW * column + _ROW // 2
            fill = "#2f5d9b" if column > row else "#ffffff"
            lines.append(
                f"<circle cx='{x}' cy='{y}' r='5.5' fill='{fill}' stroke='#2f5d9b' "
                f"stroke-width='1.5'><title>{name} imports {other}</title></circle>"
            )
    return "\n".join([*lines, "</svg>", ""])


def _text(x, y, text, size, weight="normal"):
    return (
        f"<text x='{x}' y='{y}' {_FONT} font-size='{size}' font-weight='{weight}'>"
        f"{escape(text)}</text>"
    )


if __name__ == "__main__":
    PICTURE.write_text(picture())
