"""Captions: the language of the tiny world, written and read by the same grammar.

    caption    = [number] ["unseen"] noun ["on" background] ["," style "style"] [", by the retro artist"]
    number     = "a" | "an" | "two" | "three" | "four"        left out (bare plural): the seed draws the count
    noun       = subject | category | "thing"                 "thing": the seed draws the subject
    background = "a blue grid" | "plain white" | ...          left out: the seed draws it
    style      = "flat" | "pixel art" | ...                   left out: the seed draws it

Two words exist for evaluation only. "unseen" draws the subject among those never trained on; "by the retro artist"
takes the drawing from the artist never trained on, whatever the style. So a caption's text says all there is to say:
`Caption.parse(caption.text) == caption`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from m2m.data.worlds.backgrounds import BACKGROUNDS
from m2m.data.worlds.vocabulary import (
    ARTIST_STYLES,
    NUMBERS,
    STYLES,
    THING,
    UNSEEN_ARTIST,
    article,
    nouns,
    plural_of,
    subjects,
)
from m2m.types import UserError

ARTIST_CLAUSE = f"by the {UNSEEN_ARTIST} artist"
_COUNTS = {"a": 1, "an": 1} | {word: count for count, word in NUMBERS.items()}
EXAMPLES = '"three cats, flat style" or "a fruit on a blue grid"'


@dataclass(frozen=True)
class Caption:
    """What a caption fixes; None means free.

    Attributes:
        subject: name of a subject, e.g. "cat". Its category is then fixed too.
        category: name of a category, e.g. "fruit"; set from the subject where that is given.
        style: one of `vocabulary.STYLES`.
        count: 1 to 4.
        background: one of `backgrounds.BACKGROUNDS`.
        unseen: draw the subject among those never trained on (only where no subject is fixed).
        unseen_artist: take the drawing from the artist never trained on.
    """

    subject: str | None = None
    category: str | None = None
    style: str | None = None
    count: int | None = None
    background: str | None = None
    unseen: bool = False
    unseen_artist: bool = False

    def __post_init__(self) -> None:
        """Complete the category of a fixed subject; a contradiction is a programming error."""
        if self.subject is not None:
            category = subjects()[self.subject].category
            if self.unseen or self.category not in (None, category):
                raise ValueError(f"a caption of '{self.subject}' can be neither 'unseen' nor of another category")
            object.__setattr__(self, "category", category)
        if self.unseen_artist and self.style in ARTIST_STYLES:
            raise ValueError(f"'{self.style} style' names an artist of its own; it cannot be {ARTIST_CLAUSE}")

    @property
    def fixed(self) -> dict[str, str | int]:
        """The attributes this caption fixes, by name; a fixed subject fixes its category too."""
        names = ("subject", "category", "style", "count", "background")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def text(self) -> str:
        """The caption in English, e.g. "three cats on a blue grid, flat style"."""
        words = self._noun_phrase()
        if self.background is not None:
            words += f" on {background_phrase(self.background)}"
        if self.style is not None:
            words += f", {self.style} style"
        return words + f", {ARTIST_CLAUSE}" * self.unseen_artist

    def _noun_phrase(self) -> str:
        if self.subject is not None:
            kind, name = "subject", self.subject
        elif self.category is not None:
            kind, name = "category", self.category
        else:
            kind, name = "thing", THING[0]
        noun = ("unseen " if self.unseen else "") + (name if self.count == 1 else plural_of(kind, name))
        if self.count is None:
            return noun
        return f"{article(noun) if self.count == 1 else NUMBERS[self.count]} {noun}"

    @classmethod
    def parse(cls, text: str) -> Caption:
        """Read a caption; case and extra spaces do not matter.

        Raises:
            UserError: the text is not in the language; the message names the part that is wrong.
        """
        rest = " ".join(text.split())
        rest, unseen_artist = _cut_artist(rest)
        rest, style = _cut_style(rest)
        rest, background = _cut_background(rest, text)
        if unseen_artist and style in ARTIST_STYLES:
            raise UserError(f"'{style} style' in '{text}' names an artist of its own: leave out '{ARTIST_CLAUSE}'")
        count, unseen, noun = _split_noun_phrase(rest)
        if noun.lower() not in nouns():
            raise UserError(f"no subject or category of the tiny world in '{text}': '{noun}'; {_hint(noun)}")
        kind, name = nouns()[noun.lower()]
        _check_agreement(text, count, kind, name, noun)
        if unseen and kind == "subject":
            raise UserError(f"'unseen' in '{text}' goes with a category or 'things', not with the subject '{name}'")
        return cls(
            subject=name if kind == "subject" else None,
            category=name if kind == "category" else None,
            style=style,
            count=count,
            background=background,
            unseen=unseen,
            unseen_artist=unseen_artist,
        )


def background_phrase(name: str) -> str:
    """How a caption says a background: "a blue grid", "plain white", "yellow dots"."""
    return f"a {name}" if BACKGROUNDS[name].article else name


@cache
def _background_names() -> dict[str, str]:
    return {background_phrase(name).lower(): name for name in BACKGROUNDS}


def _cut_artist(rest: str) -> tuple[str, bool]:
    cut = re.fullmatch(rf"(.*), ?{ARTIST_CLAUSE}", rest, re.IGNORECASE)
    return (cut[1], True) if cut else (rest, False)


def _cut_style(rest: str) -> tuple[str, str | None]:
    head, comma, tail = rest.partition(",")
    if not comma:
        return rest, None
    style = re.sub(r" style$", "", tail.strip().lower())
    if style not in STYLES or not tail.lower().endswith(" style"):
        known = ", ".join(STYLES)
        raise UserError(f"no style of the tiny world in '{rest}': '{tail.strip()}'; write one of {known}, then 'style'")
    return head.strip(), style


def _cut_background(rest: str, text: str) -> tuple[str, str | None]:
    head, on, tail = rest.lower().rpartition(" on ")
    if not on or rest.lower() in nouns():
        return rest, None
    if tail in _background_names():
        return rest[: len(head)], _background_names()[tail]
    if _split_noun_phrase(rest)[2].lower() in nouns():  # "an umbrella on ground" holds an "on" of its own
        return rest, None
    raise UserError(f"no background of the tiny world in '{text}': '{tail}'; one of {', '.join(_background_names())}")


def _split_noun_phrase(phrase: str) -> tuple[int | None, bool, str]:
    """Split "three unseen fruits" into its count, whether it says "unseen", and its noun."""
    if phrase.lower() in nouns():  # before numbers are looked for: "four leaf clovers", "one o'clocks"
        return None, False, phrase
    found = re.fullmatch(rf"(?:({'|'.join(_COUNTS)}) )?(unseen )?(.*)", phrase, re.IGNORECASE)
    assert found is not None  # every part is optional
    number, unseen, noun = found.groups()
    return _COUNTS.get((number or "").lower()), bool(unseen), noun


def _hint(noun: str) -> str:
    """What a noun that is none may have been meant to be."""
    if re.match(r"\d|(five|six|seven|eight|nine|ten|many|some|no) ", noun.lower()):
        return f"numbers are a, an, {', '.join(NUMBERS.values())}; no number means any"
    near = get_close_matches(noun.lower(), nouns(), 3)
    return f"did you mean {' or '.join(near)}?" if near else f"write e.g. {EXAMPLES}"


def _check_agreement(text: str, count: int | None, kind: str, name: str, noun: str) -> None:
    """One goes with the singular, everything else with the plural."""
    right = name if count == 1 else plural_of(kind, name)
    if noun.lower() != right.lower():
        raise UserError(
            f"'{noun}' does not agree in number in '{text}': write '{right}', or '{article(name)} {name}' for one"
        )
