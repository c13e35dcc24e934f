"""The networks of a run without their weights, and the shapes of its data: what `m2m train --dry-run` plans with.

Of models only the configs are read, of data the first set. So a plan needs neither the memory nor the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.training.image_sets import TrainConfig
    from m2m.training.plan.outline import Outline

CONFIG = "config.json"


class Networks(NamedTuple):
    """The parts of a pipeline, on torch's meta device."""

    model: Any
    scheduler: Any
    autoencoder: Any
    vision_encoder: Any


def outline_of(config: TrainConfig) -> tuple[Outline, list[str]]:
    """The outline, and a note of what had to be assumed.

    Raises UserError for what the run would refuse too. Data that are not there yet are assumed to be latents of the
    U-Net's size, so that a run can be planned before its data are made.
    """
    from m2m.cli.train_parts import at_own_size, open_training_sets, take_up_settings
    from m2m.pipeline import M2MPipeline
    from m2m.training.encoding import SetEncoder
    from m2m.training.image_sets import ImageSetTask
    from m2m.training.plan.outline import DTYPES, Outline

    networks = _of_base(config) if config.base else _new(config)
    model, scheduler, autoencoder, vision_encoder = networks
    take_up_settings(model, config)
    if _absent(config.data):
        arrays = _assumed_arrays(config, networks)
        sizes = ", ".join(f"{name} {list(shape)}" for name, shape in arrays.items())
        note = f"data '{config.data}' is not there yet; assumed of each set: {sizes}"
        return Outline(model, scheduler, arrays, autoencoder, vision_encoder), [note]
    data = at_own_size(config, open_training_sets(config), M2MPipeline(model, autoencoder, scheduler, vision_encoder))
    ImageSetTask(model, scheduler, data, config, SetEncoder(autoencoder, vision_encoder))  # checks settings and data
    first = data[0]
    arrays = {name: getattr(first, name).shape for name in DTYPES if getattr(first, name) is not None}
    return Outline(model, scheduler, arrays, autoencoder, vision_encoder, len(data)), []


def _of_base(config: TrainConfig) -> Networks:
    """The parts of a saved pipeline."""
    import diffusers

    from m2m.checkpoint import read_json
    from m2m.cli.train_parts import check_base
    from m2m.model_folder import find_model
    from m2m.training.image_sets import with_zero_terminal_snr

    base = find_model(config.base)
    model = _network(base.part("model"))
    check_base(config, model.config.variant)
    place = base.part("scheduler")
    kind = read_json(place / "scheduler_config.json")["_class_name"]
    scheduler = getattr(diffusers, kind).from_pretrained(place)
    vision = base.part("vision_encoder")
    return Networks(
        model,
        with_zero_terminal_snr(scheduler, config.zero_terminal_snr),
        _network(base.part("vae")),
        _network(vision) if (vision / CONFIG).is_file() else None,
    )


def _new(config: TrainConfig) -> Networks:
    """The parts of a pipeline that the run would make."""
    import torch

    from m2m.cli.train_parts import check_new
    from m2m.training.image_sets import new_model, new_scheduler

    check_new(config)
    vision_encoder = _vision_encoder(config.vision_encoder) if config.variant == "dino" else None
    with torch.device("meta"):
        model = new_model(config, vision_encoder.dim if vision_encoder else None)
    return Networks(model, new_scheduler(config), _network(Path(config.autoencoder)), vision_encoder)


def _network(folder: Path) -> Any:
    """The network whose config lies in a folder. Raises UserError where there is none of ours."""
    import torch
    from diffusers import AutoencoderKL

    from m2m.checkpoint import read_json
    from m2m.model.autoencoder import TinyAutoencoder
    from m2m.model.encoders import DinoV2Encoder, EfficientNetLite0Encoder
    from m2m.model.unet import M2MModel

    known = (AutoencoderKL, TinyAutoencoder, DinoV2Encoder, EfficientNetLite0Encoder, M2MModel)
    classes: dict[str, Any] = {cls.__name__: cls for cls in known}
    name = read_json(folder / CONFIG).get("_class_name")
    if name not in classes:
        raise UserError(f"'{folder}' is a {name}; it must be one of {', '.join(classes)}")
    # EfficientNet-Lite0 takes its weights, a few megabytes, from a package wherever it is made.
    with torch.device("cpu" if name == EfficientNetLite0Encoder.__name__ else "meta"):
        return classes[name].from_config(classes[name].load_config(folder))


def _vision_encoder(name: str) -> Any:
    """The named vision encoder, as `build_encoder` makes it. DINOv2's sizes are known here: nothing is downloaded."""
    import torch

    from m2m.model.encoders import DINOV2_SIZES, DinoV2Encoder, build_encoder

    if name not in DINOV2_SIZES:
        return build_encoder(name)
    with torch.device("meta"):
        return DinoV2Encoder(dinov2=DINOV2_SIZES[name])


def _absent(data: str) -> bool:
    """Whether it names files of this machine of which none is there."""
    from glob import glob

    from m2m.data.worlds.specs import is_world

    return not (is_world(data) or "://" in data or glob(data))


def _assumed_arrays(config: TrainConfig, networks: Networks) -> dict[str, tuple[int, ...]]:
    """Encoded sets of the size that the U-Net is made for."""
    unet, images = networks.model.unet.config, config.images_per_set
    arrays: dict[str, tuple[int, ...]] = {"latents": (images, unet.in_channels, unet.sample_size, unet.sample_size)}
    if networks.model.config.variant == "dino":
        arrays["features"] = (images, networks.vision_encoder.tokens, networks.vision_encoder.dim)
    return arrays
