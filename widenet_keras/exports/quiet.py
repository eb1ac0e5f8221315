"""Keeping what converters tell everybody off the terminal."""

import contextlib
import logging


@contextlib.contextmanager
def quiet():
    """Context in which warnings and hints are not logged; errors are."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
