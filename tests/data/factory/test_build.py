"""The build as a whole: what is made again and what not, whose folder it is, and shards that cannot be made."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from m2m.data.factory.build import BuildProgress, BuildReport, build
from m2m.data.factory.folder import failures, finish_manifest
from m2m.data.factory.recipes import open_source
from m2m.data.factory.settings import BuildSettings
from m2m.data.factory.sources import SetSource
from m2m.data.shards import ShardWriter, read_manifest
from m2m.types import UserError
from tests.data.factory.making import LoggedSets, asked, captions_folder, contents, world_recipe


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captions_folder(tmp_path_factory.mktemp("build") / "captions", count=7)


@pytest.fixture
def source(captions: Path) -> SetSource:
    """7 sets of 5 images: 3 shards of 3, 3 and 1 sets."""
    return open_source(world_recipe(captions))


@pytest.fixture(scope="module")
def undisturbed(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "shards"
    assert run(open_source(world_recipe(captions)), out).complete
    return out


def run(source: SetSource, out: Path, images: tuple[int, int] = (0, 5), **more: Any) -> BuildReport:
    return build(source, BuildSettings(out=out, images=images, sets_per_shard=3, **more))


def names(*indices: int, images: str = "000-005") -> tuple[str, ...]:
    return tuple(f"shard-{index:06d}-{images}" for index in indices)


def test_a_build_leaves_shards_records_the_identity_and_the_manifest(undisturbed: Path) -> None:
    """Journals, part files or temporary names that stay behind would be taken for unfinished work."""
    shards = {f"{name}.{suffix}" for name in names(0, 1, 2) for suffix in ("tar", "json")}
    assert set(contents(undisturbed)) == shards | {"build.json", "manifest.json"}
    manifest = read_manifest(undisturbed)
    assert manifest.complete
    assert [(entry.name, entry.count) for entry in manifest.shards] == list(zip(names(0, 1, 2), (3, 3, 1), strict=True))
    assert manifest.settings["generator"]["name"] == "world:mini"


def test_the_same_again_makes_nothing(source: SetSource, tmp_path: Path) -> None:
    """A run that is repeated by a scheduler must cost seconds, not weeks."""
    run(source, tmp_path / "out")
    before = contents(tmp_path / "out")
    logged = LoggedSets(source, tmp_path / "log")
    report = run(logged, tmp_path / "out")
    assert (report.made, report.left, report.images, report.complete) == ((), (), 0, True)
    assert not asked(tmp_path / "log") and contents(tmp_path / "out") == before


@pytest.mark.parametrize("damage", ["no tar", "short tar", "long tar", "no record", "broken record", "wrong record"])
def test_what_is_missing_or_damaged_is_made_again_and_nothing_else(
    damage: str, source: SetSource, undisturbed: Path, tmp_path: Path
) -> None:
    """A shard that is taken for whole because one of its two files is there would be lost for good."""
    out = tmp_path / "out"
    run(source, out)
    tar, record = (out / f"{names(1)[0]}.{suffix}" for suffix in ("tar", "json"))
    other = (out / f"{names(0)[0]}.json").read_bytes()
    {
        "no tar": lambda: tar.unlink(),
        "short tar": lambda: tar.write_bytes(tar.read_bytes()[:-512]),
        "long tar": lambda: tar.write_bytes(tar.read_bytes() + bytes(512)),
        "no record": lambda: record.unlink(),
        "broken record": lambda: record.write_bytes(record.read_bytes()[:-9]),
        "wrong record": lambda: record.write_bytes(other),
    }[damage]()
    (out / "manifest.json").unlink()
    logged = LoggedSets(source, tmp_path / "log")
    assert run(logged, out).made == names(1)
    assert {key.split()[0] for key in asked(tmp_path / "log")} == {plan.key for plan in source.sets(3, 6)}
    assert contents(out) == contents(undisturbed)


def test_another_identity_is_refused_and_named(source: SetSource, captions: Path, tmp_path: Path) -> None:
    """Half a folder at 16 pixels and half at 32 is worth nothing; which setting it was must not be guessed."""
    run(source, tmp_path, shards=(0, 1))
    before = contents(tmp_path)
    other = open_source(world_recipe(captions, size=32, seed=3, sets=6))
    with pytest.raises(UserError) as caught:
        build(other, BuildSettings(out=tmp_path, images=(0, 5), sets_per_shard=2, format="jpg", quality=70))
    for part in (
        "generator.size is 16, not 32",
        "seed is 0, not 3",
        "sets is 7, not 6",
        "sets_per_shard is 3, not 2",
        "format is 'webp', not 'jpg'",
        "quality is 90, not 70",
    ):
        assert part in str(caught.value)
    assert "fingerprint" not in str(caught.value) and "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_a_folder_of_something_else_is_refused(source: SetSource, tmp_path: Path) -> None:
    """--out with a typo must not fill a folder of pictures with shards."""
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UserError, match="holds 'holiday.jpg'"):
        run(source, tmp_path)
    assert set(contents(tmp_path)) == {"holiday.jpg"}
    with pytest.raises(UserError, match="is a file"):
        run(source, tmp_path / "holiday.jpg")


def test_png_has_no_quality(source: SetSource, tmp_path: Path) -> None:
    """Told apart by a quality that shapes no byte, the same shards would be refused."""
    run(source, tmp_path, shards=(0, 1), format="png", quality=90)
    assert run(source, tmp_path, shards=(0, 1), format="png", quality=50).made == ()


def test_first_images_now_and_the_rest_later(source: SetSource, captions: Path, tmp_path: Path) -> None:
    """The paper trains on 5 of 25 images: what is made first must not be made again, nor left out at the end."""
    logged = LoggedSets(source, tmp_path / "log")
    first = run(logged, tmp_path / "out", (0, 2))
    assert (first.made, first.complete) == (names(0, 1, 2, images="000-002"), True)
    rest = run(logged, tmp_path / "out", (2, 5))
    assert (rest.made, rest.complete) == (names(0, 1, 2, images="002-005"), True)
    assert set(asked(tmp_path / "log").values()) == {1} and len(asked(tmp_path / "log")) == 35
    assert len(read_manifest(tmp_path / "out").shards) == 6
    assert run(logged, tmp_path / "out", (0, 5)).made == ()


def test_all_images_after_the_first_ones_makes_the_rest(source: SetSource, tmp_path: Path) -> None:
    """--images 0:5 taken literally would make the first images a second time, in shards that overlap."""
    run(source, tmp_path, (0, 2), shards=(0, 1))
    report = run(source, tmp_path, (0, 5))
    assert report.made == (*names(1, 2, images="000-002"), *names(0, 1, 2, images="002-005"))
    assert report.complete


@pytest.mark.parametrize(
    ("images", "reason"), [((3, 5), "leave a gap"), ((1, 5), "cut a slice"), ((0, 1), "cut a slice")]
)
def test_images_that_do_not_continue_are_refused(
    images: tuple[int, int], reason: str, source: SetSource, tmp_path: Path
) -> None:
    """A gap in a set would be found when the training reads image 2; an overlap would count images twice."""
    run(source, tmp_path, (0, 2), shards=(0, 1))
    before = contents(tmp_path)
    with pytest.raises(UserError, match=reason):
        run(source, tmp_path, images)
    assert contents(tmp_path) == before


def test_some_shards_now_and_all_later(source: SetSource, undisturbed: Path, tmp_path: Path) -> None:
    """A trial run of one shard is a part of the whole, not another data set."""
    first = run(source, tmp_path, shards=(1, 2))
    assert (first.made, first.complete) == (names(1), False)
    assert not read_manifest(tmp_path).complete
    assert run(source, tmp_path).made == names(0, 2)
    assert contents(tmp_path) == contents(undisturbed)
    with pytest.raises(UserError, match="make the shards 0:3"):
        run(source, tmp_path, shards=(2, 4))


def test_only_the_named_shards(source: SetSource, tmp_path: Path) -> None:
    """A repair of two shards must not start to make a hundred thousand others."""
    report = run(source, tmp_path, only={*names(2), *names(0)})
    assert report.made == names(0, 2) == report.wanted


def test_a_shard_that_fails_is_tried_again_then_set_aside_and_the_others_are_made(
    source: SetSource, undisturbed: Path, tmp_path: Path
) -> None:
    """One caption that kills the generator must cost its shard, not the night."""
    bad = source.sets(4, 5)[0].key
    out, logged = tmp_path / "out", LoggedSets(source, tmp_path / "log", bad={bad})
    report = run(logged, out)
    assert report.made == names(0, 2) and not report.complete and report.left == ()
    (failure,) = report.failed
    assert (failure.name, failure.attempts) == (names(1)[0], 3)
    assert failure.error == f"RuntimeError: set {bad} cannot be made"
    assert "Traceback" in failure.details and failures(out) == [failure]
    assert max(asked(tmp_path / "log").values()) == 3
    assert [entry.name for entry in read_manifest(out).shards] == list(names(0, 2))

    assert [one.attempts for one in run(logged, out).failed] == [3]  # a later run tries again
    logged.bad.clear()
    assert run(logged, out).made == names(1)
    assert failures(out) == [] and contents(out) == contents(undisturbed)
    made_once = {key: times for key, times in asked(tmp_path / "log").items() if bad not in key}
    assert {times for key, times in made_once.items() if key.split()[0] != source.sets(3, 4)[0].key} == {1}


def test_a_shard_that_fails_once_is_no_failure(source: SetSource, undisturbed: Path, tmp_path: Path) -> None:
    """A network file that was away for a second must not leave a hole."""

    class Once(LoggedSets):
        def make(self, requests: Any) -> Any:
            if not asked(self._log):
                self._log.write_text("failed\n")
                raise OSError(5, "the captions' disk was away")
            return super().make(requests)

    report = run(Once(source, tmp_path / "log"), tmp_path / "out")
    assert report.failed == () and report.complete
    assert contents(tmp_path / "out") == contents(undisturbed)


def test_a_source_that_cannot_name_its_sets_costs_that_shard(source: SetSource, tmp_path: Path) -> None:
    """Captions are read shard by shard; a damaged file of them must not end the run for all others."""

    class Unread(LoggedSets):
        def sets(self, start: int, stop: int) -> Any:
            if start == 3:
                raise UserError("captions file 'x' is damaged")
            return super().sets(start, stop)

    report = run(Unread(source, tmp_path / "log"), tmp_path / "out")
    assert [failure.error for failure in report.failed] == ["UserError: captions file 'x' is damaged"]
    assert report.made == names(0, 2)


def test_a_stopped_build_continues_to_the_same_bytes(source: SetSource, undisturbed: Path, tmp_path: Path) -> None:
    """A stop that drops the shard at work, or a manifest that calls the rest complete, loses hours or sets."""
    out, logged = tmp_path / "out", LoggedSets(source, tmp_path / "log")
    settings = BuildSettings(out=out, images=(0, 5), sets_per_shard=3)
    report = build(logged, settings, stop=lambda: sum(asked(tmp_path / "log").values()) >= 21)
    assert (report.made, report.left, report.images) == (names(0), names(1, 2), 21)
    assert not report.complete and [entry.name for entry in read_manifest(out).shards] == list(names(0))
    assert build(logged, settings).complete
    assert contents(out) == contents(undisturbed)
    assert set(asked(tmp_path / "log").values()) == {1}


def test_progress_counts_shards_and_images(source: SetSource, tmp_path: Path) -> None:
    """A bar that starts at zero after a resume, or never ends, tells nothing."""
    states: list[BuildProgress] = []
    run(source, tmp_path, shards=(0, 1))
    build(source, BuildSettings(out=tmp_path, images=(0, 5), sets_per_shard=3), progress=states.append)
    assert (states[0].shards, states[0].shards_total, states[0].images) == (1, 3, 0)
    assert (states[-1].shards, states[-1].images) == (3, 20)


def test_what_progress_raises_ends_the_run_and_loses_nothing(
    source: SetSource, undisturbed: Path, tmp_path: Path
) -> None:
    """Taken for an error of the shard, a caller's way to abort would set aside one shard after the other."""

    def abort(state: BuildProgress) -> None:
        if state.images >= 18:
            raise KeyError("enough")

    out, logged = tmp_path / "out", LoggedSets(source, tmp_path / "log")
    settings = BuildSettings(out=out, images=(0, 5), sets_per_shard=3)
    with pytest.raises(KeyError, match="enough"):
        build(logged, settings, progress=abort)
    assert failures(out) == [] and build(logged, settings).complete
    assert contents(out) == contents(undisturbed)
    assert set(asked(tmp_path / "log").values()) == {1}


def test_two_runs_in_one_folder_share_the_work(source: SetSource, undisturbed: Path, tmp_path: Path) -> None:
    """Two writers of one shard spoil it; one that stops because the other is at work leaves half the machine idle."""
    out, log = tmp_path / "out", tmp_path / "log"
    reports: list[BuildReport] = []
    pair = [Thread(target=lambda: reports.append(run(LoggedSets(source, log, wait=0.04), out))) for _ in range(2)]
    for thread in pair:
        thread.start()
    for thread in pair:
        thread.join()
    assert len(reports) == 2 and all(report.complete and not report.left for report in reports)
    assert sorted(reports[0].made + reports[1].made) == list(names(0, 1, 2)) and reports[0].made and reports[1].made
    assert set(asked(log).values()) == {1} and contents(out) == contents(undisturbed)


def test_a_shard_that_another_process_leaves_unfinished_is_taken_over(source: SetSource, tmp_path: Path) -> None:
    """A run that skips what is busy, and ends, leaves a hole where the other process then dies."""
    with ShardWriter.open(tmp_path, names(0)[0], 0, (0, 5), 5):
        (tmp_path / "build.json").write_text("{}")
        with pytest.raises(UserError, match="no description of a build"):
            run(source, tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    run(source, tmp_path, shards=(1, 2))
    writer = ShardWriter.open(tmp_path, names(0)[0], 0, (0, 5), 5)
    states: list[BuildProgress] = []

    def die_later(state: BuildProgress) -> None:
        states.append(state)
        if state.shards == 2:
            writer.close()

    settings = BuildSettings(out=tmp_path, images=(0, 5), sets_per_shard=3)
    assert build(source, settings, progress=die_later).made == names(2, 0)


def test_the_manifest_is_a_function_of_what_is_there(undisturbed: Path) -> None:
    """A time or a host name in it, and no two builds could be compared."""
    before = (undisturbed / "manifest.json").read_bytes()
    (undisturbed / "manifest.json").unlink()
    finish_manifest(undisturbed)
    assert (undisturbed / "manifest.json").read_bytes() == before
    assert str(undisturbed.parent) not in json.dumps(json.loads(before))


@pytest.mark.parametrize(
    "wrong",
    [{"images": (5, 5)}, {"images": (-1, 5)}, {"shards": (3, 2)}, {"format": "gif"}, {"quality": 0}, {"quality": 101}],
)
def test_settings_that_no_build_can_have_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    """An empty range would be a run of nothing that ends well."""
    with pytest.raises(UserError):
        BuildSettings(**{"out": tmp_path, "images": (0, 5), **wrong})
