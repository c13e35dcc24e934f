"""The machine at hand: what its device has, and what a process takes before it trains anything."""

from __future__ import annotations

import os

import torch
from torch import nn

from m2m.training.watching import GB, memory_gb

# A CUDA context with the kernels of torch, cuBLAS and cuDNN, and their workspaces. From experience, not measured here.
GPU_RUNTIME = 10**9


def planned_device(device: str, elsewhere: bool) -> str:
    """The device that a run would be on. elsewhere: on another machine, where `auto` finds a GPU."""
    if device != "auto":
        return device
    return "cuda" if elsewhere or torch.cuda.is_available() else "cpu"


def device_bytes(device: str, processes: int) -> int:
    """Memory of `device`: its own, where it is a GPU of this machine; else main memory, which all processes share."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // processes


def runtime_bytes(device: str, precision: str) -> int:
    """What Python, torch and the libraries take. On a CPU: this very process, so call it before it does anything else,
    but with everything imported that a run imports."""
    if not device.startswith("cpu"):
        return GPU_RUNTIME
    _use_kernels(getattr(torch, precision))
    return int(memory_gb(torch.device("cpu")) * GB)


def _use_kernels(dtype: torch.dtype) -> None:
    """One small step of the layers of a U-Net: the first use of a library loads it."""
    layers = nn.Sequential(nn.Conv2d(4, 32, 3), nn.GroupNorm(4, 32), nn.SiLU(), nn.Flatten(), nn.Linear(32 * 36, 8))
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = layers(torch.randn(2, 4, 8, 8)).float().square().mean()
    loss.backward()
