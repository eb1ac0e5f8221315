"""The devices of torch."""

import torch


def devices() -> list[str]:
    """Returns their names as Keras says them: GPUs of CUDA are "gpu:0" and so on."""
    if not torch.accelerator.is_available():
        return ["cpu:0"]
    kind = torch.accelerator.current_accelerator().type.replace("cuda", "gpu")
    count = torch.accelerator.device_count()
    return ["cpu:0", *(f"{kind}:{index}" for index in range(count))]
