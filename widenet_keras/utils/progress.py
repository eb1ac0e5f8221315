"""Progress of long work on files, on stderr, a line every few seconds."""

import time

from widenet_keras.utils.quiet import tell

_SECONDS = 3.0


class Progress:
    """Says how far a count has come, unless it is quick.

    Args:
        doing: What is done, for instance "counting records".
        total: How many there are.
    """

    def __init__(self, doing, total):
        self.doing = doing
        self.total = total
        self.done = 0
        self.said = time.monotonic()

    def add(self, count=1):
        """Counts, and says so every few seconds."""
        self.done += count
        if time.monotonic() - self.said >= _SECONDS:
            self.said = time.monotonic()
            tell(f"{self.doing}: {self.done} of {self.total}")
