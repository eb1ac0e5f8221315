"""Images that are read one after the other, as records; `tf.data` does it."""

import dataclasses

from widenet_keras.data.requirements import require_tensorflow
from widenet_keras.data.source import Source


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class RecordSource(Source):
    """Images that only a record says the class of, and no record can be picked.

    A kind of them has a method `tensorflow_reader` that returns a `RecordReader`.

    Attributes:
        name: As of `Source`, like all others.
        count: Number of images.
        class_names: A name for every class.
        description: One line: what was found where.
        named: Whether the classes have names.
        labels: None, since only the records say it.
        places: Where each class of the records stands in `class_names`, or None.
    """

    def require(self) -> None:
        """Raises `ImportError` if TensorFlow is not installed."""
        require_tensorflow("TFRecord shards and TFDS data sets are")
