"""Batches on the devices of a `keras.distribution`, whatever their size."""

import contextlib

import jax
import keras
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from keras.src.backend.jax import trainer


class BatchIterator(trainer.JAXEpochIterator):
    """Lays every batch out by itself, on all devices of all processes.

    Keras 3.15 takes the layout of the first batch for all, which fails for a last
    batch that the devices cannot share evenly. Here every device computes all of
    such a batch, so that its loss and its routing are those of one device.
    """

    # Data of which a process has its own rows of every batch, instead of all of it.
    data_of_own_rows = None

    def __init__(self, x, *args, **kwargs):
        self.own_rows = x is not None and x is self.data_of_own_rows
        super().__init__(x, *args, **kwargs)

    def _get_distributed_iterator(self, distribution):
        mesh = distribution.device_mesh.backend_mesh
        axis = distribution.batch_dim_name

        def placed(rows):
            if rows is None:
                return None
            rows = np.asarray(rows)
            if self.own_rows:
                sharding = NamedSharding(mesh, PartitionSpec(axis))
                return jax.make_array_from_process_local_data(sharding, rows)
            even = len(rows) % mesh.shape[axis] == 0
            sharding = NamedSharding(mesh, PartitionSpec(axis if even else None))
            return jax.make_array_from_callback(
                rows.shape, sharding, lambda index: rows[index]
            )

        for batch in self.data_adapter.get_jax_iterator():
            yield keras.tree.map_structure(placed, batch)


@contextlib.contextmanager
def batches_on_all_devices(data_of_own_rows=None):
    """Context in which Keras lays batches out as `BatchIterator` does.

    Args:
        data_of_own_rows: The data of which a process has its own rows of every batch;
            of others, such as those that `fit` validates on, it has whole batches.
    """
    if keras.distribution.distribution() is None:
        yield
        return
    before = trainer.JAXEpochIterator
    trainer.JAXEpochIterator = type(
        "BatchIterator", (BatchIterator,), {"data_of_own_rows": data_of_own_rows}
    )
    try:
        yield
    finally:
        trainer.JAXEpochIterator = before


def on_every_device(values):
    """Returns traced values so that every process can read all of them."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return values
    sharding = NamedSharding(distribution.device_mesh.backend_mesh, PartitionSpec())
    return jax.lax.with_sharding_constraint(values, sharding)
