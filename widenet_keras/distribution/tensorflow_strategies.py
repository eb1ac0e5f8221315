"""TensorFlow: its distribution strategies."""

import json
import os

import tensorflow as tf

from widenet_keras.data.process_rows import Part
from widenet_keras.distribution.single import Distribution, Replicated


class StrategyDistribution(Replicated):
    """A model under a `tf.distribute` strategy.

    Args:
        name: What the strategy is called, for people.
        strategy: The strategy.
        rank: Which worker this is.
        processes: Number of workers.
    """

    def __init__(self, name, strategy, rank=0, processes=1):
        replicas = strategy.num_replicas_in_sync
        what = f"{name} of {replicas} devices"
        if processes > 1:
            what += f" in {processes} workers, this is worker {rank}"
        super().__init__(what, replicas, rank, processes)
        self.strategy = strategy
        self.part = Part(rank, processes)

    def _scope(self):
        return self.strategy.scope()

    def training(self, batches, step=0):
        """Returns what `fit` takes: this worker's rows of every batch."""
        if self.processes == 1:
            return super().training(batches, step)
        self.check_batch_size(batches.layout.batch_size)
        size = batches.layout.batch_size // self.replicas

        def own(_):
            rows = batches.from_step(step, self.part)
            # Batches of a replica: those of one worker's replicas come in turn.
            return rows.rebatch(size, drop_remainder=True)

        return self.strategy.distribute_datasets_from_function(own)


def strategy_of(mode):
    """Returns the distribution for a mode of `distribute`."""
    workers = _workers()
    if mode == "multi_worker" or (mode == "auto" and len(workers) > 1):
        if not workers:
            raise ValueError(
                "distribute: mode='multi_worker' needs TF_CONFIG in the environment, "
                'such as {"cluster": {"worker": ["host1:2000", "host2:2000"]}, '
                '"task": {"type": "worker", "index": 0}}; set it, or use another mode.'
            )
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        rank = strategy.cluster_resolver.task_id
        return StrategyDistribution("strategy", strategy, rank, len(workers))
    if mode == "tpu" or (mode == "auto" and os.environ.get("TPU_NAME")):
        return StrategyDistribution("TPU strategy", _tpu_strategy())
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    devices = tf.config.list_logical_devices(kind)
    if mode == "auto" and len(devices) == 1:
        return Distribution()
    names = [device.name for device in devices]
    strategy = tf.distribute.MirroredStrategy(names)
    return StrategyDistribution("mirrored strategy", strategy)


def _workers():
    """Returns the addresses of the workers that TF_CONFIG names."""
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return []
    try:
        cluster = json.loads(text).get("cluster", {})
    except json.JSONDecodeError as error:
        raise ValueError(
            f"distribute: TF_CONFIG is no JSON ({error}); mend it, or unset it."
        ) from None
    return [*cluster.get("chief", []), *cluster.get("worker", [])]


def _tpu_strategy():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, tf.errors.OpError) as error:
        line = str(error).splitlines()[0]
        raise ValueError(
            f"distribute: there is no TPU for mode='tpu' ({line}); use another mode."
        ) from None
    return tf.distribute.TPUStrategy(resolver)
