"""Names of classes: what they must be, and which class of a model each one is."""

import collections
import unicodedata
from collections.abc import Iterable, Sequence

from widenet_keras.utils.checks import suggest

# Names that a message lists.
_SHOWN = 10


def checked_class_names(
    owner: str, names: Iterable[str], num_classes: int
) -> tuple[str, ...]:
    """Returns names of classes as a tuple of text, each a line and none twice.

    Args:
        owner: Who has them, for messages.
        names: A name for each class, in the order of the logits.
        num_classes: Number of classes.

    Raises:
        ValueError: If there are more or fewer names than classes, one is empty, or
            one stands there twice.
    """
    if isinstance(names, str):
        raise ValueError(f"{owner}: class_names={names!r} is one text; give a list.")
    found = tuple(" ".join(str(name).split()) for name in names)
    if len(found) != num_classes:
        raise ValueError(
            f"{owner}: {len(found)} class_names for {num_classes} classes; give one "
            "name per class, in order."
        )
    seen = set()
    for name in found:
        if not name:
            raise ValueError(f"{owner}: a name in class_names is empty; name it.")
        if _key(name) in seen:
            raise ValueError(
                f"{owner}: {name!r} stands in class_names more than once; give every "
                "class a name of its own."
            )
        seen.add(_key(name))
    return found


def distinct_names(names: Iterable[str]) -> tuple[str, ...]:
    """Returns names of classes of which none is empty or stands there twice.

    Those of ImageNet have two cranes and two maillots: what is repeated gets the number
    of its class.

    Args:
        names: A name for each class, in the order of the logits.
    """
    found = [" ".join(str(name).split()) or "class" for name in names]
    counts = collections.Counter(map(_key, found))

    def numbered(repeated):
        return tuple(
            f"{name} ({number})" if repeated(name) else name
            for number, name in enumerate(found)
        )

    unique = numbered(lambda name: counts[_key(name)] > 1 or name == "class")
    if len(set(map(_key, unique))) < len(unique):
        # Some of them are called as what has a number now.
        unique = numbered(lambda name: True)
    return unique


def positions(
    owner: str, names: Sequence[str], known: Sequence[str]
) -> tuple[int, ...]:
    """Returns which of a model's classes each of some names is.

    Args:
        owner: What has the names, for messages.
        names: Names of classes; not all classes of the model need be there.
        known: The model's names, in the order of its logits.

    Raises:
        ValueError: If a name is none of the model's; one line names the nearest.
    """
    places = {_key(name): place for place, name in enumerate(known)}
    unknown = [name for name in names if _key(name) not in places]
    if unknown:
        more = f" and {len(unknown) - 1} more are" if len(unknown) > 1 else " is"
        raise ValueError(
            f"{owner}: {unknown[0]!r}{more} none of the model's {len(known)} classes "
            f"({listed(known)}).{suggest(unknown[0], known)} Name the classes as the "
            "model does, or give the data that it was trained for."
        )
    return tuple(places[_key(name)] for name in names)


def if_named(names: Sequence[str]) -> tuple[str, ...] | None:
    """Returns names of classes, or None where they are just the numbers from 0.

    Files say the numbers where a model has no names.
    """
    return None if list(names) == list(map(str, range(len(names)))) else tuple(names)


def same_classes(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two lists name the same classes, in whatever order."""
    return sorted(map(_key, names)) == sorted(map(_key, others))


def listed(names: Sequence[str]) -> str:
    """Returns the first names as a text."""
    shown = ", ".join(names[:_SHOWN])
    return f"{shown}, ..." if len(names) > _SHOWN else shown


def _key(name):
    # macOS writes an accent as a character of its own.
    return unicodedata.normalize("NFC", " ".join(str(name).split()))
