"""Checkpoints: nothing is forgotten, nothing damaged or foreign is taken, and a failed save costs nothing."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from m2m.checkpoint import read_json, save_tensors, write_json
from m2m.config import config_dict
from m2m.training.loop import LoopConfig
from m2m.training.parallel import Processes
from m2m.training.state import Keep, Position, checkpoints, load_checkpoint, save_checkpoint
from m2m.training.step import Optimisation
from m2m.training.task import StepBatch
from m2m.types import UserError

FILES = ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "random.safetensors"]
KEEP = Keep(last=2)


@pytest.fixture
def new(request: pytest.FixtureRequest) -> Callable[..., Optimisation]:
    """A function that gives a new small run, of one process; its seed is that of its weights."""

    def make(frozen: bool = False, seed: int = 7, **changes: Any) -> Optimisation:
        settings = LoopConfig(learning_rate=0.05, warmup_steps=2, **changes)
        processes = Processes(settings)
        request.addfinalizer(processes.close)
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 3), nn.LayerNorm(3))
        module.register_parameter("idle", nn.Parameter(torch.zeros(2, 2)))  # never gets a gradient
        module[0].requires_grad_(not frozen)
        return Optimisation(module, settings, 100, processes)

    return make


def train(optimisation: Optimisation, first: int, last: int) -> None:
    """Steps `first`..`last`; dropout draws from torch's generator."""
    for step in range(first, last + 1):
        data = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        batch = StepBatch(step, {"data": data})

        def loss(module: nn.Module, batch: StepBatch, step: int) -> tuple[Tensor, dict[str, float]]:
            return (module(batch.data["data"]) - 1).square().mean(), {}

        result = optimisation.step(step, iter([batch]), loss, 1, lambda: False)  # type: ignore[arg-type]
        assert result is not None and result.finite


def tensors(optimisation: Optimisation) -> dict[str, Tensor]:
    """Copies of all that moves."""
    named = {f"model {name}": tensor for name, tensor in optimisation.module.state_dict().items()}
    named |= {f"average {name}": tensor for name, tensor in optimisation.average.tensors().items()}
    for name, parameter in optimisation.trained.items():
        state = optimisation.optimizer.state.get(parameter, {})
        named |= {f"{key} {name}": torch.as_tensor(value) for key, value in state.items()}
    scaler = optimisation.processes.scaler
    named["loss scale"] = torch.tensor(scaler.get_scale() if scaler else 0.0)
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]) and tensor.dtype == other[name].dtype, name


def saved(optimisation: Optimisation, out: Path, step: int = 3, **config: Any) -> Path:
    position = Position(step, {"epoch": 1, "position": step})
    return save_checkpoint(out, optimisation, position, {"steps": 100, **config}, KEEP)


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what a full disk does to a writer, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("changes", [{}, {"precision": "float16"}, {"frozen": True, "ema_device": "cpu"}])
def test_three_and_three_steps_are_six(
    new: Callable[..., Optimisation], tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Guards against state that a checkpoint forgets: moments, average, loss scale, or dropout's random generator."""
    straight, first = new(**changes), new(**changes)
    for run, last in ((straight, 5), (first, 2)):
        if run.processes.scaler:
            run.processes.scaler.set_growth_interval(2)
        torch.manual_seed(1)
        train(run, 0, last)
    folder = saved(first, tmp_path)
    torch.manual_seed(99)
    second = new(**changes)
    assert load_checkpoint(folder, second, {"steps": 100}) == Position(3, {"epoch": 1, "position": 3})
    assert_equal(tensors(first), tensors(second))
    train(second, 3, 5)
    assert_equal(tensors(straight), tensors(second))


def test_any_optimiser_goes_on(new: Callable[..., Optimisation], tmp_path: Path) -> None:
    """Guards against 8-bit moments that come back as floats, and a count of steps that comes back as a tensor."""

    class Quantised(torch.optim.Optimizer):
        """Its state is of the kinds that 8-bit optimisers have: bytes, scales of blocks, and plain numbers."""

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for parameter in (parameter for group in self.param_groups for parameter in group["params"]):
                own = self.state[parameter] or {"state1": torch.zeros_like(parameter, dtype=torch.uint8), "step": 0}
                self.state[parameter] = own
                own["step"] += 1
                own["state1"] += torch.randint(0, 200, parameter.shape, dtype=torch.uint8)
                own["absmax1"] = torch.rand(3)

    runs = new(), new()
    for run in runs:
        run.optimizer = Quantised(list(run.trained.values()), {"lr": 0.1})
    train(runs[0], 0, 2)
    load_checkpoint(saved(runs[0], tmp_path), runs[1], {"steps": 100})
    assert_equal(tensors(runs[0]), tensors(runs[1]))
    steps = {type(own["step"]) for own in runs[1].optimizer.state.values()}
    assert steps == {int}
    with pytest.raises(UserError, match="optimiser Quantised, this run has AdamW"):
        load_checkpoint(checkpoints(tmp_path)[0], new(), {"steps": 100}, branch=True)


def test_damage_is_named(new: Callable[..., Optimisation], tmp_path: Path) -> None:
    """Guards against a truncated file, or one with a flipped bit, that loads as something else."""
    run = new()
    train(run, 0, 2)
    folder = saved(run, tmp_path)
    for name in FILES:
        content = (folder / name).read_bytes()
        flipped = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
        for damaged in (content[:-8], flipped, b""):
            (folder / name).write_bytes(damaged)
            with pytest.raises(UserError, match=f"{name}' is damaged .*remove '{folder}'"):
                load_checkpoint(folder, new(), {"steps": 100})
        (folder / name).write_bytes(content)
    assert load_checkpoint(folder, new(), {"steps": 100}).step == 3
    (folder / "state.json").unlink()
    assert checkpoints(tmp_path) == []


def test_what_is_refused_leaves_the_run_alone(new: Callable[..., Optimisation], tmp_path: Path) -> None:
    """Guards against a run that goes on with half of another one's state."""
    run = new()
    train(run, 0, 2)
    folder = saved(run, tmp_path)
    other = new(seed=8)
    before = tensors(other)
    content = (folder / "random.safetensors").read_bytes()
    (folder / "random.safetensors").write_bytes(content[:-1] + b"?")
    with pytest.raises(UserError):
        load_checkpoint(folder, other, {"steps": 100})
    assert_equal(before, tensors(other))


def test_other_tensors_are_named(new: Callable[..., Optimisation], tmp_path: Path) -> None:
    """Guards against a checkpoint of another architecture whose tensors are taken where their names agree."""
    run = new()
    folder = saved(run, tmp_path)
    run.module[2] = nn.Linear(5, 3, bias=False)
    with pytest.raises(UserError, match=r"model.safetensors' does not fit: unexpected 2.bias"):
        load_checkpoint(folder, run, {"steps": 100}, branch=True)
    run.module[2] = nn.Linear(6, 3)
    with pytest.raises(UserError, match=r"'2.weight' has shape \[3, 5\], expected \[3, 6\]"):
        load_checkpoint(folder, run, {"steps": 100}, branch=True)


def test_frozen_weights_are_not_stored_but_known(new: Callable[..., Optimisation], tmp_path: Path) -> None:
    """Guards against trained parts that are put on another base, on which they mean nothing."""
    run = new(frozen=True)
    train(run, 0, 2)
    folder = saved(run, tmp_path)
    assert not any(name in (folder / "model.safetensors").read_bytes() for name in (b"0.weight", b"0.bias"))
    load_checkpoint(folder, new(frozen=True), {"steps": 100})
    for branch in (False, True):
        with pytest.raises(UserError, match="other frozen weights"):
            load_checkpoint(folder, new(frozen=True, seed=8), {"steps": 100}, branch=branch)
        with pytest.raises(UserError, match=r"model.safetensors' does not fit: missing 0.bias, 0.weight"):
            load_checkpoint(folder, new(), {"steps": 100}, branch=branch)


def test_frozen_weights_are_gone_through_once(
    new: Callable[..., Optimisation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against gigabytes of frozen weights that travel and are summed up at every save."""
    run = new(frozen=True)
    saved(run, tmp_path, step=1)
    monkeypatch.setattr("m2m.training.step.frozen_digest", None)
    folder = saved(run, tmp_path, step=2)
    load_checkpoint(folder, run, {"steps": 100})
    assert read_json(folder / "state.json")["frozen"] == run.frozen != ""


def test_a_branch_keeps_its_place_in_the_same_data_only(new: Callable[..., Optimisation], tmp_path: Path) -> None:
    """Guards against a cooled-down branch that reads its trunk's samples again, and a cursor of other data."""
    folder = saved(new(), tmp_path, data="a", seed=0, schedule="constant")
    cooled = {"steps": 50, "data": "a", "seed": 0, "schedule": "wsd"}
    assert load_checkpoint(folder, new(), cooled, branch=True) == Position(3, {"epoch": 1, "position": 3})
    for change in ({"data": "b"}, {"seed": 1}):
        assert load_checkpoint(folder, new(), cooled | change, branch=True) == Position(3)


def test_a_folder_of_the_first_version_can_be_branched_from(new: Callable[..., Optimisation], tmp_path: Path) -> None:
    """Guards against long runs that an update makes worthless: no cursor, no checksums, one random state."""
    run = new()
    train(run, 0, 2)
    folder = tmp_path / "checkpoints" / "step-00000003"
    moments = {f"{kind}/{name}": run.optimizer.state[p][kind] for name, p in run.trained.items()
               if p in run.optimizer.state for kind in ("step", "exp_avg", "exp_avg_sq")}  # fmt: skip
    random = {"cpu": torch.get_rng_state()}
    for name, stored in zip(FILES, (run.module.state_dict(), run.average.tensors(), moments, random), strict=True):
        save_tensors(stored, folder / name)
    sizes = {name: (folder / name).stat().st_size for name in FILES}
    write_json(folder / "state.json", {"step": 3, "config": {"data": "old"}, "files": sizes})
    branch = new(seed=8)
    torch.manual_seed(99)
    assert load_checkpoint(folder, branch, {"data": "new"}, branch=True) == Position(3)
    train(branch, 3, 5)
    straight = new()
    train(straight, 0, 5)
    assert_equal(tensors(straight), tensors(branch))


def test_which_checkpoints_stay(new: Callable[..., Optimisation], tmp_path: Path) -> None:
    """Guards against a disk that fills up, against removing the newest, and against losing what was to stay."""
    run = new()
    for step in range(1, 9):
        save_checkpoint(tmp_path, run, Position(step), {}, Keep(last=2, every=3))
    assert [path.name for path in checkpoints(tmp_path)] == [f"step-{step:08d}" for step in (3, 6, 7, 8)]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 4


def test_what_killed_runs_leave_is_removed(new: Callable[..., Optimisation], tmp_path: Path) -> None:
    """Guards against gigabytes of half written, or half removed, checkpoints that nobody ever looks at again."""
    run = new()
    folder = saved(run, tmp_path, step=1)
    shutil.copytree(folder, folder.with_name(".step-00000002.12345678.partial"))
    shutil.copytree(folder, folder.with_name("step-00000000"))
    (folder.with_name("step-00000000") / "state.json").unlink()
    saved(run, tmp_path, step=3)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000001", "step-00000003"]


@pytest.mark.parametrize("room", [0, 100, 1000])
def test_a_full_disk_leaves_the_former_checkpoint(new: Callable[..., Optimisation], tmp_path: Path, room: int) -> None:
    """Guards against a half written checkpoint, a former one that is removed too early, and a traceback."""
    run = new()
    train(run, 0, 2)
    folder = saved(run, tmp_path)
    before = tensors(run)
    train(run, 3, 3)
    with file_limit(room), pytest.raises(UserError, match=r"step-00000004' cannot be written: File too large"):
        saved(run, tmp_path, step=4)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [folder.name]
    restored = new(seed=8)
    load_checkpoint(folder, restored, {"steps": 100})
    assert_equal(before, tensors(restored))
    assert saved(run, tmp_path, step=4) == checkpoints(tmp_path)[-1]


def test_a_later_setting_and_another_config(new: Callable[..., Optimisation], tmp_path: Path) -> None:
    """Guards against a long run that no later version can continue, and one that goes on with other settings."""
    settings = config_dict(LoopConfig)
    older = {key: value for key, value in settings.items() if key != "gradient_clip"}
    folder = save_checkpoint(tmp_path, new(), Position(1), older, KEEP)
    assert load_checkpoint(folder, new(), settings, defaults=settings).step == 1
    with pytest.raises(UserError, match="gradient_clip was 1.0, now 0.5"):
        load_checkpoint(folder, new(), {**settings, "gradient_clip": 0.5}, defaults=settings)
    assert read_json(folder / "state.json")["config"] == older
