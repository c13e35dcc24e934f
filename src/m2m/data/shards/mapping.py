"""JSON of a record, a manifest, or an entry of a set: a mapping, or an error that says whose it is."""

from __future__ import annotations

import json
from typing import Any

from m2m.data.shards.names import ShardError, shown


def open_json(payload: bytes, where: str) -> dict[str, Any]:
    """The mapping of a .json entry. Raises ShardError where it is none."""
    try:
        values = json.loads(payload.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{where} cannot be read as JSON: {shown(error)}") from error
    if not isinstance(values, dict):
        raise ShardError(f"{where} holds no mapping")
    return values
