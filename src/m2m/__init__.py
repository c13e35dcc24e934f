"""Many-to-many image generation: a few images in, as many further images that share their content and style out.

    from m2m import load_pipeline
    pipe = load_pipeline("tiny-self")  # or a folder, or a hub id
    images = pipe(given_images, num_images=4, seed=0).images

The names below are loaded when they are first asked for: `import m2m` alone, and with it `m2m --help`, loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m2m.loading import load_pipeline
    from m2m.model.autoencoder import TinyAutoencoder
    from m2m.model.unet import M2MModel
    from m2m.pipeline import M2MPipeline
    from m2m.types import UserError

__version__ = "0.1.0"

# Public name -> the module that defines it. diffusers looks classes up here too, when it loads a saved pipeline.
_HOMES = {
    "M2MModel": "m2m.model.unet",
    "M2MPipeline": "m2m.pipeline",
    "TinyAutoencoder": "m2m.model.autoencoder",
    "UserError": "m2m.types",
    "load_pipeline": "m2m.loading",
}

__all__ = ["M2MModel", "M2MPipeline", "TinyAutoencoder", "UserError", "__version__", "load_pipeline"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'm2m' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
