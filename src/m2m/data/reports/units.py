"""Bytes and times as people say them."""

from __future__ import annotations

BYTE_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
DAY_UNITS = (("years", 365.25), ("days", 1.0), ("hours", 1 / 24), ("minutes", 1 / 1440))


def human_bytes(count: float) -> str:
    """Bytes in powers of 1000, with three digits: 32.0 TB."""
    value = float(count)
    for unit in BYTE_UNITS:
        if value < 999.5 or unit == BYTE_UNITS[-1]:
            break
        value /= 1000
    decimals = 0 if unit == "bytes" or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:,.{decimals}f} {unit}"


def human_days(days: float) -> str:
    """A time span, given in days, in the largest unit of which it has two."""
    for unit, length in DAY_UNITS:
        if days >= 2 * length:
            return f"{days / length:,.1f} {unit}"
    return f"{days * 86400:,.1f} seconds"
