"""Making damaged shards again: from the same captions and generator come the same bytes, and that is checked.

A shard is made in the sub-folder `.repair` and takes the damaged one's place only if it is, byte for byte, the one that
the manifest states. A repair that is cut off continues there.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from m2m.checkpoint import sha256_of_files
from m2m.data.factory.build import Progress, build
from m2m.data.factory.encode import SOURCES, EncodeSettings, SetEncoder, encode_shards
from m2m.data.factory.encode import identity as encoded_identity
from m2m.data.factory.folder import BUILD, Failure, disk_errors, open_folder, read_build
from m2m.data.factory.settings import BuildSettings, identity
from m2m.data.factory.sources import SetSource
from m2m.data.factory.verify import REPAIRS
from m2m.data.reading.shard_files import ShardFolder
from m2m.data.shards import ManifestEntry, ShardError, read_manifest, record_path, shard_path
from m2m.types import UserError

# What shapes the bytes beside captions and weights: who makes the pixels, and who encodes them.
LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "pillow")


@dataclass(frozen=True)
class RepairReport:
    """Names of shards. repaired: they have the manifest's bytes again; different: made, but with other bytes, so the
    damaged file was left as it is; left: not made, because the run was stopped. failed: with the error of each."""

    repaired: tuple[str, ...]
    different: tuple[str, ...]
    left: tuple[str, ...]
    failed: tuple[Failure, ...]


def repair(
    folder: str | Path,
    source: SetSource,
    names: Sequence[str],
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> RepairReport:
    """Make the shards `names` of a folder again, from the source that it was built of.

    progress, stop: as in `build`. Raises UserError where the source is another one (each setting that differs is named
    with both values), where the manifest does not know a name or cannot be read, and where the disk refuses.
    """
    place = Path(folder)
    entries = _entries(place, names)
    with disk_errors(place):
        report = build(source, _workshop(place, source, names), progress, stop)
        return _settled(place, entries, report.left, report.failed)


def repair_encoded(
    folder: str | Path,
    source: ShardFolder,
    encoder: SetEncoder,
    names: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> RepairReport:
    """As `repair`, for a folder of latents: encode the shards `names` again, from the pictures that they are of.

    progress, stop: as in `encode_shards`. Raises UserError as `repair` does, and where the pictures have changed.
    """
    place, workshop = Path(folder), Path(folder) / REPAIRS
    entries = _entries(place, names)
    damaged = copy(source)
    damaged.manifest = replace(source.manifest, shards=tuple(e for e in source.manifest.shards if e.name in entries))
    with disk_errors(place):
        _prepare(place, encoded_identity(source, encoder))
        shutil.copyfile(place / SOURCES, workshop / SOURCES)  # encoding compares the pictures' shards with it
        report = encode_shards(damaged, encoder, EncodeSettings(workshop), progress, stop)
        return _settled(place, entries, report.left, [Failure(name, 1, error) for name, error in report.failed])


def build_settings(folder: str | Path) -> BuildSettings:
    """The settings that a folder was built with, from its build.json. Raises UserError where it has none."""
    settings, slices = read_build(Path(folder))
    try:
        return BuildSettings(
            out=Path(folder),
            images=(0, slices[-1][1]),
            sets_per_shard=settings["sets_per_shard"],
            format=settings["format"],
            quality=settings["quality"] or BuildSettings.quality,  # PNG has none
        )
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"'{Path(folder) / BUILD}' does not describe a build: {error!r}") from error


def library_versions() -> str:
    """The libraries that shape a shard's bytes, as they are here: "torch 2.13.0, pillow 13.0.0 (webp 1.6.0), ..."."""
    found = [f"python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}{_codecs() if name == 'pillow' else ''}")
        except PackageNotFoundError:
            continue
    return ", ".join([*found, f"{platform.system()} {platform.machine()}"])


def _entries(place: Path, names: Sequence[str]) -> dict[str, ManifestEntry]:
    """What the manifest states of the shards `names`."""
    try:
        entries = {entry.name: entry for entry in read_manifest(place).shards}
    except ShardError as error:
        raise UserError(f"{error}; the command that made the folder writes it again") from error
    if unknown := sorted(set(names) - entries.keys()):
        raise UserError(f"'{place}' has no shard '{unknown[0]}' in its manifest")
    return {name: entries[name] for name in names}


def _settled(
    place: Path, entries: Mapping[str, ManifestEntry], left: Sequence[str], failed: Sequence[Failure]
) -> RepairReport:
    """Put what was made to its place, if its bytes are right, and close the workshop."""
    unmade = {*left, *(failure.name for failure in failed)}
    made = [name for name in entries if name not in unmade]
    repaired = tuple(name for name in made if _take(place, entries[name]))
    if not left:  # else the next repair goes on there
        shutil.rmtree(place / REPAIRS)
    different = tuple(name for name in made if name not in repaired)
    return RepairReport(repaired, different, tuple(left), tuple(failed))


def _codecs() -> str:
    """The picture libraries inside of Pillow, which change with its build."""
    from PIL import features

    return " (" + ", ".join(f"{name} {features.version(name)}" for name in ("webp", "libjpeg_turbo", "zlib")) + ")"


def _workshop(place: Path, source: SetSource, names: Sequence[str]) -> BuildSettings:
    """Settings that build the shards `names` alone, in `.repair`."""
    settings = build_settings(place)
    _prepare(place, identity(source, settings))
    return replace(settings, out=place / REPAIRS, only=frozenset(names))


def _prepare(place: Path, wanted: dict[str, Any]) -> None:
    """Make `.repair` a folder of the identity `wanted`, which must be the folder's own, with the same slices."""
    _, slices = read_build(place)
    for images in slices:
        open_folder(place, wanted, images)
        open_folder(place / REPAIRS, wanted, images)


def _take(place: Path, entry: ManifestEntry) -> bool:
    """Move a shard out of `.repair` to its place, if its bytes are the manifest's. The record last, as in a build."""
    workshop = place / REPAIRS
    tar, record = shard_path(workshop, entry.name), record_path(workshop, entry.name)
    if (sha256_of_files([tar]), sha256_of_files([record])) != (entry.sha256, entry.record_sha256):
        return False  # `.repair` is removed after, so that other versions of the libraries start afresh
    record_path(place, entry.name).unlink(missing_ok=True)
    os.replace(tar, shard_path(place, entry.name))
    os.replace(record, record_path(place, entry.name))
    return True
