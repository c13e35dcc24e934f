"""The words of the tiny world: subjects, categories, styles, numbers.

Subjects and categories are read from two tables in assets/ (subjects.tsv is written by scripts/build_sprites.py,
categories.tsv by hand). No word means two things, so that every caption can be read back.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ASSETS = Path(__file__).with_name("assets")

# Six styles are six artists; the value is the sprite family. The other three are filters over any artist's drawing.
ARTIST_STYLES = {
    "shaded": "noto",
    "classic": "noto-v1",
    "flat": "twemoji",
    "modern": "fluent-emoji-flat",
    "glossy": "fluent-emoji",
    "retro": "emojione",
}
FILTER_STYLES = ("pixel art", "watercolour", "sketch")
STYLES = (*ARTIST_STYLES, *FILTER_STYLES)
UNSEEN_ARTIST = "retro"  # no model is ever trained on a drawing of this artist

NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
THING = ("thing", "things")  # stands where neither subject nor category is fixed


@dataclass(frozen=True)
class Category:
    """A group of subjects. `mirror` is False where mirroring would change what is shown (letters, arrows, clocks)."""

    name: str
    plural: str
    mirror: bool


@dataclass(frozen=True)
class Subject:
    """One thing that all six artists drew. `key` names its sprite, `name` is what captions say."""

    key: str
    name: str
    plural: str
    category: str


@cache
def categories() -> dict[str, Category]:
    """All categories by name, in the order of the table."""
    rows = _read_table("categories.tsv")
    return {row["category"]: Category(row["category"], row["plural"], row["mirror"] == "yes") for row in rows}


@cache
def subjects() -> dict[str, Subject]:
    """All subjects by name, in the order of the table."""
    rows = _read_table("subjects.tsv")
    return {row["subject"]: Subject(row["key"], row["subject"], row["plural"], row["category"]) for row in rows}


@cache
def nouns() -> dict[str, tuple[str, str]]:
    """Every noun phrase, singular and plural, in lower case -> ("subject" | "category" | "thing", its name)."""
    table: dict[str, tuple[str, str]] = dict.fromkeys(THING, ("thing", THING[0]))
    for kind, entries in (("category", categories()), ("subject", subjects())):
        for entry in entries.values():
            for word in {entry.name.lower(), entry.plural.lower()}:
                if word in table:
                    raise RuntimeError(f"'{word}' names both {table[word]} and {(kind, entry)}: mend the tables")
                table[word] = (kind, entry.name)
    return table


def plural_of(kind: str, name: str) -> str:
    """Plural of a subject, a category or "thing"."""
    if kind == "thing":
        return THING[1]
    return subjects()[name].plural if kind == "subject" else categories()[name].plural


def article(phrase: str) -> str:
    """Return "a" or "an", by sound as far as the spelling shows it."""
    word = phrase.split()[0]
    sounds_like_consonant = word.lower().startswith(("uni", "one", "euro", "ewe"))
    if word.isupper():  # spelled out: "an ATM sign", "a UFO"
        return "an" if word[0] in "AEFHILMNORSX" and word not in ("NEW", "FREE", "SOON", "COOL") else "a"
    return "an" if word[0].lower() in "aeiou" and not sounds_like_consonant or word.lower() == "hourglass" else "a"


def _read_table(name: str) -> list[dict[str, str]]:
    with (ASSETS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))
