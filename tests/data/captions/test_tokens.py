"""Our counts are those of transformers' CLIPTokenizer, on every text."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from m2m.data.captions import tokens
from m2m.data.captions.sources import read_captions
from m2m.data.captions.tokens import ClipTokenCounter, clip_vocabulary, surely_longer

CC12M_FORM = Path(__file__).parent / "cc12m_form.tsv"
MESSY = (
    "a dog 🐕‍🦺 and 👨‍👩‍👧‍👦 at the beach 🏖️!!!",
    "&amp; Fish &lt;3 chips &#39;n&#39; peas &nbsp;",
    "PHOTO OF THE DAY: NO.12345",
    "<PERSON> attends the 2019 premiere, IMG_20190102_123456.JPG",
    "it's we'll I'D they've DON'T 'sup ''s o'clock's",
    "$1,234.56 (−20%) ½ ② ٣ x² 100°C",
    "東京タワーの夜景 서울의 밤 Ночная Москва नमस्ते दुनिया مرحبا",
    "ΠΑΡΆΔΕΙΣΟΣ Όρος İstanbul ẞtraße ﬁn ſ \u212a \u2126 \u212b",
    "schön cafe\u0301 caf\u00e9 e\u0301\u0301\u0301 \u1100\u1161\u11a8",
    "tab\tinside line\x0bfeed\x0cs \r\n mixed",
    "\x1c\x1d\x1e\x1f \x00\x01\x02\x7f\x85\xad",
    "no\u00a0break\u3000wide\u200bzero\u2028line \ufeffmark \u180e",
    "<|startoftext|>a cat<|endoftext|> <|ENDOFTEXT|><| endoftext |></w> a</w>",
    "__init__.py #hashtag @name http://a.b/c?d=e&f ...!?... ---=== sale ===---",
    "😂😂😂😂😂😂😂😂 🇺🇸🇺🇸🇺🇸 Ａｆｕｌｌ　ｗｉｄｔｈ 𝕗𝕒𝕟𝕔𝕪 \ufffd\U0010ffff",
    "   leading and    many   blanks   ",
    "a",
    ".",
    "1",
    " ",
)


@pytest.fixture(scope="module")
def counter() -> ClipTokenCounter:
    return ClipTokenCounter()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> object:
    """CLIPTokenizer as it is loaded from a model's folder, which is how pipelines of diffusers have it."""
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    vocabulary, merges = clip_vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def lengths(reference: object, captions: list[str]) -> list[int]:
    """How many ids the tokenizer gives, one caption after the other."""
    return [len(reference(caption)["input_ids"]) for caption in captions]  # type: ignore[operator]


def test_the_ids_are_those_of_clip(counter: ClipTokenCounter) -> None:
    """A shift in the vocabulary keeps most counts and changes every id; these ids are in CLIP's own documents."""
    vocabulary, merges = clip_vocabulary()
    assert (len(vocabulary), len(merges)) == (49_408, 48_894)
    assert list(vocabulary.values()) == list(range(49_408))
    assert counter.tokenizer("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert counter.tokenizer("a diagram")["input_ids"] == [49406, 320, 22697, 49407]
    assert counter.counts(["a photo of a cat", ""]) == [7, 2]


def test_counts_equal_the_tokenizers_on_every_line(counter: ClipTokenCounter, reference: object) -> None:
    """Start and end left out, a text cleaned before, or words cut otherwise: the paper's limit then falls elsewhere."""
    captions = [caption.text for caption in read_captions(CC12M_FORM) if caption.reason is None]
    assert len(captions) == 740
    assert counter.counts(captions) == lengths(reference, captions)


def test_every_raw_line_of_the_file_counts_the_same(counter: ClipTokenCounter, reference: object) -> None:
    """The lines as they are, with url, tabs, NUL and what is left of broken letters, are messier than any caption."""
    lines = CC12M_FORM.read_bytes().decode(errors="replace").split("\n")
    assert counter.counts(lines) == lengths(reference, lines)


def test_counts_equal_the_tokenizers_on_messy_text(counter: ClipTokenCounter, reference: object) -> None:
    """Emoji, entities, upper case, other scripts, control characters, composed letters, special tokens in a caption."""
    captions = [part for text in MESSY for part in (text, text.upper(), f"a photo of {text}, 2 of 3")]
    captions += [" ".join(MESSY), "".join(MESSY) * 30, "plain words " * 500]
    assert counter.counts(captions) == lengths(reference, captions)


def test_counts_equal_the_tokenizers_on_random_ascii(counter: ClipTokenCounter, reference: object) -> None:
    """Plain text is cut into words here, by an expression of our own: it must cut as CLIP's does."""
    rng = random.Random(0)
    bits = [chr(code) for code in range(128)] + "'s 's 'S 'll 're <| endoftext |> cat cat  12 '' && \x1c".split(" ")
    captions = ["".join(rng.choices(bits, k=rng.randrange(40))) for _ in range(3000)]
    assert counter.counts(captions) == lengths(reference, captions)


def test_a_forgotten_word_is_counted_again(reference: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words that are remembered must not grow with the input, and forgetting them must not change a count."""
    monkeypatch.setattr(tokens, "KNOWN_WORDS", 10)
    counter = ClipTokenCounter()
    captions = [f"the {noun} of the {other}s" for noun in ("cat", "dog", "owl") for other in ("house", "sea", "sky")]
    for caption in captions * 2:
        assert counter.counts([caption]) == lengths(reference, [caption])
    assert len(counter._known) < 20


def test_a_text_that_may_fit_is_never_called_too_long(counter: ClipTokenCounter) -> None:
    """The shortcut for huge texts would throw away captions that the paper keeps."""
    assert max(map(len, clip_vocabulary()[0])) == 32  # a letter here is a byte of the text
    laughing = "😂" * (74 * 8 + 7)  # the most bytes that 77 tokens can have: 32 each
    words = " ".join(["😂" * 7] * 75)
    decomposed = " ".join(["\u1100\u1161\u11a8"] * 37)  # three letters of three bytes that become one
    blanks = "a cat" + " " * 200_000 + "and a dog"
    assert counter.counts([laughing, words, blanks]) == [77, 77, 7]
    assert not any(surely_longer(text, 77) for text in (laughing, words, decomposed, blanks, ""))
    assert surely_longer("cat" * 10_000, 77) and surely_longer("猫" * 10_000, 77)
