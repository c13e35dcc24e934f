"""What a figure was measured with: the program, its libraries, the processor and the device."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import m2m
from m2m.devices import checked_device

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "torchmetrics", "pillow", "numpy")
PROCESSOR = Path("/proc/cpuinfo")  # Linux; platform.processor() gives just "x86_64" or nothing there


def versions(device: str = "auto") -> dict[str, str]:
    """Versions by name, of the libraries that are installed, and of what they run on. device: as `checked_device`."""
    found = {"m2m": m2m.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"platform": platform.platform(), "processor": _processor(), "device": _device(device)}


def _processor() -> str:
    lines = PROCESSOR.read_text().splitlines() if PROCESSOR.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _device(name: str) -> str:
    """The device, and for a GPU which one."""
    import torch

    device = checked_device(name)
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device
