"""Visual procedures of wikiHow: the articles of VGSI (Yang et al. 2021, "Visual Goal-Step Inference using wikiHow").

The data set is a file `WikihowText_data.json` and a folder `wiki_images` (from `wiki_images.zip`). The file has one
article a line, a JSON object; read of it are

    {"file_id": "10000798", "goal": "How to Hang an Ironing Board",
     "methods": [{"name": "Hanging an Ironing Board Over a Door",
                  "steps": [{"step_id": "10000798_0_0", "headline": "Find a door to hang ...", "img": "https://..."}]}]}

and the picture of a step is `STEP_ID.png`, anywhere below the folder. "headline" may lack. Where "img" is null or empty
the article has no picture for the step, which is left out; a picture that should be there and is not is a mistake.

The format is taken from the README of github.com/YueYANG1996/wikiHow-VGSI, and the names of the picture files from
programs by others that read the data set; the data itself (770,000 pictures) was not at hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.data.real_sets.files import PictureFile, Progress, Refused, check_none_refused, inspect, shown
from m2m.data.real_sets.picture_sets import PictureSets, RealSet, key_of
from m2m.data.real_sets.splits import check_split, split_of
from m2m.types import UserError

Results = Mapping[str, PictureFile | Refused]


@dataclass(frozen=True)
class VgsiOptions:
    """Which methods become procedures.

    Attributes:
        file: `WikihowText_data.json`, or another in its format.
        images: folder with the pictures of the steps, at any depth.
        size: pixels of a side of a stored picture.
        split: train (90% of the articles), validation (5%) or test (5%), by a hash of their "file_id"; "": all.
        min_steps: a method with fewer steps that have a picture is no procedure.
        max_steps: only the first so many steps of a method; None: all.
        skip_broken: leave out methods with a missing or broken picture instead of stopping.
    """

    file: Path
    images: Path
    size: int = 512
    split: str = ""
    min_steps: int = 2
    max_steps: int | None = None
    skip_broken: bool = False

    def __post_init__(self) -> None:
        """Raise UserError for values out of range and a folder that is none."""
        check_split(self.split)
        if self.min_steps < 2:
            raise UserError(f"min-steps is {self.min_steps}; a procedure has at least 2")
        if self.max_steps is not None and self.max_steps < self.min_steps:
            raise UserError(f"max-steps is {self.max_steps}, less than min-steps {self.min_steps}")
        if not self.images.is_dir():
            raise UserError(f"'{self.images}' is no folder; give the one of wiki_images.zip, with a STEP_ID.png a step")


@dataclass(frozen=True)
class Method:
    """One way to a goal. number: its place in the article; steps: (step id, headline) of those that have a picture."""

    article: str
    number: int
    goal: str
    name: str
    steps: tuple[tuple[str, str], ...]

    def caption(self) -> str:
        """The goal and the method; many articles have a single method without a name."""
        return f"{self.goal}: {self.name}" if self.name else self.goal


class VgsiSets(PictureSets):
    """The methods of the articles, each a procedure, in the order of the file.

    Attributes:
        refused: missing and broken pictures; with `skip_broken`, their methods are left out.
        short: how many methods have too few steps with a picture.

    Raises UserError: another format, with its line; no procedure at all; a missing or broken picture, unless skipped.
    """

    def __init__(self, options: VgsiOptions, progress: Progress | None = None) -> None:
        wanted = [method for method in read_methods(options.file) if _in_split(method, options.split)]
        methods = [method for method in wanted if len(method.steps) >= options.min_steps]
        self.short = len(wanted) - len(methods)
        results = _look_at(methods, options, progress)
        self.refused = [result for result in results.values() if isinstance(result, Refused)]
        if not options.skip_broken:
            check_none_refused(self.refused)
        found = [made for method in methods if (made := _set(method, results, options.max_steps))]
        if not found:
            among = f" of the split '{options.split}'" if options.split else ""
            raise UserError(
                f"'{options.file}' has no method{among} with at least {options.min_steps} usable pictures of steps "
                f"({self.short} of {len(wanted)} methods have fewer steps)"
            )
        chosen = {name: getattr(options, name) for name in ("split", "min_steps", "max_steps")}
        super().__init__(found, options.size, {"source": "vgsi", **chosen})


def read_methods(path: Path) -> list[Method]:
    """All methods of all articles. Raises UserError where the file is missing or in another format."""
    methods: list[Method] = []
    lines: dict[str, int] = {}
    for number, article in _articles(path):
        where = f"'{path}' line {number}"
        name = str(_entry(article, "file_id", (str, int), where))
        if name in lines:
            raise UserError(f"{where}: the article {name} came before, in line {lines[name]}; remove one of the two")
        lines[name] = number
        methods += _methods_of(article, name, where)
    return methods


def _articles(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, article); empty lines are passed over."""
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _parsed(line, f"'{path}' line {number}")
    except FileNotFoundError as error:
        raise UserError(f"'{path}' does not exist; the file of VGSI is named WikihowText_data.json") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' cannot be read as text: {error}") from error


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is no JSON: {error}; VGSI has one article a line") from error
    if not isinstance(value, dict):
        raise UserError(f"{where} is no JSON object; VGSI has one article a line")
    return value


def _methods_of(article: dict[str, Any], name: str, where: str) -> Iterator[Method]:
    goal = _entry(article, "goal", (str,), where)
    for number, method in enumerate(_entry(article, "methods", (list,), where)):
        place = f"{where}, methods[{number}]"
        entries = enumerate(_entry(method, "steps", (list,), place))
        steps = [_step(step, f"{place}.steps[{index}]") for index, step in entries]
        title = _entry(method, "name", (str, type(None)), place) or ""
        yield Method(name, number, goal, title, tuple(step for step in steps if step))


def _step(step: Any, where: str) -> tuple[str, str] | None:
    """(step id, headline); None for a step without a picture."""
    name = _entry(step, "step_id", (str,), where)
    return (name, str(step.get("headline") or "")) if step.get("img", True) else None


def _entry(value: Any, key: str, types: tuple[type, ...], where: str) -> Any:
    if not isinstance(value, dict) or key not in value:
        raise UserError(f"{where} has no '{key}'; see the README of wikiHow-VGSI for the format")
    if not isinstance(value[key], types):
        raise UserError(f"{where}: '{key}' is a {type(value[key]).__name__}, not a {types[0].__name__}")
    return value[key]


def _in_split(method: Method, split: str) -> bool:
    return not split or split_of(method.article) == split


def _look_at(methods: Sequence[Method], options: VgsiOptions, progress: Progress | None) -> Results:
    """Step id -> what its picture turned out to be, for all steps that are wanted."""
    # Backwards, so that of two pictures with one name the first counts.
    places = {path.stem: path for path in sorted(options.images.rglob("*.png"), reverse=True)}
    steps = [step for method in methods for step, _ in method.steps[: options.max_steps]]
    there = [step for step in steps if step in places]
    looked = inspect([(shown(places[step], options.images), places[step]) for step in there], progress)
    lacking = [step for step in steps if step not in places]
    gone = {step: Refused(step, f"'{options.images / step}.png' does not exist") for step in lacking}
    return {**dict(zip(there, looked, strict=True)), **gone}


def _set(method: Method, results: Results, max_steps: int | None) -> RealSet | None:
    steps = method.steps[:max_steps]
    files = tuple(file for step, _ in steps if isinstance(file := results[step], PictureFile))
    if len(files) < len(steps):
        return None
    meta = {
        "caption": method.caption(),
        "goal": method.goal,
        "method": method.name,
        "article": method.article,
        "step_ids": [step for step, _ in steps],
        "steps": [headline for _, headline in steps],
    }
    return RealSet(key_of("vgsi", method.article, method.number), files, meta)
