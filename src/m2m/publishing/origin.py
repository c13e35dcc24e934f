"""What a model was made from, as far as its folder tells: shipped weights, a run's config, bundled drawings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from importlib.resources import files
from pathlib import Path
from typing import Any

from m2m.model_folder import ModelFolder, shipped_models
from m2m.types import UserError

PACKAGE, NOTICE, CONFIG = "m2m-diffusion", "NOTICE", "config.yaml"
# The settings of a run that tell a reader how the model came about; paths of outputs and the machine's are left out.
SHOWN = (
    "data validation base task variant trainable steps minutes batch_sets images_per_set learning_rate schedule "
    "weight_decay ema_decay precision objective seed"
).split()
WORLD = "world:"
OWN_LICENCE = "apache-2.0"
WORLD_DATA = (
    "The tiny world of m2m-diffusion: sets of 64-pixel pictures, rendered from drawings of emoji on plain grounds. "
    "Images of a set share what a caption fixes (subject, style, count, background) and vary in the rest. NOTICE names "
    "the drawings' authors and licences."
)


@dataclass(frozen=True)
class Origin:
    """shipped: the shipped model that this is or rests on, or "". run: the training run's settings, or none."""

    shipped: str
    run: Mapping[str, Any]

    @property
    def from_world(self) -> bool:
        """Whether drawings that are bundled with m2m-diffusion went into the weights."""
        return bool(self.shipped) or str(self.run.get("data", "")).startswith(WORLD)

    def licence(self, chosen: str | None) -> str:
        """The licence that was chosen, or that of the shipped weights. Raises UserError where neither is known."""
        if chosen is not None:
            return chosen
        if self.shipped:
            return OWN_LICENCE
        raise UserError(
            "nothing says which licence the weights have: give --licence, such as apache-2.0, or for what began as "
            "Stable Diffusion 2.1 openrail++"
        )

    def data(self, told: str | None, model: str) -> str:
        """What the model was trained on, in words. Raises UserError where nobody and nothing says."""
        if told:
            return told
        if self.run.get("data"):
            world = f" {WORLD_DATA}" if self.from_world and not self.run.get("base") else ""
            return f"`{without_place(self.run['data'])}`, by the run below.{world}"
        if self.shipped == model:
            return WORLD_DATA
        raise UserError(f"nothing says what '{model}' was trained on (its run has no {CONFIG}): give --data 'TEXT'")


def origin_of(model: ModelFolder) -> Origin:
    """What the folder, and the run that it lies in, tell. Raises UserError for a broken config.yaml."""
    run = _run_of(model.path)
    named = [model.name, *([model.derivation.base.name] if model.derivation else []), str(run.get("base", ""))]
    return Origin(next((name for name in named if name in shipped_models()), ""), run)


def shown_settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """The settings for the card: those that are set, and no folders of the machine."""
    return {key: without_place(run[key]) for key in SHOWN if run.get(key) not in (None, "", {}, [])}


def notice() -> str:
    """The NOTICE of m2m-diffusion: whose drawings are in the data. Raises UserError where it was left out."""
    in_source = Path(str(files("m2m"))).parents[1] / NOTICE
    if in_source.is_file() and in_source.read_text(encoding="utf-8").startswith(PACKAGE):
        return in_source.read_text(encoding="utf-8")
    found = (own.read_text(f"licenses/{NOTICE}") for own in distributions(name=PACKAGE))
    text = next((own for own in found if own), None)
    if text is None:
        raise UserError(f"the {NOTICE} of {PACKAGE} is not there: install the package again, pip install {PACKAGE}")
    return text


def _run_of(folder: Path) -> dict[str, Any]:
    """The config of the run that made the folder: within it, or beside it (RUN/config.yaml, RUN/model)."""
    import yaml

    for place in (folder / CONFIG, folder.resolve().parent / CONFIG):
        if not place.is_file():
            continue
        try:
            found = yaml.safe_load(place.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"'{place}' is no config of a training run: {reason}") from error
        if isinstance(found, dict) and {"data", "objective"} <= found.keys():  # others' files have that name too
            return found
    return {}


def without_place(value: Any) -> Any:
    """A path without the folders above it: they are the machine's."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
