"""The state of a run on disk: everything from which it continues as if it had never stopped.

A checkpoint is one folder `checkpoints/step-00001000` with the module, the moving average, the optimiser and the random
states as safetensors, and `state.json` (step, cursor, config, size and checksum of each file), which is written last.
The folder is filled under a temporary name, flushed and renamed: a kill at any moment, or a full disk, leaves the one
before whole. Tensors are stored whole, whatever parts of them each process holds, and travel one at a time: another
number of processes reads the same state, and none ever holds a second copy of it.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from m2m.checkpoint import STAGING_SUFFIX, atomic_folder, check_names, read_json, write_json
from m2m.training.continuing import check_config, filled, same_order
from m2m.training.parallel import gathered, placed
from m2m.training.random_states import random_states, set_random_states
from m2m.training.tensor_files import (
    Form,
    in_file_order,
    open_tensors,
    seal_of,
    shapes_of,
    write_tensors,
)
from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.training.parallel import Processes
    from m2m.training.step import Optimisation

MANIFEST = "state.json"
FOLDER = "checkpoints"
MODEL, AVERAGE, OPTIMIZER, RANDOM = (f"{name}.safetensors" for name in ("model", "ema", "optimizer", "random"))

T = TypeVar("T")


@dataclass(frozen=True)
class Position:
    """Where a run stands: behind `step` steps, and behind the samples that `cursor` says (empty: the step says it)."""

    step: int
    cursor: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay: the newest `last`, and for ever those of every `every`-th step (0: none)."""

    last: int
    every: int = 0


class _Part(NamedTuple):
    """A tensor to be stored: whole or sharded, or this process's part of one that is sharded as `like` is."""

    tensor: Tensor
    like: Tensor | None = None

    @property
    def form(self) -> Form:
        return Form(self.tensor.dtype, tuple((self.tensor if self.like is None else self.like).shape))


def save_checkpoint(
    out: str | Path, optimisation: Optimisation, position: Position, config: dict[str, Any], keep: Keep
) -> Path:
    """Write the state at `position` below `out`, then remove the older checkpoints that need not stay.

    All processes call it. Raises UserError, in every process, where it cannot be written; those before stay whole then.
    """
    folder = checkpoint_folder(out, position.step)
    processes = optimisation.processes
    files = _files(optimisation)
    state = {"step": position.step, "cursor": position.cursor, "config": config, **_numbers(optimisation)}
    _agreed(processes, lambda: _write(folder, files, state, processes.is_main))
    if processes.is_main:
        _remove_old(Path(out), keep)
    return folder


def checkpoint_folder(out: str | Path, step: int) -> Path:
    """Where the state after `step` steps lies."""
    return Path(out) / FOLDER / f"step-{step:08d}"


def checkpoints(out: str | Path) -> list[Path]:
    """The whole checkpoints below `out`, oldest first."""
    return sorted(path.parent for path in Path(out).glob(f"{FOLDER}/step-*/{MANIFEST}"))


def load_checkpoint(
    folder: str | Path,
    optimisation: Optimisation,
    config: dict[str, Any],
    defaults: dict[str, Any] | None = None,
    branch: bool = False,
) -> Position:
    """Put a checkpoint's state into `optimisation` and the random generators; returns where it stands.

    All processes call it, and all must see the folder; a process more than wrote it keeps the random state it has.
    defaults: values of settings that an older checkpoint does not name, for they did not exist yet.
    branch: another run starts from here, so its config may differ wherever the weights still fit.
    Raises UserError, in every process and before anything is loaded, for a damaged checkpoint and for one of another
    config, naming the keys that differ, of other tensors, or of other frozen weights.
    """
    folder = Path(folder)
    processes = optimisation.processes
    frozen = optimisation.frozen

    def check() -> dict[str, Any]:
        state: dict[str, Any] = read_json(folder / MANIFEST)
        _check_files(folder, state, checksums=processes.is_main)
        if not branch:
            check_config(folder, filled(state["config"], defaults or {}), config)
        _check_tensors(folder, state, optimisation, frozen)
        return state

    state = _agreed(processes, check)
    _load_module(optimisation.module, folder / MODEL)
    _load_average(optimisation, folder / AVERAGE, state["step"])
    _load_optimizer(optimisation, folder / OPTIMIZER, state.get("numbers", {}))
    _load_random_states(folder / RANDOM, processes)
    if processes.scaler and state.get("scaler"):
        processes.scaler.load_state_dict(state["scaler"])
    keeps_cursor = not branch or same_order(state["config"], config)
    return Position(int(state["step"]), state.get("cursor", {}) if keeps_cursor else {})


def _agreed(processes: Processes, action: Callable[[], T]) -> T:
    """What `action` gives; if it fails in one process it fails in all, or the others would wait for it for ever."""
    result, problem = None, ""
    try:
        result = action()
    except UserError as error:
        problem = str(error)
    if problems := [text for text in processes.gather_objects(problem) if text]:
        raise UserError(problems[0])
    return result  # type: ignore[return-value]


def _files(optimisation: Optimisation) -> dict[str, dict[str, _Part]]:
    """All that is stored as tensors: file -> name -> tensor."""
    trained = optimisation.trained
    average = {name: _Part(tensor, trained[name]) for name, tensor in optimisation.average.tensors().items()}
    states = optimisation.processes.gather_objects(random_states(optimisation.processes.device))
    return {
        MODEL: {name: _Part(tensor) for name, tensor in _moving(optimisation.module).items()},
        AVERAGE: average,
        OPTIMIZER: {key: _Part(value) for key, value in _optimizer_state(optimisation, Tensor).items()},
        RANDOM: {f"{kind}/{rank}": _Part(own[kind]) for rank, own in enumerate(states) for kind in own},
    }


def _numbers(optimisation: Optimisation) -> dict[str, Any]:
    """All else that the state has, but for step, cursor and config."""
    scaler = optimisation.processes.scaler
    return {
        "optimizer": type(optimisation.optimizer).__name__,
        "numbers": _optimizer_state(optimisation, (int, float)),
        "scaler": scaler.state_dict() if scaler else {},
        "frozen": optimisation.frozen,
    }


def _moving(module: nn.Module) -> dict[str, Tensor]:
    """The state dict without the parameters that are not trained."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in module.state_dict().items() if name not in frozen}


def _optimizer_state(optimisation: Optimisation, kind: type | tuple[type, ...]) -> dict[str, Any]:
    """The optimiser's values of a kind (tensors, numbers), flat: `exp_avg/<parameter>`, `step/<parameter>`."""
    states = {name: optimisation.optimizer.state.get(p, {}) for name, p in optimisation.trained.items()}
    return {f"{key}/{name}": v for name, own in states.items() for key, v in own.items() if isinstance(v, kind)}


def _write(folder: Path, files: dict[str, dict[str, _Part]], state: dict[str, Any], is_main: bool) -> None:
    """The main process writes; the others lend it their parts of the tensors. Raises UserError if that fails."""
    whole = _whole_tensors(files)
    try:
        if is_main:
            _remove_leftovers(folder.parent)
            with atomic_folder(folder) as staged:
                seals = {name: write_tensors(staged / name, _forms(parts), whole) for name, parts in files.items()}
                sizes = {name: seal.size for name, seal in seals.items()}
                checksums = {name: seal.crc32 for name, seal in seals.items()}
                write_json(staged / MANIFEST, {**state, "files": sizes, "crc32": checksums})
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"checkpoint '{folder}' cannot be written: {reason}; those before it are whole") from error
    finally:
        # Gathering takes all processes: even where writing fails, each tensor has to be gone through.
        deque(whole, maxlen=0)


def _whole_tensors(files: dict[str, dict[str, _Part]]) -> Iterator[Tensor]:
    for parts in files.values():
        for name in in_file_order(_forms(parts)):
            yield gathered(*parts[name])


def _forms(parts: Mapping[str, _Part]) -> dict[str, Form]:
    return {name: part.form for name, part in parts.items()}


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed runs have left half written, or half removed."""
    without = (path for path in folder.glob("step-*") if not (path / MANIFEST).exists())
    for path in (*folder.glob(f".step-*{STAGING_SUFFIX}"), *without):
        shutil.rmtree(path, ignore_errors=True)


def _remove_old(out: Path, keep: Keep) -> None:
    for folder in checkpoints(out)[: -keep.last]:
        if not (keep.every and int(folder.name.removeprefix("step-")) % keep.every == 0):
            # First the manifest: half removed, it is none that a run would continue from.
            (folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)


def _check_files(folder: Path, state: dict[str, Any], checksums: bool) -> None:
    """Raise UserError for a file that is not as it was written. checksums: read all of it; older versions had none."""
    remedy = f"remove '{folder}' to continue from an older one"
    for name, size in state["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise UserError(f"'{path}' is damaged (expected {size} bytes); {remedy}")
    for name, checksum in state.get("crc32", {}).items() if checksums else ():
        if seal_of(folder / name).crc32 != checksum:
            raise UserError(f"'{folder / name}' is damaged (its bytes are not those that were written); {remedy}")


def _check_tensors(folder: Path, state: dict[str, Any], optimisation: Optimisation, frozen: str) -> None:
    """Raise UserError where the tensors are not those of this module and optimiser."""
    trained = optimisation.trained
    _check_shapes(folder / MODEL, _moving(optimisation.module))
    _check_shapes(folder / AVERAGE, trained)
    if state.get("frozen", "") != frozen:
        raise UserError(f"'{folder}' belongs to other frozen weights: train on its own base")
    stored, own = state.get("optimizer", "AdamW"), type(optimisation.optimizer).__name__
    if stored != own:
        raise UserError(f"'{folder}' holds the state of optimiser {stored}, this run has {own}")
    # A parameter that no step has given a gradient yet has no state.
    known = {key.split("/", 1)[1] for key in (*shapes_of(folder / OPTIMIZER), *state.get("numbers", {}))}
    check_names(known | set(trained), trained, str(folder / OPTIMIZER))


def _check_shapes(path: Path, own: Mapping[str, Tensor]) -> None:
    shapes = shapes_of(path)
    check_names(shapes, own, str(path))
    for name, tensor in own.items():
        if shapes[name] != tuple(tensor.shape):
            raise UserError(f"'{path}': '{name}' has shape {list(shapes[name])}, expected {list(tensor.shape)}")


@torch.no_grad()
def _load_module(module: nn.Module, path: Path) -> None:
    with open_tensors(path) as file:
        for name, tensor in _moving(module).items():
            tensor.copy_(placed(file.get_tensor(name), tensor))


def _load_average(optimisation: Optimisation, path: Path, step: int) -> None:
    with open_tensors(path) as file:
        stored = {name: placed(file.get_tensor(name), like) for name, like in optimisation.trained.items()}
        optimisation.average.load(stored, step)


def _load_optimizer(optimisation: Optimisation, path: Path, numbers: dict[str, int | float]) -> None:
    # Not by its `load_state_dict`, which casts to the type of the parameter: 8-bit moments would become floats.
    state = optimisation.optimizer.state
    state.clear()
    with open_tensors(path) as file:
        for key in file.keys():  # noqa: SIM118  # no mapping
            kind, name = key.split("/", 1)
            parameter = optimisation.trained[name]
            state[parameter][kind] = _state_tensor(file.get_tensor(key), parameter)
    for key, number in numbers.items():
        kind, name = key.split("/", 1)
        state[optimisation.trained[name]][kind] = number


def _state_tensor(full: Tensor, parameter: Tensor) -> Tensor:
    """A tensor of an optimiser's state in memory of its own (not the file's), laid out and sharded as its parameter."""
    if full.shape != parameter.shape:
        return full.to(parameter.device, copy=True)
    return torch.empty_like(parameter, dtype=full.dtype, requires_grad=False).copy_(placed(full, parameter))


def _load_random_states(path: Path, processes: Processes) -> None:
    """A process that the checkpoint does not know keeps the state that its seed gave it."""
    with open_tensors(path) as file:
        names = {name: name.partition("/") for name in file.keys()}  # noqa: SIM118  # no mapping
        # A version before had one process, and no rank in the names.
        own = {
            kind: file.get_tensor(name) for name, (kind, _, rank) in names.items() if int(rank or 0) == processes.rank
        }
    set_random_states(own, processes.device)
