"""What the tests of generators share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.generators.pipelines import save_stable_diffusion


@pytest.fixture(scope="session")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion folder that no test changes."""
    return save_stable_diffusion(tmp_path_factory.mktemp("generators") / "sd")
