"""Loading the parts that commands name: an autoencoder folder, a vision encoder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from m2m.checkpoint import read_json, sha256_of_files
from m2m.types import UserError


def load_autoencoder(folder: str | Path) -> Any:
    """A TinyAutoencoder or diffusers AutoencoderKL, in float32 and eval mode. Raises UserError."""
    from diffusers import AutoencoderKL

    from m2m.model.autoencoder import TinyAutoencoder

    classes: dict[str, Any] = {cls.__name__: cls for cls in (TinyAutoencoder, AutoencoderKL)}
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise UserError(
            f"autoencoder '{folder}' does not exist or has no config.json; `m2m train-autoencoder` makes one"
        )
    name = read_json(path).get("_class_name")
    if name not in classes:
        raise UserError(f"autoencoder '{folder}' is a {name}; it must be one of {', '.join(classes)}")
    return classes[name].from_pretrained(folder, use_safetensors=True).eval().requires_grad_(False)


def weights_hash(folder: str | Path) -> str:
    """One sha256 over the safetensors files of a folder."""
    return sha256_of_files(sorted(Path(folder).glob("*.safetensors")))


def vision_identity(name: str, encoder: Any) -> str:
    """As "efficientnet-lite0 <sha256 over names and values of its weights>".

    Values are rounded to half precision, in which pipelines are exported: they are the same encoder.
    """
    import torch

    digest = hashlib.sha256()
    for key, tensor in sorted(encoder.state_dict().items()):
        digest.update(key.encode())
        rounded = tensor.half() if tensor.is_floating_point() else tensor
        digest.update(rounded.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f"{name} {digest.hexdigest()}".strip()
