"""Shards of pictures to shards of latents, so that training never runs the autoencoder.

    report = encode_shards(ShardFolder("shards"), encoder, EncodeSettings(out=Path("latents")))

Every shard becomes one of the same name: for each set KEY.latents.npy (float16 [images, C, h, w], scaled as the U-Net
sees them), perhaps KEY.features.npy (a vision encoder's tokens, float16 [images, S, D]), and KEY.json, which is the
source's with the numbers of the images. Written unit by unit as the factory writes (`ShardWriter`): a kill loses one
unit, a later run continues, and the finished folder is the same bytes. Several processes may share the work.
"""

from __future__ import annotations

import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m2m.checkpoint import read_json, write_json
from m2m.data.factory.folder import disk_errors, finish_manifest, locked, manifest_despite, open_folder
from m2m.data.reading.shard_files import ShardFolder
from m2m.data.reading.stored_set import ENCODED, ENCODERS, FEATURES, LATENTS, META, StoredSet
from m2m.data.shards import ManifestEntry, ShardBusy, ShardError, ShardReader, ShardWriter, is_finished
from m2m.types import UserError

SOURCES = "sources.json"  # in the folder of latents: the sha256 of every shard that it is encoded from
UNIT_SETS = 4  # sets that are committed at once, or more if a batch takes more: 100 pictures of 512 pixels are 79 MB
UNITS_AHEAD = 2  # that are read and decoded while one is encoded

Arrays = Mapping[str, NDArray[np.float16]]
T = TypeVar("T")
R = TypeVar("R")


class SetEncoder(Protocol):
    """What encodes pictures, in two steps: the first in several threads at once, the second in batches.

    Attributes:
        batch: pictures of one call of `encode`. A setting too: the last bits of a latent may depend on it.
    """

    @property
    def batch(self) -> int: ...

    def settings(self) -> dict[str, Any]:
        """What shapes the arrays, as JSON; weights by their hash. `encoders`: what must be equal for latents to mix."""
        ...

    def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
        """The picture as the encoder wants it, [H, W, 3]. Raises UserError for one that does not fit."""
        ...

    def encode(self, pictures: NDArray[np.uint8]) -> Arrays:
        """[M, H, W, 3] -> "latents" and perhaps "features", float16 [M, ...]."""
        ...


@dataclass(frozen=True)
class EncodeSettings:
    """out: folder of the latents; threads: that read and decode beside the encoder, 0: one a core, at most four."""

    out: Path
    threads: int = 0


@dataclass(frozen=True)
class EncodeReport:
    """What a run did, by names of shards. wanted: of the source; made: by this run; failed: with the error, for the
    source's shard is damaged; left: stopped before, or in the hands of another process; complete: all are there."""

    wanted: tuple[str, ...]
    made: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    left: tuple[str, ...]
    complete: bool


Progress = Callable[[int, int], None]


def encode_shards(
    source: ShardFolder,
    encoder: SetEncoder,
    settings: EncodeSettings,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> EncodeReport:
    """Encode the shards of `source` that are not encoded yet, then write the manifest.

    progress: called with (sets done, sets in all); stop: asked between units, once true the run ends there.
    Raises UserError where the folder holds the latents of another source or encoder, where a picture does not fit, and
    where the disk refuses; what is finished and committed then stays, and the same call continues.
    """
    _check_source(source, settings.out)
    wanted = identity(source, encoder)
    with disk_errors(settings.out):
        for images in _slices(source):
            open_folder(settings.out, wanted, images)
        _pin_sources(settings.out, source)
    run = _Run(source, encoder, settings, progress or (lambda done, total: None), stop or (lambda: False))
    with manifest_despite(BaseException, settings.out):
        run.work()
    with disk_errors(settings.out):
        complete = finish_manifest(settings.out).complete and source.manifest.complete
    return run.report(complete)


def identity(source: ShardFolder, encoder: SetEncoder) -> dict[str, Any]:
    """Everything that shapes the bytes of the latents: all settings of the source, the encoder's, and the cut."""
    values = {
        "source": source.manifest.settings,
        "sets": source.manifest.settings["sets"],
        "sets_per_shard": source.manifest.settings["sets_per_shard"],
        "batch": encoder.batch,
        **encoder.settings(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    return plain


class _Run:
    """One call of `encode_shards`."""

    def __init__(
        self,
        source: ShardFolder,
        encoder: SetEncoder,
        settings: EncodeSettings,
        progress: Progress,
        stop: Callable[[], bool],
    ) -> None:
        self._source, self._encoder, self._out = source, encoder, settings.out
        self._threads = settings.threads or min(4, len(os.sched_getaffinity(0)))
        self._progress, self._stop = progress, stop
        self._sets = sum(entry.count for entry in source.manifest.shards)
        self._done = 0
        self._made: list[str] = []
        self._failed: list[tuple[str, str]] = []

    def work(self) -> None:
        for entry in self._source.manifest.shards:
            if is_finished(self._out, entry.name):
                self._advance(entry.count)
            elif not self._stop():
                self._try(entry)

    def report(self, complete: bool) -> EncodeReport:
        wanted = tuple(entry.name for entry in self._source.manifest.shards)
        failed = {name for name, _ in self._failed}
        left = tuple(name for name in wanted if name not in failed and not is_finished(self._out, name))
        return EncodeReport(wanted, tuple(self._made), tuple(self._failed), left, complete)

    def _try(self, entry: ManifestEntry) -> None:
        """Encode a shard, unless another process does. Damage of the source is noted, and the run goes on."""
        units = _units(entry, self._encoder.batch)
        with suppress(ShardBusy):
            with disk_errors(self._out):
                writer = ShardWriter.open(self._out, entry.name, entry.index, entry.images, len(units))
            with writer:
                try:
                    self._encode(entry, writer, units)
                except ShardError as error:
                    self._failed.append((entry.name, str(error)))

    def _encode(self, entry: ManifestEntry, writer: ShardWriter, units: Sequence[range]) -> None:
        todo = units[writer.committed :]
        self._advance(sum(len(unit) for unit in units[: writer.committed]))
        # The pool is left first: nothing reads from a shard that is closed.
        with self._source.open(entry) as shard, ThreadPoolExecutor(self._threads, "decode") as pool:
            rows = [row for unit in todo for row in unit]
            ahead = UNITS_AHEAD * max(map(len, units), default=0)
            decoded = _ahead(pool, lambda row: _Decoded(shard, row, self._encoder), rows, ahead)
            for unit in todo:
                if self._stop():
                    return
                entries = _unit_entries([next(decoded) for _ in unit], self._encoder)
                with disk_errors(self._out):
                    writer.append(entries)
                self._advance(len(unit))
        with disk_errors(self._out):
            writer.finish()
        self._made.append(entry.name)

    def _advance(self, sets: int) -> None:
        self._done += sets
        self._progress(self._done, self._sets)


class _Decoded:
    """A set that is read, checked and decoded: its pictures [H, W, 3], their numbers, and what its KEY.json says."""

    def __init__(self, shard: ShardReader, row: int, encoder: SetEncoder) -> None:
        sample = shard.record.samples[row]
        stored = StoredSet(sample.key, [(shard, row)])
        self.key, self.where, self.numbers = sample.key, stored.where, stored.numbers
        self.meta = {**stored.meta, ENCODED: {"numbers": self.numbers, "source_sha256": sample.sha256}}
        self.pictures = [self._prepared(stored, number, encoder) for number in self.numbers]

    def _prepared(self, stored: StoredSet, number: int, encoder: SetEncoder) -> NDArray[np.uint8]:
        picture = stored.picture(number)
        try:
            return encoder.prepare(picture)
        except UserError as error:
            raise UserError(f"{self.where}, image {number}: {error}") from error


def _units(entry: ManifestEntry, batch: int) -> list[range]:
    """The rows of a shard in units. A function of the folder's identity, so that a resumed shard has the same ones."""
    size = max(UNIT_SETS, batch // (entry.images[1] - entry.images[0]))
    return [range(start, min(start + size, entry.count)) for start in range(0, entry.count, size)]


def _unit_entries(sets: Sequence[_Decoded], encoder: SetEncoder) -> list[tuple[str, bytes]]:
    """Encode the pictures of some sets together, and lay them out as entries, set by set."""
    pictures = [picture for one in sets for picture in one.pictures]
    parts = [encoder.encode(np.stack(batch)) for batch in _batches(pictures, encoder.batch)]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
    entries, start = [], 0
    for one in sets:
        stop = start + len(one.pictures)
        for name, suffix in (("latents", LATENTS), ("features", FEATURES)):
            if name in arrays and stop > start:
                entries.append((f"{one.key}.{suffix}", _npy(arrays[name][start:stop], one.where, name)))
        entries.append((f"{one.key}.{META}", json.dumps(one.meta, ensure_ascii=False).encode()))
        start = stop
    return entries


def _npy(array: NDArray[np.float16], where: str, name: str) -> bytes:
    """The content of a .npy file. Raises UserError for values that no training survives."""
    if not np.isfinite(array).all():
        raise UserError(f"{where}: its {name} are not finite in half precision; encode in float32 or bfloat16")
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return content.getvalue()


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _ahead(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    """`function` of every item, in order; at most `count` results more than were asked for are worked out ahead."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _check_source(source: ShardFolder, out: Path) -> None:
    settings = source.manifest.settings
    if ENCODERS in settings:
        raise UserError(f"'{source.address}' holds latents already: encode a folder of pictures")
    if not {"sets", "sets_per_shard"} <= settings.keys():
        raise UserError(f"the manifest of '{source.address}' does not say how its sets are cut into shards")
    if not source.manifest.shards:
        raise UserError(f"'{source.address}' holds no finished shard yet; `m2m data build` goes on with it")
    if Path(source.address).resolve() == out.resolve():
        raise UserError(f"'{out}' is the folder of the pictures; give the latents a folder of their own")


def _slices(source: ShardFolder) -> Iterator[tuple[int, int]]:
    """The slices of images of the source, from image 0 on; one of which no shard is there yet counts too."""
    return pairwise(sorted({0, *(bound for entry in source.manifest.shards for bound in entry.images)}))


def _pin_sources(out: Path, source: ShardFolder) -> None:
    """Note what every shard is encoded from, before it is. Raises UserError where the source is not what it was."""
    now = {entry.name: entry.sha256 for entry in source.manifest.shards}
    path = out / SOURCES
    with locked(out):
        before = read_json(path) if path.exists() else {}
        changed = sorted(name for name in before.keys() & now.keys() if before[name] != now[name])
        if changed:
            raise UserError(f"'{source.address}/{changed[0]}' is not what '{out}' is encoded from: give another --out")
        if before != {**before, **now}:
            write_json(path, dict(sorted({**before, **now}.items())))
