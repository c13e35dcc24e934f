"""From caption files to a captions folder: the paper's filter (section 4), ids, and splits.

The paper leaves out captions of Conceptual 12M with more than 77 CLIP tokens. Also left out, and counted by reason:
what is empty, not UTF-8, or an exact repetition. Nothing grows with the input: rows wait in files (see `partitions`).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from m2m.checkpoint import atomic_folder, write_json
from m2m.data.captions.partitions import Partitions, Row
from m2m.data.captions.sources import RawCaption, read_captions, source_identity
from m2m.data.captions.store import ID_BYTES, SPLITS, SUMMARY, VERSION, CaptionStore, import_parquet, read_summary
from m2m.data.captions.tokens import ClipTokenCounter, surely_longer
from m2m.data.captions.writing import SplitWriter
from m2m.types import UserError

# What is counted at once: so many captions, or characters where captions are long.
BATCH, BATCH_CHARACTERS = 4096, 1 << 20
LARGEST_LIMIT = 32_767  # tokens are stored as int16
OWN_FILES = re.compile(rf"({'|'.join(SPLITS)})-\d+\.parquet|{re.escape(SUMMARY)}")

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class SiftConfig:
    """max_tokens: the most CLIP tokens a caption may have, start and end included.

    test, validation: how many captions these splits get; all others are for training. Ids are hashes, so the first ids
    are a random choice that depends on the captions alone.
    """

    max_tokens: int = 77
    test: int = 10_000
    validation: int = 0

    def __post_init__(self) -> None:
        """UserError for values that cannot be."""
        if not 2 < self.max_tokens <= LARGEST_LIMIT:
            raise UserError(f"max_tokens is {self.max_tokens}; it must be 3 to {LARGEST_LIMIT}, start and end included")
        if min(self.test, self.validation) < 0:
            raise UserError("a split cannot have fewer than 0 captions")


@dataclass
class Tally:
    """One source: how many lines or rows were read, and how many of them were left out for which reason."""

    name: str
    read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    @property
    def kept(self) -> int:
        """Captions that were not left out, repetitions among them."""
        return self.read - self.rejected.total()


def sift_captions(
    inputs: Sequence[str], out: str | Path, config: SiftConfig, progress: Progress | None = None
) -> CaptionStore:
    """Read the inputs (see `sources`) and write the folder `out` (see `store`), whole or not at all.

    A folder that holds the same captions, made with the same settings, is returned as it is.

    progress: called now and then with what is being done and the fraction of it that is done.
    Raises UserError for an input that cannot be read, a folder that holds something else or cannot be written, and
    where fewer captions remain than the splits ask for.
    """
    # Resolved: a link named by the user is followed, not replaced by a folder.
    folder = Path(out).resolve()
    import_parquet()
    if not inputs:
        raise UserError("no captions are named; give at least one file")
    settings = _settings(inputs, config)
    if finished := _finished(folder, settings):
        return finished
    try:
        with atomic_folder(folder) as staging:
            _write(staging, inputs, config, settings, progress or (lambda stage, fraction: None))
    except OSError as error:
        raise UserError(f"captions folder '{folder}' cannot be written: {error.strerror or error}") from error
    return CaptionStore.open(folder)


# What is in the folder already.


def _settings(inputs: Sequence[str], config: SiftConfig) -> dict[str, Any]:
    """All that the folder's content follows from. The order of the inputs and their places do not matter."""
    sources = sorted((source_identity(name) for name in inputs), key=lambda source: sorted(source.items()))
    return {**asdict(config), **ClipTokenCounter().identity(), "sources": sources}


def _finished(folder: Path, settings: dict[str, Any]) -> CaptionStore | None:
    """The store that is there already; None where there is none yet, or ours but damaged.

    Raises UserError where something else is there.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"'{folder}' is a file; name a new folder")
    if not folder.exists() or not any(folder.iterdir()):
        return None
    if not (folder / SUMMARY).is_file():
        raise UserError(f"'{folder}' is not empty and holds no captions of `m2m data captions`; name a new folder")
    _check_same(read_summary(folder)["settings"], settings, folder)
    try:
        return CaptionStore.open(folder)
    except UserError as error:
        # It will be replaced as a whole: nothing else may lie in it.
        strange = sorted(path.name for path in folder.iterdir() if not OWN_FILES.fullmatch(path.name))
        if strange:
            raise UserError(f"{error}; but first move '{strange[0]}' out of the folder") from error
        return None


def _check_same(found: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    differing = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    if differing:
        pairs = ", ".join(
            "the sources are others" if key == "sources" else f"{key} is {found.get(key)!r}, not {wanted.get(key)!r}"
            for key in differing
        )
        raise UserError(f"'{folder}' holds other captions: {pairs}; name a new folder or give the same settings")


# Making it.


def _write(
    folder: Path, inputs: Sequence[str], config: SiftConfig, settings: dict[str, Any], progress: Progress
) -> None:
    counter = ClipTokenCounter()
    with Partitions(folder / "rows") as rows:
        tallies = []
        for i, name in enumerate(inputs):
            tally = Tally(Path(name).name)
            tallies.append(tally)
            captions = read_captions(name, _share(progress, i, len(inputs)))
            _lay_out(captions, config.max_tokens, counter, tally, rows)
        _check_enough(sum(tally.kept for tally in tallies), config, tallies)
        splits = _write_splits(folder, rows, config, progress)
        _check_enough(sum(split["count"] for split in splits.values()), config, tallies)
        summary = {"version": VERSION, "settings": settings, **_reckoning(tallies, rows.duplicates), "splits": splits}
    write_json(folder / SUMMARY, summary)


def _share(progress: Progress, number: int, count: int) -> Callable[[float], None]:
    """Progress of one of several inputs as progress of all."""
    return lambda done: progress("reading", (number + done) / count)


def _lay_out(
    captions: Iterable[RawCaption], max_tokens: int, counter: ClipTokenCounter, tally: Tally, rows: Partitions
) -> None:
    """Lay the captions of one source that are to be kept into `rows`."""
    for texts in _batches(_possible(captions, max_tokens, tally)):
        for text, tokens in zip(texts, counter.counts(texts), strict=True):
            if tokens > max_tokens:
                tally.rejected["too_long"] += 1
                continue
            written = text.encode()
            rows.add(Row(hashlib.blake2b(written, digest_size=ID_BYTES).digest(), tokens, written))


def _possible(captions: Iterable[RawCaption], max_tokens: int, tally: Tally) -> Iterator[str]:
    """The captions whose tokens are worth counting."""
    for text, reason in captions:
        tally.read += 1
        if reason is None and surely_longer(text, max_tokens):
            reason = "too_long"
        if reason is None:
            yield text
        else:
            tally.rejected[reason] += 1


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == BATCH or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _write_splits(folder: Path, rows: Partitions, config: SiftConfig, progress: Progress) -> dict[str, Any]:
    """The first ids are the test split, the next ones validation, the rest train; for each, what the summary says."""
    remaining = rows.sorted_rows(lambda done: progress("sorting", done))
    counts = {"test": config.test, "validation": config.validation, "train": None}
    records = {}
    for split, count in counts.items():
        with SplitWriter(folder, split, config.max_tokens) as writer:
            for row in islice(remaining, count):
                writer.add(row)
        records[split] = writer.record()
    return {split: records[split] for split in SPLITS}


def _check_enough(kept: int, config: SiftConfig, tallies: Sequence[Tally]) -> None:
    """UserError if nothing is left, or less than the splits ask for."""
    asked = config.test + config.validation
    if kept >= max(asked, 1):
        return
    rejected = sum((tally.rejected for tally in tallies), Counter())
    reasons = "".join(f", {count} {reason}" for reason, count in sorted(rejected.items()))
    found = f"{kept} captions are left of {sum(tally.read for tally in tallies)} lines{reasons}"
    raise UserError(f"{found}; test and validation ask for {asked}" if kept else found)


def _reckoning(tallies: Sequence[Tally], duplicates: int) -> dict[str, Any]:
    """What was read, kept and left out, in all and of each source; duplicates are known in all only."""
    rejected = sum((tally.rejected for tally in tallies), Counter({"duplicate": duplicates}))
    sources = [
        {"name": tally.name, "read": tally.read, "rejected": dict(sorted(tally.rejected.items()))} for tally in tallies
    ]
    read = sum(tally.read for tally in tallies)
    return {
        "sources": sources,
        "read": read,
        "kept": read - rejected.total(),
        "rejected": dict(sorted(rejected.items())),
    }
