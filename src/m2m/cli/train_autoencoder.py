"""`m2m train-autoencoder`: the tiny autoencoder, from the pictures of image sets to a folder that pipelines load."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2m.cli.training_run import end_of_run, shown_progress

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from m2m.data.reading.sets import SetData
    from m2m.model.autoencoder import TinyAutoencoder
    from m2m.training.autoencoder import FeatureExtractor
    from m2m.training.autoencoder_task import AutoencoderConfig
    from m2m.training.loop import TrainingResult
    from m2m.training.watching import Check

SAMPLED = 8
MEASURED = 2048  # pictures that the scaling factor is measured on


def train_autoencoder(
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="Settings.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings and stop.")] = False,
) -> None:
    """Train the tiny autoencoder; a run whose `out` holds a checkpoint continues there.

    Example:
      m2m train-autoencoder --config configs/tiny/autoencoder.yaml data=world:mini:train:6000
        out=runs/autoencoder
    """
    from m2m.config import config_yaml, load_config
    from m2m.training.autoencoder_task import AutoencoderConfig

    settings = load_config(AutoencoderConfig, config, overrides or [])
    if dry_run:
        print(config_yaml(settings), end="")
        return
    end_of_run(_run(settings))


def _run(config: AutoencoderConfig) -> TrainingResult:
    import torch

    from m2m.config import config_dict, save_config
    from m2m.model.autoencoder import TinyAutoencoder
    from m2m.training.autoencoder_task import AutoencoderTask, open_pictures
    from m2m.training.loop import train
    from m2m.training.parallel import Processes
    from m2m.training.watching import Work

    data = open_pictures(config.data, config)
    with Processes(config) as processes, shown_progress("pictures") as report:
        torch.manual_seed(config.seed)
        model = TinyAutoencoder(**config.model).to(processes.device)
        task = AutoencoderTask(model, data, config, _features(config, processes.device))
        task.accumulation(processes.ranks)  # several processes are refused before anything is written
        checks = _checks(model, config)
        save_config(config, Path(config.out) / "config.yaml")
        work = Work(sets=config.batch_images)
        result = train(task, config, config_dict(config), processes, report, checks, work)
        if config.export and not result.signal:
            _export(result, data, config)
    return result


def _features(config: AutoencoderConfig, device: torch.device) -> FeatureExtractor | None:
    """Early layers of EfficientNet-Lite0, where the loss compares features."""
    if config.objective.perceptual_weight == 0:
        return None
    from m2m.model.encoders import EfficientNetLite0Encoder

    return EfficientNetLite0Encoder().to(device).early_features


def _checks(model: TinyAutoencoder, config: AutoencoderConfig) -> list[Check]:
    """Originals above reconstructions, always of the same held-out pictures."""
    import numpy as np

    from m2m.data.grids import image_grid
    from m2m.data.pictures import images_from_pixels, to_pixels
    from m2m.training.autoencoder_task import open_pictures, pictures
    from m2m.training.watching import Check

    if not (config.validation and config.sample_every):
        return []
    held_out = open_pictures(config.validation, config)
    pixels = to_pixels(next(pictures(held_out, SAMPLED, seed=0))).to(model.device)

    def reconstructions(step: int) -> Mapping[str, NDArray[np.uint8]]:
        rows = [images_from_pixels(pixels), images_from_pixels(model(pixels).sample)]
        return {"reconstructions": np.asarray(image_grid(rows, row_labels=["picture", "decoded"]))}

    return [Check("samples", config.sample_every, reconstructions)]


def _export(result: TrainingResult, data: SetData, config: AutoencoderConfig) -> None:
    """The averaged weights in float16, with the scaling factor that gives their latents unit deviation."""
    from m2m.checkpoint import atomic_folder
    from m2m.data.pictures import to_pixels
    from m2m.training.autoencoder import measure_scaling_factor
    from m2m.training.autoencoder_task import pictures

    measured = to_pixels(next(pictures(data, min(MEASURED, len(data)), config.seed)))
    with result.optimisation.averaged() as averaged:
        model: Any = copy.deepcopy(averaged)
    # Measured on the weights as they will be loaded: rounded to float16.
    model = model.half().float()
    model.register_to_config(scaling_factor=measure_scaling_factor(model, measured))
    with atomic_folder(config.export) as folder:
        model.half().save_pretrained(folder)
        for path in folder.glob("*.safetensors"):
            path.chmod(0o644)  # safetensors makes files that only their owner can read
    print(f"autoencoder: {config.export}")
