"""What `--model` may name, and loading it; the library's own, `m2m.model_folder` and `m2m.loading`."""

from __future__ import annotations

from m2m.loading import load_pipeline
from m2m.model_folder import INDEX, ModelFolder, find_model, shipped_folder

__all__ = ["INDEX", "ModelFolder", "find_model", "load_pipeline", "shipped_folder"]
