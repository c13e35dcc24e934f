"""How many CLIP tokens a caption has, counted by transformers' own CLIPTokenizer with the vocabulary that ships here.

`assets/bpe_simple_vocab_16e6.txt.gz` is OpenAI's file (MIT, see LICENSE-CLIP.txt beside it). A vocabulary is made of it
as CLIP's authors did: 256 bytes, the same with `</w>`, 48,894 merges, two specials: 49,408 ids. Nothing is downloaded.

Their Python tokenizer, and open_clip's, clean the text first (ftfy, HTML entities) and so count otherwise on messy
text; pipelines of diffusers, which make the images, use transformers' tokenizer.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from m2m.checkpoint import sha256_of_files

VOCABULARY = Path(__file__).parent / "assets" / "bpe_simple_vocab_16e6.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
# Lines of the file that are the merges of CLIP: the first is a title, those after were not used.
MERGES = slice(1, 49152 - 256 - 2 + 1)
# Bytes of UTF-8 that one token can stand for in a caption as it was written: 32 in the longest token of the vocabulary,
# times 4 because lower case and composition (NFC) can make a text up to three times shorter, plus a space beside it.
BYTES_PER_TOKEN = 32 * 4 + 1

# CLIP's own split into words, for text in ASCII and lower case. Merges never cross words, so counts of words add up.
PLAIN_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+", re.ASCII)
PLAIN_LENGTH = 2000  # characters; longer texts are few, and their words, which may be as long, are not to be remembered
KNOWN_WORDS = 1 << 17  # words whose counts are remembered, some 15 MB


class ClipTokenCounter:
    """Counts CLIP tokens: start and end included, "a photo of a cat" has 7.

    Plain captions are cut into words, and each word is tokenized once; that is about five times as fast as tokenizing
    every caption, and the same number. All others go to the tokenizer whole.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    @cached_property
    def tokenizer(self) -> Any:
        """The transformers.CLIPTokenizer that counts. Its first use imports transformers: a second or two."""
        from transformers import CLIPTokenizer

        vocabulary, merges = clip_vocabulary()
        return CLIPTokenizer(vocab=vocabulary, merges=merges)

    def counts(self, captions: Sequence[str]) -> list[int]:
        """How many token ids CLIPTokenizer gives for each caption. Batches of some thousand captions are fast."""
        split = [_plain_words(caption) for caption in captions]
        self._learn({word for words in split if words is not None for word in words})
        others = iter(
            self._encoded_lengths(caption for caption, words in zip(captions, split, strict=True) if words is None)
        )
        known = self._known.__getitem__
        return [next(others) if words is None else 2 + sum(map(known, words)) for words in split]

    def identity(self) -> dict[str, str]:
        """What the counts depend on, for a record of them."""
        return {"tokenizer": "CLIP", "vocabulary_sha256": sha256_of_files([VOCABULARY])}

    def _learn(self, words: set[str]) -> None:
        """Make sure that the counts of these words, without start and end, are known."""
        if len(self._known) > KNOWN_WORDS:
            self._known.clear()
        new = list(words - self._known.keys())
        self._known.update((word, length - 2) for word, length in zip(new, self._encoded_lengths(new), strict=True))

    def _encoded_lengths(self, texts: Iterable[str]) -> list[int]:
        """The tokenizer's own counts. It shares a batch among all cores."""
        return [len(encoding) for encoding in self.tokenizer.backend_tokenizer.encode_batch_fast(list(texts))]


def surely_longer(caption: str, tokens: int) -> bool:
    """Whether a caption has more than so many tokens, told from its length alone; False leaves it open.

    Spares the tokenizer texts of a megabyte, which take seconds and 100 bytes of memory a token.
    """
    limit = tokens * BYTES_PER_TOKEN
    # Characters first, for that costs nothing; then without the blanks, of which any number can lie between two tokens.
    return len(caption) * 4 > limit and len(" ".join(caption.split()).encode()) > limit


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token -> id, and the merges in their order, of all CLIP models by OpenAI."""
    lines = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")
    merges = [(left, right) for left, right in (line.split() for line in lines[MERGES])]
    letters = _byte_letters()
    words = letters + [letter + WORD_END for letter in letters] + ["".join(pair) for pair in merges] + [START, END]
    return {word: number for number, word in enumerate(words)}, merges


def _plain_words(caption: str) -> list[str] | None:
    """The words that CLIP cuts a caption into; None if it is not plain: not ASCII, very long, or special tokens."""
    if not caption.isascii() or "<|" in caption or len(caption) > PLAIN_LENGTH:
        return None
    return PLAIN_WORDS.findall(caption.lower())


def _byte_letters() -> list[str]:
    """A visible letter for each of the 256 bytes, in the order of their ids; visible bytes stand for themselves."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = 256 - len(visible)
    return [chr(byte) for byte in visible] + [chr(256 + number) for number in range(rest)]
