"""The settings of a build: what is made, how it is cut into shards, and how a picture is stored."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.data.factory.sources import SetSource
from m2m.types import UserError

FORMATS = ("webp", "png", "jpg")


@dataclass(frozen=True)
class BuildSettings:
    """Where shards go and what they are.

    Attributes:
        out: folder of the shards.
        images: images a .. b - 1 of every set are made now; a must be 0 or the end of what the folder was told before.
        shards: only the shards with index a .. b - 1; None: all.
        only: only the shards of these names (of those that `shards` leaves); None: all.
        sets_per_shard: how many sets one shard holds; the last may hold fewer.
        format: webp, png or jpg.
        quality: of webp and jpg, 1 to 100; png has none.
        attempts: how often a shard may fail before it is set aside.
        encoders: threads that encode beside the generator; None: one a core, at most four. Shapes no bytes.
    """

    out: Path
    images: tuple[int, int]
    shards: tuple[int, int] | None = None
    only: Collection[str] | None = None
    sets_per_shard: int = 100
    format: str = "webp"
    quality: int = 90
    attempts: int = 3
    encoders: int | None = None

    def __post_init__(self) -> None:
        """Raise UserError for what no build can do."""
        for name, (start, stop) in (("images", self.images), ("shards", self.shards or (0, 1))):
            if not 0 <= start < stop:
                raise UserError(f"{name} {start}:{stop} is empty or negative; A:B needs 0 <= A < B")
        for name in ("sets_per_shard", "attempts"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.format not in FORMATS:
            raise UserError(f"format '{self.format}' is not one of {', '.join(FORMATS)}")
        if not 1 <= self.quality <= 100:
            raise UserError(f"quality is {self.quality}; it must be 1 to 100")


def identity(source: SetSource, settings: BuildSettings) -> dict[str, Any]:
    """Everything that shapes the bytes of the shards, as plain JSON values: a folder holds shards of one identity.

    Raises UserError for a number that is not finite.
    """
    values = {
        **source.settings(),
        "sets": len(source),
        "batch": source.batch,  # cuts a shard into the units that are committed; half a shard cannot change it
        "sets_per_shard": settings.sets_per_shard,
        "format": settings.format,
        "quality": None if settings.format == "png" else settings.quality,
    }
    try:
        plain: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    except ValueError as error:
        raise UserError(f"the settings hold a number that is not finite: {values}") from error
    return plain
