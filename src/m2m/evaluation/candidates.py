"""What is evaluated: a model under one way of sampling it, or pictures that were made elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from m2m.model.context_window import POLICIES, SLIDING
from m2m.pipeline import M2MPipeline
from m2m.sampling_request import chosen_window
from m2m.types import UserError

OWN = "own"  # the window of a model where nobody asks for one: another of each model


@dataclass(frozen=True)
class Window:
    """How many context images an image sees at most (None: all), and which leave first (`ContextWindow`)."""

    size: int | None = None
    policy: str = SLIDING

    @classmethod
    def parse(cls, text: str) -> Self:
        """ "all", "4" (the last four), "anchor:6" (the given images and the last others), "nearest:4" (of the nearest
        conditions). Raises UserError."""
        policy, colon, size = text.strip().rpartition(":")
        if (policy or SLIDING) not in POLICIES or (colon and not policy) or not (size == "all" or size.isdigit()):
            raise UserError(f"window '{text}': write own, all, a number such as 4, or anchor:NUMBER such as anchor:6")
        if size == "0":
            raise UserError(f"window '{text}': an image must see 1 image or more; 'all' shows it all of them")
        return cls(None if size == "all" else int(size), policy or SLIDING)

    @classmethod
    def of(cls, pipe: M2MPipeline) -> Self:
        """The pipeline's own: through which a user sees it who says nothing of windows."""
        return cls(*chosen_window(None, None, pipe.config))

    def __str__(self) -> str:
        size = "all" if self.size is None else str(self.size)
        return size if self.policy == SLIDING else f"{self.policy}:{size}"


@dataclass(frozen=True)
class Model:
    """A pipeline by name. digest: of its weights, part of what generated images are filed under; load: builds it."""

    name: str
    digest: str
    load: Callable[[], M2MPipeline]


@dataclass(frozen=True)
class Candidate:
    """A model and its window, or a folder of pictures that something else made; `label` names its row."""

    label: str
    model: Model | None = None
    window: Window = Window()
    folder: Path | None = None


def windows_of(text: str) -> list[Window | None]:
    """ "own,all,4" -> windows, None for each model's own. Raises UserError."""
    return [None if each.strip() == OWN else Window.parse(each) for each in text.split(",")]


def candidates_of(
    models: Sequence[Model], windows: Sequence[Window | None], folders: Sequence[Path]
) -> list[Candidate]:
    """Every model with every window, None being its own, then the folders. UserError if two are alike.

    Labels name the window, unless nobody asked for one and the model sees all images.
    """
    made = [_candidate(model, window, alone=len(windows) == 1) for model in models for window in windows]
    made += [Candidate(str(folder), folder=folder) for folder in folders]
    labels = [own.label for own in made]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise UserError(f"'{twice}' is asked for twice; name every model, window and folder once")
    if not made:
        raise UserError("there is nothing to evaluate: give --model NAME, or --images FOLDER with pictures made before")
    return made


def _candidate(model: Model, asked: Window | None, alone: bool) -> Candidate:
    window = Window.of(model.load()) if asked is None else asked
    plain = alone and asked is None and window.size is None
    return Candidate(model.name if plain else f"{model.name}, window {window}", model, window)
