"""The second half of `m2m data verify --repair`: opening what a folder was made of, and making damaged shards again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from m2m.cli.data.build_run import progress_line
from m2m.cli.data.counter import counter
from m2m.data.factory.folder import read_build
from m2m.data.factory.origins import Places, given, source_opener
from m2m.signals import stop_signals
from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.data.factory.repair import RepairReport

Stop = Callable[[], bool]
Repair = Callable[[Sequence[str], Stop], "RepairReport"]


def repairer(folder: Path, places: Places) -> Repair:
    """What makes shards of the folder again: a function of their names and of when to stop.

    Raises UserError at once, before anything is read for hours, where the place of a part is not given.
    """
    from m2m.data.factory.encode import ENCODERS

    settings, _ = read_build(folder)
    return _encoding(folder, settings, places) if ENCODERS in settings else _building(folder, settings, places)


def run_repair(repair: Repair, names: Sequence[str]) -> set[str]:
    """Make the shards again and say what came of it; returns the names of those that are whole. Raises UserError."""
    from m2m.data.factory.repair import library_versions

    with stop_signals() as received:
        report = repair(names, lambda: bool(received))
    for failure in report.failed:
        say(f"{failure.name} failed: {failure.error}")
    if report.different:
        say(
            f"made again with other bytes than the manifest's, so left as they are: {', '.join(report.different)}. "
            f"One of these has another version than in the build, or ran on another device: {library_versions()}. "
            "To take the other bytes, remove NAME.tar and NAME.json of these shards and run the build again"
        )
    print(f"{len(report.repaired)} of {len(names)} damaged shards repaired: the bytes are the manifest's again")
    if report.left and received:
        raise typer.Exit(128 + received[0])
    return set(report.repaired)


def say(line: str) -> None:
    print(f"m2m: {line}", file=sys.stderr)


def _building(folder: Path, settings: dict[str, Any], places: Places) -> Repair:
    opener = source_opener(settings, places)

    def repair(names: Sequence[str], stop: Stop) -> RepairReport:
        from m2m.data.factory.repair import repair as build_again

        with progress_line() as progress:
            return build_again(folder, opener(), names, progress, stop)

    return repair


def _encoding(folder: Path, settings: dict[str, Any], places: Places) -> Repair:
    pictures = given(places.pictures, "--pictures", "folder of pictures, as shards,")
    autoencoder = given(places.autoencoder, "--autoencoder", "autoencoder (of a model: its sub-folder vae)")

    def repair(names: Sequence[str], stop: Stop) -> RepairReport:
        from m2m.cli.data.set_encoder import TorchSetEncoder
        from m2m.data.factory.repair import repair_encoded
        from m2m.data.reading.shard_files import ShardFolder
        from m2m.devices import checked_device

        try:
            encoder = TorchSetEncoder(
                Path(autoencoder),
                size=settings["size"],
                resize=True,
                features=(settings["encoders"]["features"] or "").partition(" ")[0] or None,
                batch=settings["batch"],
                dtype=settings["dtype"],
                device=checked_device(places.device),
            )
        except KeyError as error:
            raise UserError(f"the settings of these latents are not whole: {error} is missing") from error
        with counter("sets") as progress:
            return repair_encoded(folder, ShardFolder(pictures), encoder, names, progress, stop)

    return repair
