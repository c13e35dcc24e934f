"""Versions beside every figure."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
import torch

import m2m
from m2m.evaluation import versions as module
from m2m.evaluation.versions import versions
from m2m.types import UserError


def test_what_is_installed() -> None:
    """Guards against versions that are guessed, or values that JSON does not take."""
    found = versions("cpu")
    assert found["m2m"] == m2m.__version__
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert found["numpy"] == np.__version__
    assert found["device"] == "cpu"
    assert {"diffusers", "transformers", "platform", "processor"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a report that fails because an extra is missing."""
    monkeypatch.setattr(module, "LIBRARIES", ("numpy", "no-such-library"))
    found = versions("cpu")
    assert "numpy" in found and "no-such-library" not in found


def test_processor_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards against a crash where there is no /proc/cpuinfo, and against a name that holds the label."""
    monkeypatch.setattr(module, "PROCESSOR", tmp_path / "cpuinfo")
    assert versions("cpu")["processor"]
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\n")
    assert versions("cpu")["processor"] == "Fast CPU @ 3 GHz"


def test_a_device_that_is_not_there() -> None:
    """Guards against a report that names a device which nothing ran on."""
    with pytest.raises(UserError, match="device 'cuda:77' cannot be used"):
        versions("cuda:77")
