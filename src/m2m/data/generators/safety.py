"""The optional safety checker: Stable Diffusion's own, run on the pictures of any pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m2m.checkpoint import sha256_of_files
from m2m.data.generators.pipeline_folder import check_whole
from m2m.data.generators.protocol import Picture
from m2m.types import UserError, first_line

HUB_FILES = ["*.json", "*.safetensors"]  # no pickles


class SafetyChecker:
    """Says which pictures show what should not be shown. Runs in float32, so that `dtype` changes no verdict.

    Args:
        folder: of a StableDiffusionSafetyChecker, as transformers saves it.
        processor: folder of its preprocessor_config.json.
        device: where it runs.

    Attributes:
        digest: sha256 of its weights.

    Raises UserError where it cannot be loaded, or a weight is missing.
    """

    def __init__(self, folder: Path, processor: Path, device: str) -> None:
        from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
        from transformers import CLIPImageProcessorPil

        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise UserError(
                f"safety checker: '{folder}' holds no *.safetensors; save it with them: save_pretrained(DIR)"
            )
        try:
            self._processor: Any = CLIPImageProcessorPil.from_pretrained(processor, local_files_only=True)
            checker: Any = StableDiffusionSafetyChecker.from_pretrained(
                folder, use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = first_line(error)
            raise UserError(f"safety checker '{folder}' cannot be loaded: {reason}") from error
        check_whole({"safety_checker": checker}, {"safety_checker": files}, str(folder))
        self.digest = sha256_of_files(files)
        self._checker = checker.float().eval().to(device)

    def rejected(self, pictures: Sequence[Picture]) -> list[bool]:
        """Whether each picture, uint8 [H, W, 3], is rejected."""
        inputs = self._processor(list(pictures), return_tensors="pt")["pixel_values"]  # [M, 3, 224, 224]
        # It blackens what it rejects; only its verdict is wanted, so it gets copies.
        _, verdicts = self._checker(clip_input=inputs.to(self._checker.device), images=[p.copy() for p in pictures])
        return list(verdicts)


def open_checker(option: str, pipeline: Path, device: str) -> SafetyChecker | None:
    """The checker that `GeneratorOptions.safety_checker` names; "model" is the one in the pipeline's folder."""
    if option == "off":
        return None
    if option != "model":
        folder = Path(option) if Path(option).is_dir() else _download(option)
        return SafetyChecker(folder, folder, device)
    if not (pipeline / "safety_checker").is_dir():
        raise UserError(f"'{pipeline}' has no safety checker of its own; name one, DIR_OR_HUB_ID")
    return SafetyChecker(pipeline / "safety_checker", pipeline / "feature_extractor", device)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub's client raises its own errors, its HTTP library's, and plain OSErrors
        reason = first_line(error)
        raise UserError(f"safety checker '{name}' is no folder, and the hub did not give it: {reason}") from error
