"""The folder of what sampling costs: sampling.json, sampling.md, sampling.png, written anew after every cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from m2m.checkpoint import atomic_write, read_json, write_json
from m2m.evaluation.efficiency.measuring import Cell, Facts
from m2m.evaluation.efficiency.plot import save_plot
from m2m.evaluation.efficiency.table import Efficiency, markdown
from m2m.types import UserError

NUMBERS, TABLE, PLOT = "sampling.json", "sampling.md", "sampling.png"


class Record:
    """What was found so far, and the folder that holds it. Each file is whole at any moment.

    Cells of one folder were measured with the same settings on the same machine, or they could not be compared.
    """

    def __init__(self, folder: Path, found: Efficiency) -> None:
        self._folder = folder
        self._found = found

    @classmethod
    def open(
        cls, folder: Path, settings: Mapping[str, Any], machine: Mapping[str, str], notes: Sequence[str]
    ) -> Record:
        """The folder's cells, or none where it is new. Raises UserError where they were measured otherwise."""
        new = Efficiency(settings, machine, notes, {}, ())
        if not (folder / NUMBERS).exists():
            _check_is_ours(folder)
            return cls(folder, new)
        plain = read_json(folder / NUMBERS)
        try:
            _check_same(folder, plain, new)
            facts = {name: Facts(**own) for name, own in plain["facts"].items()}
            cells = tuple(Cell.from_json(cell) for cell in plain["cells"])
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"'{folder / NUMBERS}' holds no sampling costs: name a new folder") from error
        return cls(folder, replace(new, facts=facts, cells=cells))

    def has(self, given: int, images: int) -> bool:
        """Whether that cell is measured."""
        return any((cell.given, cell.images) == (given, images) for cell in self._found.cells)

    def add(self, cell: Cell, facts: Mapping[str, Facts]) -> None:
        """One more cell, into all files. facts: by pipeline."""
        cells = sorted([*self._found.cells, cell], key=lambda own: (own.given, own.images))
        self._found = replace(self._found, cells=tuple(cells), facts=dict(facts))
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._folder / NUMBERS, _plain(self._found))
        with atomic_write(self._folder / TABLE) as temporary:
            temporary.write_text(self.text(), encoding="utf-8")
        save_plot(self._found, self._folder / PLOT)

    def text(self) -> str:
        """The tables, in Markdown."""
        return markdown(self._found)


def _plain(found: Efficiency) -> dict[str, Any]:
    return {
        "settings": dict(found.settings),
        "machine": dict(found.machine),
        "notes": list(found.notes),
        "facts": {name: asdict(own) for name, own in found.facts.items()},
        "cells": [cell.to_json() for cell in found.cells],
    }


def _check_is_ours(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"'{folder}' is a file: name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"'{folder}' is not empty and holds no {NUMBERS}: name a new folder")


def _check_same(folder: Path, plain: Mapping[str, Any], new: Efficiency) -> None:
    """Raise UserError that names what differs."""
    for what, mine in (("settings", new.settings), ("machine", new.machine)):
        theirs = plain[what]
        differing = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
        if differing:
            name, further = differing[0], ", ".join(differing[1:])
            raise UserError(
                f"'{folder}' was measured with {name} {theirs.get(name)}, not {mine.get(name)}"
                + (f" (other too: {further})" if further else "")
                + ": name a new folder"
            )
