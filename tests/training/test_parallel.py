"""Processes: what they agree on, alone and as three (gloo, CPU), and what a launch can get wrong."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn

from m2m.checkpoint import read_json, write_json
from m2m.training.loop import LoopConfig, TrainingResult
from m2m.training.parallel import Processes, gathered, local_part, mean_by_name, placed
from m2m.types import UserError
from tests.training.toys import ToyBatch, ToyTask, in_processes, run, toy_config


class Uneven(ToyTask):
    """In one of the processes some losses are no number, or a signal comes."""

    def __init__(self, rank: int, spoiled: int = -1, signalled: int = -1, micro: int = 0) -> None:
        super().__init__(micro)
        self._spoiled = spoiled if rank == 1 else -1
        self._signalled = signalled if rank == 1 else -1

    def loss(self, module: nn.Module, batch: ToyBatch, step: int) -> Any:
        if len(self.steps) == self._signalled:
            os.kill(os.getpid(), signal.SIGTERM)
        loss, logs = super().loss(module, batch, step)
        return loss * (float("nan") if step == self._spoiled else 1), logs


def three(rank: int, folder: Path) -> None:
    """What each of three processes sees and does, as one JSON file each."""
    seen: dict[str, Any] = {}
    with Processes(LoopConfig()) as processes:
        seen["place"] = [processes.rank, processes.ranks, processes.is_main, str(processes.device)]
        seen["any"] = [processes.any(flag) for flag in (False, rank == 1, True)]
        seen["mean"] = processes.mean({"all": float(rank), **({"two": 4.0 + rank} if rank else {})})
        seen["objects"] = processes.gather_objects(["rank", rank])
        processes.barrier()
    for parallel in ("ddp", "fsdp"):
        seen[parallel] = runs(rank, folder / parallel, parallel)
    assert dist.is_initialized(), "a group that was joined before is not the run's to leave"
    write_json(folder / f"rank-{rank}.json", seen)


def runs(rank: int, out: Path, parallel: str) -> dict[str, Any]:
    """A run with a spoiled step; one that a signal stops behind a step, one between two micro-batches; one resumed."""
    spoiled = run(toy_config(out / "spoiled", parallel=parallel), Uneven(rank, spoiled=2))
    whole = {name: gathered(tensor) for name, tensor in spoiled.optimisation.trained.items()}
    for name, tensor in spoiled.optimisation.trained.items():
        assert torch.equal(local_part(placed(whole[name], tensor)), local_part(tensor)), name
    behind = run(toy_config(out / "behind", parallel=parallel), Uneven(rank, signalled=3))
    between = run(toy_config(out / "between", parallel=parallel), Uneven(rank, signalled=6, micro=2))
    before = run(toy_config(out / "before", parallel=parallel, steps=3), Uneven(rank, micro=2))
    straight = run(toy_config(out / "straight", parallel=parallel), ToyTask(width=999))
    run(toy_config(out / "resumed", parallel=parallel, steps=3), ToyTask(width=999))
    resumed = run(toy_config(out / "resumed", parallel=parallel), ToyTask(width=999))
    return {
        "weights": float(sum(tensor.double().sum() for tensor in whole.values())),
        "finite": all(bool(tensor.isfinite().all()) for tensor in whole.values()),
        "behind": [behind.step, behind.reason],
        "between": [between.step, between.reason],
        "unchanged": stored(between) == stored(before),
        "exact": stored(straight) == stored(resumed),
    }


def stored(result: TrainingResult) -> list[bytes]:
    return [path.read_bytes() for path in sorted(result.checkpoint.glob("*.safetensors"))]


def test_three_processes_agree(tmp_path: Path) -> None:
    """Guards against one process that skips a step, or stops, while the others train on or wait for ever; and against
    gradients that a resumed run sums in another order (which two processes would not show)."""
    in_processes(3, three, tmp_path)
    seen = [read_json(tmp_path / f"rank-{rank}.json") for rank in range(3)]
    assert [own["place"] for own in seen] == [[rank, 3, rank == 0, "cpu"] for rank in range(3)]
    for own in seen:
        assert own["any"] == [False, True, True]
        assert own["mean"] == {"all": 1.0, "two": 5.5}
        assert own["objects"] == [["rank", 0], ["rank", 1], ["rank", 2]]
    for parallel in ("ddp", "fsdp"):
        found = seen[0][parallel]
        assert found == seen[1][parallel] == seen[2][parallel]
        assert found["finite"] and found["unchanged"] and found["exact"]
        assert found["behind"] == [4, "SIGTERM"] and found["between"] == [3, "SIGTERM"]
        (skipped,) = {line.split('"step": ')[1][0] for line in lines(tmp_path / parallel / "spoiled")}
        assert skipped == "3"


def lines(out: Path) -> list[str]:
    return (out / "skipped.jsonl").read_text().splitlines()


def test_runs_of_other_precisions_follow_each_other(tmp_path: Path) -> None:
    """Guards against accelerate's global state, which keeps what the first run of a process wanted."""
    scalers = []
    for precision in ("float32", "float16", "bfloat16", "float32"):
        result = run(toy_config(tmp_path / f"{len(scalers)}", steps=1, precision=precision))
        scalers.append(result.optimisation.processes.scaler is not None)
        states = (AcceleratorState, PartialState, GradientState)
        assert not any(state._shared_state for state in states) and not dist.is_initialized()
    assert scalers == [False, True, False, False]


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast_is_that_of_the_config(precision: str, dtype: torch.dtype) -> None:
    """Guards against a precision in name only."""
    layer = nn.Linear(2, 2)
    with Processes(LoopConfig(precision=precision)) as processes, processes.autocast():
        assert layer(torch.ones(1, 2)).dtype == dtype


def test_alone_nothing_is_wrapped() -> None:
    """Guards against a process group, or hooks on the module, where one process works alone."""
    with Processes(LoopConfig(parallel="fsdp")) as processes:
        layer = nn.Linear(2, 2)
        assert processes.wrap(layer) is layer and type(layer) is nn.Linear
        assert processes.mean({"one": 1.0}) == {"one": 1.0} and processes.gather_objects(3) == [3]
        assert gathered(layer.weight) is not layer.weight and torch.equal(gathered(layer.weight), layer.weight)
    assert mean_by_name([{"a": 1.0}, {"a": 3.0, "b": 5.0}]) == {"a": 2.0, "b": 5.0}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "2"}, "device 'meta' they cannot be joined"),
        ({"ACCELERATE_USE_FSDP": "true"}, "configured for FSDP"),
    ],
)
def test_launches_that_cannot_be_are_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    """Guards against processes that each believe to be alone and write to the same folder."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=words):
        Processes(LoopConfig(device="meta"))
    assert not AcceleratorState._shared_state
