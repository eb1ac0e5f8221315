"""Hook of MkDocs: what pages link to outside of docs/.

On GitHub and in an editor `../results/README.md` is a link like others. The site has
the folder docs/ alone, so pages and pictures outside of it are built too, under
`repository/`, and of all else the path is left.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).parents[1]
SHOWN, BESIDE = (".md", ".png"), "repository/"
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|`[^`]*`)*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"```.*?```", re.DOTALL)


def on_files(files, config):
    """Adds what is shown of the repository to the files of the site."""
    waiting = [
        (posixpath.join("docs", file.src_uri), file.content_string)
        for file in files.documentation_pages()
    ]
    while waiting:
        page, text = waiting.pop()
        for *_, target, _ in _LINK.findall(_CODE.sub("", text)):
            path = _place(page, target)
            name = path and _on_site(path)
            if name is None or files.get_file_from_path(name):
                continue
            file = File.generated(
                config,
                name,
                abs_src_path=str(ROOT / path),
                inclusion=InclusionLevel.NOT_IN_NAV,
            )
            files.append(file)
            if path.endswith(".md"):
                waiting.append((path, file.content_string))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turns links out of docs/ to where the site has what they name."""
    uri = page.file.src_uri
    outside = uri.startswith(BESIDE)
    here = uri.removeprefix(BESIDE) if outside else f"docs/{uri}"

    def linked(match):
        picture, text, target, place = match.groups()
        path = _place(here, target)
        if path is None:
            return match[0]
        if name := _on_site(path):
            there = posixpath.relpath(name, posixpath.dirname(uri) or ".")
            return f"{picture}[{text}]({there}{place or ''})"
        return f"{text} (`{path}`)" if f"`{path}`" != text else text

    # Every second piece is a block of code.
    pieces = re.split(f"({_CODE.pattern})", markdown, flags=re.DOTALL)
    pieces[::2] = [_LINK.sub(linked, piece) for piece in pieces[::2]]
    return "".join(pieces)


def _place(page, target):
    """Returns where a link of a page leads in the repository; None of an address."""
    if re.match(r"\w+:", target):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
    if not (ROOT / path).exists():
        raise FileNotFoundError(f"{page} links to {target}, which is not there.")
    return path


def _on_site(path):
    """Returns where the site has a file of the repository; None where it has not."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return BESIDE + path if path.endswith(SHOWN) else None
