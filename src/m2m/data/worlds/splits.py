"""What is trained on and what is held out: the fixed splits of the tiny world, the same in every world.

    train         content that may be trained on
    validation    the same content, captions never trained on (one caption in ten, by its text)
    test          subjects never trained on
    unseen-pair   a (subject, style) pair never trained on, though both its halves are
    unseen-artist drawings of the artist never trained on (family emojione)

Membership follows from names by SHA-256, so it depends on no list order and no random state. One rule keeps training
clean: whatever a caption leaves free is drawn from what may be trained on. Held-out content is shown only if the
caption itself asks for it: a held-out subject or pair by name, "unseen", the retro style, "by the retro artist".
"""

from __future__ import annotations

import hashlib
from functools import cache

from m2m.data.worlds.captions import Caption
from m2m.data.worlds.vocabulary import UNSEEN_ARTIST

SPLITS = ("train", "validation", "test", "unseen-pair", "unseen-artist")
ONE_IN = 10  # share of subjects, of pairs and of captions that is held out

# The small world names its subjects; the last of a row with a star is never trained on, in no world.
MINI_SUBJECTS = {
    "mammal": ("cat", "elephant", "panda", "fox*"),
    "bird": ("penguin", "owl", "baby chick", "songbird*"),
    "sea animal": ("octopus", "crab", "spouting whale", "tropical fish*"),
    "bug": ("butterfly", "snail", "honeybee", "lady beetle"),
    "flower": ("sunflower", "tulip", "rose", "cherry blossom"),
    "fruit": ("banana", "red apple", "bunch of grapes", "pineapple*"),
    "dish": ("hamburger", "pizza", "box of fries", "croissant*"),
    "sweet": ("doughnut", "birthday cake", "soft ice cream cone", "lollipop*"),
    "vehicle": ("bicycle", "tractor", "automobile", "locomotive*"),
    "sports item": ("football", "basketball", "boxing glove", "badminton racket"),
    "garment": ("top hat", "pair of jeans", "crown", "dress*"),
    "musical instrument": ("guitar", "drum", "musical keyboard", "saxophone"),
}
_MINI = {name for row in MINI_SUBJECTS.values() for name in row if not name.endswith("*")}
_MINI_HELD_OUT = {name[:-1] for row in MINI_SUBJECTS.values() for name in row if name.endswith("*")}


def share(*words: str) -> int:
    """A number in 0..ONE_IN-1 that follows from the words alone; 0 means held out."""
    digest = hashlib.sha256("|".join(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") % ONE_IN


@cache
def is_held_out(subject: str) -> bool:
    """Whether a subject is never trained on, in no world."""
    if subject in _MINI:
        return False
    return subject in _MINI_HELD_OUT or share("subject", subject) == 0


@cache
def is_withheld(subject: str, style: str) -> bool:
    """Whether a (subject, style) pair is never trained on although both are."""
    if is_held_out(subject) or style == UNSEEN_ARTIST:
        return False
    return share("pair", subject, style) == 0


def split_of(caption: Caption) -> str:
    """The one split a caption belongs to."""
    if caption.unseen_artist or caption.style == UNSEEN_ARTIST:
        return "unseen-artist"
    if caption.unseen or (caption.subject is not None and is_held_out(caption.subject)):
        return "test"
    if caption.subject is not None and caption.style is not None and is_withheld(caption.subject, caption.style):
        return "unseen-pair"
    return "validation" if share("caption", caption.text) == 0 else "train"
