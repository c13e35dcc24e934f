"""`m2m train --dry-run`: the resolved settings, and what the run would take. Refuses what cannot fit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.training.image_sets import TrainConfig
    from m2m.training.plan.planning import Plan

GB = 1e9  # bytes
PARTS = {"average": "moving average", "encoders": "autoencoder, vision encoder", "runtime": "Python, libraries"}


def print_plan(config: TrainConfig, devices: int | None, memory: float | None, tflops: float) -> None:
    """Print the settings as YAML and, as comments below, the plan.

    devices: processes, one each; None: those of this launch. memory: GB of each; None: this machine's. tflops: TFLOP/s
    that each sustains. Raises UserError for settings that cannot run, and where a device cannot hold the run.
    """
    from m2m.cli.train_outline import outline_of
    from m2m.config import config_yaml
    from m2m.training.plan.machine import device_bytes, planned_device, runtime_bytes
    from m2m.training.plan.planning import Planner

    _import_as_a_run(config)
    processes = devices or int(os.environ.get("WORLD_SIZE", "1"))
    device = planned_device(config.device, elsewhere=memory is not None)
    runtime = runtime_bytes(device, config.precision)  # first of all, while this process holds nothing else
    outline, notes = outline_of(config)
    planner = Planner(outline, device, processes, runtime)
    limit = int(memory * GB) if memory else device_bytes(device, processes)
    with _status("rehearsing a step"):
        plan = planner.plan(config, tflops)
    print(config_yaml(config), end="")
    lines = [
        *plan_lines(plan, config, outline.sets),
        *memory_lines(plan, device, limit),
        *cost_lines(plan, tflops),
        *notes,
    ]
    print("\n".join(f"# {line}" for line in lines), flush=True)
    if plan.memory.total > limit:
        with _status("looking for what would fit"):
            _refuse(planner, config, plan.memory.total, limit)


def plan_lines(plan: Plan, config: TrainConfig, sets: int) -> Iterator[str]:
    """What is trained, on how much. sets: of the data; 0: unknown."""
    trained, count = sum(plan.weights.numbers), plan.weights.count
    yield f"parameters      {count:,}, " + ("all trained" if trained == count else f"of which {trained:,} are trained")
    split = ((plan.processes, "process"), (plan.accumulation, "micro-batch"), (plan.micro_batch, "set"))
    shares = " x ".join(_some(*share) for share in split)
    yield f"a step          {config.batch_sets} sets of {config.images_per_set} images: {shares}"
    seen = config.steps * config.batch_sets
    yield f"steps           {config.steps:,}, {seen:,} sets seen" + (f": {seen / sets:.3g} epochs" if sets else "")


def memory_lines(plan: Plan, device: str, limit: int) -> Iterator[str]:
    """Memory of a device by part."""
    yield f"memory          GB of each device ({device})"
    for name, size in plan.memory.parts.items():
        detail = ""
        if name == "activations":
            detail = ", ".join(f"{_gb(own)} for {_some(sets, 'set')}" for sets, own in plan.activations.items())
        yield f"  {PARTS.get(name, name):<30}{_gb(size):>8}" + (f"  ({detail})" if detail else "")
    yield f"  {'together':<30}{_gb(plan.memory.total):>8}  of {_gb(limit)}"


def cost_lines(plan: Plan, tflops: float) -> Iterator[str]:
    """Operations and time."""
    yield f"operations      {plan.flops / 1e12:,.4g} TFLOP a step"
    yield f"time            {plan.hours:,.4g} hours at {tflops:g} TFLOP/s on each of {_some(plan.processes, 'device')}"


def _refuse(planner: Any, config: TrainConfig, total: int, limit: int) -> None:
    from m2m.training.plan.remedies import remedy

    found = remedy(planner, config, limit)
    advice = "no setting known here makes it fit"
    if found:
        changes, needed = found
        advice = f"{_settings(changes)} would take {_gb(needed)} GB"
    raise UserError(f"the run takes {_gb(total)} GB on a device that has {_gb(limit)} GB: {advice}")


def _settings(changes: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={str(value).lower()}" for name, value in changes.items())


def _some(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}{'es' if word.endswith(('s', 'h')) else 's'}"


def _gb(size: float) -> str:
    return f"{size / GB:.2f}"


def _import_as_a_run(config: TrainConfig) -> None:
    """Load what a run loads, for its memory counts."""
    libraries = ["m2m.cli.exporting", "m2m.training.loop"]
    if "tensorboard" in config.tracker and find_spec("tensorboard"):
        libraries.append("torch.utils.tensorboard")
    for name in libraries:
        import_module(name)


@contextmanager
def _status(text: str) -> Iterator[None]:
    """A note on stderr for as long as it takes, where that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(text) if console.is_terminal else nullcontext():
        yield
