"""The state of a run on disk: everything from which it continues as if it had never stopped.

A checkpoint is one folder `checkpoints/step-00001000` with the module, the moving average, the optimiser and the random
states as safetensors, and `state.json` (step, config, sizes of the files), which is written last. The folder is filled
under a temporary name, flushed and renamed: a kill at any moment leaves the former checkpoint whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m2m.checkpoint import atomic_folder, check_names, load_module, load_tensors, read_json, save_tensors, write_json
from m2m.training.step import Optimisation
from m2m.types import UserError

MANIFEST = "state.json"
FOLDER = "checkpoints"

# What may differ between a checkpoint and the run that continues it: budgets, places and reporting.
FREE_KEYS = frozenset(
    "out minutes checkpoint_every keep_last log_every sample_every sample_steps sample_guidance "
    "sample_guidance_interval threads device branch export validation workers".split()
)


def save_checkpoint(out: str | Path, optimisation: Optimisation, step: int, config: dict[str, Any], keep: int) -> Path:
    """Write the state after `step` steps below `out`, then remove all but the newest `keep` checkpoints."""
    folder = checkpoint_folder(out, step)
    with atomic_folder(folder) as staged:
        save_tensors(optimisation.module.state_dict(), staged / "model.safetensors")
        save_tensors(_ema_tensors(optimisation), staged / "ema.safetensors")
        save_tensors(_optimizer_tensors(optimisation), staged / "optimizer.safetensors")
        save_tensors(_random_states(), staged / "random.safetensors")
        sizes = {path.name: path.stat().st_size for path in sorted(staged.glob("*.safetensors"))}
        write_json(staged / MANIFEST, {"step": step, "config": config, "files": sizes})
    for old in checkpoints(out)[:-keep]:
        shutil.rmtree(old)
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
) -> int:
    """Put a checkpoint's state into `optimisation` and the random generators; returns its step.

    defaults: values of settings that an older checkpoint does not name, for they did not exist yet.
    branch: another run starts from here, so its config may differ wherever the weights still fit.
    Raises UserError for a damaged checkpoint and for one of another config, naming the keys that differ.
    """
    folder = Path(folder)
    manifest = read_json(folder / MANIFEST)
    _check_files(folder, manifest["files"])
    if not branch:
        _check_config(folder, _filled(manifest["config"], defaults or {}), config)
    load_module(optimisation.module, folder / "model.safetensors")
    _load_ema(optimisation, folder / "ema.safetensors", manifest["step"])
    _load_optimizer(optimisation, folder / "optimizer.safetensors")
    _load_random_states(folder / "random.safetensors")
    return int(manifest["step"])


def differing_keys(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the keys, nested ones included, whose values differ; the free keys of a run are not compared."""
    differing = []
    for key in sorted(found.keys() | wanted.keys()):
        ours, theirs = wanted.get(key), found.get(key)
        if (not prefix and key in FREE_KEYS) or ours == theirs:
            continue
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            differing += differing_keys(theirs, ours, prefix=f"{prefix}{key}.")
        else:
            differing.append(f"{prefix}{key}")
    return differing


def _check_config(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = differing_keys(found, wanted)
    # A constant rate does not know where the run ends, so its end may move.
    if wanted.get("schedule") == "constant" and "steps" in differing:
        differing.remove("steps")
    if differing:
        pairs = ", ".join(f"{key} was {_value(found, key)!r}, now {_value(wanted, key)!r}" for key in differing)
        raise UserError(f"'{folder}' is of another config: {pairs}; give another out=, or branch={folder}")


def _filled(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with the keys of `defaults`, nested ones included, that it lacks."""
    filled = {**defaults, **config}
    for key, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(config.get(key), Mapping):
            filled[key] = _filled(config[key], default)
    return filled


def _value(config: Mapping[str, Any], dotted: str) -> Any:
    value: Any = config
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _check_files(folder: Path, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise UserError(
                f"'{path}' is damaged (expected {size} bytes); remove '{folder}' to continue from an older one"
            )


def _ema_tensors(optimisation: Optimisation) -> dict[str, Tensor]:
    names = [name for name, _ in optimisation.module.named_parameters()]
    return dict(zip(names, optimisation.ema.shadow_params, strict=True))


def _load_ema(optimisation: Optimisation, path: Path, step: int) -> None:
    own = _ema_tensors(optimisation)
    for name, tensor in load_tensors(path, expected=own).items():
        own[name].copy_(tensor)
    optimisation.ema.optimization_step = step


def _optimizer_tensors(optimisation: Optimisation) -> dict[str, Tensor]:
    """The optimiser's state, flat: `exp_avg/<parameter>`, `exp_avg_sq/<parameter>`, `step/<parameter>`."""
    state = optimisation.optimizer.state_dict()["state"]
    return {f"{key}/{optimisation.names[i]}": value for i, own in state.items() for key, value in own.items()}


def _load_optimizer(optimisation: Optimisation, path: Path) -> None:
    tensors = load_tensors(path)
    kinds = sorted({name.split("/", 1)[0] for name in tensors})
    # A parameter that no step has given a gradient yet has no state: all of its tensors are there, or none.
    stored = {name.split("/", 1)[1] for name in tensors}
    known = [name for name in optimisation.names if name in stored]
    check_names(tensors, [f"{kind}/{name}" for kind in kinds for name in known], str(path))
    index = {name: i for i, name in enumerate(optimisation.names)}
    state = {index[name]: {kind: tensors[f"{kind}/{name}"] for kind in kinds} for name in known}
    groups = optimisation.optimizer.state_dict()["param_groups"]
    optimisation.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _load_random_states(path: Path) -> None:
    states = load_tensors(path)
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available() and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
