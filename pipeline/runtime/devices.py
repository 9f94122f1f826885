"""Which device computes, and which processes take part."""

import ctypes
import functools
import os
import platform
import time

import torch
from accelerate import PartialState


def default_device() -> torch.device:
    """This process's GPU where there is one, else the CPU."""
    return processes().device


def on_cpu() -> bool:
    """Whether there is no GPU; Accelerate must be told, or it overlooks several processes on CPUs."""
    return not torch.cuda.is_available()


def precision(wanted: str) -> str:
    """`auto` resolved: bf16 on a GPU that has it and on a processor that is faster with it, else fp32."""
    if wanted != "auto":
        return wanted
    if not on_cpu():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities()
    # Some processors have the instructions and take longer with them: only a measurement tells.
    return "bf16" if (able.get("avx512_bf16") or able.get("amx_bf16")) and bfloat16_speedup() > 1.2 else "fp32"


@functools.cache
def bfloat16_speedup() -> float:
    """How many times as fast this processor multiplies matrices in bfloat16 as in float32; a tenth of a second, once.

    The matrices have the shapes of a projection to a vocabulary.
    """
    types = (torch.float32, torch.bfloat16)
    pairs = {dtype: (torch.ones(8192, 256, dtype=dtype), torch.ones(256, 256, dtype=dtype)) for dtype in types}
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in types}
    for _ in range(10):  # in turn, so that a machine that becomes slower does so for both
        for dtype, (left, right) in pairs.items():
            started = time.perf_counter()
            left @ right
            seconds[dtype].append(time.perf_counter() - started)
    # The first two warm up; what else the machine does only adds.
    return min(seconds[torch.float32][2:]) / min(seconds[torch.bfloat16][2:])


def processes() -> PartialState:
    """The processes that were launched together: one, or as many as torchrun or accelerate launch started."""
    return PartialState(cpu=on_cpu())


def keep_freed_memory() -> None:
    """Have the allocator keep what it frees, on a CPU under glibc.

    It returns large blocks to the system otherwise, which clears them page by page when it hands them out
    again: a tenth of a training step. What a process holds at most stays the same.
    """
    if platform.libc_ver()[0] == "glibc" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        trim_threshold, mmap_max = -1, -4
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
