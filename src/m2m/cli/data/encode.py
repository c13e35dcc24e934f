"""`m2m data encode`: latents of a folder of shards, so that training never runs the autoencoder."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2m.cli.data.counter import counter
from m2m.signals import stop_signals
from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.data.factory.encode import EncodeReport
    from m2m.data.reading.shard_files import ShardFolder

SHOWN_FAILURES = 5


def data_encode(
    data: Annotated[str, typer.Argument(metavar="DIR|URL", help="Folder of shards of pictures.")],
    out: Annotated[Path, typer.Option(help="Folder for the latents; a run that was cut off continues in it.")],
    model: Annotated[
        str | None, typer.Option(help="Model whose autoencoder encodes: a folder, a hub id, tiny-self, tiny-dino.")
    ] = None,
    autoencoder: Annotated[Path | None, typer.Option(help="Or the folder of an autoencoder alone.")] = None,
    features: Annotated[
        str | None,
        typer.Option(help="Store a vision encoder's features too: efficientnet-lite0, dinov2-giant, ..."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=8, help="Pixels of a side; others are cropped and resized.  [default: the model's, or as stored]"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="What the encoders compute in: float32, float16, bfloat16.")] = "float32",
    batch: Annotated[int, typer.Option(min=1, help="Pictures that are encoded at once.")] = 32,
    threads: Annotated[int, typer.Option(min=0, help="Threads that read pictures; 0: one a core, at most four.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Where the shards of a URL are kept.")] = None,
) -> None:
    """Encode a folder of shards: latents, and on request vision features, half precision, in shards of the same names.

    The same command again makes only what is missing, also after the source grew; another process, on another GPU, may
    run it at the same time. A folder of another source or encoder is refused. A damaged shard of the source is named
    and left out, and the exit code is 1. Without --features, training works out the features of M2M-DINO itself.

    Example:
      m2m data encode data/mis --model models/m2m-self --dtype float16 --out data/mis-latents

    Example:
      m2m data encode data/tiny --model tiny-dino --features efficientnet-lite0 --out data/tiny-latents
    """
    from m2m.data.reading.shard_files import ShardCache, ShardFolder

    source = ShardFolder(data, None if cache is None else ShardCache(cache))  # a typo is told before torch is loaded
    from m2m.cli.data.set_encoder import TorchSetEncoder
    from m2m.data.factory.encode import EncodeSettings, encode_shards
    from m2m.devices import checked_device

    folder, own_size = _autoencoder(model, autoencoder)
    side = size or own_size
    encoder = TorchSetEncoder(
        folder,
        size=side or _stored_size(source),
        resize=side is not None,
        features=features,
        batch=batch,
        dtype=dtype,
        device=checked_device(device),
    )
    with stop_signals() as received, counter("sets") as progress:
        report = encode_shards(source, encoder, EncodeSettings(out, threads), progress, lambda: bool(received))
    _end(report, out, source, received)


def _autoencoder(model: str | None, autoencoder: Path | None) -> tuple[Path, int | None]:
    """The folder of the autoencoder, and the size of image that its model is made for, if there is a model."""
    from m2m.cli.data.set_encoder import model_image_size
    from m2m.model_folder import find_model

    if (model is None) == (autoencoder is None):
        raise UserError("give either --model, whose autoencoder encodes, or --autoencoder, the folder of one")
    if autoencoder is not None:
        return autoencoder, None
    found = find_model(str(model))
    return found.part("vae"), model_image_size(found)


def _stored_size(source: ShardFolder) -> int:
    from m2m.cli.data.set_encoder import first_picture_size

    return first_picture_size(source)


def _end(report: EncodeReport, out: Path, source: ShardFolder, received: Sequence[int]) -> None:
    """Say what was made and what was not. Exit code 1: damaged shards; 128 + number: a signal stopped the run."""
    there = len(report.wanted) - len(report.failed) - len(report.left)
    summary = f"{there} of {len(report.wanted)} shards are encoded, {len(report.made)} of them new: {out}"
    for _, error in report.failed[:SHOWN_FAILURES]:
        _say(error)
    if report.left and received:
        _say(f"stopped by {signal.Signals(received[0]).name}; the same command continues. {summary}")
        raise typer.Exit(128 + received[0])
    if report.failed:
        _say(f"{len(report.failed)} shards of '{source.address}' are damaged; repair them and encode again. {summary}")
        raise typer.Exit(1)
    if report.left:
        _say(f"{len(report.left)} shards are in the hands of another process")
    if not source.manifest.complete:
        _say(f"'{source.address}' is not complete; encode again when it has grown")
    print(summary)


def _say(line: str) -> None:
    print(f"m2m: {line}", file=sys.stderr)
