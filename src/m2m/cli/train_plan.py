"""`m2m train --dry-run`: the resolved settings, and what the run would take. Refuses what cannot fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.data.reading.sets import SetData
    from m2m.training.image_sets import TrainConfig
    from m2m.training.plan.outline import Outline
    from m2m.training.plan.planning import Plan

GB = 1e9  # bytes


def print_plan(config: TrainConfig, devices: int | None, memory: float | None, tflops: float) -> None:
    """Print the settings as YAML and, as comments below, the plan.

    devices: processes, one each; None: those of this launch. memory: GB of each; None: this machine's. tflops: TFLOP/s
    that each sustains. Raises UserError for settings that cannot run, and where a device cannot hold the run.
    """
    from m2m.config import config_yaml
    from m2m.training.plan.machine import device_bytes, runtime_bytes
    from m2m.training.plan.planning import Planner
    from m2m.training.plan.remedies import remedy

    processes = devices or int(os.environ.get("WORLD_SIZE", "1"))
    device = planned_device(config.device, memory)
    import_all()
    runtime = runtime_bytes(device, config.precision)
    planner = Planner(outline_of(config), device, processes, runtime)
    limit = int(memory * GB) if memory else device_bytes(device, processes)
    with noted("rehearsing a step"):
        plan = planner.plan(config, tflops)
    print(config_yaml(config), end="")
    print("\n".join(f"# {line}".rstrip() for line in plan_lines(plan, config)))
