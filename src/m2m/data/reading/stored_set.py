"""One set as it lies in the shards: its entries, from one slice of its images or from several, opened on demand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m2m.data.pictures import to_square
from m2m.data.shards import (
    ShardError,
    ShardReader,
    image_number,
    open_array,
    open_json,
    open_picture,
    scan,
    split_entry,
)
from m2m.data.shards.tar import grouped
from m2m.types import UserError

META, LATENTS, FEATURES = "json", "latents.npy", "features.npy"
ENCODED = "encoded"  # in META of a set of latents: {"numbers": which images the rows of the arrays are, ...}
ENCODERS = "encoders"  # in the settings of a folder of latents: what made them
CONDITIONS = "conditions"  # in META: {"name": "camera", "values": [a row of numbers for image 0, for image 1, ...]}
EVERY = (0, 1 << 62)  # images a .. b - 1: all of them


class SetSlice(NamedTuple):
    """What one shard holds of a set: entries by suffix; `places`: where each image is, a suffix or a row; for errors,
    `where` this lies."""

    entries: dict[str, bytes]
    places: dict[int, Any]
    where: str


class StoredSet:
    """The set `key`, of which each of the (shard, row) holds some images.

    within: only images a .. b - 1 count. Raises ShardError for damage.
    """

    def __init__(
        self, key: str, shards: Sequence[tuple[ShardReader, int]], within: tuple[int, int] | None = None
    ) -> None:
        self.key = key
        self.where = f"'{shards[0][0].path}', set '{key}'"
        slices = [_read_slice(shard, row, f"'{shard.path}', set '{key}'") for shard, row in shards]
        self.meta: dict[str, Any] = open_json(slices[0].entries[META], f"{self.where}, entry {META}")
        first, last = within or EVERY
        self._of = {number: part for part in slices for number in part.places if first <= number < last}

    @property
    def caption(self) -> str:
        """Empty where the set has none."""
        return str(self.meta.get("caption") or "")

    @property
    def numbers(self) -> list[int]:
        """Which images are there, ascending."""
        return sorted(self._of)

    @property
    def encoded(self) -> bool:
        """Whether images are stored as latents."""
        return any(LATENTS in part.entries for part in self._of.values())

    def picture(self, number: int) -> Image.Image:
        """Image `number`, decoded, in mode RGB at its own size. Raises ShardError for a broken one."""
        part = self._of[number]
        suffix = part.places[number]
        return open_picture(part.entries[suffix], f"{part.where}, entry {suffix}")

    def pictures(self, numbers: Sequence[int], size: int | None) -> NDArray[np.uint8]:
        """uint8 [N, H, W, 3]. size: the middle square, resized to it; None: as stored, which must be one size.

        Raises ShardError for a broken picture, UserError for several sizes.
        """
        images = [self.picture(number) for number in numbers]
        if size is not None:
            images = [image if image.size == (size, size) else to_square(image, size) for image in images]
        self._check_one_size([image.size for image in images])
        return np.stack([np.asarray(image) for image in images])

    def array(self, suffix: str, numbers: Sequence[int]) -> NDArray[np.float16] | None:
        """The rows of these images of the array LATENTS or FEATURES, [N, ...]; None where none is stored."""
        opened: dict[str, NDArray[np.float16]] = {}
        for number in numbers:
            part = self._of[number]
            if suffix not in part.entries:
                return None
            if part.where not in opened:
                opened[part.where] = _open_rows(part, suffix)
        return np.stack([opened[self._of[number].where][self._of[number].places[number]] for number in numbers])

    def conditions(self, numbers: Sequence[int]) -> NDArray[np.float32] | None:
        """The rows [N, D] that META holds for these images; None where it holds none. Raises ShardError for others."""
        if CONDITIONS not in self.meta:
            return None
        where = f"{self.where}, entry {META}: its conditions"
        stored = self.meta[CONDITIONS]
        rows = stored.get("values") if isinstance(stored, dict) else None
        if not isinstance(rows, list) or not all(_is_row(row, rows[0]) for row in rows):
            raise ShardError(f"{where} are not 'values', a list with equally many finite numbers for each image")
        if missing := [number for number in numbers if number >= len(rows)]:
            raise ShardError(f"{where} have {len(rows)} rows, and none for image {missing[0]}")
        return np.array([rows[number] for number in numbers], dtype=np.float32)

    def _check_one_size(self, sizes: Sequence[tuple[int, int]]) -> None:
        different = sorted(set(sizes))
        if len(different) > 1:
            (width, height), (other_width, other_height) = different[:2]
            raise UserError(
                f"{self.where}: its pictures have several sizes, {width}x{height} and {other_width}x{other_height}; "
                "read them at one size (size=PIXELS: the middle square, resized)"
            )


def image_counts(shard: ShardReader, within: tuple[int, int] | None = None) -> Iterator[tuple[str, int]]:
    """Each set's key and how many images the shard has of it, of the images a .. b - 1 if `within` says so.

    From headers alone. Raises ShardError where they are damaged or list other sets than the record.
    """
    first, last = within or EVERY
    where, listed = f"'{shard.path}'", iter(shard.record.samples)
    with open(shard.path, "rb") as file:
        for key, entries in grouped(scan(shard.path), shard.record.images, where):
            sample = next(listed, None)
            if sample is None or sample.key != key:
                raise ShardError(f"{where} holds the set '{key}' where its record lists another")
            file.seek(entries[-1].offset)  # a set ends with its META
            suffixes = [split_entry(entry.name)[1] for entry in entries]
            places = _image_places(suffixes, file.read(entries[-1].size), f"{where}, set '{key}'")
            yield key, sum(first <= number < last for number in places)


def _read_slice(shard: ShardReader, row: int, where: str) -> SetSlice:
    entries = shard.read(row)
    return SetSlice(entries, _image_places(entries, entries[META], where), where)


def _image_places(suffixes: Iterable[str], meta: bytes, where: str) -> dict[int, Any]:
    """Number of each image -> where it is: the suffix of its picture, or its row in the arrays."""
    names = list(suffixes)
    if LATENTS not in names:
        return {number: suffix for suffix in names if (number := image_number(suffix)) is not None}
    encoded = open_json(meta, f"{where}, entry {META}").get(ENCODED)
    numbers = encoded.get("numbers") if isinstance(encoded, dict) else None
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise ShardError(f"{where}, entry {META} does not say the numbers of the images that its latents are of")
    return {number: row for row, number in enumerate(numbers)}


def _is_row(row: Any, first: Any) -> bool:
    """Whether it is a list of finite numbers, as long as the first row."""
    if not isinstance(row, list) or not row or len(row) != len(first):
        return False
    return all(type(value) in (int, float) and math.isfinite(value) for value in row)


def _open_rows(part: SetSlice, suffix: str) -> NDArray[np.float16]:
    where = f"{part.where}, entry {suffix}"
    array = open_array(part.entries[suffix], where)
    if array.dtype != np.float16 or array.ndim < 2 or len(array) != len(part.places):
        raise ShardError(f"{where} is {array.dtype} {list(array.shape)}, not float16 of {len(part.places)} images")
    return array
