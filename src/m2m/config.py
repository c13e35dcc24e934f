"""YAML files and `key=value` overrides to frozen dataclasses, and back.

A config is a frozen dataclass that lives beside the component it configures. omegaconf does the merging and the
conversion of types; this file turns what can go wrong (an unknown key, a wrong type, a missing file, a required key
that nobody gave) into one line that names the key, where it stands and what would be right.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from m2m.types import UserError, first_line

Config = TypeVar("Config")


def load_config(cls: type[Config], path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """An instance of the dataclass `cls`: its defaults, then the YAML file, then the overrides.

    path: a YAML file, or None for the defaults alone. overrides: `key=value`, nested keys with dots
    (`unet.sample_size=8`). Raises UserError (one line) for a missing or broken file, an unknown key, a value of the
    wrong type or a required key that is given nowhere.
    """
    merged = OmegaConf.structured(cls)
    if path is not None:
        merged = _merge(cls, merged, _read_yaml(Path(path)), str(path))
    for override in overrides:
        merged = _merge(cls, merged, _parse_override(override), f"override '{override}'")
    _check_nothing_missing(cls, merged, path)
    try:
        return cast(Config, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise UserError(f"{path or cls.__name__}: {first_line(error)}") from error


def config_dict(config: Any) -> dict[str, Any]:
    """The resolved config (of a class: its defaults) as dicts, lists and scalars: what JSON and YAML can hold."""
    container = OmegaConf.to_container(OmegaConf.structured(config), resolve=True, enum_to_str=True)
    return cast(dict[str, Any], container)


def config_yaml(config: Any) -> str:
    """The resolved config as YAML text."""
    return OmegaConf.to_yaml(OmegaConf.create(config_dict(config)))


def save_config(config: Any, path: str | Path) -> None:
    """Write the resolved config as YAML, under a temporary name first; `load_config` reads it back."""
    destination = Path(path)
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = destination.with_name(f".{destination.name}.partial")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(config_yaml(config))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, destination)


def _read_yaml(path: Path) -> DictConfig:
    try:
        loaded = OmegaConf.load(path)
    except FileNotFoundError as error:
        raise UserError(f"config file '{path}' does not exist") from error
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"config file '{path}' cannot be read as YAML: {first_line(error)}") from error
    if not isinstance(loaded, DictConfig):
        raise UserError(f"config file '{path}' must hold 'key: value' lines at the top, not a list or a single value")
    return loaded


def _parse_override(override: str) -> DictConfig:
    key, separator, value = override.partition("=")
    if not separator or not key.strip():
        raise UserError(f"override '{override}' must have the form key=value")
    try:
        # `key=` means empty text; as YAML it would be null, which no field takes.
        return OmegaConf.from_dotlist([override if value else f"{key}=''"])
    except (YAMLError, OmegaConfBaseException, ValueError) as error:
        raise UserError(f"override '{override}' cannot be read: {first_line(error)}") from error


def _merge(cls: type, base: DictConfig, extra: DictConfig, where: str) -> DictConfig:
    """`base` with `extra` laid over it; `where` names the source of `extra` in messages."""
    _check_keys(cls, cast(Mapping[str, Any], OmegaConf.to_container(extra, resolve=False)), where, prefix="")
    try:
        return cast(DictConfig, OmegaConf.merge(base, extra))
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "?"
        raise UserError(f"{where}: wrong value for '{key}': {first_line(error)}") from error


def _check_keys(cls: type, values: Mapping[str, Any], where: str, prefix: str) -> None:
    """Every key of `values` must be a field of the dataclass `cls`, nested dataclasses included."""
    hints = get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]
    for key, value in values.items():
        if key not in known:
            raise UserError(f"{where}: unknown key '{prefix}{key}'; {_nearest(str(key), known, prefix)}")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            _check_keys(cast(type, hints[key]), value, where, prefix=f"{prefix}{key}.")


def _nearest(key: str, known: Iterable[str], prefix: str) -> str:
    candidates = sorted(known)
    close = difflib.get_close_matches(key, candidates, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{prefix}{close[0]}'?"
    return "known keys: " + ", ".join(candidates)


def _check_nothing_missing(cls: type, merged: DictConfig, path: str | Path | None) -> None:
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing:
        names = ", ".join(f"'{key}'" for key in missing)
        raise UserError(f"{path or cls.__name__}: no value for {names}; give it in the file or as key=value")
