"""What became of each image: rank of the true class, loss, confidence."""

from typing import NamedTuple

import numpy as np


class Outcomes(NamedTuple):
    """One entry per image; some bytes each, so those of all images fit in memory.

    Attributes:
        labels: (B,) int, true class.
        predicted: (B,) int, class of the largest logit.
        rank: (B,) int, number of classes before the true one: 0 is right.
        loss: (B,) float64, -log of the true class's probability, nats.
        confidence: (B,) float64, probability of the predicted class.
    """

    labels: np.ndarray
    predicted: np.ndarray
    rank: np.ndarray
    loss: np.ndarray
    confidence: np.ndarray

    @classmethod
    def of_batch(cls, logits, labels):
        """Returns the outcomes of one batch.

        Equal logits rank by class index, so that rank 0 is what `argmax` says.

        Args:
            logits: (B, classes) float.
            labels: (B,) int.

        Raises:
            ValueError: If a logit is NaN or infinite.
        """
        if not np.isfinite(logits).all():
            bad = int((~np.isfinite(logits)).any(axis=1).sum())
            raise ValueError(
                f"The model's logits are NaN or infinite for {bad} of {len(logits)} "
                "images of a batch; look at its weights and at the images."
            )
        logits = logits.astype("float64")
        logits -= logits.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(logits).sum(axis=1))
        true = logits[np.arange(len(labels)), labels]
        index = np.arange(logits.shape[1])
        equal = logits == true[:, None]
        before = (logits > true[:, None]) | (equal & (index < labels[:, None]))
        return cls(
            labels=labels,
            predicted=logits.argmax(axis=1),
            rank=before.sum(axis=1),
            loss=log_sum - true,
            # The largest logit is 0 by now.
            confidence=np.exp(-log_sum),
        )

    @classmethod
    def joined(cls, batches):
        """Returns the outcomes of a list of batches as one."""
        return cls(*(np.concatenate(field) for field in zip(*batches, strict=True)))

    def top(self, k):
        """Returns the fraction of images whose true class is among the first k."""
        return float((self.rank < k).mean())
