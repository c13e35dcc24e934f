"""English wording for the subjects of the tiny world: emoji label -> noun phrase that can follow "a" or "three".

Used by build_sprites.py only; its result lies in assets/subjects.tsv, where anybody can read (and correct) it.
"""

from __future__ import annotations

import re
import unicodedata

# Labels that name no thing one can count, or that name several things at once.
RENAMED = {
    "ZZZ": "ZZZ sign",
    "hundred points": "hundred-points sign",
    "dashing away": "dashing-away cloud",
    "dizzy": "dizzy star",
    "rolling on the floor laughing": "rolling laughing face",
    "vulcan salute": "Vulcan salute",
    "thumbs up": "thumbs-up sign",
    "thumbs down": "thumbs-down sign",
    "bird": "songbird",
    "bug": "caterpillar",
    "nail polish": "hand with nail polish",
    "person gesturing NO": "person gesturing no",
    "horse racing": "racing horse with jockey",
    "camping": "camping tent with trees",
    "wedding": "wedding chapel",
    "foggy": "foggy bridge",
    "construction": "construction barrier",
    "cooking": "frying pan with egg",
    "custard": "custard pudding",
    "sushi": "piece of sushi",
    "bacon": "strip of bacon",
    "bread": "loaf of bread",
    "spaghetti": "plate of spaghetti",
    "oden": "oden skewer",
    "dango": "dango skewer",
    "popcorn": "box of popcorn",
    "sake": "sake bottle",
    "cooked rice": "bowl of rice",
    "curry rice": "plate of curry",
    "shaved ice": "cup of shaved ice",
    "soft ice cream": "soft ice cream cone",
    "ice cream": "bowl of ice cream",
    "fork and knife": "fork-and-knife pair",
    "fork and knife with plate": "dinner plate with cutlery",
    "high voltage": "lightning bolt",
    "fog": "fog bank",
    "ice hockey": "ice hockey stick",
    "field hockey": "field hockey stick",
    "ping pong": "ping pong bat",
    "tennis": "tennis racket",
    "badminton": "badminton racket",
    "bowling": "bowling ball with pins",
    "cricket": "cricket insect",
    "cricket game": "cricket bat",
    "soccer ball": "football",
    "performing arts": "theatre mask pair",
    "woman’s clothes": "woman's blouse",
    "admission tickets": "admission ticket pair",
    "card index dividers": "card index divider set",
    "card index": "card index file",
    "bookmark tabs": "bookmark tab page",
    "no littering": "no-littering sign",
    "no smoking": "no-smoking sign",
    "no bicycles": "no-bicycles sign",
    "no pedestrians": "no-pedestrians sign",
    "no mobile phones": "no-mobile-phones sign",
    "no one under eighteen": "under-eighteen sign",
    "no entry": "no-entry sign",
    "prohibited": "prohibition sign",
    "warning": "warning triangle",
    "radioactive": "radioactivity sign",
    "biohazard": "biohazard sign",
    "children crossing": "children-crossing sign",
    "non-potable water": "non-potable-water sign",
    "potable water": "potable-water sign",
    "passport control": "passport-control sign",
    "customs": "customs sign",
    "baggage claim": "baggage-claim sign",
    "left luggage": "left-luggage sign",
    "restroom": "restroom sign",
    "water closet": "water-closet sign",
    "men’s room": "men's-room sign",
    "women’s room": "women's-room sign",
    "locked": "closed padlock",
    "unlocked": "open padlock",
    "locked with pen": "padlock with pen",
    "locked with key": "padlock with key",
    "om": "om symbol",
    "yin yang": "yin-yang symbol",
    "chart increasing": "rising chart",
    "chart decreasing": "falling chart",
    "chart increasing with yen": "rising chart with yen",
    "currency exchange": "currency-exchange sign",
    "multiply": "multiplication sign",
    "plus": "plus sign",
    "minus": "minus sign",
    "divide": "division sign",
    "copyright": "copyright sign",
    "registered": "registered sign",
    "trade mark": "trade-mark sign",
    "information": "information button",
    "cinema": "cinema button",
    "mobile phone off": "phone-off sign",
    "vibration mode": "vibration-mode sign",
    "antenna bars": "antenna-bars sign",
    "prayer beads": "string of prayer beads",
    "man in tuxedo": "man in a tuxedo",
    "person mountain biking": "person mountain-biking",
    "person taking bath": "person taking a bath",
    "person getting massage": "person getting a massage",
    "person getting haircut": "person getting a haircut",
    "person bouncing ball": "person bouncing a ball",
    "person rowing boat": "person rowing a boat",
    "skull and crossbones": "skull with crossbones",
    "hammer and pick": "hammer with pick",
    "hammer and wrench": "hammer with wrench",
    "bow and arrow": "bow with arrow",
    "nut and bolt": "nut with bolt",
    "couch and lamp": "couch with lamp",
    "houses": "row of houses",
    "hot springs": "hot-spring sign",
    "crossed fingers": "crossed-fingers hand",
    "open hands": "pair of open hands",
    "folded hands": "pair of folded hands",
    "raising hands": "pair of raised hands",
    "clapping hands": "pair of clapping hands",
    "flexed biceps": "flexed arm",
    "eyes": "pair of eyes",
    "footprints": "pair of footprints",
    "paw prints": "pair of paw prints",
    "grapes": "bunch of grapes",
    "cherries": "pair of cherries",
    "pancakes": "stack of pancakes",
    "french fries": "box of fries",
    "peanuts": "pair of peanuts",
    "skis": "pair of skis",
    "glasses": "pair of glasses",
    "sunglasses": "pair of sunglasses",
    "jeans": "pair of jeans",
    "scissors": "pair of scissors",
    "books": "stack of books",
    "Mrs. Claus": "Mrs Claus",
    "busts in silhouette": "pair of busts in silhouette",
    "slightly smiling face": "faintly-smiling face",
    "slightly frowning face": "mildly-frowning face",
    "money with wings": "banknote with wings",
    "litter in bin sign": "litter-bin sign",
    "speaker low volume": "quiet speaker",
    "speaker medium volume": "half-loud speaker",
    "speaker high volume": "loud speaker",
    "play or pause button": "play-or-pause button",
    "fast up button": "fast-up button",
    "fast down button": "fast-down button",
    "Japanese “not free of charge” button": "Japanese not-free-of-charge button",
    "Japanese “free of charge” button": "Japanese free-of-charge button",
    "input latin uppercase": "uppercase button",
    "input latin lowercase": "lowercase button",
    "input numbers": "numbers button",
    "input symbols": "symbols button",
    "input latin letters": "letters button",
    "baguette bread": "baguette",
    "dvd": "DVD",
    "t-shirt": "T-shirt",
    "mount fuji": "Mount Fuji",
    "headphone": "pair of headphones",
    "light rail": "light rail train",
    "pool 8 ball": "eight ball",
    "collision": "collision burst",
    "meat on bone": "piece of meat on a bone",
    "building construction": "unfinished building",
    "candy": "wrapped candy",
}

ZODIAC = "Aries Taurus Gemini Cancer Leo Virgo Libra Scorpio Sagittarius Capricorn Aquarius Pisces Ophiuchus".split()
ALREADY_PLURAL = (
    "hearts droplets mugs fireworks sparkles dolls cards bags notes knobs frames paperclips swords chains arrows "
    "numbers symbols letters glasses silhouettes"
).split()
IRREGULAR = {
    "person": "people", "man": "men", "woman": "women", "mouse": "mice", "sheep": "sheep",
    "ox": "oxen", "deer": "deer", "fish": "fish", "leaf": "leaves", "loaf": "loaves",
    "knife": "knives", "wolf": "wolves", "die": "dice", "squid": "squid",
    "shrimp": "shrimp", "potato": "potatoes", "tomato": "tomatoes", "volcano": "volcanoes", "snowman": "snowmen",
    "Claus": "Clauses",
    "sheaf": "sheaves", "blowfish": "blowfish",
    "cactus": "cacti", "octopus": "octopuses", "fleur-de-lis": "fleurs-de-lis",
}  # fmt: skip
# The head noun stands before the first of these words: "face with a hat", "ear of corn", "umbrella on ground".
AFTER_HEAD = {
    "with", "of", "on", "in", "without", "behind", "over", "and", "under", "showing", "pointing", "blowing",
    "savoring", "screaming", "fluttering", "gesturing", "tipping", "raising", "wearing", "getting", "walking",
    "running", "lifting", "biking", "swimming", "surfing", "rowing", "bouncing", "playing", "juggling", "golfing",
    "fencing", "cartwheeling", "taking", "dancing", "frowning", "pouting", "bowing", "shrugging", "facepalming",
    "facing", "curving", "tilted", "pointed", "at", "for", "mountain-biking",
}  # fmt: skip


def subject_name(label: str) -> str:
    """Turn an emojibase label into a countable noun phrase without commas, colons or curly quotes."""
    name = RENAMED.get(label, label)
    if name in ZODIAC:
        name = f"{name} sign"
    if name == label and name.split()[-1] in ALREADY_PLURAL:
        name = f"set of {name}"
    name = name.replace("’", "'").replace("keycap: ", "keycap ")
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9' .-]", "", plain).strip()


def plural(name: str) -> str:
    """Pluralise the head noun of a noun phrase: "ear of corn" -> "ears of corn"."""
    words = name.split()
    cut = next((i for i, word in enumerate(words) if i and word in AFTER_HEAD), len(words))
    head, tail = words[:cut], words[cut:]
    head[-1] = plural_word(head[-1])
    return " ".join(head + tail)


def plural_word(word: str) -> str:
    """Plural of one English noun."""
    for one, many in IRREGULAR.items():
        if word == one or (len(one) > 3 and word.endswith(one)):
            return word[: len(word) - len(one)] + many
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + "s"
