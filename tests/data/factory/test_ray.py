"""The build on Ray: where actors go, what is lost with one, and that without --ray nobody needs it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.factory_kills import actors_at_work, committed
from m2m.cli.main import main
from m2m.data.captions.sift import SiftConfig, sift_captions
from m2m.data.factory.build import build
from m2m.data.factory.folder import Failure, failures
from m2m.data.factory.jobs import jobs_of
from m2m.data.factory.ledger import MOST_LOSSES, Ledger
from m2m.data.factory.ray.actors import Answer, End, Opened
from m2m.data.factory.ray.build import RayRun, build_on_ray
from m2m.data.factory.ray.cluster import cluster, slots_of
from m2m.data.factory.ray.crew import Crew
from m2m.data.factory.recipes import open_source
from m2m.data.factory.settings import BuildSettings, identity
from m2m.types import UserError
from tests.data.factory.making import captions_folder, contents, world_recipe


def machine(name: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    """A machine as `ray.nodes()` describes it."""
    return {"NodeID": name, "Alive": alive, "Resources": {"memory": 1e9, **resources}}


def places(machines: list[dict[str, Any]], workers: int | None) -> list[tuple[str, float, float]]:
    return [(slot.machine, slot.cpus, slot.gpus) for slot in slots_of(machines, workers)]


def test_an_actor_goes_to_each_gpu_and_to_no_machine_without_one() -> None:
    """Two pipelines on one GPU run out of its memory, and one on a CPU makes a shard in a month."""
    machines = [
        machine("big", CPU=32, GPU=2),
        machine("gone", alive=False, CPU=8, GPU=1),
        machine("head", CPU=8),
        machine("small", CPU=3, GPU=1),
    ]
    assert places(machines, None) == [("big", 1, 1), ("big", 1, 1), ("small", 1, 1)]
    assert places(machines, 2) == [("big", 1, 1), ("big", 1, 1), ("small", 1, 0.5), ("small", 1, 0.5)]


def test_without_gpus_each_machine_gets_the_workers_asked_for() -> None:
    """More cores asked for than there are, and Ray waits for ever; a head with none only leads."""
    machines = [machine("head"), machine("a", CPU=8), machine("b", CPU=2)]
    assert places(machines, None) == [("a", 8, 0), ("b", 2, 0)]
    assert places(machines, 3) == [("a", 2, 0)] * 3 + [("b", 0.666, 0)] * 3
    assert len(set(slots_of(machines, 3))) == 6


def test_a_lost_process_is_no_failure_of_its_shard_until_it_happens_again_and_again(tmp_path: Path) -> None:
    """Machines that come and go would set shards aside; a shard that kills whoever makes it would stop the run."""
    (job,) = jobs_of([(0, 1)], sets=2, sets_per_shard=2)
    ledger = Ledger(BuildSettings(tmp_path, (0, 1), sets_per_shard=2), [job])
    for _ in range(MOST_LOSSES - 1):
        ledger.lost(ledger.todo.popleft(), "the machine is gone")
    ledger.failed(ledger.todo.popleft(), Failure(job.name, 1, "once"))
    assert list(ledger.todo) == [job] and failures(tmp_path) == []
    ledger.lost(ledger.todo.popleft(), "the machine is gone")
    (failure,) = failures(tmp_path)
    assert (failure.attempts, failure.error) == (
        MOST_LOSSES,
        "the process that made it was lost: the machine is gone",
    )
    assert not ledger.waiting


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captions_folder(tmp_path_factory.mktemp("ray") / "captions", count=12)


def command(captions: Path, out: Path, *more: str) -> list[str]:
    what = ["--generator", "world:mini", "--size", "16", "--images-per-set", "2"]
    return ["data", "build", "--captions", str(captions), "--out", str(out), *what, *more]


def test_only_the_option_needs_ray(
    captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An import at the top of a shared module would make every user install Ray."""
    for name in [name for name in sys.modules if name.split(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(command(captions, tmp_path / "out")) == 0
    capsys.readouterr()
    assert main(command(captions, tmp_path / "other", "--ray", "local")) == 2
    assert capsys.readouterr().err == "m2m: building on Ray needs ray: pip install 'm2m-diffusion[data]'\n"
    assert not (tmp_path / "other").exists()


def test_an_address_where_nobody_answers_is_one_line(
    captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray itself would try for a quarter of an hour, and then say it in three hundred lines."""
    assert main(command(captions, tmp_path / "out", "--ray", "127.0.0.1:1")) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "no Ray cluster answers at '127.0.0.1:1'" in message


def test_workers_without_ray_are_refused(captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ignored, --workers 8 would run one process for days."""
    assert main(command(captions, tmp_path / "out", "--workers", "8")) == 2
    assert "--workers" in capsys.readouterr().err


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A cluster on this machine, in which the tests below run their builds."""
    with cluster("local"):
        yield


def kill_one_actor(out: Path, killed: list[int]) -> None:
    """Wait until there is work in the folder, then kill one of this process's actors that is at it."""
    until = time.monotonic() + 60
    while time.monotonic() < until and not killed:
        if committed(out) > 4 and (working := sorted(actors_at_work(os.getpid()))):
            os.kill(working[0], signal.SIGKILL)
            killed.append(working[0])
        time.sleep(0.005)


def test_an_actor_is_killed_and_the_files_are_those_of_a_plain_build(
    captions: Path, tmp_path: Path, local_ray: None
) -> None:
    """A shard that is lost with its process, or ends with other bytes, or is made anew by the process that follows."""
    recipe = world_recipe(captions, size=96, batch=4, images_per_set=20)
    plain, out = tmp_path / "plain", tmp_path / "out"
    build(open_source(recipe), BuildSettings(plain, (0, 20), sets_per_shard=3))
    killed: list[int] = []
    killer = threading.Thread(target=kill_one_actor, args=(out, killed))
    killer.start()
    report = build_on_ray(recipe, BuildSettings(out, (0, 20), sets_per_shard=3), "local", workers=2)
    killer.join()
    assert len(killed) == 1
    assert report.complete and sorted(report.made) == sorted(report.wanted) and report.failed == ()
    assert contents(out) == contents(plain)


def test_a_shard_that_cannot_be_made_is_set_aside(tmp_path: Path, local_ray: None) -> None:
    """One bad caption must not stop twelve million others, nor cost the actor that met it."""
    (tmp_path / "captions.txt").write_text("roses\nmammals on red checks\nno such thing\nthree doughnuts\n")
    sift_captions([str(tmp_path / "captions.txt")], tmp_path / "captions", SiftConfig(test=0))
    out = tmp_path / "out"
    report = build_on_ray(world_recipe(tmp_path / "captions"), BuildSettings(out, (0, 5), sets_per_shard=1), "local")
    (failure,) = report.failed
    assert failure.attempts == 3 and "'no such thing'" in failure.error and "Traceback" in failure.details
    assert (len(report.made), report.images, report.complete) == (3, 15, False)
    assert failures(out) == [failure]


def test_a_run_that_is_stopped_commits_what_it_has_and_continues(
    captions: Path, tmp_path: Path, local_ray: None
) -> None:
    """Told only between two shards, a machine with half an hour to a shard does not stop; killed, it loses a batch."""
    recipe = world_recipe(captions, size=160, batch=4, images_per_set=20)
    plain, out = tmp_path / "plain", tmp_path / "out"
    build(open_source(recipe), BuildSettings(plain, (0, 20), sets_per_shard=6))
    settings = BuildSettings(out, (0, 20), sets_per_shard=6)
    report = build_on_ray(recipe, settings, "local", workers=2, stop=lambda: committed(out) > 4)
    assert report.left == report.wanted and not report.failed and not report.complete
    assert report.images == 4 * committed(out) > 16
    rest = build_on_ray(recipe, settings, "local", workers=1)
    assert rest.complete and rest.images == 12 * 20 - report.images
    assert contents(out) == contents(plain)


def ready(host: str, captions: Path, libraries: str = "pillow 13", **more: Any) -> Opened:
    """What an actor of that machine tells when it is ready."""
    settings = BuildSettings(Path("out"), (0, 5), sets_per_shard=4)
    return Opened(host, identity(open_source(world_recipe(captions, **more)), settings), libraries)


@pytest.fixture
def run(tmp_path: Path) -> RayRun:
    """A run whose actors have not told anything yet."""
    settings = BuildSettings(tmp_path / "out", (0, 5), sets_per_shard=4)
    return RayRun(Crew(None, {}, settings, None), settings, None, None)


def test_machines_that_would_make_other_bytes_are_refused(run: RayRun, captions: Path) -> None:
    """Another Pillow, or other weights under the same path, and a shard's bytes depend on who made it."""
    run.settle("a", ready("a", captions))
    run.settle("b", ready("b", captions))
    with pytest.raises(UserError, match="a has pillow 13, but c pillow 12; install the same"):
        run.settle("c", ready("c", captions, libraries="pillow 12"))
    with pytest.raises(UserError, match=r"generator.size.*\(seen from machine d\)"):
        run.settle("d", ready("d", captions, size=32))
    with pytest.raises(UserError, match="machine e: weights 'x' do not exist"):
        run.settle("e", Opened("e", error="weights 'x' do not exist"))


def test_a_machine_that_does_not_see_the_folder_ends_the_run(run: RayRun, captions: Path) -> None:
    """Set aside after three attempts each, all shards that such a machine takes would be lost."""
    run.settle("a", ready("a", captions))
    job = jobs_of([(0, 5)], sets=12, sets_per_shard=4)[0]
    with pytest.raises(UserError, match="machine b does not see the folder"):
        run.settle("b", Answer(job, End.UNSEEN, images=0))
    with pytest.raises(OSError, match="No space left"):
        run.settle("b", Answer(job, End.DISK, images=0, code=28, message="No space left on device"))
