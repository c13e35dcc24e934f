"""Any text-to-image pipeline of diffusers as a generator; in section 4 of the paper Stable Diffusion 2.1-base.

The noise of a picture comes from a CPU generator of its own seed, so the same caption and seed give the same picture
in any place of any batch, on any worker and any device (up to what the arithmetic of another batch or device rounds).
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m2m.data.generators.pipeline_folder import (
    absent_parts,
    check_whole,
    find_folder,
    pipeline_class,
    variant_of,
    weight_files,
    weights_hash,
)
from m2m.data.generators.protocol import Picture
from m2m.data.generators.safety import open_checker
from m2m.devices import checked_device
from m2m.types import UserError, first_line

if TYPE_CHECKING:
    from m2m.data.generators import GeneratorOptions

DTYPES = ("float32", "float16", "bfloat16")
OWN_SCHEDULER = "model"
DENOISERS = ("unet", "transformer", "prior")


class TextToImageGenerator:
    """A pipeline of diffusers, loaded and ready.

    Args:
        name: a folder in diffusers layout, or a hub id.
        options: see `GeneratorOptions`.

    Raises UserError: no such folder or hub access; no text-to-image pipeline; weights pickled or missing; a scheduler,
    a size, a dtype or a device that it cannot be run with.
    """

    def __init__(self, name: str, options: GeneratorOptions) -> None:
        self.batch = options.batch
        self._options = options
        device = checked_device(options.device)
        with _quiet_libraries():
            folder = find_folder(name)
            _check(options)
            kind = pipeline_class(folder, name)
            self._files = weight_files(folder, name)
            self._checker = open_checker(options.safety_checker, folder, device)
            pipe = _load(kind, folder, name, options.dtype)
            check_whole(pipe.components, self._files, name)
        pipe.scheduler = _scheduler(pipe.scheduler, options.scheduler, name)
        pipe.set_progress_bar_config(disable=True)
        self._pipe = _placed(pipe, device, options)
        self._name = name
        self._size = _checked_size(pipe, options.size, name)
        self._arguments = _accepted(kind, num_inference_steps=options.steps, guidance_scale=options.guidance_scale)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        scheduler = {key: value for key, value in self._pipe.scheduler.config.items() if not key.startswith("_")}
        values = {
            "name": type(self._pipe).__name__,
            "weights_sha256": weights_hash(self._files),
            "scheduler": {"class": type(self._pipe.scheduler).__name__, **scheduler},
            "steps": self._arguments.get("num_inference_steps"),
            "guidance_scale": self._arguments.get("guidance_scale"),
            "size": self._size,
            "dtype": self._options.dtype,
            "compile": self._options.compile,
            "channels_last": self._options.channels_last,
            "safety_checker_sha256": self._checker.digest if self._checker else None,
        }
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain

    def settings(self) -> dict[str, Any]:
        """Pipeline class, hashes of the weights, the scheduler with its schedule, steps, guidance, size, arithmetic."""
        return self._settings

    def generate(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Picture | None]:
        """One picture [size, size, 3] for each caption and its seed; None where the safety checker rejected it.

        Captions over the text encoder's length are cut there by the pipeline. Raises UserError where the arithmetic
        left the range of `dtype` (NaN), which would else be stored as a black picture.
        """
        if len(captions) != len(seeds):
            raise ValueError(f"{len(captions)} captions for {len(seeds)} seeds")
        if not captions:
            return []
        values = self._sample(list(captions), seeds)  # [M, H, W, 3] in 0..1
        if not np.isfinite(values).all():
            raise UserError(
                f"generator '{self._name}' made values that are no numbers, in {self._options.dtype}; "
                "use float32 or bfloat16"
            )
        pictures = list((values * 255).round().astype(np.uint8))
        if self._checker is None:
            return pictures
        verdicts = self._checker.rejected(pictures)
        return [None if rejected else picture for picture, rejected in zip(pictures, verdicts, strict=True)]

    def _sample(self, captions: list[str], seeds: Sequence[int]) -> np.ndarray:
        import torch

        noise = [torch.Generator().manual_seed(seed) for seed in seeds]
        size = {} if self._size is None else {"height": self._size, "width": self._size}
        # "np": floats, in which NaN still shows. The pipelines' own uint8 pictures are rounded from them as we do.
        result = self._pipe(prompt=captions, generator=noise, output_type="np", **size, **self._arguments)
        images: np.ndarray = result.images
        return images


def _check(options: GeneratorOptions) -> None:
    if options.dtype not in DTYPES:
        raise UserError(f"dtype '{options.dtype}' is not one of {', '.join(DTYPES)}")
    if not math.isfinite(options.guidance_scale):
        raise UserError(f"guidance scale {options.guidance_scale} is no number; the paper's is 7.5, 1 is none")


def _load(kind: Any, folder: Path, name: str, dtype: str) -> Any:
    """The pipeline on the CPU, without the parts that no picture needs."""
    import torch
    from safetensors import SafetensorError

    known = inspect.signature(kind.__init__).parameters
    left_out: dict[str, Any] = {part: None for part in absent_parts(folder) if part in known}
    if "requires_safety_checker" in known:
        left_out["requires_safety_checker"] = False
    try:
        return kind.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            variant=variant_of(folder),
            use_safetensors=True,
            local_files_only=True,
            **left_out,
        )
    except (OSError, ValueError, RuntimeError, TypeError, AttributeError, SafetensorError) as error:
        reason = first_line(error)
        raise UserError(f"generator '{name}' cannot be loaded: {reason}") from error


def _scheduler(own: Any, wanted: str, name: str) -> Any:
    """The scheduler of that class, on the pipeline's own noise schedule. Raises UserError where it does not fit."""
    if wanted in (OWN_SCHEDULER, type(own).__name__):
        return own
    fitting = {kind.__name__: kind for kind in own.compatibles}
    if wanted not in fitting:
        others = sorted(set(fitting) - {type(own).__name__})
        hint = f" or one of {', '.join(others)}" if others else ""
        raise UserError(
            f"scheduler '{wanted}' does not fit generator '{name}'; use '{OWN_SCHEDULER}', "
            f"its own {type(own).__name__}{hint}"
        )
    return fitting[wanted].from_config(own.config)


def _placed(pipe: Any, device: str, options: GeneratorOptions) -> Any:
    """The pipeline on its device, with the switches that make it faster."""
    import torch

    pipe = pipe.to(device)
    for part in (getattr(pipe, key, None) for key in (*DENOISERS, "vae")):
        if options.channels_last and part is not None:
            part.to(memory_format=torch.channels_last)
    for denoiser in (getattr(pipe, key, None) for key in DENOISERS):
        if options.compile and denoiser is not None:
            denoiser.compile()  # in place: what diffusers reads from the module's config stays there
    return pipe


def _checked_size(pipe: Any, size: int | None, name: str) -> int | None:
    """The side in pixels; by default the pipeline's own, and None where diffusers alone knows that."""
    factor = getattr(pipe, "vae_scale_factor", None)
    denoiser = next((part for key in DENOISERS if (part := getattr(pipe, key, None)) is not None), None)
    sample_size = getattr(getattr(denoiser, "config", None), "sample_size", None)
    if size is None:
        return factor * sample_size if isinstance(factor, int) and isinstance(sample_size, int) else None
    if factor and size % factor:
        raise UserError(f"size {size} does not fit generator '{name}': it must be a multiple of {factor} pixels")
    return size


def _accepted(kind: Any, **arguments: Any) -> dict[str, Any]:
    """Those of the arguments that a call of the pipeline takes."""
    known = inspect.signature(kind.__call__).parameters
    return {key: value for key, value in arguments.items() if key in known}


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Without diffusers' progress bars and transformers' hints on stderr; what matters is checked and raised."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    levels = [(library, library.get_verbosity()) for library in (diffusers_logging, transformers_logging)]
    for library, _ in levels:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in levels:
            library.set_verbosity(level)
