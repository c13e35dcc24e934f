"""The folder that is published: a pipeline, code for plain diffusers, the card, grids. Whole or not at all.

model_index.json, model/, vae/, scheduler/, vision_encoder/    as diffusers saves a pipeline, safetensors only
pipeline.py, model/m2m.model.unet.py, ..                       `m2m.remote_code`
README.md, grids/*.png, NOTICE                                 the card and what it shows
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from m2m.checkpoint import atomic_folder, atomic_write, read_json, write_json
from m2m.data.pictures import read_picture
from m2m.evaluation.result import Result
from m2m.loading import load_pipeline, settings_of
from m2m.model_folder import HUB_FILES, INDEX, MODEL, ModelFolder, find_model
from m2m.publishing.card import Card, Facts, facts_of, model_card
from m2m.publishing.numbers import grids_of, read_evaluation
from m2m.publishing.origin import NOTICE, Origin, notice, origin_of, shown_settings, without_place
from m2m.remote_code import PIPELINE_CODE, PIPELINE_FILE, published_index
from m2m.types import UserError

CARD, GRIDS = "README.md", "grids"
LOCAL = "_name_or_path"  # where a config was loaded from: a path of the machine


@dataclass(frozen=True)
class Publication:
    """What the publisher says. repo: `owner/name`. licence, data: None where the model's folder may say. datasets: of
    the hub. evaluations: folders that `m2m eval` wrote. grids: further PNGs. evaluated_as: the model's name in the
    evaluations; None: as it was given."""

    repo: str
    licence: str | None = None
    data: str | None = None
    datasets: Sequence[str] = ()
    evaluations: Sequence[Path] = ()
    grids: Sequence[Path] = ()
    evaluated_as: str | None = None


@dataclass(frozen=True)
class _Shown:
    """What the card shows beside the model: a picture is (place, file within the folder, title, note)."""

    results: tuple[Result, ...]
    pictures: tuple[tuple[Path, str, str, str], ...]


def stage(model: ModelFolder, wanted: Publication, folder: Path) -> list[Path]:
    """Write the folder and load it once, as a user will; its files.

    model: complete or derived; a derived one is written out whole, in float32. folder: must not exist, or be empty.

    Raises UserError, before the first byte is written: licence or data unknown, an evaluation or a grid that is none;
    after it, leaving nothing: a model that cannot be loaded.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"'{folder}' is there already: name a new folder")
    origin = origin_of(model)
    licence, data = origin.licence(wanted.licence), origin.data(wanted.data, model.name)
    shown = _shown(wanted, wanted.evaluated_as or model.name)
    legal = notice() if origin.from_world else ""
    with atomic_folder(folder.resolve()) as staged:
        _write_pipeline(model, staged)
        _write_text(staged / PIPELINE_FILE, PIPELINE_CODE)
        pipe = load_pipeline(find_model(str(staged)), "cpu")
        for source, file, _, _ in shown.pictures:
            (staged / GRIDS).mkdir(exist_ok=True)
            shutil.copyfile(source, staged / file)
        if legal:
            _write_text(staged / NOTICE, legal)
        card = _card(model, wanted, origin, shown, facts_of(pipe, settings_of(pipe)), (licence, data))
        _write_text(staged / CARD, model_card(card))
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _card(
    model: ModelFolder, wanted: Publication, origin: Origin, shown: _Shown, facts: Facts, said: tuple[str, str]
) -> Card:
    base = _trained_from(model, origin)
    return Card(
        repo=wanted.repo,
        licence=said[0],
        data=said[1],
        facts=facts,
        evaluated_as=wanted.evaluated_as or model.name,
        datasets=tuple(wanted.datasets),
        base=without_place(base),
        base_on_hub=base.count("/") == 1 and not base.startswith((".", "/")) and not Path(base).exists(),
        run=shown_settings(origin.run),
        results=shown.results,
        pictures=tuple(own[1:] for own in shown.pictures),
        with_notice=origin.from_world,
    )


def _shown(wanted: Publication, name: str) -> _Shown:
    """The evaluations and all pictures, checked. The publisher's own grids come first."""
    pictures = []
    for number, path in enumerate(wanted.grids):
        if path.suffix.lower() != ".png":
            raise UserError(f"grid '{path}' is no PNG: give the grid.png of m2m generate, say")
        read_picture(path)  # refuses what is no picture
        pictures.append((path, f"{GRIDS}/{number:02d}-{path.name}", path.stem.replace("-", " "), ""))
    results = []
    for number, place in enumerate(wanted.evaluations):
        folder, result = read_evaluation(place, name)
        results.append(result)
        pictures += [
            (path, f"{GRIDS}/{result.protocol}-{number}-{path.name}", own.title, own.note)
            for path, own in grids_of(folder, result)
        ]
    return _Shown(tuple(results), tuple(pictures))


def _trained_from(model: ModelFolder, origin: Origin) -> str:
    """The base of a fine-tuned model; "" where nothing tells. Of another variant one has the autoencoder alone."""
    if model.derivation is None:
        return str(origin.run.get("base") or "")
    base = model.derivation.base
    variants = {read_json(each.part(MODEL) / "config.json").get("variant") for each in (model, base)}
    return base.name if len(variants) == 1 else ""


def _write_pipeline(model: ModelFolder, folder: Path) -> None:
    """The pipeline's own files, whole, without paths of this machine in its configs."""
    if model.derivation is None:
        _copy_pipeline(model.path, folder)
    else:
        load_pipeline(model, "cpu").save_pretrained(folder)
    for path in folder.rglob("*.json"):
        content = read_json(path)
        if (cleaned := _without_local(content)) != content:
            write_json(path, cleaned)
    import m2m.pipeline  # noqa: F401  # registers the classes that the index then names

    write_json(folder / INDEX, published_index(read_json(folder / INDEX)))


def _copy_pipeline(source: Path, folder: Path) -> None:
    """Index and components, no more: what else lies in the folder (checkpoints, notes, pickles) is not published."""
    index = read_json(source / INDEX)
    shutil.copyfile(source / INDEX, folder / INDEX)
    for part in (name for name, place in index.items() if isinstance(place, list) and (source / name).is_dir()):
        (folder / part).mkdir()
        for path in sorted((source / part).iterdir()):
            if path.is_file() and any(fnmatch(path.name, pattern) for pattern in HUB_FILES):
                shutil.copyfile(path, folder / part / path.name)


def _without_local(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_local(own) for key, own in value.items() if key != LOCAL}
    return [_without_local(own) for own in value] if isinstance(value, list) else value


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
