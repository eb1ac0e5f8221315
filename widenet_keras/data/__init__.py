"""Data: pixels, sources of labelled images, augmentation and batches."""

from widenet_keras.data.augmentation import Augmentation
from widenet_keras.data.batches import (
    TrainingBatches,
    evaluation_batches,
    training_batches,
)
from widenet_keras.data.broken_images import (
    broken_image_message,
)
from widenet_keras.data.classes import facts_of, in_classes_of, trained_for
from widenet_keras.data.pixels import scale_pixels
from widenet_keras.data.samples import labelled_samples, sample_images
from widenet_keras.data.source import Source, evenly_spaced
from widenet_keras.data.sources import SOURCES, open_source
from widenet_keras.data.sources.digits import load_digits
from widenet_keras.data.sources.records import RecordSource
from widenet_keras.data.write_tfrecords import write_tfrecords

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
    "labelled_samples",
    "load_digits",
    "open_source",
    "sample_images",
    "scale_pixels",
    "trained_for",
    "training_batches",
    "write_tfrecords",
]
