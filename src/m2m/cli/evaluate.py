"""`m2m eval`: a model (or pictures that something else made) under one of the paper's protocols, with floors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2m.devices import checked_device


def evaluate(
    out: Annotated[Path, typer.Option(help="Folder of the images, the features and the report.")],
    model: Annotated[list[str] | None, typer.Option(help="Folder, hub id or shipped name; again for more.")] = None,
    images: Annotated[
        list[Path] | None, typer.Option(help="Folder of pictures made before, DIR/000000/*.png; again for more.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SHARDS", help="Shards of pictures, or world:...  [default: the protocol's]")
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="table1, context-length, real, long, content-style; of a task: novel-view, visual-procedure."
        ),
    ] = "table1",
    sets: Annotated[int, typer.Option(min=1, help="How many sets, drawn by --seed.")] = 300,
    given: Annotated[int | None, typer.Option(min=1, help="Given images of a set.  [default: the protocol's]")] = None,
    generated: Annotated[
        int | None, typer.Option(min=1, help="Images made of a set.  [default: the protocol's]")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps of each image.")] = 50,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.  [default: the model's own]")] = None,
    condition_guidance: Annotated[
        float | None, typer.Option(help="Guidance scale of a task's condition.  [default: the model's own]")
    ] = None,
    window: Annotated[
        str,
        typer.Option(
            metavar="W[,W...]",
            help="Images an image sees: own (the model's choice), all, 4, anchor:6, nearest:4; each a row.",
        ),
    ] = "own",
    extractor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME...]",
            help="inception, clip:ViT-B/32, dinov2:giant, ... (see docs).  [default: the protocol's]",
        ),
    ] = None,
    probe: Annotated[
        str, typer.Option(help="Truth probe for captions of the tiny world; none: without.")
    ] = "probe-mini",
    batch: Annotated[int, typer.Option(min=1, help="Sets of one call; changes the speed, not the images.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of sets, the noise and the intervals.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Score a model, with floors and ceilings beside every number, and write a report that opens offline.

    Interrupted, the same command goes on where it stopped. Several processes share the work:
    `accelerate launch -m m2m.cli eval ...`. docs/evaluation.md explains protocols and measures.

    Example:
      m2m eval --model tiny-self --model tiny-dino --protocol table1 --sets 300 --steps 25 --out out/table1

    Example:
      m2m eval --model runs/mine/model --data shards/test --extractor inception,clip:ViT-B/32 --out out/mine

    Example:
      m2m eval --protocol novel-view --model runs/views/model --data objects/test --sets 50 --out out/views
    """
    from m2m.cli.evaluation_run import Asked, run

    asked = Asked(
        models=tuple(model or ()),
        folders=tuple(images or ()),
        data=data,
        protocol=protocol,
        out=out,
        sets=sets,
        given=given,
        generated=generated,
        steps=steps,
        guidance=guidance,
        windows=window,
        condition_guidance=condition_guidance,
        extractors=None if extractor is None else tuple(extractor.split(",")),
        probe=probe,
        batch=batch,
        seed=seed,
        device=checked_device(device),
    )
    run(asked)
