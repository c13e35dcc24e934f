"""What a folder of shards holds, counted: sets, images, bytes, caption lengths, picture sizes.

Only headers, each KEY.json and one picture of a set are read, so a shard of 260 MB takes a fraction of a second. That
the bytes are right is `verify`'s business; a shard in which even the headers are wrong is named and left out.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from m2m.data.reading.shard_files import ShardFolder
from m2m.data.reading.shard_groups import ShardGroup, groups_of
from m2m.data.reading.stored_set import ENCODED
from m2m.data.shards import Member, ShardError, image_number, is_url, open_json, scan, shard_path, split_entry
from m2m.data.shards.names import IMAGE_FORMATS
from m2m.data.shards.reader import PICTURES
from m2m.data.shards.tar import grouped
from m2m.types import UserError

Progress = Callable[[int, int], None]
CountTokens = Callable[[Sequence[str]], list[int]]
QUANTILES = {"least": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "most": 1.0}


@dataclass
class Statistics:
    """Counts of a folder, or of a part of it; two are added with `add`.

    Attributes:
        shards, sets, images, bytes: how many; bytes are those of the tar files.
        images_per_set: number of images -> how many sets have it.
        tokens: number of CLIP tokens of the caption -> sets; those without a caption are not in it.
        picture_bytes: bytes of a picture file -> pictures. shard_bytes: bytes of a tar file -> shards.
        picture_sizes: "width x height" of a set's first picture -> sets.
        formats: "webp", "latents.npy", ... -> entries.
        unreadable: one line for each shard that was left out.
    """

    shards: int = 0
    sets: int = 0
    images: int = 0
    bytes: int = 0
    images_per_set: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)
    picture_bytes: Counter[int] = field(default_factory=Counter)
    shard_bytes: Counter[int] = field(default_factory=Counter)
    picture_sizes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)

    def add(self, other: Statistics) -> None:
        """Take the counts of another part into this one."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def collect(
    folder: str | Path, count_tokens: CountTokens, workers: int = 1, progress: Progress | None = None
) -> Statistics:
    """The statistics of a folder of shards.

    count_tokens: CLIP tokens of captions whose KEY.json does not say them; workers: threads; progress: called with
    (groups of shards done, groups in all). Raises UserError where the folder has no manifest, or lacks a shard.
    """
    if is_url(folder):
        raise UserError(f"'{folder}' is a URL; give a folder of this machine")
    groups = groups_of([ShardFolder(folder)])
    total = Statistics()
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        parts = pool.map(partial(_of_group, Path(folder), count_tokens=count_tokens), groups)
        for number, part in enumerate(parts, 1):
            total.add(part)
            if progress:
                progress(number, len(groups))
    finally:
        pool.shutdown(cancel_futures=True)
    return total


def summary(statistics: Statistics) -> dict[str, Any]:
    """The statistics as JSON values: counts, and of each distribution its mean and quantiles."""
    values: dict[str, Any] = {name: getattr(statistics, name) for name in ("shards", "sets", "images", "bytes")}
    for name in ("images_per_set", "tokens", "picture_bytes", "shard_bytes"):
        values[name] = spread(getattr(statistics, name))
    for name in ("images_per_set", "tokens"):
        values[name]["counts"] = {str(key): count for key, count in sorted(getattr(statistics, name).items())}
    for name in ("picture_sizes", "formats"):
        values[name] = dict(getattr(statistics, name).most_common())
    return {**values, "unreadable": statistics.unreadable}


def spread(counts: Counter[int]) -> dict[str, Any]:
    """Mean and quantiles of numbers that are counted; empty for none."""
    total = counts.total()
    if not total:
        return {}
    ordered = sorted(counts)
    result: dict[str, Any] = {"mean": sum(value * counts[value] for value in ordered) / total}
    for name, share in QUANTILES.items():
        result[name] = _quantile(counts, ordered, share * (total - 1))
    return result


def _quantile(counts: Counter[int], ordered: Sequence[int], rank: float) -> int:
    """The number at `rank` (from 0) of all numbers in order."""
    passed = 0
    for value in ordered:
        passed += counts[value]
        if rank < passed:
            return value
    return ordered[-1]


def _of_group(folder: Path, group: ShardGroup, count_tokens: CountTokens) -> Statistics:
    """Statistics of the shards of one index. A set that lies in several of them is one set."""
    part = Statistics()
    images: Counter[str] = Counter()
    metas: dict[str, dict[str, Any]] = {}
    for entry in group.slices:
        try:
            shard, of_shard, found = _of_shard(shard_path(folder, entry.name), entry.images)
        except (ShardError, OSError) as error:
            part.unreadable.append(str(error))
            continue
        part.add(shard)
        images += of_shard
        metas.update(found)
    part.sets = len(metas)
    part.images_per_set = Counter(images[key] for key in metas)
    part.tokens = Counter(_tokens(list(metas.values()), count_tokens))
    return part


def _of_shard(path: Path, images: tuple[int, int]) -> tuple[Statistics, Counter[str], dict[str, dict[str, Any]]]:
    """Statistics of a tar file's entries, the number of images of each key, and each key's KEY.json."""
    part = Statistics(shards=1, bytes=path.stat().st_size)
    part.shard_bytes[part.bytes] += 1
    counts: Counter[str] = Counter()
    metas = {}
    with open(path, "rb") as file:
        for key, members in grouped(scan(path), images, f"'{path}'"):
            metas[key] = open_json(_payload(file, members[-1]), f"'{path}', {members[-1].name}")
            pictures = [member for member in members if _format(member) in IMAGE_FORMATS]
            counts[key] = len(pictures) or _encoded_images(metas[key])
            part.formats.update(_format(member) for member in members[:-1])
            part.picture_bytes.update(member.size for member in pictures)
            part.picture_sizes.update(_picture_size(file, member, path) for member in pictures[:1])
    part.images = counts.total()
    return part, counts, metas


def _format(member: Member) -> str:
    """ "webp" of a picture, "latents.npy" of an array."""
    _, suffix = split_entry(member.name)
    return suffix if image_number(suffix) is None else suffix.partition(".")[2]


def _encoded_images(meta: dict[str, Any]) -> int:
    """How many images the latents of a set are of; 0 where it has none."""
    encoded = meta.get(ENCODED)
    return len(encoded["numbers"]) if isinstance(encoded, dict) and isinstance(encoded.get("numbers"), list) else 0


def _payload(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)


def _picture_size(file: BinaryIO, member: Member, path: Path) -> str:
    """ "width x height" from a picture's header; the picture itself is not decoded."""
    content = _payload(file, member)
    try:
        kind = next(kind for magic, kind in PICTURES.items() if content.startswith(magic))
        image = kind(io.BytesIO(content))
    except Exception as error:  # whatever a broken header makes Pillow raise
        raise ShardError(f"'{path}', {member.name}: is no picture") from error
    return f"{image.width} x {image.height}"


def _tokens(metas: Sequence[dict[str, Any]], count_tokens: CountTokens) -> Iterator[int]:
    """Token counts of the sets that have a caption."""
    stated = [meta["tokens"] for meta in metas if isinstance(meta.get("tokens"), int)]
    untold = [meta["caption"] for meta in metas if not isinstance(meta.get("tokens"), int) and meta.get("caption")]
    yield from stated
    if untold:
        yield from count_tokens(untold)
