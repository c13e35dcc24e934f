"""The language of the tiny world: written and read by one grammar."""

from __future__ import annotations

import pytest

from m2m.data.worlds import SPLITS, Caption, World
from m2m.data.worlds.vocabulary import THING, article, categories, nouns, subjects
from m2m.types import UserError


@pytest.mark.parametrize("name", ["mini", "full"])
@pytest.mark.parametrize("split", SPLITS)
def test_drawn_captions_are_read_back(name: str, split: str) -> None:
    """Guards against a clause that is written but not read, and against two captions with one text."""
    captions = World.load(name).captions(split, 300, seed=1)
    assert [Caption.parse(caption.text) for caption in captions] == captions
    assert len({caption.text for caption in captions}) == len(set(captions))


@pytest.mark.parametrize("count", [None, 1, 2])
def test_every_noun_is_read_back(count: int | None) -> None:
    """Guards against names that hold a number or an "on" themselves: "one o'clocks", "umbrella on ground"."""
    for name in subjects():
        for background in (None, "blue grid", "plain white"):
            caption = Caption(subject=name, count=count, background=background)
            assert Caption.parse(caption.text) == caption
    for name in categories():
        for unseen in (False, True):
            caption = Caption(category=name, count=count, style="pixel art", unseen=unseen)
            assert Caption.parse(caption.text) == caption


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("three cats, flat style", {"subject": "cat", "category": "mammal", "style": "flat", "count": 3}),
        ("a fruit on a blue grid", {"category": "fruit", "count": 1, "background": "blue grid"}),
        ("two vehicles", {"category": "vehicle", "count": 2}),
        ("things on yellow dots", {"background": "yellow dots"}),
        ("an umbrella on ground", {"subject": "umbrella on ground", "category": "thing in the sky", "count": 1}),
    ],
)
def test_examples_mean_what_they_say(text: str, fixed: dict) -> None:
    """Guards against a grammar that is its own inverse but reads English wrongly."""
    caption = Caption.parse(text)
    assert caption.fixed == fixed
    assert caption.text == text


def test_case_spaces_and_one_do_not_matter() -> None:
    """Guards against refusing what a person types."""
    assert Caption.parse("  Three   CATS,flat style ").text == "three cats, flat style"
    assert Caption.parse("one owl").text == "an owl"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no subject"),
        ("three dogz, flat style", "did you mean"),
        ("five cats", "numbers are"),
        ("three cat", "write 'cats'"),
        ("an owls", "write 'owl'"),
        ("cats, oil style", "oil style"),
        ("cats, flat", "'flat'"),
        ("cats, flat style, sketch style", "flat style, sketch style"),
        ("cats on a green grid", "a green grid"),
        ("an unseen cat", "'unseen'"),
        ("cats, flat style, by the retro artist", "leave out"),
    ],
)
def test_text_outside_the_language_is_one_clear_line(text: str, part: str) -> None:
    """Guards against tracebacks, and against captions read as something else."""
    with pytest.raises(UserError) as error:
        Caption.parse(text)
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_caption_cannot_contradict_itself() -> None:
    """Guards against captions whose text would be read back as another caption."""
    with pytest.raises(ValueError, match="cat"):
        Caption(subject="cat", category="fruit")
    with pytest.raises(ValueError, match="cat"):
        Caption(subject="cat", unseen=True)
    with pytest.raises(ValueError, match="artist of its own"):
        Caption(style="flat", unseen_artist=True)


def test_words_are_countable_and_unambiguous() -> None:
    """Guards against "a apple" and against a noun with two meanings after the tables are edited."""
    entries = [*subjects().values(), *categories().values()]
    assert len(nouns()) == len({word.lower() for entry in entries for word in (entry.name, entry.plural)} | {*THING})
    phrases = ["an owl", "a unicorn", "a ewe", "an hourglass", "an ATM sign", "a UP button", "a football", "a T-shirt"]
    assert [f"{article(phrase.split(' ', 1)[1])} {phrase.split(' ', 1)[1]}" for phrase in phrases] == phrases
    assert subjects()["ear of corn"].plural == "ears of corn"
    assert subjects()["person walking"].plural == "people walking"
