"""The program `widenet`, which reads its words before Keras is imported.

Importing `widenet_keras` imports Keras and a backend, which takes seconds, and which
backend that is depends on the words. So the package is put in place here without its
`__init__`, which `widenet_keras.cli` runs when the words have been read.
"""

import importlib.util
import sys

_PACKAGE = "widenet_keras"


def main():
    """Runs `widenet` with the words of the process."""
    if _PACKAGE not in sys.modules:
        spec = importlib.util.find_spec(_PACKAGE)
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    try:
        from widenet_keras.cli.main import main

        main()
    except KeyboardInterrupt:
        # So early that what tells it has not been imported.
        sys.exit(130)


if __name__ == "__main__":
    main()
