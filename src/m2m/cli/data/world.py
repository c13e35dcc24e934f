"""`m2m data world`: image sets of the tiny world, rendered, encoded and stored for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from m2m.cli.data.counter import counter
from m2m.data.set_writer import Arrays, Encode, Images, SetsConfig, write_sets
from m2m.devices import checked_device
from m2m.types import UserError

ENCODE_BATCH = 32


def data_world(
    out: Annotated[Path, typer.Option(help="Folder for the sets; a cut-off run in it continues.")],
    world: Annotated[str, typer.Option(help="mini or full.")] = "mini",
    split: Annotated[str, typer.Option(help="train, validation, test, or another split of the world.")] = "train",
    sets: Annotated[int, typer.Option(min=1, help="How many sets.")] = 6000,
    images: Annotated[int, typer.Option(min=1, help="Images of each set.")] = 5,
    size: Annotated[int, typer.Option(min=8, help="Pixels of a side.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Draws captions, and what they leave free.")] = 0,
    autoencoder: Annotated[
        Path | None, typer.Option(help="Folder of the autoencoder that makes the latents; none: images alone.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Vision encoder whose features to store (M2M-DINO): efficientnet-lite0.")
    ] = None,
    keep_images: Annotated[bool, typer.Option("--keep-images", help="Store the pictures too.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that render; 0 renders in this one.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="Torch threads that encode; 0: torch's choice.")] = 0,
    device: Annotated[str, typer.Option(help="Where to encode: cpu, cuda.")] = "cpu",
) -> None:
    """Render image sets of the tiny world and store what training reads: latents, features, pictures.

    Example:
      m2m data world --sets 6000 --autoencoder runs/autoencoder/export --out runs/data/train
    """
    device = checked_device(device)
    encoders, identity = _encoders(autoencoder, features, threads, device)
    arrays = (*encoders, *(["images"] if keep_images or not encoders else []))
    config = SetsConfig(world, split, sets, images, size, seed, arrays, identity)
    if autoencoder is None and features is not None:
        raise UserError("--features needs --autoencoder too: a model trains on latents, features are its context")
    _write(out, config, _encode_all(encoders, device), workers)
    print(f"{sets} sets of {images} images: {out}")


def _write(out: Path, config: SetsConfig, encode: Encode, workers: int) -> None:
    with counter("sets") as progress:
        write_sets(out, config, encode, workers=workers, progress=progress)


def _encoders(
    autoencoder: Path | None, features: str | None, threads: int, device: str
) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]]:
    """Name of an array -> the function that makes it of pixels [M, 3, H, W]; and a hash of each one's weights."""
    import torch

    from m2m.cli.parts import load_autoencoder, weights_hash

    if threads:
        torch.set_num_threads(threads)
    encoders: dict[str, Any] = {}
    identity = []
    if autoencoder is not None:
        vae = load_autoencoder(autoencoder).to(device)
        encoders["latents"] = lambda pixels: vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
        identity.append(("latents", weights_hash(autoencoder)))
    if features is not None:
        from m2m.model.encoders import build_encoder

        vision: Any = build_encoder(features).to(device)
        encoders["features"] = lambda pixels: vision.encode(pixels[None])[0]
        identity.append(("features", features))
    return encoders, tuple(identity)


def _encode_all(encoders: dict[str, Any], device: str) -> Encode:
    """uint8 [M, H, W, 3] -> every array, float16 [M, ...], in small batches that bound the memory."""
    import numpy as np
    import torch

    from m2m.data.stored import to_pixels

    @torch.no_grad()
    def encode(images: Images) -> Arrays:
        parts: dict[str, list[Any]] = {name: [] for name in encoders}
        for pixels in to_pixels(images).split(ENCODE_BATCH):
            for name, encoder in encoders.items():
                parts[name].append(encoder(pixels.to(device)).half().cpu().numpy())
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    return encode
