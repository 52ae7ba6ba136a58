"""The GPU holds one model at a time, so that a card need be no larger than the largest: the others wait on the host.

On a CPU nothing moves and nothing is computed twice; there, memory that is free goes back to the system.
"""

import ctypes
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

_there: list[nn.Module] = []  # what is on the GPU


def best_device() -> torch.device:
    """A GPU where torch can use one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_device(name: str) -> torch.device:
    """`best_device` for "auto", else the device of that name."""
    return best_device() if name == "auto" else torch.device(name)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32: on GPUs and on CPUs with instructions for it; elsewhere it is ten times
    slower."""
    return device.type != "cpu" or any(on for name, on in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


def mixed_precision(device: torch.device) -> torch.autocast:
    """What training computes in: large layers in bfloat16 where that is faster, and all in float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device))


def one_thread():
    """For worker processes, which on a CPU are as many as its cores: torch gets one thread in this process."""
    if best_device().type == "cpu":
        torch.set_num_threads(1)


def release_memory():
    """Gives free memory back: where the sizes of tensors vary, glibc keeps pieces, and a training grows by half."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc has it
        trim(0)


def resident(device: torch.device, *modules: nn.Module):
    """Moves modules to a GPU, and what was there before to the host; without modules nothing is left there."""
    if device.type == "cpu":
        return
    leaving = [module for module in _there if module not in modules]
    _there[:] = modules
    for module in leaving:
        module.to("cpu")
    torch.cuda.empty_cache()
    for module in modules:
        module.to(device)


@contextmanager
def recomputed(blocks: Iterable[nn.Module], device: torch.device) -> Iterator[None]:
    """Training in little memory: on a GPU, what blocks compute is computed again for the gradient instead of kept."""
    changed = [] if device.type == "cpu" else list(blocks)
    for block in changed:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in changed:
            del block.forward
