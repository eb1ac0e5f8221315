"""torch: the processes of a `torchrun` job."""

import datetime
import os

import keras
import torch
import torch.distributed

from widenet_keras.data.process_rows import Part
from widenet_keras.distribution.lost_worker import tell_why_stopped
from widenet_keras.distribution.single import Distribution, Replicated, processes_told

# After so long without an answer another worker counts as lost. One that ends is
# noticed at once, by its closed connections; this is for hosts that fall silent, and
# longer than reading data or writing a checkpoint may take the others.
PATIENCE = datetime.timedelta(minutes=30)


class JobDistribution(Replicated):
    """A model in every process of a `torchrun` job, with gradients summed up."""

    def __init__(self):
        rank = torch.distributed.get_rank()
        size = torch.distributed.get_world_size()
        super().__init__(f"{size} processes, this is process {rank}", size, rank, size)
        self.part = Part(rank, size)

    def everywhere(self, numbers):
        """Returns the numbers of every process, (processes, n)."""
        mine = torch.tensor(numbers, device=_device())
        found = [torch.empty_like(mine) for _ in range(self.processes)]
        torch.distributed.all_gather(found, mine)
        return torch.stack(found).cpu().numpy()


def job_of(mode):
    """Returns the distribution for a mode of `distribute`."""
    size = processes_told("WORLD_SIZE")
    if mode == "auto" and size == 1:
        return Distribution()
    if "WORLD_SIZE" not in os.environ:
        raise ValueError(
            "distribute: mode='processes' needs a job that torchrun started; use "
            "torchrun --nproc-per-node=8 SCRIPT, or another mode."
        )
    if keras.src.backend.distribution_lib is not None:
        raise ValueError(
            f"distribute: Keras {keras.version()} shares batches of torch processes "
            "itself, which would share them twice; use keras.distribution, with "
            "mode='none' here, or Keras 3.15."
        )
    if not torch.distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE
        )
        tell_why_stopped(size)
        # All start with the weights and the order of the first, unless one sets a
        # seed after this.
        seed = torch.randint(2**31, (1,), device=_device())
        torch.distributed.broadcast(seed, 0)
        keras.utils.set_random_seed(int(seed))
    return JobDistribution()


def _device():
    """Returns the kind of device that messages between processes are on."""
    return "cuda" if torch.cuda.is_available() else "cpu"
