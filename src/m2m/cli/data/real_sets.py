"""What `m2m data folder` and `m2m data coco` share: their settings, and what was left out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m2m.data.factory.settings import BuildSettings
    from m2m.data.real_sets.files import Refused
    from m2m.data.real_sets.picture_sets import PictureSets

NAMED = 10  # files that are named on the terminal


class Broken(StrEnum):
    """What to do about a picture that is missing or cannot be read."""

    stop = "stop"
    skip = "skip"


def build_settings(source: PictureSets, out: Path, sets_per_shard: int, format: str, quality: int) -> BuildSettings:
    """All images of all sets, however many each has."""
    from m2m.data.factory.settings import BuildSettings

    images = (0, source.most_images)
    return BuildSettings(out=out, images=images, sets_per_shard=sets_per_shard, format=format, quality=quality)


def report_refused(refused: Sequence[Refused]) -> None:
    """Say on stderr how many files were left out, and name the first ones with the reason."""
    for file in refused[:NAMED]:
        print(f"m2m: left out: {file.reason}", file=sys.stderr)
    if len(refused) > NAMED:
        print(f"m2m: left out: {len(refused)} pictures in all", file=sys.stderr)
