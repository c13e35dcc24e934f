"""`m2m train-autoencoder`: the tiny autoencoder, from stored pictures to a folder that pipelines load."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2m.cli.training_run import end_of_run, print_progress
from m2m.devices import checked_device

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from m2m.model.autoencoder import TinyAutoencoder
    from m2m.training.autoencoder import FeatureExtractor
    from m2m.training.autoencoder_task import AutoencoderConfig
    from m2m.training.loop import TrainingResult

SAMPLED = 8
MEASURED = 2048  # pictures that the scaling factor is measured on


def train_autoencoder(
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="Settings.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings and stop.")] = False,
) -> None:
    """Train the tiny autoencoder; a run whose `out` holds a checkpoint continues there.

    Example:
      m2m train-autoencoder --config configs/tiny/autoencoder.yaml data=runs/data/pictures out=runs/autoencoder
    """
    from m2m.config import config_yaml, load_config
    from m2m.training.autoencoder_task import AutoencoderConfig

    settings = load_config(AutoencoderConfig, config, overrides or [])
    if dry_run:
        print(config_yaml(settings), end="")
        return
    end_of_run(_run(replace(settings, device=checked_device(settings.device))))


def _run(config: AutoencoderConfig) -> TrainingResult:
    import torch

    from m2m.config import config_dict, save_config
    from m2m.data.stored import StoredImages
    from m2m.model.autoencoder import TinyAutoencoder
    from m2m.training.autoencoder_task import AutoencoderTask
    from m2m.training.loop import train

    images = StoredImages(config.data)
    torch.manual_seed(config.seed)
    model = TinyAutoencoder(**config.model).to(config.device)
    task = AutoencoderTask(model, images, config, _features(config))
    samples = _samples(model, StoredImages(config.validation), config) if config.validation else None
    save_config(config, Path(config.out) / "config.yaml")
    result = train(task, config, config_dict(config), print_progress(config.batch_images), samples)
    if config.export and not result.signal:
        _export(result, images, config)
    return result


def _features(config: AutoencoderConfig) -> FeatureExtractor | None:
    """Early layers of EfficientNet-Lite0, where the loss compares features."""
    if config.objective.perceptual_weight == 0:
        return None
    from m2m.model.encoders import EfficientNetLite0Encoder

    return EfficientNetLite0Encoder().to(config.device).early_features


def _samples(model: TinyAutoencoder, held_out: Any, config: AutoencoderConfig) -> Any:
    """Originals above reconstructions, always of the same held-out pictures."""
    import numpy as np

    from m2m.data.grids import image_grid
    from m2m.data.pictures import images_from_pixels
    from m2m.data.stored import to_pixels

    pixels = to_pixels(held_out.batch(SAMPLED, seed=0, step=0)).to(config.device)

    def samples(step: int) -> Mapping[str, NDArray[np.uint8]]:
        decoded = model(pixels).sample
        rows = [images_from_pixels(pixels), images_from_pixels(decoded)]
        return {"reconstructions": np.asarray(image_grid(rows, row_labels=["picture", "decoded"]))}

    return samples


def _export(result: TrainingResult, images: Any, config: AutoencoderConfig) -> None:
    """The averaged weights in float16, with the scaling factor that gives their latents unit deviation."""

    from m2m.checkpoint import atomic_folder
    from m2m.data.stored import to_pixels
    from m2m.training.autoencoder import measure_scaling_factor

    pictures = to_pixels(images.batch(min(MEASURED, len(images)), seed=config.seed, step=0))
    with result.optimisation.averaged() as averaged:
        model: Any = copy.deepcopy(averaged)
    # Measured on the weights as they will be loaded: rounded to float16.
    model = model.half().float()
    model.register_to_config(scaling_factor=measure_scaling_factor(model, pictures))
    with atomic_folder(config.export) as folder:
        model.half().save_pretrained(folder)
        for path in folder.glob("*.safetensors"):
            path.chmod(0o644)  # safetensors makes files that only their owner can read
    print(f"autoencoder: {config.export}")
