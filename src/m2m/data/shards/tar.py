"""The one form of tar that shards have: written byte for byte the same everywhere, read without any tolerance.

Python's `tarfile` takes a damaged header for the end of the archive and drops the rest without a word; it follows
links, and pax headers that rename. Here an entry is a plain file with an allowed name, whose header is exactly the one
that this module writes; the archive ends with exactly 1024 zero bytes. Anything else is a ShardError.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

from m2m.data.shards.locations import open_regular
from m2m.data.shards.names import ShardError, image_number, shown, split_entry

BLOCK = 512
TRAILER = bytes(2 * BLOCK)
MAX_SET = (1 << 31) - (1 << 12)  # bytes of all entries of a set, which are read at once: what one call of Linux gives

# name, mode, uid, gid, size, mtime, checksum, kind, link, magic, version, user, group, device numbers; POSIX ustar
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s167x")
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a folder",
    b"6": "a pipe",
    b"x": "a pax header, which can rename",
    b"g": "a pax header, which can rename",
    b"L": "a GNU header, which can rename",
    b"K": "a GNU header, which can rename",
    b"S": "a sparse file",
}


class Member(NamedTuple):
    """One entry: its name, the byte where its payload begins, and the payload's size in bytes."""

    name: str
    offset: int
    size: int

    @property
    def start(self) -> int:
        """Where its header begins."""
        return self.offset - BLOCK

    @property
    def end(self) -> int:
        """Where the next header begins: after the payload and its zero padding."""
        return self.offset + self.size + -self.size % BLOCK


def entry_bytes(name: str, payload: bytes) -> bytes:
    """Header, payload and padding of one entry. Raises ShardError for a name that no shard may hold."""
    return b"".join((_header(name, len(payload)), payload, bytes(-len(payload) % BLOCK)))


def scan(path: str | Path) -> Iterator[Member]:
    """The entries of a whole shard in order, from the file alone (no record needed).

    Raises ShardError, before the first entry, for an end that is not 1024 zero bytes; and when it comes to the place,
    for anything that this module does not write and for a name that comes twice.
    """
    with open_regular(path) as file:
        yield from entries_of(file, f"'{path}'")


def entries_of(file: BinaryIO, where: str) -> Iterator[Member]:
    """`scan` of an open file; between two entries the caller may seek and read in it."""
    end = max(file.seek(0, 2) - len(TRAILER), 0)
    file.seek(end)
    if file.read() != TRAILER:
        raise ShardError(f"{where} does not end as a shard does (1024 zero bytes); it is cut off or damaged")
    yield from members(file, end, where)


def members(file: BinaryIO, end: int, where: str) -> Iterator[Member]:
    """The entries that fill the bytes 0 to `end` of `file`. `where` names the file in errors."""
    position = 0
    seen: set[str] = set()
    while position < end:
        try:
            member = _member(file, position, end)
            if member.name in seen:
                raise ShardError(f"entry '{member.name}' comes twice")
        except ShardError as error:
            raise ShardError(f"{where}, byte {position}: {error}") from error
        yield member
        seen.add(member.name)
        position = member.end


def grouped(entries: Iterable[Member], images: tuple[int, int], where: str) -> Iterator[tuple[str, list[Member]]]:
    """Each set's key and its entries, from all entries of a shard with these images, in order.

    Raises ShardError where a set does not end with its KEY.json, comes back later, has another image, or is too large.
    """
    seen: set[str] = set()
    for key, group in groupby(entries, key=lambda member: split_entry(member.name)[0]):
        of_set = list(group)
        if key in seen:
            raise ShardError(f"{where}: the entries of set '{key}' are not together")
        if of_set[-1].name != f"{key}.json":
            raise ShardError(f"{where}: set '{key}' does not end with '{key}.json'")
        if of_set[-1].end - of_set[0].start > MAX_SET:
            raise ShardError(f"{where}: set '{key}' is larger than 2 GiB; divide it into several")
        _check_images(of_set, images, where)
        seen.add(key)
        yield key, of_set


def _check_images(entries: Iterable[Member], images: tuple[int, int], where: str) -> None:
    for member in entries:
        number = image_number(split_entry(member.name)[1])
        if number is not None and not images[0] <= number < images[1]:
            raise ShardError(f"{where}: entry '{member.name}' is none of the images {images[0]}:{images[1]}")


def _header(name: str, size: int) -> bytes:
    split_entry(name)
    if size > MAX_SET:
        raise ShardError(f"entry '{name}' has {size} bytes; a set has 2 GiB at most")
    owner, device = b"0000000", b"0000000"
    sizes = (b"%011o" % size, b"%011o" % 0)
    names = (b"", b"ustar", b"00", b"", b"")
    blank = _HEADER.pack(name.encode(), b"0000644", owner, owner, *sizes, b" " * 8, b"0", *names, device, device)
    return _with_checksum(blank)


def _with_checksum(header: bytes) -> bytes:
    """The header with the sum of its bytes in the checksum's place (which counts as blanks)."""
    total = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    return header[:148] + b"%06o\0 " % total + header[156:]


def _member(file: BinaryIO, position: int, end: int) -> Member:
    """The entry whose header is at `position`: it lies before `end`, and its padding is zero."""
    file.seek(position)
    name, size = _parsed(file.read(BLOCK))
    member = Member(name, position + BLOCK, size)
    if member.end > end:
        raise ShardError(f"entry '{name}' reaches beyond the end; the file is cut off or damaged")
    file.seek(member.offset + size)
    if any(file.read(member.end - member.offset - size)):
        raise ShardError(f"the padding after entry '{name}' is not zero")
    return member


def _parsed(header: bytes) -> tuple[str, int]:
    """Name and size out of a header, of which every byte must be the one that `_header` writes."""
    if len(header) < BLOCK or header != _with_checksum(header):
        raise ShardError("damaged header (its checksum is wrong)")
    name = header[:100].rstrip(b"\0").decode("ascii", "backslashreplace")
    if kind := _KINDS.get(header[156:157]):
        raise ShardError(f"entry {shown(name)} is {kind}; a shard holds plain files only")
    split_entry(name)
    size = int(header[124:135], 8) if re.fullmatch(rb"[0-7]{11}", header[124:135]) else -1
    if size < 0 or header != _header(name, size):
        raise ShardError(f"entry '{name}' has a header that no shard has (kind, size, owner, mode, time or prefix)")
    return name, size
