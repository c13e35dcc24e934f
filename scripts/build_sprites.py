"""Rasterise the emoji drawings of the tiny world into src/m2m/data/worlds/assets/ (run once; the result is committed).

    python scripts/build_sprites.py                     # fetches the npm packages into a temporary folder
    python scripts/build_sprites.py --sources DIR       # DIR holds the .tgz files of `npm pack`

Needs `npm`, and `pip install resvg-py`. Every drawing is cut to its visible part, scaled so that its longer side fills
SIDE pixels, centred on a transparent square and stored as WebP. One zip a family: names are `<subject>.webp`.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import subprocess
import tarfile
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import resvg_py
from PIL import Image
from sprite_names import plural, subject_name

ASSETS = Path(__file__).parents[1] / "src" / "m2m" / "data" / "worlds" / "assets"
FAMILIES = {  # npm package, its version, the authors to name
    "noto": ("@iconify-json/noto", "1.2.9", "Google Inc."),
    "noto-v1": ("@iconify-json/noto-v1", "1.2.5", "Google Inc."),
    "twemoji": ("@iconify-json/twemoji", "1.2.5", "Twitter, Inc and other contributors"),
    "fluent-emoji-flat": ("@iconify-json/fluent-emoji-flat", "1.2.6", "Microsoft Corporation"),
    "fluent-emoji": ("@iconify-json/fluent-emoji", "1.2.7", "Microsoft Corporation"),
    "emojione": ("@iconify-json/emojione", "1.2.3", "Emoji One; EmojiTwo contributors"),
}
EMOJIBASE = ("emojibase-data", "17.0.0")
SIDE = 64  # pixels of a stored sprite
OVERSAMPLING = 3  # the drawing is rasterised larger, then cut and reduced, so that edges stay clean
QUALITY = 88

# Left out: a rude gesture, and shapes that differ from another subject by nothing but size, which the seed draws.
EXCLUDED = {
    "middle-finger",
    "black-medium-square",
    "black-medium-small-square",
    "black-small-square",
    "white-medium-square",
    "white-medium-small-square",
    "white-small-square",
    "small-orange-diamond",
    "small-blue-diamond",
}


def main() -> None:
    """Build subjects.tsv, one zip a family, and ATTRIBUTION.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, help="folder with the .tgz files; fetched by npm when absent")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        sources = options.sources or fetch(Path(temporary))
        families = {name: read_family(sources, *FAMILIES[name][:2]) for name in FAMILIES}
        subjects = choose_subjects(families, read_emojibase(sources))
    write_table(subjects)
    for name, family in families.items():
        write_family(name, family, sorted(subjects))
    write_attribution(families)


def fetch(folder: Path) -> Path:
    """Download the seven packages with npm, at their fixed versions."""
    packages = [EMOJIBASE, *(family[:2] for family in FAMILIES.values())]
    names = [f"{package}@{version}" for package, version in packages]
    subprocess.run(["npm", "pack", "--silent", *names], cwd=folder, check=True)
    return folder


def read_json(sources: Path, package: str, version: str, member: str) -> dict:
    """Read one JSON file of an npm tarball."""
    archive = sources / f"{package.lstrip('@').replace('/', '-')}-{version}.tgz"
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"package/{member}")
        if file is None:
            raise FileNotFoundError(f"{archive} holds no file {member}")
        return json.load(file)


def read_family(sources: Path, package: str, version: str) -> dict:
    """Return the icons of a family by name, aliases resolved, with the family's licence."""
    data = read_json(sources, package, version, "icons.json")
    info = read_json(sources, package, version, "info.json")
    defaults = {"width": data.get("width", 16), "height": data.get("height", 16)}
    icons = {name: defaults | icon for name, icon in data["icons"].items()}
    for name, alias in data.get("aliases", {}).items():
        if alias["parent"] in icons:
            icons[name] = icons[alias["parent"]] | alias
    return {"icons": icons, "info": info, "package": package, "version": version}


def read_emojibase(sources: Path) -> list[tuple[str, str, str]]:
    """Return (name in the icon families, label, subgroup) of every emoji."""
    groups = read_json(sources, *EMOJIBASE, "meta/groups.json")["subgroups"]
    emojis = read_json(sources, *EMOJIBASE, "en/data.json")
    grouped = [emoji for emoji in emojis if emoji.get("subgroup") is not None]
    return [(slug(emoji["label"]), emoji["label"], groups[str(emoji["subgroup"])]) for emoji in grouped]


def slug(label: str) -> str:
    """Spell a label as the icon families do: "Mrs. Claus" -> "mrs-claus"."""
    text = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", text.replace("&", "and").replace("'", "")).strip("-")


def choose_subjects(families: dict, emojis: list[tuple[str, str, str]]) -> dict[str, tuple[str, str, str]]:
    """Return {slug: (name, plural, category)} of the subjects that all six families draw."""
    category_of = read_categories()
    common = set.intersection(*(set(family["icons"]) for family in families.values())) - EXCLUDED
    subjects = {}
    for key, label, subgroup in emojis:
        if key in common and subgroup in category_of:
            name = subject_name(label)
            subjects[key] = (name, plural(name), category_of[subgroup])
    return subjects


def read_categories() -> dict[str, str]:
    """Map each emojibase subgroup to the category of categories.tsv it belongs to."""
    with (ASSETS / "categories.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {subgroup: row["category"] for row in rows for subgroup in row["subgroups"].split(",")}


def write_table(subjects: dict[str, tuple[str, str, str]]) -> None:
    """Write subjects.tsv, the list that vocabulary.py reads."""
    with (ASSETS / "subjects.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["key", "subject", "plural", "category"])
        writer.writerows([key, *row] for key, row in subjects.items())


def write_family(name: str, family: dict, keys: list[str]) -> None:
    """Rasterise a family into one zip, stored, with fixed dates so that a rebuild gives the same bytes."""
    with zipfile.ZipFile(ASSETS / f"{name}.zip", "w", zipfile.ZIP_STORED) as archive:
        for key in keys:
            buffer = io.BytesIO()
            rasterise(family["icons"][key]).save(buffer, "WEBP", quality=QUALITY, alpha_quality=95, method=6)
            archive.writestr(zipfile.ZipInfo(f"{key}.webp", (2020, 1, 1, 0, 0, 0)), buffer.getvalue())
    print(f"{name}: {len(keys)} sprites, {(ASSETS / f'{name}.zip').stat().st_size / 1e6:.2f} MB")


def rasterise(icon: dict) -> Image.Image:
    """Draw an icon, cut it to its visible part and fit that into a SIDE x SIDE square."""
    width, height = icon["width"], icon["height"]
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    svg = f'{head} viewBox="{box}" width="{width}" height="{height}">{icon["body"]}</svg>'
    pixels = resvg_py.svg_to_bytes(svg_string=svg, width=SIDE * OVERSAMPLING, skip_system_fonts=True)
    drawing = Image.open(io.BytesIO(bytes(pixels))).convert("RGBA")
    if icon.get("hFlip"):
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    visible = drawing.getchannel("A").point(lambda alpha: 255 * (alpha > 8))  # faint shadows are not the drawing
    return fit(drawing.crop(visible.getbbox()))


def fit(drawing: Image.Image) -> Image.Image:
    """Scale to SIDE pixels on the longer side and centre on a transparent square."""
    scale = SIDE / max(drawing.size)
    small = drawing.resize([max(1, round(side * scale)) for side in drawing.size], Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SIDE, SIDE))
    square.paste(small, ((SIDE - small.width) // 2, (SIDE - small.height) // 2))
    return square


def write_attribution(families: dict) -> None:
    """Name the author, the licence and the change for every family."""
    lines = [
        "# Where the drawings come from",
        "",
        "The zip files beside this one hold drawings by other people. Change made: rasterised from SVG to",
        f"{SIDE}x{SIDE} pixels, cut to the visible part, stored as WebP (`scripts/build_sprites.py`). When an image is",
        "rendered they are scaled, rotated, mirrored, lit and, for three styles, filtered.",
        "",
        "| family | authors | licence | source | npm package |",
        "|---|---|---|---|---|",
    ]
    for name, family in families.items():
        licence, author = family["info"]["license"], family["info"]["author"]
        link = f"[{licence['spdx']}]({licence['url']})"
        package = f"`{family['package']}` {family['version']}"
        lines.append(f"| {name} | {FAMILIES[name][2]} | {link} | {author['url']} | {package} |")
    lines += ["", f"Names and categories follow `{EMOJIBASE[0]}` {EMOJIBASE[1]} (MIT, Miles Johnson).", ""]
    (ASSETS / "ATTRIBUTION.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
