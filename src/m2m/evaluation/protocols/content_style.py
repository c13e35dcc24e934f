"""Figure 4 of the paper: consistency of content and consistency of style, each on sets that fix it, apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor

from m2m.data.worlds import Caption
from m2m.evaluation.protocols.protocol import Protocol, Sources, sheet
from m2m.evaluation.result import Row, Table
from m2m.evaluation.scoring import Scored
from m2m.evaluation.workshop import Workshop
from m2m.types import UserError

CONTENT = ("subject", "category", "Image-Image", "Image-Image CLIP", "DINO-I")
STYLE = ("style", "style consistency")
KINDS = 6  # subjects, or styles, of a sheet


class ContentStyle(Protocol):
    """Section 8.1. On the tiny world captions say what a set fixes; other sets are taken to fix both."""

    name = "content-style"
    title = "Figure 4: content and style kept apart"
    reading = (
        "Content is judged on sets whose images share a subject, style on sets whose images share a style. A model "
        "that copies pictures keeps both and adds nothing: look at the sheets beside the figures."
    )
    images = 4

    def tables(
        self, workshop: Workshop, scored: Mapping[str, Sequence[Scored]], rows: Mapping[str, Row]
    ) -> Iterator[Table]:
        """The two consistencies, each over the sets that fix it."""
        for kind, attribute, names in (("Content", "subject", CONTENT), ("Style", "style", STYLE)):
            chosen = torch.tensor([bool(value) for value in fixed(workshop, attribute)])
            pooled = {row: _pooled(places[0], names, chosen) for row, places in scored.items()}
            heads = ("", *next(iter(pooled.values())))
            cells = tuple((row, *own.values()) for row, own in pooled.items())
            note = f"over the {int(chosen.sum())} sets that fix the {attribute}; higher is better"
            yield Table(f"{kind} consistency", heads, cells, note)

    def sheets(
        self, workshop: Workshop, sources: Sources, scored: Mapping[str, Sequence[Scored]]
    ) -> Iterator[tuple[str, str, Image.Image]]:
        """For every model one sheet of different subjects and one of different styles."""
        for row, places in scored.items():
            if places[0].role != "model":
                continue
            for attribute in ("subject", "style"):
                chosen = first_of_each(fixed(workshop, attribute))[:KINDS]
                if chosen:
                    note = f"sets that share a {attribute}, a different one in each row"
                    yield f"{row}: {attribute}", note, sheet(workshop.sets, sources[row][0], chosen)


def fixed(workshop: Workshop, attribute: str) -> list[str]:
    """What each set's caption fixes of an attribute, "" for nothing; captions of no tiny world fix all: themselves."""
    return [_fixed(own, attribute) for own in workshop.sets.captions]


def first_of_each(values: Sequence[str]) -> list[int]:
    """Where each value that is not empty stands first."""
    return [i for i, value in enumerate(values) if value and value not in values[:i]]


def _fixed(text: str, attribute: str) -> str:
    try:
        return str(Caption.parse(text).fixed.get(attribute, ""))
    except UserError:
        return text or "picture"


def _pooled(scored: Scored, names: Sequence[str], chosen: Tensor) -> dict[str, str]:
    """Label -> mean over the chosen sets."""
    found = [own for own in scored.scores if own.name in names and own.per_set is not None]
    return {
        f"{own.name} ({own.extractor})": f"{float(own.per_set[chosen].nanmean()):.1f}"
        for own in found
        if own.per_set is not None
    }
