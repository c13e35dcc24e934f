"""`m2m generate` as a user calls it: on a tiny real pipeline that was saved to a folder."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2m.cli.main import main
from m2m.cli.result_folder import check_out
from m2m.loading import load_pipeline
from m2m.model_folder import find_model
from m2m.types import UserError
from tests.cli.running import one_error_line, run_m2m
from tests.cli.sampling import images_in, record_in, save_task_model, stop_while_sampling
from tests.tiny import pictures, tiny_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline("self").save_pretrained(folder)
    return folder


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """Three pictures of different formats and shapes."""
    first, second, third = pictures(3)
    first.save(tmp_path / "a.png")
    second.resize((200, 90)).convert("CMYK").save(tmp_path / "b.jpg")
    third.convert("P").save(tmp_path / "c.gif")
    return [str(tmp_path / name) for name in ("a.png", "b.jpg", "c.gif")]


def generate(model: Path, out: Path, given: list[str], *more: str) -> int:
    return main(["generate", *given, "--model", str(model), "--out", str(out), "-n", "2", "--steps", "2", *more])


def test_a_whole_run_from_the_shell(model: Path, given: list[str], tmp_path: Path) -> None:
    """Everything a user does first: nothing but the result on stdout, nothing on stderr, four kinds of files."""
    result = run_m2m("generate", *given, "--model", model, "-n", "2", "--steps", "2", "--out", "new", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("2 images in ") and result.stdout.endswith("new/grid.png\n")
    assert result.stderr.strip() == ""
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["000.png", "001.png", "generation.json", "grid.png"]
    assert Image.open(tmp_path / "new/000.png").size == (64, 64)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_record_repeats_the_run(model: Path, given: list[str], tmp_path: Path) -> None:
    """A record that leaves a setting to a default repeats something else once the default changes."""
    assert generate(model, tmp_path / "first", given, "--seed", "7", "--window", "2", "--guidance", "2.5") == 0
    record = json.loads((tmp_path / "first/generation.json").read_text())
    settings = record["settings"]
    again = [
        *("--seed", settings["seed"], "--window", settings["window"], "--window-policy", settings["window_policy"]),
        *("--guidance", settings["guidance_scale"], "--scheduler", settings["scheduler"]),
        *("--context-noise", settings["context_noise"], "--steps", settings["num_inference_steps"]),
    ]
    inputs = [entry["path"] for entry in record["inputs"]]
    assert generate(model, tmp_path / "second", inputs, *map(str, again)) == 0
    assert np.array_equal(images_in(tmp_path / "first"), images_in(tmp_path / "second"))
    assert record == json.loads((tmp_path / "second/generation.json").read_text())


def test_the_record_names_inputs_weights_and_every_setting(model: Path, given: list[str], tmp_path: Path) -> None:
    """With a file or a model replaced under the same name, only digests tell why a run came out differently."""
    assert generate(model, tmp_path / "out", given) == 0
    record = json.loads((tmp_path / "out/generation.json").read_text())
    assert [entry["sha256"] for entry in record["inputs"]] == [
        hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in given
    ]
    weights = b"".join(path.read_bytes() for path in sorted(model.rglob("*.safetensors")))
    assert record["model"] == {"name": str(model), "weights_sha256": hashlib.sha256(weights).hexdigest()}
    assert record["settings"]["guidance_scale"] == 7.5, "the model's own default, resolved"
    assert record["settings"]["scheduler"] == "DDIMScheduler"
    assert record["versions"]["torch"] and record["versions"]["m2m"]


def test_a_model_with_a_window_of_its_own(model: Path, given: list[str], tmp_path: Path) -> None:
    """A default of the model's that the command overrides; a record that a later default would change; no way back."""
    pipe = load_pipeline(str(model), "cpu")
    pipe.register_to_config(default_window=1, default_window_policy="anchor")
    pipe.save_pretrained(tmp_path / "model")
    for name, folder, more in (
        ("own", tmp_path / "model", ()),
        ("said", model, ("--window", "1", "--window-policy", "anchor")),
        ("sliding", tmp_path / "model", ("--window-policy", "sliding")),
        ("all", tmp_path / "model", ("--window", "all")),
        ("former", model, ()),
    ):
        assert generate(folder, tmp_path / name, given, *more) == 0
    made = {name: images_in(tmp_path / name) for name in ("own", "said", "sliding", "all", "former")}
    seen = {name: record_in(tmp_path / name)["settings"] for name in made}
    assert np.array_equal(made["own"], made["said"]) and np.array_equal(made["all"], made["former"])
    assert not np.array_equal(made["own"], made["all"]) and not np.array_equal(made["own"], made["sliding"])
    assert {name: (own["window"], own["window_policy"]) for name, own in seen.items()} == {
        "own": (1, "anchor"),
        "said": (1, "anchor"),
        "sliding": (1, "sliding"),
        "all": ("all", "sliding"),
        "former": ("all", "sliding"),
    }


@pytest.mark.parametrize(
    "option",
    [
        ("--seed", "1"),
        ("--guidance", "1"),
        ("--window", "1"),
        ("--window-policy", "anchor", "--window", "3"),
        ("--context-noise", "500"),
        ("--scheduler", "EulerAncestralDiscreteScheduler"),
    ],
)
def test_every_option_reaches_the_pipeline(model: Path, given: list[str], tmp_path: Path, option: tuple[str]) -> None:
    """An option that is parsed and then forgotten gives the same images as before."""
    base = ("--window", "3") if "anchor" in option else ()
    assert generate(model, tmp_path / "plain", given, *base) == 0
    assert generate(model, tmp_path / "other", given, *option) == 0
    assert not np.array_equal(images_in(tmp_path / "plain")[1], images_in(tmp_path / "other")[1])


def test_the_order_of_the_given_images_reaches_the_grid(model: Path, given: list[str], tmp_path: Path) -> None:
    """A sheet that shows the given images in another order, or uncropped, is no record of what the model saw."""
    assert generate(model, tmp_path / "out", given) == 0
    sheet = Image.open(tmp_path / "out/grid.png")
    assert sheet.width > 5 * 128, "three given and two generated, enlarged to 128 pixels"
    assert sheet.height < 2 * 128, "in one row"


def test_a_second_run_needs_overwrite(model: Path, given: list[str], tmp_path: Path) -> None:
    """A former result, perhaps an hour's work, must not vanish unasked."""
    out = tmp_path / "out"
    assert generate(model, out, given, "-n", "3") == 0
    before = images_in(out)
    assert generate(model, out, given) == 2
    assert np.array_equal(images_in(out), before)
    assert generate(model, out, given, "--overwrite") == 0
    assert len(images_in(out)) == 2, "no image of the former result is left among the new ones"


def test_overwrite_never_removes_other_files(tmp_path: Path) -> None:
    """`--out ~ --overwrite` must not replace a home folder."""
    (tmp_path / "000.png").touch()
    check_out(tmp_path, overwrite=True)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"thesis\.tex"):
        check_out(tmp_path, overwrite=True)


def test_an_empty_folder_is_a_fine_place(model: Path, given: list[str], tmp_path: Path) -> None:
    """Many make the folder first."""
    (tmp_path / "out").mkdir()
    assert generate(model, tmp_path / "out", given) == 0
    assert len(images_in(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"given": ["notes.txt"]}, "notes.txt"),
        ({"given": ["a.png", "missing.png"]}, "missing.png"),
        ({"model": "no-such-folder"}, "tiny-self"),
        ({"model": "."}, "model_index.json"),
        ({"more": ["--scheduler", "NoSuchScheduler"]}, "NoSuchScheduler"),
        ({"more": ["--device", "toaster"]}, "toaster"),
        ({"more": ["--context-noise", "100000"]}, "100000"),
        ({"more": ["--steps", "100000"]}, "100000"),
        ({"out": "notes.txt"}, "is a file"),
        ({"out": "notes.txt/out"}, "notes.txt/out"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    model: Path, given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    change: dict, expected: str,
) -> None:  # fmt: skip
    """A traceback for a typo, or a half-made folder after it, which the next run then refuses."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("text")
    before = sorted(tmp_path.rglob("*"))
    out, inputs = Path(change.get("out", "out")), change.get("given", ["a.png"])
    assert generate(Path(change.get("model", model)), out, inputs, *change.get("more", [])) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("m2m: ") and captured.err.count("\n") == 1 and expected in captured.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bad_picture_is_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    """Waiting a minute for a large model to learn of a typo in a file name."""
    result = run_m2m("generate", "none.png", "--model", "nowhere", "--out", "out", cwd=tmp_path)
    assert "none.png" in one_error_line(result)


def test_broken_weights_are_one_line(
    model: Path, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A download that was cut off."""
    broken = tmp_path / "broken"
    for path in model.rglob("*"):
        if path.is_file():
            copy = broken / path.relative_to(model)
            copy.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes()
            copy.write_bytes(content[: len(content) // 2] if path.suffix == ".safetensors" else content)
    assert generate(broken, tmp_path / "out", given) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"m2m: model '{broken}' cannot be loaded") and message.count("\n") == 1


def test_a_model_of_views_needs_cameras(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The pipeline's own line speaks of an argument that no option of this command gives."""
    model = save_task_model(tmp_path / "views", "camera")
    assert generate(model, tmp_path / "out", given) == 2
    message = capsys.readouterr().err
    assert "must be told the camera of every image: use m2m views IMG --cameras" in message
    assert message.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_hub_id_without_a_network_is_one_line(tmp_path: Path) -> None:
    """The hub's client has a dozen exceptions of its own."""
    with pytest.raises(UserError) as caught:
        find_model("nobody/no-such-model")
    assert "nobody/no-such-model" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_sampling_ends_cleanly(
    model: Path, given: list[str], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Ctrl-C or a job's time limit: the shell's exit code, no traceback, nothing half-written left behind."""
    command = ("generate", *given, "--model", model, "--out", tmp_path / "out", "-n", "1000", "--steps", "500")
    found, shown = stop_while_sampling(number, *command)
    assert found == code
    assert "Traceback" not in shown
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))
