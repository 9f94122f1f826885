"""Devices, precision and the state of a distributed run."""

import ctypes
import functools
import os
import platform
import time

import torch
from accelerate import PartialState


def default_device() -> torch.device:
    """Return this process's GPU if it has one, else the CPU."""
    return processes().device or torch.device("cpu")


def on_cpu() -> bool:
    """Return True without a GPU. Accelerate overlooks several processes on CPUs unless it is given this."""
    return not torch.cuda.is_available()


def precision(wanted: str) -> str:
    """Resolve `auto`: bf16 on a GPU that supports it and on a processor that is faster with it, else fp32."""
    if wanted != "auto":
        return wanted
    if not on_cpu():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities()
    # Some processors have the instructions and are slower with them: only a measurement shows it.
    return "bf16" if (able.get("avx512_bf16") or able.get("amx_bf16")) and bfloat16_speedup() > 1.2 else "fp32"


@functools.cache
def bfloat16_speedup() -> float:
    """Measure how many times faster this processor multiplies matrices in bfloat16 than in float32.

    The matrices have the shapes of a projection to a vocabulary. The measurement takes 0.1 s, once a process.
    """
    types = (torch.float32, torch.bfloat16)
    pairs = {dtype: (torch.ones(8192, 256, dtype=dtype), torch.ones(256, 256, dtype=dtype)) for dtype in types}
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in types}
    for _ in range(10):  # alternating, so that a machine that slows down does so for both
        for dtype, (left, right) in pairs.items():
            started = time.perf_counter()
            torch.mm(left, right)
            seconds[dtype].append(time.perf_counter() - started)
    # The first two warm up. Other load only adds time, so the minimum is the measurement.
    return min(seconds[torch.float32][2:]) / min(seconds[torch.bfloat16][2:])


def processes() -> PartialState:
    """Return the state of the processes that torchrun or accelerate launch started, or of this one alone."""
    return PartialState(cpu=on_cpu())


def keep_freed_memory() -> None:
    """Make glibc's allocator keep the memory that it frees, on a CPU.

    Otherwise it returns large blocks to the system, which clears them page by page when it hands them out again: a
    tenth of a training step. The peak memory of the process stays the same.
    """
    if platform.libc_ver()[0] == "glibc" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        trim_threshold, mmap_max = -1, -4
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
