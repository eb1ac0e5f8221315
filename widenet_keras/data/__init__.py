"""Data: pixels, sources of labelled images, augmentation and batches."""

from widenet_keras.data.augmentation import Augmentation as Augmentation
from widenet_keras.data.batches import TrainingBatches as TrainingBatches
from widenet_keras.data.batches import evaluation_batches as evaluation_batches
from widenet_keras.data.batches import sample_images as sample_images
from widenet_keras.data.batches import training_batches as training_batches
from widenet_keras.data.broken_images import (
    broken_image_message as broken_image_message,
)
from widenet_keras.data.classes import facts_of as facts_of
from widenet_keras.data.classes import in_classes_of as in_classes_of
from widenet_keras.data.classes import trained_for as trained_for
from widenet_keras.data.pixels import scale_pixels as scale_pixels
from widenet_keras.data.source import Source as Source
from widenet_keras.data.source import evenly_spaced as evenly_spaced
from widenet_keras.data.sources import SOURCES as SOURCES
from widenet_keras.data.sources import open_source as open_source
from widenet_keras.data.sources.digits import load_digits as load_digits
from widenet_keras.data.sources.records import RecordSource as RecordSource
from widenet_keras.data.write_tfrecords import write_tfrecords as write_tfrecords

__all__ = [
    "SOURCES",
    "Augmentation",
    "RecordSource",
    "Source",
    "TrainingBatches",
    "broken_image_message",
    "evaluation_batches",
    "evenly_spaced",
    "facts_of",
    "in_classes_of",
    "load_digits",
    "open_source",
    "sample_images",
    "scale_pixels",
    "trained_for",
    "training_batches",
    "write_tfrecords",
]
