"""A folder for a shard that something disturbs, and the files of a shard that nothing did."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.shards.making import complete, files_in, units_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "disturbed").mkdir()
    return tmp_path / "disturbed"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run from start to end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    complete(folder, units_of())
    return files_in(folder)
