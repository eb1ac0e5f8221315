"""Images that are read one after the other, as records; `tf.data` does it."""

import dataclasses

from widenet_keras.data.requirements import require_tensorflow
from widenet_keras.data.source import Source


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class RecordSource(Source):
    """Images that only a record says the class of, and no record can be picked.

    A kind of them has a method `tensorflow_reader` that returns a `RecordReader`.
    """

    def require(self):
        """Raises `ImportError` if TensorFlow is not installed."""
        require_tensorflow("TFRecord shards and TFDS data sets are")
