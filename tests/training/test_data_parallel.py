"""One step on two processes equals one step on one process with the joint batch (gloo, CPU)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch.nn.parallel import DistributedDataParallel

from tests.tiny import tiny_context, tiny_model


def batch(variant: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "noisy": torch.randn(4, 3, 4, 8, 8, generator=generator),
        "context": tiny_context(tiny_model(variant), 4, 3),
        "timesteps": torch.randint(0, 1000, (4, 3), generator=generator),
        "keep_context": torch.tensor([True, False, False, False]),
    }


def step(model: torch.nn.Module, arguments: dict[str, torch.Tensor]) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-3)
    model(**arguments).square().mean().backward()
    optimiser.step()


def worker(rank: int, variant: str, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    model = tiny_model(variant).train()
    # Rank 1 drops every context: its to_q, to_k, to_v get no gradient there, and must still be averaged with rank 0's.
    parallel = DistributedDataParallel(model, find_unused_parameters=True)
    step(parallel, {name: tensor[rank * 2 : rank * 2 + 2] for name, tensor in batch(variant).items()})
    save_file(dict(model.state_dict()), folder / f"rank{rank}.safetensors")
    dist.destroy_process_group()


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_two_processes_equal_one(variant: str, tmp_path: Path) -> None:
    """Guards against a clean pass outside the wrapped call, whose gradients the processes would not average."""
    mp.spawn(worker, args=(variant, tmp_path), nprocs=2)
    model = tiny_model(variant).train()
    step(model, batch(variant))
    start = tiny_model(variant).state_dict()
    for rank in range(2):
        weights = load_file(tmp_path / f"rank{rank}.safetensors")
        for name, expected in model.state_dict().items():
            assert (weights[name] - expected).abs().max() < 1e-6, name
    assert any((start[name] - expected).abs().max() > 1e-4 for name, expected in model.state_dict().items())
