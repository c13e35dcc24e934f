"""The protocols by name."""

from __future__ import annotations

from m2m.evaluation.protocols.content_style import ContentStyle
from m2m.evaluation.protocols.context_length import ContextLength
from m2m.evaluation.protocols.long_sequence import LongSequence
from m2m.evaluation.protocols.novel_view import NovelView
from m2m.evaluation.protocols.protocol import Protocol
from m2m.evaluation.protocols.real import Real
from m2m.evaluation.protocols.table1 import Table1
from m2m.evaluation.protocols.visual_procedure import VisualProcedure
from m2m.types import UserError

PROTOCOLS: dict[str, type[Protocol]] = {
    own.name: own for own in (Table1, ContextLength, Real, LongSequence, ContentStyle, NovelView, VisualProcedure)
}


def find_protocol(name: str) -> Protocol:
    """The protocol of that name. Raises UserError that names all."""
    if name not in PROTOCOLS:
        raise UserError(f"no protocol '{name}'; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]()
