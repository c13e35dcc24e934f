"""YAML and overrides to frozen dataclasses: what is right arrives, what is wrong is named in one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from omegaconf import MISSING

from m2m.config import config_dict, load_config, save_config
from m2m.types import UserError


@dataclass(frozen=True)
class Inner:
    dropout: float = 0.1
    draws: int = 1


@dataclass(frozen=True)
class Outer:
    data: str = MISSING
    learning_rate: float = 1e-3
    steps: int = 10
    flag: bool = False
    widths: list[int] = field(default_factory=lambda: [1, 2])
    unet: dict[str, Any] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


def yaml(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_file_then_overrides(tmp_path: Path) -> None:
    """Guards against overrides that lose to the file, and numbers such as 1e-4 that YAML 1.1 reads as text."""
    path = yaml(tmp_path, "data: here\nlearning_rate: 1e-4\nunet: {sample_size: 8, kinds: [a, b]}\n")
    config = load_config(Outer, path, ["steps=7", "inner.draws=3", "unet.sample_size=16", "widths=[4]"])
    assert config == Outer("here", 1e-4, 7, False, [4], {"sample_size": 16, "kinds": ["a", "b"]}, Inner(0.1, 3))


def test_saved_config_loads_to_an_equal_one(tmp_path: Path) -> None:
    """Guards against a resolved config that cannot repeat its run."""
    config = load_config(Outer, None, ["data=x", "inner.dropout=0.25", "unet={a: [1, 2]}"])
    save_config(config, tmp_path / "deep" / "saved.yaml")
    assert load_config(Outer, tmp_path / "deep" / "saved.yaml") == config
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["saved.yaml"]
    assert config_dict(config)["inner"] == {"dropout": 0.25, "draws": 1}


@pytest.mark.parametrize(
    ("text", "overrides", "parts"),
    [
        ("data: x\nlearning_rte: 1\n", [], ["config.yaml", "'learning_rte'", "did you mean 'learning_rate'"]),
        ("data: x\ninner: {drops: 1}\n", [], ["config.yaml", "'inner.drops'", "inner.dr"]),
        ("data: x\n", ["inner.dropot=1"], ["override 'inner.dropot=1'", "did you mean 'inner.dropout'"]),
        ("data: x\n", ["zzz=1"], ["'zzz'", "known keys", "learning_rate"]),
        ("data: x\nsteps: many\n", [], ["config.yaml", "'steps'"]),
        ("data: x\n", ["steps=1.5"], ["override 'steps=1.5'", "'steps'"]),
        ("data: x\n", ["inner=3"], ["override 'inner=3'", "inner"]),
        ("data: x\n", ["steps"], ["override 'steps'", "key=value"]),
        ("steps: 1\n", [], ["no value for 'data'"]),
        ("- 1\n- 2\n", [], ["config.yaml", "key: value"]),
        ("data: [x\n", [], ["config.yaml", "YAML"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, overrides: list[str], parts: list[str]) -> None:
    """Guards against a misspelt key that is ignored in silence, and messages that do not say where it stands."""
    with pytest.raises(UserError) as caught:
        load_config(Outer, yaml(tmp_path, text), overrides)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_a_setting_can_be_emptied(tmp_path: Path) -> None:
    """Guards against a file's setting that the command line cannot take back."""
    assert load_config(Outer, yaml(tmp_path, "data: x\n"), ["data="]).data == ""


def test_missing_file_is_named(tmp_path: Path) -> None:
    """Guards against a traceback for a wrong path."""
    with pytest.raises(UserError, match="nothing.yaml' does not exist"):
        load_config(Outer, tmp_path / "nothing.yaml")
