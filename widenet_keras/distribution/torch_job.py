"""torch: the processes of a `torchrun` job."""

import datetime
import os

import keras
import torch
import torch.distributed

from widenet_keras.data.process_rows import Part
from widenet_keras.distribution.single import Distribution, Replicated

# After so long without an answer another worker counts as lost.
PATIENCE = datetime.timedelta(minutes=2)


class JobDistribution(Replicated):
    """A model in every process of a `torchrun` job, with gradients summed up."""

    def __init__(self):
        rank = torch.distributed.get_rank()
        size = torch.distributed.get_world_size()
        super().__init__(f"{size} processes, this is process {rank}", size, rank, size)
        self.part = Part(rank, size)


def job_of(mode):
    """Returns the distribution for a mode of `distribute`."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if mode == "auto" and size == 1:
        return Distribution()
    if "WORLD_SIZE" not in os.environ:
        raise ValueError(
            "distribute: mode='processes' needs a job that torchrun started; use "
            "torchrun --nproc-per-node=8 SCRIPT, or another mode."
        )
    if not torch.distributed.is_initialized():
        with_gpus = torch.cuda.is_available()
        if with_gpus:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group(
            "nccl" if with_gpus else "gloo", timeout=PATIENCE
        )
        # All start with the weights and the order of the first, unless one sets a
        # seed after this.
        seed = torch.randint(2**31, (1,), device="cuda" if with_gpus else "cpu")
        torch.distributed.broadcast(seed, 0)
        keras.utils.set_random_seed(int(seed))
    return JobDistribution()
