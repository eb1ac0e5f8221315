"""Images that cannot be read: stopping with their name, or leaving them out."""

import re

from widenet_keras.utils.checks import check_choice
from widenet_keras.utils.printable import printable
from widenet_keras.utils.quiet import tell

ON_ERROR = ("raise", "skip")
_LINE = re.compile(r"The image .* cannot be read .*on_error='skip' leaves it out\.")
_ALL = re.compile(r"None of the images of a batch can be read; .*\.")
_SHARD = re.compile(r"(corrupted|truncated) record at \d+")
# What TensorFlow puts before the message of an error of Python.
_RAISED = re.compile(r"^\w*Error: ")
_COUNT = re.compile(r"expected to contain -?\d+ elements? but contained")


class BrokenImages:
    """What a stream does about broken images, and which it met.

    Args:
        on_error: "raise" stops at the first one; "skip" leaves them out and says so
            on stderr, once per image.

    Attributes:
        found: Dict of names to reasons, in the order they were met.
    """

    def __init__(self, on_error):
        check_choice("on_error", "on_error", on_error, ON_ERROR)
        self.on_error = on_error
        self.found = {}

    def add(self, name, reason):
        """Counts an image that cannot be read.

        Raises:
            ValueError: If broken images are to stop the run.
        """
        name, reason = printable(name), " ".join(reason.split())
        if self.on_error == "raise":
            raise ValueError(
                f"The image {name} cannot be read ({reason}); replace it, or "
                "on_error='skip' leaves it out."
            )
        if name not in self.found:
            self.found[name] = reason
            line = f"skipped {name}: {reason} ({len(self.found)} so far)"
            tell(printable(line))


def broken_image_message(error: Exception) -> str | None:
    """Returns the line about broken data inside a longer error, or None.

    Errors of `tf.data` reach the caller of `model.fit` wrapped in the texts of
    TensorFlow and of Keras.

    Args:
        error: What was raised.
    """
    text = str(error)
    for pattern in (_LINE, _ALL):
        found = pattern.search(text)
        if found:
            return found.group(0)
    if _COUNT.search(text):
        return (
            "TFRecord shards do not hold as many records as they were said to; delete "
            "dataset.json beside them, and they are counted, or prepare them anew."
        )
    found = _SHARD.search(text)
    if found:
        return (
            f"A TFRecord shard is damaged ({found.group(0)} bytes); copy the shards "
            "again."
        )
    return None


def no_image_message(description: str) -> str:
    """Returns the line about data of which broken images left nothing.

    Args:
        description: What the images are, one line.
    """
    return f"Of {description} no image can be read; give other images, or repair these."


def reason_of(error: Exception) -> str:
    """Returns the sentence in an error of a decoder that says what is wrong.

    Args:
        error: What was raised, by TensorFlow, Pillow, or this package inside a graph.
    """
    text = getattr(error, "message", None) or str(error)
    text = next(iter(text.strip().splitlines()), "").removeprefix("{{").strip()
    text = text.split("} }", 1)[-1].split("}}", 1)[-1].split(" [Op:", 1)[0]
    text = _RAISED.sub("", text.strip()).rstrip(".")
    return text or type(error).__name__
