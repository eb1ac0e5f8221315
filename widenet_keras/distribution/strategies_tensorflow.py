"""TensorFlow: its distribution strategies."""

import json
import os

import tensorflow as tf

from widenet_keras.data.process_rows import Part
from widenet_keras.distribution.single import Distribution, Replicated
from widenet_keras.utils.plain_errors import first_line

_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2000", "host2:2000"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


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

    @property
    def saves(self):
        """Whether this process saves: workers read some variables together."""
        return True

    def everywhere(self, numbers):
        """Returns the numbers of every process, (processes, n)."""

        @tf.function
        def gather():
            context = tf.distribute.get_replica_context()
            return context.all_gather(tf.constant([numbers], tf.int64), axis=0)

        rows = self.strategy.experimental_local_results(self.strategy.run(gather))[0]
        return rows.numpy()

    def training(self, batches, first=0):
        """Returns what `fit` takes: this worker's rows of every batch."""
        if self.processes == 1:
            return super().training(batches, first)
        self.check_batch_size(batches.layout.batch_size)
        size = batches.layout.batch_size // self.replicas

        def own(_):
            rows = batches.from_batch(first, self.part)
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
                f"such as {_EXAMPLE}; set it, or use another mode."
            )
        rank = _rank()
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
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
    cluster = _told().get("cluster", {})
    return [*cluster.get("chief", []), *cluster.get("worker", [])]


def _rank():
    """Returns which of the workers this is: a chief, if there is one, comes first."""
    cluster, task = _told()["cluster"], _told().get("task", {})
    first = 0
    for kind in ("chief", "worker"):
        count = len(cluster.get(kind, []))
        # TensorFlow takes "0" for 0.
        if task.get("type") == kind and str(task.get("index")) in map(
            str, range(count)
        ):
            return first + int(task["index"])
        first += count
    raise ValueError(
        f"distribute: TF_CONFIG has task={json.dumps(task)}; use type 'chief' or "
        "'worker' and the index of one of those in cluster."
    )


def _told():
    """Returns what TF_CONFIG says, a dict."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        told = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise ValueError(
            f"distribute: TF_CONFIG is no JSON ({error}); mend it, or unset it."
        ) from None
    if not _is_of_a_cluster(told):
        raise ValueError(
            f"distribute: TF_CONFIG={text} names no cluster; give one such as "
            f"{_EXAMPLE}, or unset it."
        )
    return told


def _is_of_a_cluster(told):
    """Whether JSON has the form of TF_CONFIG, all parts of which may be missing."""
    if not isinstance(told, dict):
        return False
    cluster, task = (told.get(name, {}) for name in ("cluster", "task"))
    if not (isinstance(cluster, dict) and isinstance(task, dict)):
        return False
    return all(isinstance(addresses, list | dict) for addresses in cluster.values())


def _tpu_strategy():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, tf.errors.OpError) as error:
        line = first_line(error)
        raise ValueError(
            f"distribute: there is no TPU for mode='tpu' ({line}); use another mode."
        ) from None
    return tf.distribute.TPUStrategy(resolver)
