"""Whether a run may go on from a checkpoint: which settings may differ, and what to say where others do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m2m.types import UserError

# What may differ between a checkpoint and the run that continues it: budgets and places, what is saved, looked at and
# reported, and how the same samples are shared out to the machine. None of it says which weights come out.
FREE_KEYS = frozenset(
    "minutes out branch export "
    "checkpoint_every keep_last keep_every stop_after_nonfinite "
    "log_every tracker validation validate_every validation_sets "
    "sample_every sample_steps sample_guidance sample_guidance_interval "
    "cache device threads workers parallel micro_batch_sets gradient_checkpointing compile ema_device".split()
)
# What the order of the samples follows from. A branch where these are the same goes on behind its trunk's last sample.
ORDER_KEYS = ("data", "seed")


def check_config(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise UserError that names each setting in which the checkpoint in `folder` is of another config, with values."""
    differing = differing_keys(found, wanted)
    # A constant rate does not know where the run ends, so its end may move.
    if wanted.get("schedule") == "constant" and "steps" in differing:
        differing.remove("steps")
    if differing:
        pairs = ", ".join(f"{key} was {_value(found, key)!r}, now {_value(wanted, key)!r}" for key in differing)
        raise UserError(f"'{folder}' is of another config: {pairs}; give another out=, or branch={folder}")


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


def filled(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with the keys of `defaults`, nested ones included, that it lacks."""
    complete = {**defaults, **config}
    for key, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(config.get(key), Mapping):
            complete[key] = filled(config[key], default)
    return complete


def same_order(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a cursor of one run means the same samples in the other."""
    return all(found.get(key) == wanted.get(key) for key in ORDER_KEYS)


def _value(config: Mapping[str, Any], dotted: str) -> Any:
    value: Any = config
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
