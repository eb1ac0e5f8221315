"""Text from files, as a terminal may be given it."""


def printable(text: object) -> str:
    """Returns a text with everything that is not a visible character escaped.

    Names in a file, and names of files, may hold line breaks, the codes that move a
    cursor, or those that turn the direction of writing: printed raw they can forge
    lines of their own.

    Args:
        text: Anything; its `str` is taken.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def printable_lines(text: object) -> str:
    """Returns a text of several lines with each line `printable`.

    Args:
        text: Lines of our own, whose line breaks are meant.
    """
    return "\n".join(map(printable, str(text).split("\n")))


def _escaped(character):
    return character.encode("unicode_escape").decode("ascii")
