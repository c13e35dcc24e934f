"""Generators: what makes the pictures of a set. A text-to-image pipeline of diffusers, or the tiny world.

    from m2m.data.generators import GeneratorOptions, image_seed, open_generator

    generator = open_generator(GeneratorOptions("diffusers:path/to/stable-diffusion-2-1-base", dtype="float16"))
    pictures = generator.generate(["a photo of a cat"] * 2, [image_seed("6f1e...", index) for index in (0, 1)])

A further kind of generator is one class with the two methods of `protocol.Generator` and one row in `open_generator`.
"""

from __future__ import annotations

from dataclasses import dataclass

from m2m.data.generators.protocol import Generator, Picture, image_seed
from m2m.types import UserError

__all__ = ["Generator", "GeneratorOptions", "Picture", "image_seed", "open_generator"]

SPECS = "world:mini, world:full or diffusers:DIR_OR_HUB_ID"


@dataclass(frozen=True)
class GeneratorOptions:
    """Which generator, and how it runs. JSON-able, so that a worker on another machine can open the same one.

    Attributes:
        spec: "world:mini", "world:full" or "diffusers:DIR_OR_HUB_ID".
        size: pixels of a side; None: the generator's own (world: 64; Stable Diffusion 2.1-base: 512).
        batch: pictures of one call.
        steps, guidance_scale, scheduler: as in section 4 of the paper; 50 steps are diffusers' default, which the
            paper leaves. scheduler: a class name of diffusers, or "model" for the pipeline's own. Not for the world.
        dtype: float32, float16 or bfloat16. Not for the world.
        device: "auto" (the first GPU if there is one), "cpu", "cuda", "cuda:1", ... Not for the world.
        compile: run the denoiser through torch.compile: slow to start, faster after.
        channels_last: lay images out as GPUs' tensor cores like them.
        safety_checker: "off", "model" (the one in the pipeline's folder), or DIR_OR_HUB_ID of another.
    """

    spec: str
    size: int | None = None
    batch: int = 8
    steps: int = 50
    guidance_scale: float = 7.5
    scheduler: str = "EulerDiscreteScheduler"
    dtype: str = "float32"
    device: str = "auto"
    compile: bool = False
    channels_last: bool = False
    safety_checker: str = "off"

    def __post_init__(self) -> None:
        """Raise UserError for a number out of range."""
        for name in ("batch", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.size is not None and self.size < 1:
            raise UserError(f"size is {self.size}; it must be at least 1 pixel")


def open_generator(options: GeneratorOptions) -> Generator:
    """The generator that `options.spec` names, ready to run. Raises UserError if there is none, or it cannot load."""
    kind, _, name = options.spec.partition(":")
    if kind == "world" and name:
        from m2m.data.generators.world import WorldGenerator

        return WorldGenerator(name, options.size, options.batch)
    if kind == "diffusers" and name:
        from m2m.data.generators.text_to_image import TextToImageGenerator

        return TextToImageGenerator(name, options)
    raise UserError(f"there is no generator '{options.spec}'; name {SPECS}")
