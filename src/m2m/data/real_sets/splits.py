"""Splits of data that come in none: by the name of an object or article alone, the same on every machine."""

from __future__ import annotations

import hashlib

from m2m.types import UserError

SPLITS = {"train": 0.9, "validation": 0.95, "test": 1.0}  # shares, summed up


def split_of(name: str) -> str:
    """The split that a name falls into, whatever else there is."""
    share = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8]) / 2**64
    return next(split for split, end in SPLITS.items() if share <= end)


def check_split(split: str) -> None:
    """Raise UserError unless it is one of `SPLITS`, or empty, which is all of them."""
    if split and split not in SPLITS:
        raise UserError(f"split '{split}' is not one of {', '.join(SPLITS)}")
