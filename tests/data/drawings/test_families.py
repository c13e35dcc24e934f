"""Near twins, and splits that keep them together."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

from m2m.data.drawings.assembly import Assembly, assemble
from m2m.data.drawings.families import LARGEST, SPLITS, families, split_of
from m2m.data.drawings.twemoji import LEFT_OUT, family_of, name_of, twemoji_drawings
from tests.data.drawings.samples import bars, emoji


def assembled(*drawings: object) -> list[Assembly]:
    found = [assemble(drawing) for drawing in drawings]  # type: ignore[arg-type]
    assert None not in found
    return found  # type: ignore[return-value]


def unlike(count: int) -> list[Assembly]:
    """Assemblies of other families, outlines and pictures: noise in place of the finished ones."""
    generator = np.random.default_rng(0)
    (pattern,) = assembled(bars(5))
    noise = generator.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    noise = np.repeat(np.repeat(noise[:, ::8, ::8], 8, 1), 8, 2)
    return [
        Assembly(bars(5, f"drawing {number}", height=3 + number / 1000), pattern.counts, picture)
        for number, picture in enumerate(noise)
    ]


def test_names_and_families_of_codes() -> None:
    """A woman and a man at the same work are one subject; names stay different."""
    woman, man = "1f469-200d-1f3ed", "1f468-200d-1f3ed"
    assert family_of(woman) == family_of(man) == family_of("1f9d1-200d-1f3ed") == "person-1f3ed"
    assert family_of("1f9d9-200d-2642-fe0f") == family_of("1f9d9")
    assert family_of("1f1ea-1f1f8") == family_of("1f1eb-1f1f7") and family_of("1f550") == family_of("1f55b")
    assert family_of("2640") == "2640" != family_of("2642")
    assert name_of("1f354") == "hamburger-1f354" and name_of(woman) != name_of(man)
    names = [drawing.name for drawing in twemoji_drawings()]
    assert len(set(names)) == len(names) > 1500
    assert not any(tone in name.split("-") for name in names for tone in LEFT_OUT)


def test_near_twins_are_one_family_and_others_are_not() -> None:
    """Books of three colours differ in every pixel, and would be train and test; a burger is no book."""
    books, burger = assembled(*emoji("1f4d5", "1f4d7", "1f4d8")), assembled(*emoji("1f354"))
    assert sorted(map(len, families([*books, *burger]))) == [1, 3]
    assert sorted(map(len, families([*books, *burger], near_twins=False))) == [1, 1, 1, 1]


def test_mirrored_pictures_are_near_twins() -> None:
    """Training shows every drawing mirrored."""
    first, second = unlike(2)
    mirrored = replace(second, finished=first.finished[:, ::-1])
    assert len(families([first, second])) == 2 and len(families([first, mirrored])) == 1


def test_twins_of_twins_are_in_one_family() -> None:
    """A is like B and B like C: A in training and C in the test would leave B on both sides."""
    three = unlike(3)
    chain = [replace(one, drawing=replace(one.drawing, family=name)) for one, name in zip(three, "aab", strict=True)]
    linked = [chain[0], replace(chain[1], finished=chain[2].finished), chain[2]]
    assert len(families(linked)) == 1


def test_splits_are_shares_of_the_drawings_and_share_no_family() -> None:
    """About a tenth is tested on; a family too large to be held out does not fill the test."""
    found = unlike(200)
    flags = [replace(one, drawing=replace(one.drawing, family="flag")) for one in found[: LARGEST + 1]]
    split = split_of([*flags, *found[LARGEST + 1 :]])
    assert [len(split[name]) for name in SPLITS] == [170, 10, 20]
    sets = [{one.drawing.family for one in split[name]} for name in SPLITS]
    assert not any(first & second for first, second in combinations(sets, 2)) and "flag" in sets[0]


def test_splits_follow_from_names_alone() -> None:
    """The order in which drawings come must not move one from the test into training."""
    found = unlike(40)
    names = [[one.drawing.name for one in split_of(some)["test"]] for some in (found, found[::-1])]
    assert names[0] == names[1] and len(names[0]) == 4
