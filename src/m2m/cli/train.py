"""`m2m train`: M2M-Self or M2M-DINO on image sets, from a config to a folder that `m2m generate` loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2m.devices import checked_device

if TYPE_CHECKING:
    from m2m.training.image_sets import TrainConfig


def train(
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="Settings.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print settings, sizes, memory, FLOPs and hours, and stop.")
    ] = False,
    devices: Annotated[
        int | None, typer.Option(min=1, help="Dry run: how many devices share the work.  [default: this launch's]")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.0, help="Dry run: GB of each device.  [default: this machine's]")
    ] = None,
    tflops: Annotated[float, typer.Option(min=0.001, help="Dry run: TFLOP/s that a device sustains.")] = 87.0,
) -> None:
    """Train a many-to-many model on image sets; a run whose `out` holds a checkpoint continues there.

    Ends after `steps` steps or `minutes` minutes, or on SIGTERM or Ctrl-C, with a checkpoint. `export=DIR` writes the
    averaged weights as a pipeline when a budget ends; on a finished run it only does that. On several GPUs or machines,
    start it with `accelerate launch`. docs/training.md explains the settings.

    Example:
      accelerate launch --num_processes 8 -m m2m.cli train --config configs/sd21/self.yaml

    Example:
      m2m train --config configs/sd21/self.yaml --dry-run --devices 8 --memory 80

    Example:
      m2m train --config configs/tiny/self.yaml out=runs/self minutes=30
    """
    from m2m.config import load_config
    from m2m.training.image_sets import TrainConfig

    settings = load_config(TrainConfig, config, overrides or [])
    if dry_run:
        from m2m.cli.train_plan import print_plan

        print_plan(settings, devices, memory, tflops)
        return
    _run(replace(settings, device=checked_device(settings.device)))


def _run(config: TrainConfig) -> None:
    from m2m.cli.exporting import export_pipeline
    from m2m.cli.train_parts import at_own_size, build_pipeline, encoder_of, open_training_sets, training_checks
    from m2m.cli.training_run import end_of_run, shown_progress
    from m2m.config import config_dict, save_config
    from m2m.training.image_sets import ImageSetTask
    from m2m.training.loop import train as run_loop
    from m2m.training.parallel import Processes
    from m2m.training.trainable import set_trainable
    from m2m.training.watching import Work

    data = open_training_sets(config)
    with Processes(config) as processes:
        pipe = build_pipeline(config, data, processes.device)
        data = at_own_size(config, data, pipe)
        encoder = encoder_of(pipe)
        task = ImageSetTask(pipe.model, pipe.scheduler, data, config, encoder)
        set_trainable(pipe.model, config.trainable, config.lora_rank, config.frozen_precision, config.seed)
        checks = training_checks(pipe, encoder, config)
        if processes.is_main:
            save_config(config, Path(config.out) / "config.yaml")
        with shown_progress() as report:
            work = Work(sets=config.batch_sets)
            result = run_loop(task, config, config_dict(config), processes, report, checks, work)
        if config.export and not result.signal:
            export_pipeline(pipe, result.optimisation, config.export)
        end_of_run(result, processes.is_main)
