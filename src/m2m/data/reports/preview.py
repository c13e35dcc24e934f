"""Choosing sets of a folder of shards and drawing them on contact sheets."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from PIL import Image

from m2m.data.reading.shard_files import ShardFolder
from m2m.data.reading.shard_groups import OpenGroup, ShardGroup, groups_of
from m2m.data.reading.stored_set import StoredSet
from m2m.data.reports.sheets import Block, contact_sheet
from m2m.types import UserError

Chosen = list[tuple[ShardGroup, list[int]]]  # a group of shards, and rows in it
Progress = Callable[[int, int], None]


def preview(
    folder: str | Path,
    sets: int = 8,
    seed: int = 0,
    keys: Sequence[str] = (),
    per_sheet: int = 8,
    cell: int = 128,
    progress: Progress | None = None,
) -> Iterator[Image.Image]:
    """Contact sheets of `sets` sets drawn at random with `seed`, or of those with `keys`, `per_sheet` on each.

    cell: pixels of a picture's side; progress: called with (sets read, sets in all).
    Raises UserError for a folder without pictures, an unknown key, and a damaged shard.
    """
    groups = groups_of([ShardFolder(folder)])
    if not groups:
        raise UserError(f"'{folder}' holds no finished shard yet; `m2m data build` goes on with it")
    chosen = find_sets(groups, keys) if keys else draw_sets(groups, sets, seed)
    total = sum(len(rows) for _, rows in chosen)
    blocks: list[Block] = []
    for number, block in enumerate(_blocks(chosen), 1):
        blocks.append(block)
        if progress:
            progress(number, total)
        if len(blocks) == per_sheet or number == total:
            yield contact_sheet(blocks, cell)
            blocks = []


def draw_sets(groups: Sequence[ShardGroup], sets: int, seed: int) -> Chosen:
    """`sets` sets (all, if there are fewer) of all groups, each equally likely, in the order in which they lie."""
    starts = [group.start for group in groups]
    total = groups[-1].start + groups[-1].count
    rows: dict[int, list[int]] = {}
    for place in sorted(random.Random(seed).sample(range(total), min(sets, total))):
        number = bisect(starts, place) - 1
        rows.setdefault(number, []).append(place - starts[number])
    return [(groups[number], of_group) for number, of_group in rows.items()]


def find_sets(groups: Sequence[ShardGroup], keys: Sequence[str]) -> Chosen:
    """The sets with these keys. Raises UserError that names a key which no shard holds."""
    missing = set(keys)
    chosen: Chosen = []
    for group in groups:
        with _opened(group) as shards:
            rows = [row for row, key in enumerate(shards.keys) if key in missing]
            missing -= {shards.keys[row] for row in rows}
        if rows:
            chosen.append((group, rows))
        if not missing:
            return chosen
    raise UserError(f"'{groups[0].folder.address}' holds no set '{min(missing)}'; a sheet shows the key of each set")


def _blocks(chosen: Chosen) -> Iterator[Block]:
    for group, rows in chosen:
        with _opened(group) as shards:
            for row in rows:
                yield _block(group, shards.stored(row))


def _opened(group: ShardGroup) -> closing[OpenGroup]:
    return closing(OpenGroup(group, None))


def _block(group: ShardGroup, stored: StoredSet) -> Block:
    """A set as a block of the sheet; an image that is not there (rejected) leaves a blank cell."""
    if stored.encoded:
        raise UserError(f"'{group.folder.address}' holds latents; preview the folder that they were encoded from")
    there = set(stored.numbers)
    wanted = range(max(_stated(stored), max(there, default=-1) + 1))
    pictures = [stored.picture(number) if number in there else None for number in wanted]
    shards = " + ".join(entry.name for entry in group.slices)
    note = f"{stored.key} · {_count(len(there), len(wanted))} · {shards}"
    return Block(pictures, stored.caption or "(no caption)", note)


def _stated(stored: StoredSet) -> int:
    """How many images the set should have as far as its KEY.json says; 0 where it does not."""
    images = stored.meta.get("images")
    return images[1] if isinstance(images, list) and len(images) == 2 and type(images[1]) is int else 0


def _count(there: int, wanted: int) -> str:
    of = "" if there == wanted else f" of {wanted}"
    return f"{there}{of} image{'' if wanted == 1 else 's'}"
