"""Visual procedures from folders: `burger/00.png`, `01.png`, ... are the steps of one procedure, in natural order.

They are the sets of `m2m.data.real_sets.folders`, in which no step may be missing: a step that is numbered and gone, or
that cannot be read, would teach that two things happen at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from m2m.data.real_sets.files import PictureFile, Progress, Refused
from m2m.data.real_sets.folders import FolderOptions, FolderSets
from m2m.data.real_sets.picture_sets import RealSet
from m2m.types import UserError


class StepSets(FolderSets):
    """The procedures of a folder; the options are those of `FolderSets`, with at least two steps.

    Attributes:
        refused: broken pictures and missing steps; with `skip_broken`, their whole procedures are left out.

    Raises UserError: no procedure at all; a broken picture or a missing step, unless these are skipped.
    """

    def __init__(self, options: FolderOptions, progress: Progress | None = None) -> None:
        super().__init__(replace(options, min_images=max(2, options.min_images)), progress)

    def _set(self, name: str, files: Sequence[PictureFile], options: FolderOptions) -> RealSet | None:
        if any(file.name.rpartition("/")[0] == name for file in self.refused):
            return None
        gap = missing_step([PurePosixPath(file.name).name for file in files])
        if gap is None:
            return super()._set(name, files, options)
        reason = f"'{options.folder / name}' {gap}"
        if not options.skip_broken:
            raise UserError(f"{reason}; number the steps without a gap, or leave such folders out with --broken skip")
        self.refused.append(Refused(f"{name}/", reason))
        return None


def missing_step(names: Sequence[str]) -> str | None:
    """What is wrong with names of files in natural order that number steps; None: nothing, or they number none.

    Names number steps if they are alike but for one number, which starts with 0 or 1: "00.png", "step 1.jpg".
    Photographs such as "IMG_2031.jpg" come in order too, but a number that lacks there means nothing.
    """
    found = [re.fullmatch(r"(\D*)(\d+)(\D*)", PurePosixPath(name).stem) for name in names]
    matches = [match for match in found if match]
    numbers = [int(match[2]) for match in matches]
    if len(matches) < len(names) or len({match[1].casefold() for match in matches}) > 1 or numbers[0] > 1:
        return None
    for before, number, earlier, name in zip(numbers, numbers[1:], names, names[1:], strict=False):
        if number != before + 1:
            what = "two pictures of one step:" if number == before else f"no step {before + 1} between"
            return f"has {what} '{earlier}' and '{name}'"
    return None
