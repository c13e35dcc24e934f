"""`m2m data verify`: is a folder of shards still what its manifest says? And the repair of what is not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from m2m.cli.data.counter import counter
from m2m.cli.data.repairs import repairer, run_repair, say
from m2m.data.factory.origins import Places
from m2m.data.factory.verify import Finding, VerifyReport, check_shard, verify
from m2m.data.reports.units import human_bytes
from m2m.data.shards import read_manifest


def data_verify(
    folder: Annotated[Path, typer.Argument(help="Folder of shards.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Make damaged shards again; the bytes must come out the same.")
    ] = False,
    decode: Annotated[
        bool, typer.Option("--decode/--no-decode", help="Decode every picture, or only compare digests.")
    ] = True,
    workers: Annotated[int, typer.Option(min=1, help="Shards that are read at a time.")] = 2,
    captions: Annotated[
        Path | None, typer.Option(help="For --repair: where the captions of the build lie now.")
    ] = None,
    generator: Annotated[
        str | None, typer.Option(help="For --repair: the build's generator, as diffusers:DIR_OR_HUB_ID.")
    ] = None,
    device: Annotated[str, typer.Option(help="For --repair: where the generator runs: auto, cpu, cuda, ...")] = "auto",
    safety_checker: Annotated[
        str, typer.Option(help="For --repair, if the build had one: model, or DIR_OR_HUB_ID.")
    ] = "model",
    pictures: Annotated[
        Path | None, typer.Option(help="For --repair of real sets or latents: the folder of the pictures.")
    ] = None,
    annotations: Annotated[Path | None, typer.Option(help="For --repair of COCO sets: the instances file.")] = None,
    autoencoder: Annotated[
        Path | None, typer.Option(help="For --repair of latents: the autoencoder; a model's is in its folder vae.")
    ] = None,
) -> None:
    """Read every byte of every shard, compare it with the manifest, decode every picture, and list what is wrong.

    Shards that are missing, cut off or changed are named with the sets that are lost; so are shards that no manifest
    knows and what killed runs left. Exit code 0: all is well (again); 1: something is wrong.

    Example:
      m2m data verify data/mis

    Example:
      m2m data verify data/mis --repair --captions data/captions --generator diffusers:stable-diffusion-2-1-base
    """
    places = Places(captions, generator, safety_checker, device, pictures, annotations, autoencoder)
    repairs = repairer(folder, places) if repair else None
    with counter("shards") as progress:
        report = verify(folder, decode, workers, progress)
    for finding in report.findings:
        print(finding)
    print(_summary(report))
    findings = report.findings
    if repairs and report.damaged:
        repaired = run_repair(repairs, report.damaged)
        findings = _remaining(folder, findings, repaired, decode)
        if findings:
            say(f"still wrong: {_counted(len(findings), 'finding')}")
    if findings:
        raise typer.Exit(1)


def _summary(report: VerifyReport) -> str:
    looked_at = f"{report.shards:,} shards, {report.sets:,} sets, {human_bytes(report.bytes)}"
    if not report.findings:
        return f"{looked_at}: all as the manifest states"
    damaged = _counted(len(report.damaged), "damaged shard")
    return f"{looked_at}: {_counted(len(report.findings), 'finding')}, {damaged}"


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _remaining(folder: Path, findings: Sequence[Finding], repaired: Collection[str], decode: bool) -> list[Finding]:
    """What is still wrong: the findings of other shards, and what a second look at the repaired ones finds."""
    others = [finding for finding in findings if finding.name not in repaired]
    entries = [entry for entry in read_manifest(folder).shards if entry.name in repaired]
    return others + [finding for entry in entries for finding in check_shard(folder, entry, decode)]
