"""What the machine has."""

from __future__ import annotations

import torch

from m2m.training.plan.machine import GPU_RUNTIME, device_bytes, planned_device, runtime_bytes


def test_a_machine_says_what_it_has() -> None:
    """Guards against limits in another unit, and against processes that each take all of main memory."""
    alone = device_bytes("cpu", 1)
    assert 1e9 < alone < 1e14 and device_bytes("cpu", 2) == alone // 2
    assert 1e8 < runtime_bytes("cpu", "bfloat16") < alone
    assert runtime_bytes("cuda", "bfloat16") == GPU_RUNTIME


def test_auto_is_a_gpu_where_there_is_one() -> None:
    """Guards against a plan for another machine's GPUs with the activations of this one's CPU."""
    assert planned_device("auto", elsewhere=True) == "cuda" and planned_device("cpu", elsewhere=True) == "cpu"
    assert planned_device("auto", elsewhere=False) == ("cuda" if torch.cuda.is_available() else "cpu")
