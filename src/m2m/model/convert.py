"""Stable Diffusion 1.x/2.x -> M2M: the base model that training starts from (appendix A), every weight accounted for.

Read from a folder in diffusers layout, safetensors alone. The U-Net's weights are taken over to the bit, but for its
text attention (``attn2``), whose place Image-Set Attention takes: queries, keys and values drawn anew, output zero.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from m2m.model.unet import M2MModel
from m2m.types import UserError

STEM = "diffusion_pytorch_model"
# In this order. The file without an infix holds the EMA weights, from which the paper starts (appendix A);
# "non_ema" lies beside it in some folders and is never read.
WEIGHTS = (f"{STEM}.safetensors", f"{STEM}.safetensors.index.json", f"{STEM}.fp16.safetensors")
PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth")
# What a conversion reads: a download of a base needs no other file.
BASE_FILES = ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json") + tuple(
    f"{part}/{name}"
    for part in ("unet", "vae")
    for name in (f"{STEM}.safetensors", f"{STEM}.safetensors.index.json", f"{STEM}-?????-of-?????.safetensors")
)

LATENT_CHANNELS = 4
# U-Net inputs that Stable Diffusion 1.x/2.x does not have, and whose model has them.
FOREIGN_INPUTS = {
    "addition_embed_type": "SDXL",
    "encoder_hid_dim": "Kandinsky or DeepFloyd",
    "encoder_hid_dim_type": "Kandinsky or DeepFloyd",
    "class_embed_type": "unCLIP or an upscaler",
    "num_class_embeds": "an upscaler",
    "time_cond_proj_dim": "a latent consistency model",
}
# Appendix A's DDIM, and at 50 steps the timesteps 981, 961, .., 1 on which the base's own sampler runs.
DDIM = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading"}


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters of the base U-Net, its text attention (dropped), Image-Set Attention (new), and the result."""

    base: int
    text_attention: int
    image_set_attention: int
    total: int


def convert_unet(
    folder: str | Path,
    variant: str,
    context_dim: int | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    sample_size: int | None = None,
) -> tuple[M2MModel, ParameterCounts]:
    """The M2M model of a base folder; equal to its base with the text attention left out, until it is trained.

    The tensors are mapped from the base's files and read when they are used: nothing of it is held twice.

    Args:
        folder: holds ``unet/config.json`` and the weights beside it, whole or in shards.
        variant, context_dim: as in ``M2MModel``.
        seed: draws the queries, keys and values of Image-Set Attention.
        dtype: None keeps the base's.
        sample_size: side of the latents that the model is for; None keeps the base's. No weight depends on it.

    Raises:
        UserError: no Stable Diffusion 1.x/2.x U-Net; a missing or left-over weight, or one of another shape.
    """
    config = unet_config(folder)
    if sample_size is not None:
        config["sample_size"] = sample_size
    with torch.device("meta"):
        base = UNet2DConditionModel.from_config(config)
        # By keyword: diffusers takes a positional argument for a default and leaves it out of a copied config.
        model = M2MModel(unet_config=config, variant=variant, context_dim=context_dim)
    shapes = {name: tensor.shape for name, tensor in base.state_dict().items()}
    weights = read_strictly(weight_files(Path(folder) / "unet"), shapes)
    kept = {name: tensor.to(dtype) for name, tensor in weights.items() if not is_text_attention(name)}
    if len(kept) == len(weights):
        raise UserError(f"'{folder}/unet' has no text attention (attn2) whose place image-set attention could take")
    state = {f"unet.{name}": tensor for name, tensor in kept.items()}
    state |= fresh_attention(model, seed, next(iter(kept.values())).dtype)
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval(), count_parameters(base, model)


def fresh_attention(model: M2MModel, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights of every Image-Set Attention by their names in ``model``: nn.Linear's own initialisation, output zero."""
    generator = torch.Generator().manual_seed(seed)
    fresh: dict[str, Tensor] = {}
    for layer in model.image_set_attentions():
        for name, parameter in layer.named_parameters():
            tensor = torch.zeros(parameter.shape, device="cpu")
            if not name.startswith("to_out."):
                nn.init.kaiming_uniform_(tensor, a=5**0.5, generator=generator)
            fresh[f"unet.{layer.layer}.{name}"] = tensor.to(dtype)
    return fresh


def count_parameters(base: nn.Module, model: M2MModel) -> ParameterCounts:
    """Counts of the base U-Net and of the model made of it."""
    text = sum(p.numel() for name, p in base.named_parameters() if is_text_attention(name))
    return ParameterCounts(
        base=sum(p.numel() for p in base.parameters()),
        text_attention=text,
        image_set_attention=sum(p.numel() for p in model.image_set_attention_parameters()),
        total=sum(p.numel() for p in model.parameters()),
    )


def is_text_attention(name: str) -> bool:
    """Whether a weight of the base belongs to a text cross-attention."""
    return ".attn2." in name


def load_vae(folder: str | Path, dtype: torch.dtype | None = None) -> AutoencoderKL:
    """The base's autoencoder, carried over (old names of its attention weights become today's). Raises UserError."""
    place = Path(folder) / "vae"
    config = _public(_read_config(place / "config.json", "AutoencoderKL"))
    files = weight_files(place)
    vae, info = AutoencoderKL.from_pretrained(
        place,
        use_safetensors=True,
        variant="fp16" if ".fp16." in files[0].name else None,
        torch_dtype=dtype or _stored_dtype(files[0]),
        low_cpu_mem_usage=False,
        output_loading_info=True,
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise UserError(f"'{place}' does not fit AutoencoderKL: {kind.replace('_', ' ')}: {_some(info[kind])}")
    if vae.config.latent_channels != LATENT_CHANNELS:
        raise UserError(f"'{place}' has {vae.config.latent_channels} latent channels, Stable Diffusion 1.x/2.x has 4")
    # Built again, without the path of this machine that from_pretrained keeps in the config.
    with torch.device("meta"):
        carried = AutoencoderKL.from_config(config)
    carried.load_state_dict(vae.state_dict(), strict=True, assign=True)
    return carried.eval()


def ddim_scheduler(folder: str | Path) -> DDIMScheduler:
    """The base's noise schedule and prediction type (usually in a PNDM config) with DDIM's steps. Raises UserError."""
    config = _read_config(Path(folder) / "scheduler" / "scheduler_config.json")
    if "beta_schedule" not in config:
        raise UserError(
            f"'{folder}/scheduler' has no beta_schedule: its {config.get('_class_name')} is no diffusion schedule"
        )
    return DDIMScheduler.from_config({**config, **DDIM})


def unet_config(folder: str | Path) -> dict[str, Any]:
    """Config of the base's U-Net without the private entries. Raises UserError where it is another kind of U-Net."""
    place = Path(folder) / "unet" / "config.json"
    config = _read_config(place, "UNet2DConditionModel")
    wanted = "use a Stable Diffusion 1.x or 2.x text-to-image base"
    for side in ("in_channels", "out_channels"):
        if config.get(side, LATENT_CHANNELS) != LATENT_CHANNELS:
            raise UserError(
                f"'{place}' has {side} {config[side]}, not 4 (an inpainting, depth or editing model?): {wanted}"
            )
    for name, owner in FOREIGN_INPUTS.items():
        if config.get(name) is not None:
            raise UserError(f"'{place}' has {name} {config[name]!r}, as {owner} has: {wanted}")
    if not isinstance(config.get("sample_size"), int):
        raise UserError(
            f"'{place}' has sample_size {config.get('sample_size')!r}: it must be the side of the latents, e.g. 64"
        )
    return _public(config)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a part, whole or in shards. Raises UserError where there are none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return _shards(folder / name) if name.endswith(".json") else [folder / name]
    if pickles := sorted(path.name for pattern in PICKLES for path in folder.glob(pattern)):
        raise UserError(
            f"'{folder}' holds {pickles[0]} but no {WEIGHTS[0]}: pickled weights can run code and are never read; "
            "save the base again with diffusers' save_pretrained, which writes safetensors"
        )
    other = [path.name for path in sorted(folder.glob("*.safetensors"))]
    raise UserError(f"'{folder}' has no {WEIGHTS[0]}" + (f", only {other[0]}" if other else ""))


def read_strictly(files: Sequence[Path], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The tensors of all files together, mapped, not read: exactly the names and shapes given. Raises UserError."""
    tensors: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for path in files:
            try:
                file = stack.enter_context(safe_open(path, framework="pt"))
                tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not iterable)
            except (SafetensorError, OSError) as error:
                raise UserError(f"weights file '{path}' is no whole safetensors file: {error}") from error
    place = files[0].parent
    if missing := shapes.keys() - tensors.keys():
        raise UserError(f"'{place}' does not fit its config.json: missing weights: {_some(missing)}")
    if unexpected := tensors.keys() - shapes.keys():
        raise UserError(f"'{place}' does not fit its config.json: unexpected weights: {_some(unexpected)}")
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name]:
            raise UserError(
                f"'{place}': '{name}' has shape {list(tensor.shape)}, config.json wants {list(shapes[name])}"
            )
    return tensors


def _shards(index: Path) -> list[Path]:
    names = _read_config(index).get("weight_map", {})
    files = [index.parent / name for name in sorted(set(names.values()))]
    if not files:
        raise UserError(f"'{index}' names no weight files; save the base again with diffusers' save_pretrained")
    for path in files:
        if path.name != str(path.relative_to(index.parent)) or not path.is_file():
            raise UserError(f"'{path}' is missing: {index.name} names it")
    return files


def _read_config(path: Path, wanted: str | None = None) -> dict[str, Any]:
    """A JSON object, of the class ``wanted`` if one is. Raises UserError."""
    if not path.is_file():
        raise UserError(f"no Stable Diffusion folder in diffusers layout: '{path}' is missing")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise UserError(f"'{path}' is no JSON object; save the base again with diffusers' save_pretrained")
    if wanted is not None and config.get("_class_name") != wanted:
        raise UserError(f"'{path}' describes a {config.get('_class_name')}, not a {wanted}")
    return config


def _public(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not name.startswith("_")}


def _stored_dtype(path: Path) -> torch.dtype:
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(next(iter(file.keys()))).dtype
    except (SafetensorError, OSError) as error:
        raise UserError(f"weights file '{path}' is no whole safetensors file: {error}") from error


def _some(names: Any, limit: int = 4) -> str:
    ordered = sorted(str(name[0] if isinstance(name, tuple) else name) for name in names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more
