"""The devices of torch."""

import torch


def devices() -> list[str]:
    """Returns their names as Keras says them: GPUs of CUDA are "gpu:0" and so on."""
    # Keras makes no parameters on "cpu:0".
    if not torch.accelerator.is_available():
        return ["cpu"]
    kind = torch.accelerator.current_accelerator().type.replace("cuda", "gpu")
    count = torch.accelerator.device_count()
    return ["cpu", *(f"{kind}:{index}" for index in range(count))]
