"""Folders of pictures that show how drawings are assembled, for `m2m data steps`: `hamburger-1f354-0/00.png` ..."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from m2m.checkpoint import atomic_folder, read_json, write_json
from m2m.data.drawings.assembly import Assembly, assemblies
from m2m.data.drawings.families import SPLITS, split_of
from m2m.data.drawings.sources import SOURCES
from m2m.data.drawings.variants import draw_variant
from m2m.data.real_sets.files import Progress
from m2m.types import UserError

SETTINGS = "drawings.json"


@dataclass(frozen=True)
class DrawingOptions:
    """Which folders are made.

    Attributes:
        source: twemoji, or kanji (nothing trained on these may be bundled: see `m2m.data.drawings.kanji`).
        split: train, validation or test; no drawing, and no near twin of one, is in two of them.
        size: pixels of a side.
        variants: folders of each drawing: the drawing as it is, then others in place, size, direction and palette.
        seed: draws the variants. The splits do not depend on it.
        count: only the first so many drawings of the split, by name; None: all.
    """

    source: str = "twemoji"
    split: str = "train"
    size: int = 64
    variants: int = 1
    seed: int = 0
    count: int | None = None

    def __post_init__(self) -> None:
        """Raise UserError for an unknown source or split and numbers out of range."""
        if self.source not in SOURCES:
            raise UserError(f"source '{self.source}' is not one of {', '.join(SOURCES)}")
        if self.split not in SPLITS:
            raise UserError(f"split '{self.split}' is not one of {', '.join(SPLITS)}")
        for name, least in (("size", 8), ("variants", 1), ("seed", 0), ("count", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name} is {value}; it must be at least {least}")


def find_assemblies(options: DrawingOptions, progress: Progress | None = None) -> list[Assembly]:
    """The assemblies of a split. progress: called with (done, in all). Raises UserError without the extra `steps`."""
    source = SOURCES[options.source]
    found = assemblies(source.drawings(), progress)
    return split_of(found, source.near_twins)[options.split][: options.count]


def write_drawings(
    found: list[Assembly], options: DrawingOptions, out: Path, progress: Progress | None = None
) -> tuple[int, int]:
    """Write the folders that are not there yet, each whole or not at all. Returns (new folders, all folders).

    Raises UserError where `out` holds folders of other options.
    """
    _claim(out, options)
    wanted = [(one, number) for one in found for number in range(options.variants)]
    made = 0
    for done, (one, number) in enumerate(wanted, 1):
        folder = out / f"{one.drawing.name}-{number}"
        if not folder.exists():
            _write(folder, one, number, options)
            made += 1
        if progress:
            progress(done, len(wanted))
    return made, len(wanted)


def _write(folder: Path, one: Assembly, number: int, options: DrawingOptions) -> None:
    pictures = draw_variant(one, number, options.size, options.seed)
    with atomic_folder(folder) as temporary:
        for step, picture in enumerate(pictures):
            Image.fromarray(picture).save(temporary / f"{step:02d}.png")


def _claim(out: Path, options: DrawingOptions) -> None:
    """Note what the folder holds; what shapes no picture (how many drawings and variants) may change later."""
    settings = _settings(options)
    path = out / SETTINGS
    if path.exists():
        if read_json(path) != settings:
            raise UserError(f"'{out}' holds drawings of other options, see '{path}'; choose another folder")
        return
    if out.exists() and any(out.iterdir()):
        raise UserError(f"'{out}' holds something else; choose a new or empty folder")
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def _settings(options: DrawingOptions) -> dict[str, Any]:
    shaping = {name: value for name, value in asdict(options).items() if name not in ("variants", "count")}
    source = SOURCES[options.source]
    packages = {name: version(name) for name in (source.package, "resvg-py")}
    return {**shaping, "licence": source.licence, "packages": packages}
