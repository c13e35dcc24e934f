"""`m2m init`: a Stable Diffusion 1.x/2.x folder or hub id in, an untrained many-to-many pipeline out."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2m.checkpoint import atomic_folder, sha256_of_files
from m2m.hub import SD21_BASE, check_not_removed
from m2m.types import UserError, first_line

if TYPE_CHECKING:
    from m2m.model.convert import ParameterCounts
    from m2m.pipeline import M2MPipeline

# sha256 of unet/diffusion_pytorch_model.safetensors (EMA, float32) of Stable Diffusion 2.1-base, as published.
SD21_UNET_SHA256 = "6dfae3e5f7d459b50f4b0850ead945972c75bb0e1897628933e169eb43974214"
DEFAULT_ENCODER = "dinov2-giant"
SHARD = "2GB"

Say = Callable[[str], None]


class Variant(StrEnum):
    """What a new image attends to."""

    self = "self"
    dino = "dino"


class Dtype(StrEnum):
    """Type of the written weights."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def init(
    variant: Annotated[Variant, typer.Option(help="self: M2M-Self; dino: M2M-DINO, with a vision encoder.")],
    out: Annotated[Path, typer.Option(help="New folder for the pipeline.")],
    base: Annotated[
        str, typer.Option(metavar="DIR_OR_HUB_ID", help="Stable Diffusion 1.x/2.x in diffusers layout.")
    ] = SD21_BASE,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_DIR",
            help="dino: dinov2-giant (default), -large, -base, -small, efficientnet-lite0, or a DINOv2 folder.",
        ),
    ] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Type of the weights.  [default: the base's]")] = None,
    size: Annotated[
        int | None, typer.Option(min=8, help="Pixels of a side that it will be trained on.  [default: the base's]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the new attention layers.")] = 0,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Stop unless the base's U-Net file is Stable Diffusion 2.1-base's (sha256)."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a pipeline that lies in --out.")] = False,
) -> None:
    """Turn a Stable Diffusion 1.x/2.x checkpoint into a many-to-many pipeline to train from.

    All weights are the base's, but for its text attention, whose place image-set attention takes, with a zero output:
    untrained, the pipeline paints as its base does without a text.

    Example:
      m2m init --variant self --base path/to/stable-diffusion-2-1-base --verify --out models/m2m-self
    """
    if encoder is not None and variant is Variant.self:
        raise UserError("--encoder is for --variant dino: M2M-Self encodes images with its own U-Net")
    check_out(out, base, overwrite)
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        folder = find_base(base, status.update)
        if verify:
            check_sha256(folder, status.update)
        pipe, counts = convert(folder, variant.value, encoder or DEFAULT_ENCODER, dtype, seed, status.update, size)
        status.update(f"writing {out}")
        write(pipe, out)
    print(summary(counts))
    print(f"M2M-{'Self' if variant is Variant.self else 'DINO'} pipeline, untrained: {out}")


def convert(
    folder: Path, variant: str, encoder: str, dtype: Dtype | None, seed: int, say: Say, size: int | None = None
) -> tuple[M2MPipeline, ParameterCounts]:
    """The pipeline of a base folder, nothing written yet. Raises UserError."""
    import torch

    from m2m.model.convert import convert_unet, ddim_scheduler, load_vae
    from m2m.pipeline import M2MPipeline

    kind = getattr(torch, dtype.value) if dtype else None
    say(f"reading {folder}")
    scheduler, vae = ddim_scheduler(folder), load_vae(folder, kind)
    side = None if size is None else latent_side(size, vae)
    vision: Any = None
    if variant == "dino":
        say(f"loading the vision encoder {encoder}")
        vision = load_encoder(encoder)
        # diffusers' own `to` warns of modules to be kept in float32, and lists none.
        torch.nn.Module.to(vision, kind)
    say(f"converting {folder / 'unet'}")
    model, counts = convert_unet(folder, variant, vision.dim if vision is not None else None, seed, kind, side)
    return M2MPipeline(model, vae, scheduler, vision), counts


def latent_side(size: int, vae: Any) -> int:
    """Side of the latents of square images of `size` pixels. Raises UserError where that is no whole number."""
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    if size % scale:
        raise UserError(
            f"--size is {size}: the autoencoder makes latents {scale}x smaller, so use a multiple of {scale}"
        )
    return size // scale


def write(pipe: M2MPipeline, out: Path) -> None:
    """The pipeline's folder, whole or not at all. Raises UserError where the disk does not take it."""
    from safetensors import SafetensorError

    try:
        with atomic_folder(out) as staged:
            pipe.save_pretrained(staged, safe_serialization=True, max_shard_size=SHARD)
            for path in staged.rglob("*.safetensors"):
                path.chmod(0o644)  # safetensors makes files that only their owner can read
    except (OSError, SafetensorError) as error:
        raise UserError(f"'{out}' cannot be written: {error}") from error


def summary(counts: ParameterCounts) -> str:
    """Parameter counts, one a line."""
    rows = (
        ("base U-Net", counts.base),
        ("- text attention", counts.text_attention),
        ("+ image-set attention", counts.image_set_attention),
        ("= M2M U-Net", counts.total),
    )
    return "\n".join(f"{name:<22}{count:>14,} parameters" for name, count in rows)


def check_out(out: Path, base: str, overwrite: bool) -> None:
    """Refuse a place that must not be written to: a file, a folder that is in use, the base. Raises UserError."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"--out '{out}' is a file: name a new folder")
    if Path(base).exists() and Path(base).resolve().is_relative_to(out.resolve()):
        raise UserError(f"--out '{out}' is or holds the base itself: name a new folder")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise UserError(f"--out '{out}' is not empty: name a new folder, or replace a pipeline in it with --overwrite")
    if not (out / "model_index.json").is_file():
        raise UserError(f"--out '{out}' holds something other than a pipeline: --overwrite does not replace it")


def find_base(name: str, say: Say) -> Path:
    """The local folder of a base: itself, or the files of a hub repository that a conversion reads."""
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(
            f"base '{name}' is a file: give a folder in diffusers layout "
            "(diffusers' StableDiffusionPipeline.from_single_file(FILE).save_pretrained(DIR) makes one)"
        )
    check_not_removed(name, "base", "--base ")
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        raise UserError(
            f"base '{name}' does not exist: give a folder in diffusers layout, or a hub id such as {SD21_BASE}"
        )
    say(f"downloading {name}")
    return _download(name)


def check_sha256(folder: Path, say: Say) -> None:
    """Raises UserError unless the U-Net file is Stable Diffusion 2.1-base's, to the bit."""
    from m2m.model.convert import weight_files

    files = weight_files(folder / "unet")
    say(f"checking the sha256 of {files[0]}")
    if len(files) > 1:
        raise UserError(f"--verify: '{folder / 'unet'}' holds {len(files)} shards; the published U-Net is one file")
    found = sha256_of_files(files)
    if found != SD21_UNET_SHA256:
        raise UserError(
            f"--verify: '{files[0]}' is not the U-Net of Stable Diffusion 2.1-base: "
            f"its sha256 is {found}, not {SD21_UNET_SHA256}"
        )


def load_encoder(name: str) -> Any:
    """A vision encoder by its name, by the folder of a DINOv2 in transformers layout, or by a hub id."""
    from m2m.model.encoders import DINOV2_SIZES, DinoV2Encoder, build_encoder

    if Path(name).is_dir() or "/" in name:
        return DinoV2Encoder.from_hub(name)
    try:
        return build_encoder(name)
    except UserError as error:
        if name not in DINOV2_SIZES:
            raise
        raise UserError(
            f"vision encoder {name}: the hub did not give facebook/{name}; download it elsewhere and name its folder: "
            "--encoder DIR"
        ) from error


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    from m2m.model.convert import BASE_FILES

    try:
        return Path(snapshot_download(name, allow_patterns=list(BASE_FILES)))
    except Exception as error:  # the hub's client raises its own errors, its HTTP library's, and plain OSErrors
        reason = first_line(error)
        raise UserError(
            f"base '{name}' is no folder, and the hub did not give it ({reason}): "
            "download it elsewhere and give its folder, --base DIR"
        ) from error
