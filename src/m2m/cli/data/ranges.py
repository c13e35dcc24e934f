"""Options that name a range, "A:B": A to B - 1."""

from __future__ import annotations

import re

from m2m.types import UserError


def parse_range(text: str, option: str) -> tuple[int, int]:
    """ "0:5" -> (0, 5). Raises UserError, naming the option, for anything else than A:B with A < B."""
    match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", text)
    if not match or int(match[1]) >= int(match[2]):
        raise UserError(f"{option} '{text}' is no range; 0:5 would be the first five, 5:25 the next twenty")
    return int(match[1]), int(match[2])
