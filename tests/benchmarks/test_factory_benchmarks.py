"""The benchmarks of the factory: that they see what they are there to see."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import factory_overhead
from benchmarks.factory_kills import Watch
from m2m.data.factory.build import build
from m2m.data.factory.recipes import open_source
from m2m.data.factory.settings import BuildSettings
from tests.data.factory.making import captions_folder, world_recipe


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captions_folder(tmp_path_factory.mktemp("benchmarks") / "captions", count=4)


def half_built(captions: Path, out: Path) -> None:
    """One finished shard, and one that is stopped in the middle."""
    settings = BuildSettings(out, (0, 5), sets_per_shard=2)
    looks = iter(range(100))
    build(open_source(world_recipe(captions)), settings, stop=lambda: next(looks) > 6)
    assert len(list(out.glob("*.tar"))) == len(list(out.glob("*.tar.part"))) == 1


def test_a_shard_that_is_made_twice_is_noticed(captions: Path, tmp_path: Path) -> None:
    """A second run that makes everything anew ends with the same bytes, and would pass."""
    half_built(captions, tmp_path / "out")
    watch = Watch(tmp_path / "out")
    watch.look()
    watch.look()
    assert watch.misses == []
    (tar,) = watch.folder.glob("*.tar")
    shutil.copy(tar, tmp_path / "copy")
    shutil.move(tmp_path / "copy", tar)
    watch.look()
    assert watch.misses == [f"{tar.stem} was finished, and is another file now"]


def test_units_that_are_lost_are_noticed(captions: Path, tmp_path: Path) -> None:
    """A shard that is begun anew after each kill is never finished on a machine that fails often."""
    half_built(captions, tmp_path / "out")
    watch = Watch(tmp_path / "out")
    kill = watch.kill(1.0)
    assert (kill.finished, kill.torn) == (1, 0) and kill.units > 0
    (journal,) = watch.folder.glob("*.journal")
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])
    assert watch.kill(2.0).units == 0
    assert watch.misses == [f"{journal.stem} had {kill.units} units, and has 0 now"]


def test_overhead_is_measured_against_the_generator_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against the time that the generator slept during the build, an assembly that holds it up would look free."""
    options = ["--formats=jpg", "--images=40", "--seconds=0.05", "--size=32", f"--out={tmp_path / 'out.json'}"]
    (numbers,) = factory_overhead.run(factory_overhead.parse(options)).values()
    assert numbers["images"] == 40
    assert numbers["kept"] == pytest.approx(numbers["build images/s"] / numbers["generator images/s"])
    assert 0 < numbers["generator images/s"] <= 8 / 0.05
    assert "| jpg | 40 |" in capsys.readouterr().out
