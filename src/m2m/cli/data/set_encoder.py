"""The encoder of `m2m data encode`: an autoencoder, and perhaps a vision encoder, on a device of this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from m2m.checkpoint import read_json
from m2m.cli.parts import load_autoencoder, weights_hash
from m2m.data.factory.encode import Arrays
from m2m.data.reading.shard_files import ShardFolder
from m2m.data.reading.stored_set import ENCODERS, StoredSet
from m2m.types import UserError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class TorchSetEncoder:
    """Encodes as `M2MPipeline.encode` does: the same resizing, the mean of the posterior, scaled.

    Args:
        autoencoder: its folder. features: name of a vision encoder, see `build_encoder`; None: latents alone.
        size: pixels of a side. resize: pictures of other sizes become their middle square at this size; else they are
            an error.

    Raises UserError for a missing part, an unknown dtype, or a size that the autoencoder cannot halve.
    """

    def __init__(
        self,
        autoencoder: Path,
        size: int,
        resize: bool,
        features: str | None = None,
        batch: int = 32,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        if dtype not in DTYPES:
            raise UserError(f"dtype '{dtype}' is unknown: use one of {', '.join(DTYPES)}")
        self.batch = batch
        self._size, self._resize, self._device = size, resize, torch.device(device)
        self._vae = self._placed(load_autoencoder(autoencoder), dtype)
        scale = 2 ** (len(self._vae.config.block_out_channels) - 1)
        if size % scale:
            raise UserError(f"pictures of {size} pixels cannot be encoded: the side must be a multiple of {scale}")
        self._processor = VaeImageProcessor(vae_scale_factor=scale, resample="lanczos")
        self._vision = _vision_encoder(features)
        encoders = {"latents": weights_hash(autoencoder), "features": _name_and_hash(features, self._vision)}
        self._settings = {ENCODERS: encoders, "size": size, "dtype": dtype}
        if self._vision is not None:
            self._placed(self._vision, dtype)

    def settings(self) -> dict[str, Any]:
        """What shapes the arrays; weights by their hash, the same hash as `m2m train` compares."""
        return self._settings

    def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
        """The picture as a square of the encoder's size, [size, size, 3]."""
        size = self._size
        if picture.size != (size, size):
            if not self._resize:
                raise UserError(
                    f"it has {picture.width}x{picture.height} pixels, the first picture {size}x{size}; with --size all "
                    "become their middle square at that size"
                )
            picture = self._processor.resize(picture, size, size, resize_mode="crop")
        return np.asarray(picture)

    @torch.no_grad()
    def encode(self, pictures: NDArray[np.uint8]) -> Arrays:
        """[M, H, W, 3] -> "latents" [M, C, h, w] and, with a vision encoder, "features" [M, S, D]."""
        pixels = torch.from_numpy(pictures).to(self._device).permute(0, 3, 1, 2)  # [M, 3, H, W] in 0..255
        pixels = pixels.float() / 255 * 2 - 1  # [M, 3, H, W] in [-1, 1]
        latents = self._vae.encode(pixels.to(self._vae.dtype)).latent_dist.mode()  # [M, C, h, w]
        arrays = {"latents": _half(latents.float() * self._vae.config.scaling_factor)}
        if self._vision is not None:
            arrays["features"] = _half(self._vision.encode(pixels[None])[0])  # [M, S, D]
        return arrays

    def _placed(self, module: Any, dtype: str) -> Any:
        # torch's own `to`: that of diffusers warns of modules to be kept in float32, and lists none.
        return nn.Module.to(module, self._device, DTYPES[dtype])


def model_image_size(folder: Path) -> int:
    """Pixels of a side that a saved pipeline (ours or Stable Diffusion's) was made for. Raises UserError."""
    for path, block in ((folder / "model" / "config.json", "unet_config"), (folder / "unet" / "config.json", None)):
        if path.is_file():
            config = read_json(path)
            sample_size = (config.get(block) or {} if block else config).get("sample_size")
            widths = read_json(folder / "vae" / "config.json").get("block_out_channels")
            if isinstance(sample_size, int) and widths:
                return int(sample_size * 2 ** (len(widths) - 1))
    raise UserError(f"'{folder}' does not say the size of its images; give --size")


def first_picture_size(source: ShardFolder) -> int:
    """Pixels of a side of the first picture of a folder of shards. Raises UserError unless there is a square one."""
    for entry in source.manifest.shards:
        with source.open(entry) as shard:
            for row, sample in enumerate(shard.record.samples):
                stored = StoredSet(sample.key, [(shard, row)])
                if stored.numbers:
                    width, height = stored.picture(stored.numbers[0]).size
                    if width != height:
                        raise UserError(
                            f"{stored.where}: a picture has {width}x{height} pixels; give --size, for squares"
                        )
                    return width
    raise UserError(f"'{source.address}' holds no picture")


def _vision_encoder(name: str | None) -> Any:
    from m2m.model.encoders import build_encoder

    return None if name is None else build_encoder(name)


def _name_and_hash(name: str | None, module: nn.Module | None) -> str | None:
    """As "efficientnet-lite0 <sha256 over names and values of its weights>"."""
    if module is None:
        return None
    digest = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f"{name} {digest.hexdigest()}"


def _half(tensor: Tensor) -> NDArray[np.float16]:
    array: NDArray[np.float16] = tensor.half().cpu().numpy()
    return array
