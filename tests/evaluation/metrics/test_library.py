"""The library behind the measures may be missing."""

from __future__ import annotations

import sys

import pytest

from m2m.evaluation.metrics.frechet import frechet_distance
from m2m.evaluation.metrics.inception_score import inception_score
from m2m.evaluation.metrics.kernel import kernel_distance
from m2m.types import UserError
from tests.evaluation.metrics.gaussians import gaussian


def test_a_missing_torchmetrics_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a bare ImportError on an install without the extra."""
    for module in ("fid", "kid", "inception"):
        monkeypatch.setitem(sys.modules, f"torchmetrics.image.{module}", None)
    features = gaussian(4, 3, seed=0)
    for measure in (frechet_distance, kernel_distance, lambda own, _: inception_score(own)):
        with pytest.raises(UserError, match=r"need torchmetrics: pip install 'm2m-diffusion\[eval\]'"):
            measure(features, features)
