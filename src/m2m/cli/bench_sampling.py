"""`m2m bench sampling`: what an image costs, ours beside the same U-Net with text attention (figure 9)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2m.cli.data.counter import counter
from m2m.cli.init import Dtype
from m2m.devices import checked_device
from m2m.loading import load_pipeline
from m2m.model_folder import find_model, shipped_folder
from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.evaluation.efficiency.files import Record
    from m2m.evaluation.efficiency.measuring import EfficiencyConfig

OURS = ("self", "recompute", "dino")
SD21_PIXELS = 512
SMALL = 2**28  # bytes of weights


class Size(StrEnum):
    """Sizes of random weights."""

    tiny = "tiny"
    sd21 = "sd21"


@dataclass(frozen=True)
class Asked:
    """What is compared. models: "self", "dino" -> name of a saved model; empty: random weights of `size`."""

    size: Size
    models: Mapping[str, str]
    names: tuple[str, ...]
    pixels: int | None
    vision: str | None
    dtype: Dtype
    device: str
    compile: bool


def bench_sampling(
    out: Annotated[Path, typer.Option(help="Folder of sampling.json, sampling.md and sampling.png.")],
    size: Annotated[Size | None, typer.Option(help="Random weights of this size.  [default: tiny]")] = None,
    self_model: Annotated[
        str | None, typer.Option("--self", metavar="MODEL", help="A saved M2M-Self instead of random weights.")
    ] = None,
    dino_model: Annotated[
        str | None, typer.Option("--dino", metavar="MODEL", help="A saved M2M-DINO instead of random weights.")
    ] = None,
    variants: Annotated[
        str | None, typer.Option(metavar="NAME[,NAME...]", help="Of self, recompute, dino.  [default: all there are]")
    ] = None,
    given: Annotated[str, typer.Option(metavar="G[,G...]", help="Numbers of given images.")] = "1,2,4",
    images: Annotated[str, typer.Option(metavar="N[,N...]", help="Numbers of images to make.")] = "1,2,4,10",
    steps: Annotated[int, typer.Option(min=1, max=999, help="DDIM steps of each image.")] = 50,
    pixels: Annotated[
        int | None, typer.Option(min=8, help="Side of an image.  [default: 512 for sd21, else the model's own]")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Sets of one call.")] = 1,
    guidance: Annotated[float, typer.Option(help="Guidance scale, in every step; 1 is none.")] = 7.5,
    rounds: Annotated[int, typer.Option(min=0, help="Counted rounds; 0: count operations, measure nothing.")] = 3,
    vision: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Random M2M-DINO: efficientnet-lite0 (tiny), dinov2-giant (sd21), ..."),
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="Type of all weights.")] = Dtype.float32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Torch's threads.  [default: torch's choice]")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Blocks of the U-Nets by torch.compile.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, pictures and noise.")] = 0,
) -> None:
    """Measure seconds, operations and memory of an image, beside the same U-Net with text attention.

    Every cell (given images, images made) is measured in turns and written at once. Interrupted, or with further
    numbers in --given and --images, the same command goes on with what is missing.

    Example:
      m2m bench sampling --size sd21 --dtype float16 --device cuda --out out/sampling

    Example:
      m2m bench sampling --size sd21 --rounds 0 --given 4 --images 1,10 --out out/operations
    """
    from m2m.evaluation.efficiency.files import Record
    from m2m.evaluation.efficiency.measuring import EfficiencyConfig
    from m2m.evaluation.efficiency.plot import check_matplotlib

    check_matplotlib()
    asked = Asked(
        size=size or Size.tiny,
        models={name: model for name, model in (("self", self_model), ("dino", dino_model)) if model},
        names=_names(variants, self_model, dino_model),
        pixels=pixels,
        vision=vision,
        dtype=dtype,
        device=checked_device(device),
        compile=compile,
    )
    _check(asked, size)
    config = EfficiencyConfig(steps, guidance, batch, rounds, seed)
    cells = [(g, n) for g in _numbers("--given", given) for n in _numbers("--images", images)]
    if threads:
        import torch

        torch.set_num_threads(threads)
    record = Record.open(out, _settings(asked, config), _machine(asked.device), _notes(asked, config))
    run(record, asked, config, cells)
    print(record.text(), end="")
    print(f"table, plot and numbers: {out}")


def run(record: Record, asked: Asked, config: EfficiencyConfig, cells: Sequence[tuple[int, int]]) -> None:
    """Measure the cells that the record lacks; each is in the folder as soon as it is there.

    Signals are looked at between steps: an exception that Python raises wherever it happens to be may be in a
    finaliser of torch, which swallows it.
    """
    from m2m.evaluation.work import Stopped
    from m2m.signals import stop_signals

    missing = [cell for cell in cells if not record.has(*cell)]
    if not missing:
        return
    with stop_signals() as received:
        try:
            _measure(record, asked, config, missing, lambda: bool(received))
        except Stopped:
            print("m2m: stopped; the same command goes on with the next cell", file=sys.stderr)
            raise typer.Exit(128 + received[0]) from None


def _measure(
    record: Record,
    asked: Asked,
    config: EfficiencyConfig,
    missing: Sequence[tuple[int, int]],
    stop: Callable[[], bool],
) -> None:
    from m2m.evaluation.efficiency.contenders import without_arithmetic
    from m2m.evaluation.efficiency.measuring import contenders, facts, measure, weight_bytes
    from m2m.evaluation.efficiency.operations import Law
    from m2m.evaluation.efficiency.table import cell_line

    with _status("making the networks"):
        pipelines = _pipelines(asked, config)
    with _status("counting operations"):
        # On fake tensors every operation costs a fraction of a millisecond: more than the arithmetic of a tiny network.
        small = all(weight_bytes(pipe) < SMALL for pipe in pipelines.values())
        countable = pipelines if small else {name: without_arithmetic(pipe) for name, pipe in pipelines.items()}
        laws = {name: Law.of(call) for name, call in contenders(countable, config, asked.names, stop).items()}
        found = {name: facts(pipe) for name, pipe in countable.items()}
    if asked.compile and config.rounds:
        _compile(pipelines)
    samplers = contenders(pipelines, config, asked.names, stop)
    with counter("calls") as progress:
        for cell in measure(samplers, laws, config, missing, asked.device, progress):
            record.add(cell, found)
            print(cell_line(cell), flush=True)


def _pipelines(asked: Asked, config: EfficiencyConfig) -> dict[str, Any]:
    """Loaded or random; where nothing is measured, those of full size get no weights."""
    import torch

    from m2m.evaluation.efficiency.contenders import latent_side, random_pipelines, sd21_parts, tiny_parts, with_base
    from m2m.evaluation.efficiency.measuring import pipeline_of

    kind = getattr(torch, asked.dtype.value)
    if asked.models:
        loaded = {name: load_pipeline(find_model(model), asked.device) for name, model in asked.models.items()}
        for name, pipe in loaded.items():
            variant = pipe.model.config.variant
            if variant != name:
                raise UserError(f"--{name} {asked.models[name]}: a model of variant '{variant}'; give --{variant}")
            for part in pipe.components.values():
                if isinstance(part, torch.nn.Module):
                    torch.nn.Module.to(part, kind)
            if asked.pixels:
                pipe.model.unet.register_to_config(sample_size=latent_side(asked.pixels, pipe.vae))
        return with_base(loaded, config.seed)
    wanted = [pipeline_of(name) for name in asked.names]
    if asked.size is Size.tiny:
        tiny = tiny_parts(shipped_folder("tiny-self"), asked.vision or "efficientnet-lite0", asked.pixels)
        return random_pipelines(tiny, kind, asked.device, config.seed, wanted)
    parts = sd21_parts(asked.pixels or SD21_PIXELS, asked.vision or "dinov2-giant")
    return random_pipelines(parts, kind, asked.device if config.rounds else "meta", config.seed, wanted)


def _compile(pipelines: Mapping[str, Any]) -> None:
    """The blocks of every U-Net, as training compiles them."""
    from m2m.evaluation.efficiency.contenders import unet_of
    from m2m.training.loop import LoopConfig
    from m2m.training.preparing import prepare

    for pipe in pipelines.values():
        prepare(unet_of(pipe), LoopConfig(compile=True))


def _settings(asked: Asked, config: EfficiencyConfig) -> dict[str, Any]:
    """What must be the same for all cells of a folder, resolved."""
    own: dict[str, Any] = {"pixels": asked.pixels or (SD21_PIXELS if _is_sd21(asked) else "the model's own")}
    if asked.models:
        for name, model in asked.models.items():
            own[name] = f"{model} ({find_model(model).weight_digest()[:12]})"
    else:
        vision = asked.vision or ("dinov2-giant" if asked.size is Size.sd21 else "efficientnet-lite0")
        own |= {"size": asked.size.value, "vision": vision}
    own |= asdict(config)
    own |= {"dtype": asked.dtype.value, "device": asked.device, "compile": asked.compile}
    return own | {"variants": list(asked.names)}


def _machine(device: str) -> dict[str, str]:
    import torch

    from m2m.evaluation.versions import versions

    found = versions(device)
    kept = ("processor", "device", "torch", "diffusers", "m2m")
    return {name: found[name] for name in kept} | {"threads": str(torch.get_num_threads())}


def _notes(asked: Asked, config: EfficiencyConfig) -> list[str]:
    """How to read the numbers."""
    notes = [
        "Base: diffusers' StableDiffusionPipeline on the same U-Net with text attention, 77 tokens of random "
        "embedding, guided as the others. Its text encoder is left out, which would run once a call; with it the base "
        "would be slower, and ours look better.",
        "Recomputing is the paper's way whole: every context image again at every step, and as many zeroed images for "
        "the unconditional branch. Ours drops the context there.",
        "All make their images one after the other, for each of ours needs those before it. Encoding the given images, "
        "the vision encoder and decoding are in every number.",
        "Times the base: the median of the rounds' ratios, in brackets their range; the contenders take turns.",
        "Operations: two for each multiplication and addition of matrix products and convolutions.",
    ]
    if config.rounds:
        notes.append(f"Peak beside the weights: {_memory_note(asked)}")
    return notes


def _memory_note(asked: Asked) -> str:
    if asked.device.startswith("cuda"):
        return "torch's allocations during a call of one step, above those before it."
    note = "resident memory of the process during a call of one step, above what it was before; '-': not known here."
    return note + " The compiler's own is in it." if asked.compile else note


def _names(variants: str | None, self_model: str | None, dino_model: str | None) -> tuple[str, ...]:
    """Names of our contenders. Raises UserError."""
    there: tuple[str, ...] = OURS
    if self_model or dino_model:
        there = tuple(name for name in OURS if (dino_model if name == "dino" else self_model))
    if variants is None:
        return there
    chosen = [name for name in variants.split(",") if name]
    for name in chosen:
        if name not in there:
            raise UserError(f"--variants names '{name}': use some of {', '.join(there)}, parted by commas")
    if not chosen:
        raise UserError(f"--variants names none: use some of {', '.join(there)}, parted by commas")
    return tuple(name for name in OURS if name in chosen)


def _numbers(option: str, text: str) -> list[int]:
    """ "1,2,4" -> [1, 2, 4]. Raises UserError."""
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise UserError(f"{option} '{text}' is no list of numbers such as 1,2,4") from error
    if numbers[0] < 1:
        raise UserError(f"{option} names {numbers[0]}: use 1 or more")
    return numbers


def _check(asked: Asked, size: Size | None) -> None:
    """Raise UserError for options that exclude each other, and for models that are not there."""
    if asked.models and size:
        raise UserError("--size is for random weights: leave it out, or --self and --dino")
    if asked.models and asked.vision:
        raise UserError("--vision is for random weights: a saved M2M-DINO brings its own")
    for model in asked.models.values():
        find_model(model)


def _is_sd21(asked: Asked) -> bool:
    return not asked.models and asked.size is Size.sd21


@contextmanager
def _status(text: str) -> Iterator[None]:
    """A note on stderr for as long as it takes, where that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(text) if console.is_terminal else nullcontext():
        yield
