"""One checkpoint, whatever the number of processes and the way in which they hold the weights (gloo, CPU)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from m2m.training.loop import LoopConfig
from m2m.training.parallel import Processes, gathered, local_part
from m2m.training.state import Keep, Position, checkpoints, load_checkpoint, save_checkpoint
from m2m.training.step import Optimisation
from m2m.types import UserError
from tests.training.test_state import FILES, file_limit, train
from tests.training.toys import in_processes

TENSORS = FILES[:3]
CONFIG = {"steps": 100}


def new(parallel: str = "ddp") -> Optimisation:
    """Layers of which none can be cut in two equal halves, one of them frozen."""
    settings = LoopConfig(learning_rate=0.05, warmup_steps=0, parallel=parallel)
    torch.manual_seed(7)
    module = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3), nn.LayerNorm(3), nn.Linear(3, 1))
    module[0].requires_grad_(False)
    return Optimisation(module, settings, 100, Processes(settings))


def save(optimisation: Optimisation, out: Path, step: int) -> Path:
    return save_checkpoint(out, optimisation, Position(step, {"position": step}), CONFIG, Keep(last=9))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TENSORS}


def worker(rank: int, folder: Path) -> None:
    """Go on from one process's checkpoint in both ways, save at once, then train and save; last, on a full disk."""
    for parallel in ("ddp", "fsdp"):
        run = new(parallel)
        torch.manual_seed(100 + rank)
        assert load_checkpoint(checkpoints(folder / "one")[-1], run, CONFIG) == Position(2, {"position": 2})
        save_file({"draw": torch.rand(3)}, folder / f"{parallel}-{rank}.safetensors")
        save(run, folder / parallel, 2)
        train(run, 2, 2)  # the same samples in every process: any number of them has the same gradient
        save(run, folder / parallel, 3)
        refuse(run, folder / parallel)
        if parallel == "fsdp":
            assert any(gathered(p).shape != local_part(p).shape for p in run.trained.values()), "nothing was parted"


def refuse(run: Optimisation, out: Path) -> None:
    """Every process raises the same error: for a full disk, and for damage that only one of them looks for."""
    with file_limit(200), pytest.raises(UserError, match="step-00000004' cannot be written: File too large"):
        save(run, out, 4)
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["step-00000002", "step-00000003"]
    with pytest.raises(UserError, match=r"ema.safetensors' is damaged"):
        load_checkpoint(out.parent / "damaged" / "checkpoints" / "step-00000002", run, CONFIG)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of one process, and what two made of them."""
    folder = tmp_path_factory.mktemp("parallel")
    run = new()
    train(run, 0, 1)
    path = save(run, folder / "damaged", 2) / "ema.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    save(run, folder / "one", 2)
    run.processes.close()
    in_processes(2, worker, folder)
    return folder


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_store_what_one_stored(folder: Path, parallel: str) -> None:
    """Guards against parts of tensors that are stored as if they were whole, or joined in the wrong order."""
    (one,) = checkpoints(folder / "one")
    assert contents(one) == contents(checkpoints(folder / parallel)[0])


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_one_process_goes_on_where_two_were(folder: Path, parallel: str) -> None:
    """Guards against moments or averages that two processes load into the wrong places, and then train on."""
    run = new()
    load_checkpoint(checkpoints(folder / "one")[0], run, CONFIG)
    train(run, 2, 2)
    other = new()
    stored = checkpoints(folder / parallel)[1]
    assert load_checkpoint(stored, other, CONFIG) == Position(3, {"position": 3})
    save(run, folder / f"{parallel}-straight", 3)
    for name in TENSORS:
        straight = load_file(checkpoints(folder / f"{parallel}-straight")[0] / name)
        two = load_file(stored / name)
        assert straight.keys() == two.keys()
        assert all((two[key] - tensor).abs().max() < 1e-6 for key, tensor in straight.items()), name
    run.processes.close()


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_every_process_has_random_states_of_its_own(folder: Path, parallel: str) -> None:
    """Guards against dropout that is the same in every process, and a new process without any state."""
    stored = load_file(checkpoints(folder / parallel)[0] / "random.safetensors")
    assert {name.split("/")[1] for name in stored} == {"0", "1"}
    draws = [load_file(folder / f"{parallel}-{rank}.safetensors")["draw"] for rank in range(2)]
    assert not torch.equal(*draws)
    torch.manual_seed(101)
    assert torch.equal(torch.rand(3), draws[1]), "the first process's state alone was stored: the second keeps its seed"
