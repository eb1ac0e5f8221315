"""A model and its run as one page to look at, and as a card to read."""

from widenet_keras.reports.card import write_model_card
from widenet_keras.reports.write import write_report

__all__ = [
    "write_model_card",
    "write_report",
]
