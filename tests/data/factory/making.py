"""Small real things to build from: a folder of tiny-world captions, its source, and a look at what a build left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from m2m.data.captions.sift import SiftConfig, sift_captions
from m2m.data.factory.recipes import captions_recipe
from m2m.data.factory.sources import SetPlan, SetSource
from m2m.data.generators import Picture


def captions_folder(folder: Path, count: int = 12) -> Path:
    """`count` captions of the tiny world as the split "train" of a captions folder."""
    store = sift_captions([f"world:mini:train:{count}"], folder, SiftConfig(test=0))
    assert store.count("train") == count
    return folder


def world_recipe(
    captions: Path, size: int = 16, batch: int = 3, images_per_set: int = 5, **more: Any
) -> dict[str, Any]:
    """The recipe of sets that the tiny world renders."""
    generator = {"spec": "world:mini", "size": size, "batch": batch}
    return captions_recipe(str(captions), generator, images_per_set=images_per_set, **more)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a build's folder by its name, but for the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class LoggedSets:
    """A source that writes down every image that it is asked for, one line each, before it is made.

    bad: keys of sets that cannot be made, as long as this set of keys holds them. wait: seconds before each unit.
    """

    def __init__(self, source: SetSource, log: Path, bad: Collection[str] = (), wait: float = 0.0) -> None:
        self.bad, self.wait = set(bad), wait
        self._source, self._log = source, log

    @property
    def batch(self) -> int:
        return self._source.batch

    def settings(self) -> dict[str, Any]:
        return self._source.settings()

    def __len__(self) -> int:
        return len(self._source)

    def sets(self, start: int, stop: int) -> list[SetPlan]:
        return self._source.sets(start, stop)

    def make(self, requests: Sequence[tuple[SetPlan, int]]) -> list[Picture | None]:
        time.sleep(self.wait)
        with open(self._log, "a") as log:
            log.writelines(f"{plan.key} {number}\n" for plan, number in requests)
        if wrong := [plan.key for plan, _ in requests if plan.key in self.bad]:
            raise RuntimeError(f"set {wrong[0]} cannot be made\nsecond line")
        return self._source.make(requests)


def asked(log: Path) -> Counter[str]:
    """How often each image was asked for: "KEY NUMBER" -> times."""
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()
