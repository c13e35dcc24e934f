"""The memory that a call takes beside what was there before it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_THE_PEAK = "5"  # Linux, Documentation/filesystems/proc.rst


def working_bytes(run: Callable[[], object], device: str) -> int | None:
    """Bytes that `run` held at its peak above what the process held before; None where that cannot be known.

    CUDA: of torch's own allocations. Linux: of the process's resident memory, so nothing else may run in it, and what
    libraries keep from their first use counts for the first call. Elsewhere the peak cannot be forgotten: None.
    """
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device != "cpu" or not CLEAR.exists():
        run()
        return None
    _give_back_free_memory()
    CLEAR.write_text(FORGET_THE_PEAK)
    before = _resident("VmRSS")
    run()
    return max(0, _resident("VmHWM") - before)


def _give_back_free_memory() -> None:
    """What the C library keeps for later would be taken for memory that the next call does not need."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


def _resident(field: str) -> int:
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))
