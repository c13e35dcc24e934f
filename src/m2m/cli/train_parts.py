"""What `m2m train` puts together from its settings: the data, the pipeline around what is trained, and the checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.data.reading.dataset import ReadConfig
    from m2m.data.reading.sets import SetData
    from m2m.pipeline import M2MPipeline
    from m2m.training.encoding import SetEncoder
    from m2m.training.image_sets import TrainConfig
    from m2m.training.watching import Check


def open_training_sets(config: TrainConfig, size: int | None = None) -> SetData:
    """The sets that `config.data` names, `images_per_set` images of each. Raises UserError, also for too few images.

    size: pixels of a side that pictures become; None: as stored.
    """
    from m2m.data.reading.sets import open_sets

    read = replace(read_config(config), size=size, too_few=config.too_few)
    data = open_sets(config.data, read, config.cache or None)
    if len(data) < config.batch_sets:
        raise UserError(f"data '{config.data}' has {len(data)} sets; {config.batch_sets} sets a batch are wanted")
    return data


def read_config(config: TrainConfig) -> ReadConfig:
    """`images_per_set` images of each set, drawn as the task wants them."""
    from m2m.data.reading.dataset import ReadConfig
    from m2m.training.conditions import task_of

    task = task_of(config.task)
    consecutive = task is not None and task.ordered
    return ReadConfig(images=config.images_per_set, seed=config.seed, consecutive=consecutive)


def at_own_size(config: TrainConfig, data: SetData, pipe: M2MPipeline) -> SetData:
    """The training sets with pictures of the size that the pipeline is made for; latents stay what they are."""
    return open_training_sets(config, pipe.image_size) if data.encoders is None else data


def build_pipeline(config: TrainConfig, data: SetData, device: Any) -> M2MPipeline:
    """What is trained, among all that samples and the export need: of `base`, or new with the named parts.

    Raises UserError for a part that is missing or was not the one that encoded the data, or a base of another task.
    """
    pipe = _of_base(config, device) if config.base else _new(config, data)
    _check_encoders(config, pipe, data)
    take_up_settings(pipe.model, config)
    if config.task:
        pipe.register_to_config(**_sampling(config), default_condition_guidance_scale=config.sample_condition_guidance)
    return pipe.to(device)


def take_up_settings(model: Any, config: TrainConfig) -> None:
    """Give the model, in place, what it needs for `task` and `context_sizes`. Raises UserError where it has others."""
    from m2m.training.conditions import take_up_task, task_of

    take_up_task(model, task_of(config.task), config.seed, f"base '{config.base}'")
    if config.context_sizes not in (0, model.config.context_sizes):
        model.add_context_sizes(config.context_sizes, config.seed)


def encoder_of(pipe: M2MPipeline) -> SetEncoder:
    """Pictures to latents and tokens, as the pipeline does it."""
    from m2m.training.encoding import SetEncoder

    return SetEncoder(pipe.vae, pipe.vision_encoder)


def training_checks(pipe: M2MPipeline, encoder: SetEncoder, config: TrainConfig) -> list[Check]:
    """What is looked at on the way: validation losses, and grids of samples."""
    from m2m.cli.exporting import sample_grids
    from m2m.training.conditions import task_of
    from m2m.training.watching import Check

    checks = []
    if config.validation and config.validate_every:
        checks.append(Check("validation", config.validate_every, _validation_losses(pipe, encoder, config)))
    if config.validation and config.sample_every:
        grids = sample_grids(pipe, config.validation, config.sample_steps, config.sample_guidance, task_of(config.task))
        checks.append(Check("samples", config.sample_every, grids))
    return checks


def check_base(config: TrainConfig, variant: str) -> None:
    """Raise UserError where the settings say otherwise than the base, whose variant is given."""
    if config.variant and config.variant != variant:
        raise UserError(f"base '{config.base}' is of variant '{variant}', the settings say '{config.variant}'")
    if config.unet or config.scheduler:
        raise UserError("base= brings its own U-Net and scheduler: leave out unet and scheduler, or base")


def check_new(config: TrainConfig) -> None:
    """Raise UserError where a part of a new pipeline is not named."""
    if config.from_scratch:
        raise UserError("from_scratch=true takes the structure of a base: give base=DIR, or leave it out")
    if not config.autoencoder:
        raise UserError("give autoencoder=DIR, the one that encoded the data, or base=DIR, a pipeline to start from")
    if config.variant == "dino" and not config.vision_encoder:
        raise UserError("variant 'dino' needs vision_encoder=NAME, the one that encoded the data")


def _of_base(config: TrainConfig, device: Any) -> M2MPipeline:
    from m2m.loading import load_pipeline
    from m2m.model_folder import find_model
    from m2m.training.image_sets import redrawn, with_zero_terminal_snr

    pipe = load_pipeline(find_model(config.base), str(device))
    check_base(config, pipe.model.config.variant)
    if config.from_scratch:
        pipe.register_modules(model=redrawn(pipe.model, config.seed))
    if config.null_context:
        pipe.model.register_to_config(null_context=config.null_context)
    pipe.register_modules(scheduler=with_zero_terminal_snr(pipe.scheduler, config.zero_terminal_snr))
    return pipe


def _new(config: TrainConfig, data: SetData) -> M2MPipeline:
    from m2m.cli.parts import load_autoencoder
    from m2m.pipeline import M2MPipeline
    from m2m.training.image_sets import new_model, new_scheduler

    check_new(config)
    vision_encoder = _vision_encoder(config)
    return M2MPipeline(
        model=new_model(config, vision_encoder.dim if vision_encoder else None),
        vae=load_autoencoder(config.autoencoder),
        scheduler=new_scheduler(config),
        vision_encoder=vision_encoder,
        **_sampling(config),
    )


def _sampling(config: TrainConfig) -> dict[str, Any]:
    """What the pipeline does where nobody says. Raises UserError for a window that is none."""
    from m2m.sampling_request import chosen_window

    window, policy = chosen_window(config.sample_window or "all", config.sample_window_policy, {})
    return {
        "default_guidance_scale": config.sample_guidance,
        "default_guidance_interval": list(config.sample_guidance_interval),
        "default_window": window,
        "default_window_policy": policy,
    }


def _vision_encoder(config: TrainConfig) -> Any:
    if config.variant != "dino":
        return None
    from m2m.model.encoders import build_encoder

    return build_encoder(config.vision_encoder)


def _check_encoders(config: TrainConfig, pipe: M2MPipeline, data: SetData) -> None:
    """Latents that another autoencoder made look alike and are not: compare the hashes that the data names."""
    from m2m.cli.parts import vision_identity, weights_hash
    from m2m.model_folder import find_model

    if data.encoders is None:
        return
    folder = find_model(config.base).part("vae") if config.base else Path(config.autoencoder)
    if data.encoders["latents"] != weights_hash(folder):
        raise UserError(f"autoencoder '{folder}' is not the one that encoded '{config.data}': give that")
    if pipe.vision_encoder is not None and data.encoders.get("features"):
        own = vision_identity("", pipe.vision_encoder).split()[-1]
        if data.encoders["features"].split()[-1] != own:
            raise UserError(f"the vision encoder is not the one that made the features of '{config.data}': give that")


def _validation_losses(
    pipe: M2MPipeline, encoder: SetEncoder, config: TrainConfig
) -> Callable[[int], Mapping[str, float]]:
    """A function that measures the validation losses, always on the same images with the same noise."""
    import torch

    from m2m.data.reading.image_set import stack_sets
    from m2m.data.reading.sets import open_sets
    from m2m.training.conditions import set_conditions, task_of
    from m2m.training.image_sets import set_inputs
    from m2m.training.validation import validation_losses

    read = read_config(config)
    held_out = open_sets(config.validation, read)
    if held_out.encoders is None:
        held_out = open_sets(config.validation, replace(read, size=pipe.image_size))
    sets = stack_sets([held_out[i] for i in range(min(len(held_out), config.validation_sets))])
    latents, context = set_inputs(pipe.model, encoder, sets, torch.device("cpu"))
    conditions = set_conditions(task_of(config.task), sets, torch.device("cpu"))
    at_once = config.micro_batch_sets or config.batch_sets

    def losses(step: int) -> Mapping[str, float]:
        return validation_losses(
            pipe.model, pipe.scheduler, latents, context, batch_sets=at_once, conditions=conditions
        )

    return losses
