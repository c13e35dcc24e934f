"""Inception: what can be told without its package and its weights."""

from __future__ import annotations

import sys

import pytest

from m2m.evaluation.features.extractor import find_extractor
from m2m.types import UserError


@pytest.mark.parametrize("name", ["inception", "inception:weights.pth"])
def test_a_missing_package_is_named_with_its_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a ModuleNotFoundError after hours of sampling, or another network under the name of FID's."""
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(UserError, match="needs torch-fidelity: pip install") as caught:
        find_extractor(name)
    assert "\n" not in str(caught.value)


def test_nothing_here_needs_torchvision() -> None:
    """Guards against one import of torchvision, whose wheels break beside a CPU torch."""
    assert "torchvision" not in sys.modules
