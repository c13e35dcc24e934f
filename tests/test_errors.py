"""Every message that a user can meet: all of them listed and held to one form, and the most met ones provoked for real.

`tests/messages.txt` holds the words of each, by file; after a change `python -m tests.messages` writes it anew, so that
a new message is read, in a list of them, before anybody meets it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from m2m.cli.main import COMMANDS, main
from tests.messages import LIST, listed, messages
from tests.tiny import pictures

# What would be right: a verb for the user, an option, a bound, or what there is instead.
REMEDY = re.compile(
    r"\b(use|give|name|choose|write|set|ask|leave|say|install|move|remove|put|get|save|add|start|train|compare|draw"
    r"|lower|read|scale|encode|preview|upload|make|makes|see|close|build|begin|need|needs|must|expected|wanted|would"
    r"|there (is|are)|one of|none of|at (least|most)|is right|is for|below|again|evenly|whole numbers|or more|such as"
    r"|of a known|unknown key|to 1|starts)\b|--[a-z]|`m2m|m2m data|=|, not "
)
# The same by comparison: what is there, and what it is held against.
COMPARED = re.compile(
    r"(the model|the U-Net) takes|config.json wants|these are|are asked for|, this run has|has \{\}|is \{\}, the"
    r"|last row|with another|is not that of|has shape|the identity|determinant"
    r"|fewer than|is no number|unknown; \{\}|'; \{\}"
)
# Where what is wrong is the file, machine or account itself, and the reason is all that there is to say.
STATE = re.compile(
    r"does not exist|is missing|lacks|is empty|damaged|broken|no whole|permission denied|cannot be \w+|not finite"
    r"|the hub (refused|cannot|did)|no (regular|JSON|picture|config)|: \{\}|less than|\{\} (of|images)|\(seen from"
    r"|neither|holds no|is no (complete|diffusion)|has no|derived itself|is of '\{\}'|(was|were) fine-tuned"
)

# What a user does, and words of the answer. The files are those of `here`.
GENERATE = [
    ("generate", "Missing argument 'IMG [IMG ...]' (see `m2m generate --help`)"),
    ("generate good.png", "Missing option '--out'"),
    ("generate missing.png --out out", "'missing.png' does not exist"),
    ("generate folder --out out", "is a folder, not a picture; name the files in it"),
    ("generate empty.png --out out", "is empty, not a picture"),
    ("generate text.png --out out", "not a picture of a known format (PNG, JPEG, WebP, TIFF, ...)"),
    ("generate cut.png --out out", "is a broken PNG picture"),
    ("generate moving.gif --out out", "holds 2 pictures (an animation or pages); save one of them"),
    ("generate page.svg --out out", "not a picture of a known format"),
    ("generate good.png --out text.png", "is a file; name a new folder"),
    ("generate good.png --out folder", "is not empty; name a new folder, or add --overwrite"),
    ("generate good.png --out folder --overwrite", "which is no part of a former result; name a new folder"),
    ("generate good.png --out text.png/out", "is no folder that you may write to"),
    ("generate good.png --out out --model tiny", "model 'tiny' does not exist: no such folder, and not one of"),
    ("generate good.png --out out --model folder", "is no saved pipeline: 'folder' holds no model_index.json"),
    ("generate good.png --out out -n 0", "greater than or equal to 1"),
    ("generate good.png --out out -n many", "Invalid value for '-n'"),
    ("generate good.png --out out --steps 0", "Invalid value for '--steps'"),
    ("generate good.png --out out --steps 2000", "num_inference_steps is 2000: use 1 to 999"),
    ("generate good.png --out out --seed -1", "Invalid value for '--seed'"),
    ("generate good.png --out out --window 0", "--window '0' is no number of images: write 1 or more, or all"),
    ("generate good.png --out out --window anchor:6", "--window 'anchor:6' is no number of images"),
    ("generate good.png --out out --window-policy far", "'sliding'"),
    ("generate good.png --out out --guidance strong", "Invalid value for '--guidance'"),
    ("generate good.png --out out --guidance-interval wide", "is no range A:B of noise levels, such as 0:0.7"),
    ("generate good.png --out out --guidance-interval 0.9:0.1", "use 0 <= lowest <= highest <= 1"),
    ("generate good.png --out out --context-noise 1000", "context_noise is 1000: use 0 (clean) to 999"),
    ("generate good.png --out out --scheduler Magic", "'Magic' is unknown: use a scheduler class of diffusers"),
    ("generate good.png --out out --device quantum", "device 'quantum' cannot be used"),
    ("generate good.png --out out --colour red", "No such option: --colour"),
    ("generat good.png", "Did you mean 'generate'"),
]
TASKS = [
    ("views good.png --cameras orbit:3 --out out --model tiny-self", "has no camera condition"),
    ("views good.png --cameras round --out out --model tiny-self", "cameras 'round' are unknown"),
    ("views good.png --cameras orbit:0 --out out --model tiny-self", "'0' is no number of views from 1 to"),
    ("views good.png --cameras orbit:3,height=2 --out out --model tiny-self", "'height=2' is none of"),
    ("views good.png --cameras missing.json --out out --model tiny-self", "missing.json"),
    ("views good.png --cameras text.json --out out --model tiny-self", "cannot be read as JSON"),
    ("continue good.png --out out --model tiny-self", "has no position condition"),
    ("continue missing.png --out out --model tiny-self", "step 1 of 1: 'missing.png' does not exist"),
    ("derive tiny-self --base tiny-self --out folder", "--out 'folder' is there already: name a new folder"),
    ("derive missing --base tiny-self --out out", "model 'missing' does not exist"),
]
MODELS = [
    ("init --variant self --base missing --out out", "base 'missing' does not exist: give a folder"),
    ("init --variant self --base text.png --out out", "is a file: give a folder in diffusers layout"),
    ("init --variant self --base folder --out out", "no Stable Diffusion folder in diffusers layout"),
    ("init --variant self --base folder --encoder x --out out", "--encoder is for --variant dino"),
    ("init --variant both --base folder --out out", "Invalid value for '--variant'"),
    ("eval --out out", "give --model NAME, or --images FOLDER"),
    ("eval --model tiny-self --protocol table9 --out out", "table9"),
    ("eval --model tiny-self --window wide --out out", "write own, all, a number such as 4, or anchor:NUMBER"),
    ("eval --model tiny-self --extractor eyes --out out", "eyes"),
    ("eval --model tiny-self --data world:mini:test --out out", "write world:NAME:SPLIT:COUNT"),
    ("eval --model tiny-self --model tiny-self --out out", "is asked for twice; name every model"),
    ("bench sampling --given few --out out", "is no list of numbers such as 1,2,4"),
    ("bench sampling --variants best --out out", "use some of"),
]
TRAINING = [
    ("train --config missing.yaml", "config file 'missing.yaml' does not exist"),
    ("train --config list.yaml", "must hold 'key: value' lines at the top"),
    ("train --config broken.yaml", "cannot be read as YAML"),
    ("train --config key.yaml", "unknown key 'learning_rat'; did you mean 'learning_rate'"),
    ("train learning_rat=1", "unknown key 'learning_rat'"),
    ("train steps", "override 'steps' must have the form key=value"),
    ("train steps=many base=tiny-self data=x out=out", "wrong value for 'steps'"),
    ("train base=tiny-self out=out", "no value for 'data'; give it in the file"),
    ("train base=tiny-self data=missing out=out", "data folder 'missing' does not exist; `m2m data build` makes one"),
    ("train base=tiny-self data=folder out=out", "has no manifest.json"),
    ("train base=tiny-self data=world:tiny:train:9 out=out", "there are 'mini' and 'full'"),
    ("train base=tiny-self data=world:mini:train:9 out=out task=cooking", "task 'cooking' is unknown: use one of"),
    ("train base=missing data=world:mini:train:9 out=out", "model 'missing' does not exist"),
    ("train --devices none", "Invalid value for '--devices'"),
    ("train-autoencoder --config missing.yaml", "config file 'missing.yaml' does not exist"),
    ("train-probe probe=1", "unknown key 'probe'"),
]
DATA = [
    ("data captions missing.tsv --out out", "captions file 'missing.tsv' does not exist"),
    ("data captions text.png --out out", "its name must end in .tsv, .txt (both also .gz) or .parquet"),
    ("data captions folder --out out", "is a folder; name its files"),
    ("data captions world:mini:train:3 --test 9 --out out", "ask for 9"),
    ("data captions world:mini:train:9 --out folder", "is not empty and holds no captions"),
    ("data build --captions missing --generator world:mini --out out", "`m2m data captions` makes one"),
    ("data build --captions folder --generator world:mini --out out", "'folder' has no summary.json"),
    ("data build --captions folder --generator world:mini --images five --out out", "0:5 would be the first five"),
    ("data encode missing --model tiny-self --out out", "'missing' does not exist"),
    ("data verify folder", "is no folder of shards: it has neither manifest.json nor build.json"),
    ("data stats missing", "missing"),
    ("data preview missing", "missing"),
    ("data preview folder --out sheet.txt", "must end in .png"),
    ("data plan --format gif", "is not one of"),
    ("data plan --measure", "--measure needs --generator"),
    ("data folder missing --out out", "is no folder; give one whose sub-folders hold pictures"),
    ("data folder folder --min-images 9 --out out", "has no sub-folder with at least 9 usable pictures"),
    ("data coco --annotations missing.json --images folder --out out", "'missing.json' does not exist"),
    ("data coco --annotations text.json --images folder --out out", "cannot be read as JSON"),
    ("data objaverse missing --out out", "give one with a folder of NNN.png and NNN.npy per object"),
    ("data objaverse folder --out out", "no camera beside it"),
    ("data objects --split all --out out", "--split"),
    ("data steps missing --out out", "'missing'"),
    ("data vgsi missing.json --images folder --out out", "the file of VGSI is named WikihowText_data.json"),
    ("data drawings --split all --out out", "split 'all' is not one of train, validation, test"),
    ("data drawings --source clay --out out", "source 'clay' is not one of"),
    ("data buld", "Did you mean 'build'"),
]
SERVING = [
    ("demo --port 0", "Invalid value for '--port'"),
    ("demo --model missing", "model 'missing' does not exist"),
    ("push missing jane/cats --to out", "model 'missing' does not exist"),
    ("push tiny-self jane/cats --to folder", "'folder'"),
    ("push tiny-self cats", "'cats'"),
]
ALL = [*GENERATE, *TASKS, *MODELS, *TRAINING, *DATA, *SERVING]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: one good picture, and what is mistaken for one, or for something else."""
    one, two = pictures(2)
    one.save(tmp_path / "good.png")
    one.save(tmp_path / "moving.gif", save_all=True, append_images=[two], duration=80)
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:400])
    texts = {"text.png": "no picture", "empty.png": "", "text.json": "[1,", "page.svg": "<svg xmlns='x'/>"}
    configs = {"list.yaml": "- 1\n", "broken.yaml": "a: [\n", "key.yaml": "learning_rat: 1\n"}
    for name, text in {**texts, **configs}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder" / "things").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(tmp_path / "folder" / "things" / "000.png")
    (tmp_path / "folder" / "notes.txt").write_text("of somebody")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("line", "expected"), ALL, ids=[line for line, _ in ALL])
def test_a_mistake_is_answered_in_one_line_and_nothing_is_written(
    line: str, expected: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bug: a traceback, a page of usage, exit code 0 or 1, no remedy, or an --out that is half made."""
    before = contents(here)
    code = main(line.split())
    said = capsys.readouterr()
    assert (code, said.out) == (2, ""), said
    assert said.err.startswith("m2m: ") and said.err.count("\n") == 1, said.err
    assert expected in said.err and "Traceback" not in said.err
    assert contents(here) == before and not (here / "out").exists()


def test_every_command_has_a_mistake_in_the_table() -> None:
    """Bug: a new command whose mistakes nobody has tried."""
    lines = [line for line, _ in ALL]
    assert [one.name for one in COMMANDS if not any(line.startswith(f"{one.name} ") for line in lines)] == []


def test_the_list_of_messages_is_whole() -> None:
    """Bug: a message that nobody has read as one. `python -m tests.messages` writes the list anew: read the change."""
    assert LIST.read_text(encoding="utf-8") == listed()


def test_every_message_has_the_form_of_one() -> None:
    """Bug: several lines, an "Error: Invalid ..!", or words that say no more than that something failed."""
    for name, _, text in messages():
        assert "\n" not in text and "  " not in text, (name, text)
        assert not text.endswith((".", "!", " ")) or text.endswith(".."), (name, text)
        assert not re.match(r"(Error|Invalid|Please|Sorry|Oops|Failed)\b", text), (name, text)
        assert len(text) <= 240, (name, text)


def test_every_message_says_what_would_be_right() -> None:
    """Bug: "bad value". A user must be told what to do, or which file, machine or account is in the way, and why."""
    told = [(name, text) for name, kind, text in messages() if kind == "UserError" and re.search(r"\w{3}", text)]
    assert [one for one in told if not any(form.search(one[1]) for form in (REMEDY, COMPARED, STATE))] == []
    damage = [(name, text) for name, kind, text in messages() if kind == "ShardError"]
    assert damage and all("{}" in text or "must" in text or "damaged" in text for _, text in damage)


def test_a_mistake_of_a_program_is_the_same_line() -> None:
    """Bug: the library raises what only the command line can tell."""
    from m2m.tasks.cameras import parse_cameras
    from m2m.types import UserError

    with pytest.raises(UserError, match="cameras 'round' are unknown") as caught:
        parse_cameras("round", given=1)
    assert json.dumps(str(caught.value)).count("\\n") == 0 and isinstance(caught.value, ValueError)
