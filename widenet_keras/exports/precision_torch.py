"""Products in full float32 on torch."""

import contextlib

import torch


@contextlib.contextmanager
def exact_products():
    """Context in which devices multiply float32 as float32."""
    # Not `allow_tf32`, which fails where a user has set these.
    owners = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [owner.fp32_precision for owner in owners]
    for owner in owners:
        owner.fp32_precision = "ieee"
    try:
        yield
    finally:
        for owner, value in zip(owners, before, strict=True):
            owner.fp32_precision = value
