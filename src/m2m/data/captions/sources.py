"""Where captions come from: files, one caption a line or row, and the tiny world. All are read as streams.

    FILE.tsv[.gz]                    Conceptual 12M: url, tab, caption
    FILE.txt[.gz]                    one caption a line
    FILE.parquet                     a column "caption" or "text"
    world:NAME:SPLIT:COUNT[:SEED]    captions of the tiny world, e.g. world:mini:train:2000

A line that holds no caption comes out too, with the reason, so that what is read and what is kept can be reckoned up.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from m2m.checkpoint import sha256_of_files
from m2m.data.captions.store import import_parquet
from m2m.data.worlds.specs import WORLD, WorldSpec, is_world
from m2m.types import UserError

PACKED = (".tsv", ".txt")  # these also as .tsv.gz, .txt.gz
FORMS = (*PACKED, ".parquet")
CAPTION_NAMES = ("caption", "text")
# Bytes of the longest line that is looked at; whoever writes more on one line did not write a caption.
LONGEST_LINE = 1 << 20
BATCH = 4096
GZIP_MAGIC = b"\x1f\x8b"
UTF8_MARK = b"\xef\xbb\xbf"

Fraction = Callable[[float], None]


class RawCaption(NamedTuple):
    """A caption without blanks around it, or (text "") why there is none: "empty", "not_utf8", "nul", "no_tab", ..."""

    text: str
    reason: str | None = None


class Columns(NamedTuple):
    """How lines of a TSV file are cut: into how many columns, and which of them is the caption (0: the first)."""

    width: int
    caption: int


def read_captions(spec: str | Path, progress: Fraction | None = None) -> Iterator[RawCaption]:
    """Every line or row of a source, in order, as a caption or as the reason why it is none.

    progress: called now and then with the fraction of the source that has been read.
    Raises UserError for a source that is missing, of an unknown form, broken or cut off.
    """
    report = progress or (lambda fraction: None)
    if is_world(spec):
        return _world_captions(str(spec))
    path = check_source(spec)
    form = _form(path)
    if form == ".parquet":
        return _parquet_captions(path, report)
    return _tsv_captions(path, report) if form == ".tsv" else _text_captions(path, report)


def check_source(spec: str | Path) -> Path:
    """The path of a file source. UserError: there is no such file, or its name has none of the known endings."""
    path = Path(spec)
    if path.is_dir():
        raise UserError(f"captions '{path}' is a folder; name its files")
    if not path.is_file():
        raise UserError(f"captions file '{path}' does not exist")
    if _form(path) not in FORMS:
        raise UserError(f"captions file '{path}': its name must end in .tsv, .txt (both also .gz) or .parquet")
    if not os.access(path, os.R_OK):
        raise UserError(f"captions file '{path}' may not be read: permission denied")
    return path


def source_identity(spec: str | Path) -> dict[str, str]:
    """What a source is, wherever it lies: its form and its content's hash, or the world's own name for it."""
    if is_world(spec):
        return {"form": "world", "captions": str(WorldSpec.parse(str(spec))).removeprefix(WORLD)}
    path = check_source(spec)
    return {"form": _form(path), "sha256": sha256_of_files([path])}


def _form(path: Path) -> str:
    """The ending of a name that says what is inside, without .gz; "" for none that is known."""
    name = path.name.lower()
    return next((form for form in FORMS if name.endswith((form, form + ".gz") if form in PACKED else form)), "")


# Lines of text.


def _text_captions(path: Path, report: Fraction) -> Iterator[RawCaption]:
    for line in _lines(path, report):
        yield RawCaption("", "too_long") if line is None else _caption(line)


def _tsv_captions(path: Path, report: Fraction) -> Iterator[RawCaption]:
    columns: Columns | None = None
    for line in _lines(path, report):
        if line is None:
            yield RawCaption("", "too_long")
        elif not line.strip():
            yield RawCaption("", "empty")
        elif columns is None and (columns := _header(line)):
            yield RawCaption("", "header")
        else:
            columns = columns or _columns_of(line)
            fields = line.split(b"\t", columns.width - 1)
            yield _caption(fields[columns.caption]) if len(fields) == columns.width else RawCaption("", "no_tab")


def _header(line: bytes) -> Columns | None:
    """The columns that a first line names, as some published files have it; None if it is a row like all others."""
    names = [name.strip().lower() for name in line.decode(errors="replace").split("\t")]
    found = [names.index(name) for name in CAPTION_NAMES if name in names]
    if len(names) < 2 or not found or any(_is_url(name.encode()) for name in names):
        return None
    return Columns(len(names), found[0])


def _columns_of(line: bytes) -> Columns:
    """Url and caption, as in Conceptual 12M; the other way round where the first row shows it (as in the 3M set)."""
    first, _, second = line.partition(b"\t")
    return Columns(2, 0 if _is_url(second.strip()) and not _is_url(first) else 1)


def _is_url(field: bytes) -> bool:
    return field.lower().startswith((b"http://", b"https://")) and len(field.split()) == 1


def _caption(field: bytes) -> RawCaption:
    """A field as a caption: UTF-8, blanks around it cut off, Windows line ends with them."""
    try:
        text = field.decode().strip()
    except UnicodeDecodeError:
        return RawCaption("", "not_utf8")
    if not text:
        return RawCaption("", "empty")
    # No writing has NUL; a line that holds one comes from a damaged file, or from one in UTF-16.
    return RawCaption("", "nul") if "\0" in text else RawCaption(text)


def _lines(path: Path, report: Fraction) -> Iterator[bytes | None]:
    """The lines of a file, packed or not; None for one over LONGEST_LINE, which is skipped without being held."""
    size = max(path.stat().st_size, 1)
    with open(path, "rb") as file:
        packed = file.peek(2)[:2] == GZIP_MAGIC or path.name.lower().endswith(".gz")
        # A GzipFile reads its compressed file in steps, so the place in that file tells how far we are.
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb")) if packed else file
        try:
            for number, line in enumerate(_bounded_lines(stream)):
                if number % BATCH == 0:
                    report(file.tell() / size)
                yield line.removeprefix(UTF8_MARK) if number == 0 and line else line
        except (EOFError, zlib.error, OSError) as error:
            raise UserError(f"captions file '{path}' is broken or cut off: {error}") from error


def _bounded_lines(stream: BinaryIO) -> Iterator[bytes | None]:
    while line := stream.readline(LONGEST_LINE):
        if len(line) < LONGEST_LINE or line.endswith(b"\n"):
            yield line
            continue
        while (rest := stream.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass
        yield None


# Parquet.


def _parquet_captions(path: Path, report: Fraction) -> Iterator[RawCaption]:
    pyarrow, parquet = import_parquet()
    done = 0
    try:
        # Not memory-mapped and with a read buffer: a column of a file that is one huge row group is never held whole.
        with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            column = _caption_column(path, file.schema_arrow, pyarrow)
            for batch in file.iter_batches(BATCH, columns=[column], use_threads=False):
                yield from _column_captions(batch.column(0), pyarrow)
                done += len(batch)
                report(done / file.metadata.num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"captions file '{path}' cannot be read as parquet: {str(error).splitlines()[0]}") from error


def _caption_column(path: Path, schema: Any, pyarrow: Any) -> str:
    names = {name.lower(): name for name in reversed(schema.names)}
    found = next((names[name] for name in CAPTION_NAMES if name in names), None)
    if found is None:
        there = ", ".join(schema.names[:12])
        raise UserError(f"captions file '{path}' has no column 'caption' or 'text'; it has {there}")
    kind = schema.field(found).type
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    test = pyarrow.types
    if not any(is_it(kind) for is_it in (test.is_string, test.is_large_string, test.is_binary, test.is_large_binary)):
        raise UserError(f"captions file '{path}': column '{found}' holds {kind}, not text")
    return found


def _column_captions(column: Any, pyarrow: Any) -> Iterator[RawCaption]:
    # As bytes, for text that is not UTF-8 would else fail with all its neighbours.
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    for field in column.cast(pyarrow.large_binary()).to_pylist():
        yield RawCaption("", "empty") if field is None else _caption(field)


# The tiny world.


def _world_captions(spec: str) -> Iterator[RawCaption]:
    """Captions of the tiny world. They are drawn all at once, some 500 bytes of memory each."""
    for caption in WorldSpec.parse(spec).captions():
        yield RawCaption(caption.text)
