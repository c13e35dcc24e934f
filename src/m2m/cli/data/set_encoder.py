"""The encoder of `m2m data encode`: an autoencoder, and perhaps a vision encoder, on a device of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from m2m.checkpoint import read_json
from m2m.cli.parts import load_autoencoder, vision_identity, weights_hash
from m2m.data.factory.encode import Arrays
from m2m.data.reading.shard_files import ShardFolder
from m2m.data.reading.stored_set import ENCODERS, StoredSet
from m2m.model_folder import ModelFolder
from m2m.training.encoding import SetEncoder
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
        vae = self._placed(load_autoencoder(autoencoder), dtype)
        scale = 2 ** (len(vae.config.block_out_channels) - 1)
        if size % scale:
            raise UserError(f"pictures of {size} pixels cannot be encoded: the side must be a multiple of {scale}")
        self._processor = VaeImageProcessor(vae_scale_factor=scale, resample="lanczos")
        vision = _vision_encoder(features)
        encoders = {
            "latents": weights_hash(autoencoder),
            "features": None if vision is None else vision_identity(str(features), vision),
        }
        self._settings = {ENCODERS: encoders, "size": size, "dtype": dtype}
        self._encoder = SetEncoder(vae, None if vision is None else self._placed(vision, dtype), batch)

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

    def encode(self, pictures: NDArray[np.uint8]) -> Arrays:
        """[M, H, W, 3] -> "latents" [M, C, h, w] and, with a vision encoder, "features" [M, S, D]."""
        one_set = torch.from_numpy(pictures)[None].to(self._device)  # [1, M, H, W, 3]
        arrays = {"latents": _half(self._encoder.latents(one_set)[0])}
        if self._encoder.decodes:
            arrays["features"] = _half(self._encoder.tokens(one_set)[0])
        return arrays

    def _placed(self, module: Any, dtype: str) -> Any:
        # torch's own `to`: that of diffusers warns of modules to be kept in float32, and lists none.
        return nn.Module.to(module, self._device, DTYPES[dtype])


def model_image_size(model: ModelFolder) -> int:
    """Pixels of a side that a saved pipeline (ours or Stable Diffusion's) was made for. Raises UserError."""
    for part, block in (("model", "unet_config"), ("unet", None)):
        path = model.part(part) / "config.json"
        if path.is_file():
            config = read_json(path)
            sample_size = (config.get(block) or {} if block else config).get("sample_size")
            widths = read_json(model.part("vae") / "config.json").get("block_out_channels")
            if isinstance(sample_size, int) and widths:
                return int(sample_size * 2 ** (len(widths) - 1))
    raise UserError(f"'{model.name}' does not say the size of its images; give --size")


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
    raise UserError(f"'{source.address}' holds no picture; give a folder of shards of pictures")


def _vision_encoder(name: str | None) -> Any:
    from m2m.model.encoders import build_encoder

    return None if name is None else build_encoder(name)


def _half(tensor: Tensor) -> NDArray[np.float16]:
    array: NDArray[np.float16] = tensor.half().cpu().numpy()
    return array
