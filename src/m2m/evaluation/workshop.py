"""Where the images of an evaluation are made: by this process's share, filed by what they are, never made twice.

OUT/images/tiny-self-window-all/000012/000.png       made by tiny-self for set 12, all earlier images seen
OUT/images/tiny-self-unconditional/...               made by tiny-self from nothing
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from m2m.evaluation.candidates import Candidate, Model, Window
from m2m.evaluation.generation import GenerateConfig, generate
from m2m.evaluation.result import Role
from m2m.evaluation.sets import EvaluationSets
from m2m.evaluation.sources import FolderSource
from m2m.evaluation.work import Stopped, Work


class Workshop:
    """Sets, candidates and settings of one evaluation; its images lie below `folder`."""

    def __init__(
        self, folder: Path, sets: EvaluationSets, candidates: list[Candidate], config: GenerateConfig, work: Work
    ) -> None:
        self.sets, self.candidates, self.config = sets, candidates, config
        self._folder, self._work = folder / "images", work

    @property
    def images(self) -> int:
        """How many images a set is continued by."""
        return self.config.images

    def continued(self, candidate: Candidate, given: int | None = None) -> FolderSource:
        """The images that continue every set; made now, unless they are there. given: of only so many given images."""
        note = "" if given is None else f"continues {given} of the given images"
        if candidate.model is None:
            assert candidate.folder is not None
            return FolderSource(candidate.folder, self.sets, self.images, name=candidate.label)
        shown = "" if given is None else f"-given-{given}"
        place = f"{candidate.model.name}-window-{candidate.window}{shown}"
        config = replace(self._seen_through(candidate.window), given=given)
        return self._made(candidate.model, place, config, candidate.label, "model", note)

    def changed(
        self, candidate: Candidate, change: str = "", role: Role = "model", note: str = "", **settings: Any
    ) -> FolderSource:
        """What a candidate makes under changed settings of `GenerateConfig`; `change` says so in the row's name."""
        assert candidate.model is not None
        config = replace(self._seen_through(candidate.window), **settings)
        label = f"{candidate.label}, {change}" if change else candidate.label
        values = (f"{name}-{value}" for name, value in settings.items())
        place = "-".join([candidate.model.name, f"window-{candidate.window}", *([change] if change else []), *values])
        return self._made(candidate.model, place, config, label, role, note)

    def unconditional(self, model: Model) -> FolderSource:
        """As many images for every set, each made from nothing: a floor."""
        config = replace(self.config, unconditional=True, guidance=None)
        label = f"{model.name}, unconditional"
        return self._made(model, f"{model.name}-unconditional", config, label, "floor", "made without any given image")

    def models(self) -> list[Model]:
        """The models among the candidates, each once."""
        return list({own.model.name: own.model for own in self.candidates if own.model is not None}.values())

    def _seen_through(self, window: Window) -> GenerateConfig:
        return replace(self.config, window=window.size, window_policy=window.policy)

    def _made(
        self, model: Model, place: str, config: GenerateConfig, label: str, role: Role, note: str
    ) -> FolderSource:
        folder = self._folder / re.sub(r"[^\w.]+", "-", place).strip("-.")
        work = self._work
        pipe, progress = model.load(), work.progress(label)
        if not generate(pipe, self.sets, folder, config, model.digest, work.share, progress, work.stop):
            raise Stopped
        work.barrier()
        return FolderSource(folder, self.sets, config.images, name=label, role=role, note=note)
