"""Is damage to shards ever missed? Damages them one at a time, and asks `verify`, the reader and `--repair`.

    python benchmarks/shard_damage.py [--each 100] [--seed 0]

Kinds of damage: a file cut off at a random byte, a random byte changed, and a random byte of a random tar header
changed. After each one
    verify    must name the shard, and no other
    reader    must raise an error that names the shard, before a set is missing or other than it was
    repair    must bring back the very bytes, of the shard and of everything else in the folder
For comparison, plain webdataset reads the same damaged file: "loses" counts the files of which it gives fewer samples,
or other bytes, and raises nothing. Exit code 1 where anything of ours missed.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from m2m.data.captions.sift import SiftConfig, sift_captions
from m2m.data.factory.build import build
from m2m.data.factory.repair import repair
from m2m.data.factory.settings import BuildSettings
from m2m.data.factory.sources import GeneratedSets
from m2m.data.factory.verify import verify
from m2m.data.generators import GeneratorOptions, open_generator
from m2m.data.reading.dataset import ImageSetDataset
from m2m.data.shards import ShardError, scan

SHARDS, SETS_PER_SHARD, IMAGES = 4, 6, 5
COLUMNS = ("damaged", "verify", "reader", "repair", "loses")
Damage = Callable[[Path, random.Random], None]


def main() -> int:
    """Print one row for each kind of damage; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=100, help="damaged shards of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        source, folder = built(Path(temporary))
        bench = Bench(source, folder)
        print(f"{SHARDS} shards of {SETS_PER_SHARD} sets of {IMAGES} images\n")
        print(f"{'':12}" + "".join(f"{name:>9}" for name in COLUMNS))
        totals: Counter[str] = Counter()
        for kind, damage in (("cut off", cut_off), ("byte", change_byte), ("header", change_header)):
            row = Counter(dict.fromkeys(COLUMNS, 0))
            for number in range(options.each):
                row += bench.one(damage, random.Random(f"{options.seed}/{kind}/{number}"))
            totals += row
            print_row(kind, row)
        print_row("all", totals)
    missed = sum(totals["damaged"] - totals[name] for name in ("verify", "reader", "repair"))
    print(f"\n{missed} misses of ours, {time.perf_counter() - started:.0f} s")
    return 1 if missed or not totals["damaged"] else 0


def built(place: Path) -> tuple[GeneratedSets, Path]:
    """A folder of shards that the tiny world makes, and its source."""
    sets = SHARDS * SETS_PER_SHARD
    store = sift_captions([f"world:mini:train:{sets}"], place / "captions", SiftConfig(test=0))
    generator = open_generator(GeneratorOptions("world:mini", size=32))
    source = GeneratedSets(store, "train", generator, images_per_set=IMAGES)
    settings = BuildSettings(out=place / "shards", images=(0, IMAGES), sets_per_shard=SETS_PER_SHARD)
    assert build(source, settings).complete
    return source, settings.out


def print_row(kind: str, row: Counter[str]) -> None:
    print(f"{kind:12}" + "".join(f"{row[name]:>9}" for name in COLUMNS), flush=True)


class Bench:
    """The folder as it was made: every set as the reader gives it, every file's bytes."""

    def __init__(self, source: GeneratedSets, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.sets = read_sets(folder)
        self.files = contents(folder)
        self.shards = sorted(folder.glob("*.tar"))
        self.samples = {path: plain_webdataset(path) for path in self.shards}

    def one(self, damage: Damage, draw: random.Random) -> Counter[str]:
        """Damage a shard, look at it in every way, repair it."""
        path = draw.choice(self.shards)
        damage(path, draw)
        assert path.read_bytes() != self.files[path.name]
        found = Counter(
            damaged=1,
            verify=verify(self.folder).damaged == [path.stem],
            reader=self._reader_finds(path),
            loses=plain_webdataset(path) not in (None, self.samples[path]),
        )
        repaired = repair(self.folder, self.source, verify(self.folder, decode=False).damaged).repaired
        found["repair"] += repaired == (path.stem,) and contents(self.folder) == self.files
        path.write_bytes(self.files[path.name])  # a miss must not spoil the next one
        return found

    def _reader_finds(self, path: Path) -> bool:
        """Whether every set is either as it was or an error that names the shard, and there is such an error."""
        raised = 0
        try:
            dataset = ImageSetDataset(self.folder)
        except ShardError as error:
            return path.stem in str(error)
        for number, expected in enumerate(self.sets):
            try:
                if digest_of(dataset, number) != expected:
                    return False
            except ShardError as error:
                if path.stem not in str(error):
                    return False
                raised += 1
        return raised > 0 and len(dataset) == len(self.sets)


def read_sets(folder: Path) -> list[str]:
    dataset = ImageSetDataset(folder)
    return [digest_of(dataset, number) for number in range(len(dataset))]


def digest_of(dataset: ImageSetDataset, number: int) -> str:
    """A set as the reader gives it, as a digest of key, caption, numbers and pixels."""
    found = dataset[number]
    assert found.images is not None
    told = f"{found.key} {found.caption} {list(found.numbers)}".encode()
    return hashlib.sha256(told + found.images.tobytes()).hexdigest()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def plain_webdataset(path: Path) -> str | None:
    """What webdataset reads of the file by itself, as a digest; None where it raises an error."""
    import webdataset

    digest = hashlib.sha256()
    try:
        for sample in webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False):
            for key in sorted(sample):
                if not key.startswith("__"):
                    digest.update(f"{sample['__key__']}.{key}".encode() + sample[key])
    except Exception:  # any error is a word
        return None
    return digest.hexdigest()


def cut_off(path: Path, draw: random.Random) -> None:
    """Keep the first bytes alone, maybe none."""
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def change_byte(path: Path, draw: random.Random) -> None:
    """Another value in any byte of the file: of a header, a picture, a description, padding, the end."""
    change(path, draw.randrange(path.stat().st_size), draw)


def change_header(path: Path, draw: random.Random) -> None:
    """Another value in any byte of the header of an entry."""
    member = draw.choice(list(scan(path)))
    change(path, draw.randrange(member.start, member.offset), draw)


def change(path: Path, place: int, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= draw.randrange(1, 256)
    path.write_bytes(bytes(content))


if __name__ == "__main__":
    sys.exit(main())
