"""`m2m train`: M2M-Self or M2M-DINO on stored image sets, from a config to a folder that `m2m generate` loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2m.cli.training_run import end_of_run, print_progress
from m2m.devices import checked_device
from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.data.latents import LatentSets
    from m2m.pipeline import M2MPipeline
    from m2m.training.image_sets import TrainConfig
    from m2m.training.loop import Samples, TrainingResult


def train(
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="Settings.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings and stop.")] = False,
) -> None:
    """Train a many-to-many model on image sets; a run whose `out` holds a checkpoint continues there.

    Ends after `steps` steps or `minutes` minutes, or on SIGTERM or Ctrl-C, with a checkpoint. `export=DIR` writes the
    averaged weights as a pipeline when a budget ends; on a finished run it only does that.

    Example:
      m2m train --config configs/tiny/self.yaml out=runs/self minutes=30

    Example:
      m2m train --config configs/tiny/self.yaml branch=runs/self out=runs/cooled schedule=wsd steps=12000
        cooldown_steps=2000 export=runs/cooled/model
    """
    from m2m.config import config_yaml, load_config
    from m2m.training.image_sets import TrainConfig

    settings = load_config(TrainConfig, config, overrides or [])
    if dry_run:
        print(config_yaml(settings), end="")
        return
    end_of_run(_run(replace(settings, device=checked_device(settings.device))))


def _run(config: TrainConfig) -> TrainingResult:
    from m2m.cli.exporting import export_pipeline
    from m2m.config import config_dict, save_config
    from m2m.data.latents import LatentSets
    from m2m.training.image_sets import ImageSetTask
    from m2m.training.loop import train as run_loop

    sets = LatentSets(config.data, config.device if config.data_on_device else None)
    pipe = build_pipeline(config, sets)
    task = ImageSetTask(pipe.model, pipe.scheduler, sets, config)
    samples = _samples(pipe, config)
    save_config(config, Path(config.out) / "config.yaml")
    images = config.batch_sets * config.images_per_set * config.objective.noise_draws
    result = run_loop(task, config, config_dict(config), print_progress(images), samples)
    if config.export and not result.signal:
        export_pipeline(pipe, result.optimisation, config.export)
    return result


def build_pipeline(config: TrainConfig, sets: LatentSets) -> M2MPipeline:
    """What is trained, among all that samples and the export need: of `base`, or new with the named parts.

    Raises UserError for a part that is missing or was not the one that encoded the data.
    """
    from m2m.cli.models import find_model, load_pipeline
    from m2m.cli.parts import load_autoencoder
    from m2m.pipeline import M2MPipeline
    from m2m.training.image_sets import new_model, new_scheduler

    if config.base:
        return load_pipeline(find_model(config.base), config.device)
    if not config.autoencoder:
        raise UserError("give autoencoder=DIR, the one that encoded the data, or base=DIR, a pipeline to start from")
    _check_autoencoder(config, sets)
    width = None if sets.features is None else sets.features.shape[-1]
    pipe = M2MPipeline(
        model=new_model(config, width),
        vae=load_autoencoder(config.autoencoder),
        scheduler=new_scheduler(config),
        vision_encoder=_vision_encoder(config),
        default_guidance_scale=config.sample_guidance,
        default_guidance_interval=config.sample_guidance_interval,
    )
    return pipe.to(config.device)


def _check_autoencoder(config: TrainConfig, sets: LatentSets) -> None:
    from m2m.cli.parts import weights_hash

    if sets.settings["encoders"]["latents"] != weights_hash(config.autoencoder):
        raise UserError(f"autoencoder '{config.autoencoder}' is not the one that encoded '{sets.folder}'")


def _vision_encoder(config: TrainConfig):  # type: ignore[no-untyped-def]  # the protocol's module loads torch
    if config.variant != "dino":
        return None
    if not config.vision_encoder:
        raise UserError("variant 'dino' needs vision_encoder=NAME, the one that encoded the data")
    from m2m.model.encoders import build_encoder

    return build_encoder(config.vision_encoder)


def _samples(pipe: M2MPipeline, config: TrainConfig) -> Samples | None:
    from m2m.cli.exporting import sample_grids

    if not (config.validation and config.sample_every):
        return None
    return sample_grids(pipe, config.validation, config.sample_steps, config.sample_guidance)
