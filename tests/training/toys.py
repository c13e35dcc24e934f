"""A task of two small layers that runs in no time, and how to run it, alone or in two processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from m2m.config import config_dict
from m2m.training.loop import LoopConfig, TrainingResult, train
from m2m.training.parallel import Processes
from m2m.training.seeds import step_generator
from m2m.training.task import Share

ROWS = 12  # samples of a step


@dataclass(frozen=True)
class ToyBatch:
    """Consecutive samples, each of which follows from its number."""

    rows: range
    cursor: dict[str, Any]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"row {row}" for row in self.rows)

    def tensors(self) -> dict[str, Tensor]:
        return {"data": torch.stack([torch.randn(4, generator=step_generator(0, row)) for row in self.rows])}


class ToyTask:
    """Two layers with dropout between, which draws from torch's global generator as a U-Net's would.

    micro: samples that a process runs at once; 0: its whole share. Only the cursor knows which samples come next.
    steps: of the losses that were asked for.
    """

    def __init__(self, micro: int = 0, dropout: float = 0.5, width: int = 4) -> None:
        torch.manual_seed(7)
        layers = nn.Linear(4, width), nn.Dropout(dropout), nn.Linear(width, 4), nn.LayerNorm(4)
        self.module: nn.Module = nn.Sequential(*layers)
        self.module.register_parameter("idle", nn.Parameter(torch.zeros(2, 2)))  # never gets a gradient
        self.steps: list[int] = []
        self._micro = micro

    def accumulation(self, ranks: int) -> int:
        return ROWS // ((self._micro or ROWS // ranks) * ranks)

    def batches(self, step: int, cursor: dict[str, Any], share: Share) -> Iterator[ToyBatch]:
        size = ROWS // (share.ranks * share.accumulation)
        for first in count(cursor.get("row", 0), size * share.ranks):
            own = first + share.rank * size
            yield ToyBatch(range(own, own + size), {"row": first + size * share.ranks})

    def loss(self, module: nn.Module, batch: ToyBatch, step: int) -> tuple[Tensor, dict[str, float]]:
        self.steps.append(step)
        data = batch.tensors()["data"]
        loss = (module(data) - data.flip(1)).square().mean()
        return loss, {"step_seen": float(step)}


def toy_config(out: Path, **changes: Any) -> LoopConfig:
    """Six steps."""
    settings: dict[str, Any] = {"out": str(out), "steps": 6, "log_every": 2, "warmup_steps": 2, "learning_rate": 0.01}
    return LoopConfig(**{**settings, "tracker": "none", **changes})


def run(config: LoopConfig, task: ToyTask | None = None, **arguments: Any) -> TrainingResult:
    """The run of a toy in the processes there are."""
    with Processes(config) as processes:
        return train(task or ToyTask(), config, config_dict(config), processes, **arguments)


def in_processes(ranks: int, worker: Callable[..., None], folder: Path) -> None:
    """Call `worker(rank, folder)` in each of `ranks` processes that can be joined (gloo); errors come out.

    They are forked from one that has imported all this and done nothing else, which takes seconds.
    """
    multiprocessing.set_forkserver_preload([__name__, "tests.tiny"])
    mp.start_processes(_joined, args=(ranks, worker, folder), nprocs=ranks, start_method="forkserver")


def _joined(rank: int, ranks: int, worker: Callable[..., None], folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    worker(rank, folder)
    dist.destroy_process_group()
