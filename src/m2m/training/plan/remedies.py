"""What would make a run fit that does not: the least change of its settings, by what it costs.

    smaller micro_batch_sets         the same gradient, at nearly the same speed
    gradient_checkpointing=true      the same gradient; activations are computed twice, a quarter more time
    parallel=fsdp                    the same gradient; weights travel in every pass (several processes)
    ema_device=cpu                   the same average; the weights travel once a step (GPU)
    optimizer=adamw8bit              coarser moments (GPU, not with FSDP, for it cannot part them)
    trainable=lora                   another model: the base stays what it is, but for adapters
    trainable=image_set_attention    the base stays what it is

The first four change nothing of what is learned, so they come first, and together if one is not enough.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from m2m.training.image_sets import TrainConfig
from m2m.training.plan.planning import Planner

Changes = dict[str, Any]


def remedy(planner: Planner, config: TrainConfig, limit: int) -> tuple[Changes, int] | None:
    """The settings to change so that a device holds at most `limit` bytes, and what it then holds; None: nothing does.

    Changes are added in the order above until the run fits; those that turn out to be needless then go.
    """
    changes: Changes = {}
    last: Changes = {}
    for last in ({}, *changes_left(planner, config)):
        changes |= last
        if sets := _micro_batch(planner, replace(config, **changes), limit):
            break
    else:
        return None
    for name in [name for name in reversed(changes) if name not in last]:
        fewer = {key: value for key, value in changes.items() if key != name}
        if _fits(planner, replace(config, **fewer, micro_batch_sets=sets), limit):
            changes = fewer
    if sets != planner.micro_batch(config):
        changes = {"micro_batch_sets": sets, **changes}
    return changes, planner.memory(replace(config, **changes)).total


def changes_left(planner: Planner, config: TrainConfig) -> Iterator[Changes]:
    """The changes that are left to make, in order; smaller micro-batches come with each of them."""
    on_gpu = not planner.device.startswith("cpu")
    parted = planner.processes > 1
    if not config.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    if parted and config.parallel != "fsdp":
        yield {"parallel": "fsdp"}
    if on_gpu and not config.ema_device:
        yield {"ema_device": "cpu"}
    if on_gpu and not parted and config.optimizer != "adamw8bit":
        yield {"optimizer": "adamw8bit"}
    # Under float32 frozen matrices stay float32 (`check_trainable`).
    frozen = {"frozen_precision": "float32"} if config.precision == "float32" else {}
    if config.trainable in ("all", "transformer_blocks") and importlib.util.find_spec("peft"):
        yield {"trainable": "lora", **frozen}
    if config.trainable != "image_set_attention":
        yield {"trainable": "image_set_attention", **frozen}


def _micro_batch(planner: Planner, config: TrainConfig, limit: int) -> int:
    """The largest micro-batch, not above that of `config`, that fits; 0: none does."""
    largest = planner.micro_batch(config)
    sizes = [sets for sets in range(1, largest + 1) if largest % sets == 0]
    low, high = 0, len(sizes)  # the first `low` fit, those from `high` on do not
    while low < high:
        # The smallest first: it decides whether there is any.
        middle = 0 if low == 0 and high == len(sizes) else (low + high) // 2
        if _fits(planner, replace(config, micro_batch_sets=sizes[middle]), limit):
            low = middle + 1
        else:
            high = middle
    return sizes[low - 1] if low else 0


def _fits(planner: Planner, config: TrainConfig, limit: int) -> bool:
    return planner.memory(config).total <= limit
