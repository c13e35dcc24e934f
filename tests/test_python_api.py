"""The pipeline as a user's own program calls it: paths, batches, callbacks, precision, offloading, types."""

from __future__ import annotations

import doctest
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import m2m.pipeline
from m2m import M2MPipeline
from m2m.picture_files import read_picture
from m2m.types import UserError
from tests.tiny import pictures, tiny_pipeline

ROOT = Path(__file__).parents[1]
FOXES = sorted((ROOT / "examples/sets/foxes-on-plain-night-blue").glob("*.png"))
SKIPPED = ("accelerate", "diffusers", "huggingface_hub", "numpy", "safetensors", "torch", "transformers")
FEW = {"num_images": 1, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def shipped() -> M2MPipeline:
    pipe = M2MPipeline.from_pretrained("tiny-self")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe() -> M2MPipeline:
    return tiny_pipeline()


def test_the_three_lines(shipped: M2MPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: what the README shows does not run: names of files, relative ones among them, as strings and as paths."""
    monkeypatch.chdir(tmp_path)
    for name, path in zip(("a.png", "b.png"), FOXES, strict=False):
        (tmp_path / name).write_bytes(path.read_bytes())
    images = shipped(["a.png", Path("b.png")], num_images=4, num_inference_steps=2).images
    assert [(type(image), image.mode, image.size) for image in images] == [(Image.Image, "RGB", (64, 64))] * 4
    batch = shipped([["a.png", "b.png"], [Path("b.png")]], num_images=2, num_inference_steps=2).images
    assert [len(own) for own in batch] == [2, 2]
    assert shipped(["a.png"], **FEW, return_dict=False)[0][0].size == (64, 64)


def test_the_example_of_the_class_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: an example that nobody has tried."""
    monkeypatch.chdir(ROOT)
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(M2MPipeline, "M2MPipeline", module=m2m.pipeline)
    assert len(example.examples) == 5
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


def test_types_for_users(tmp_path: Path) -> None:
    """Bug: an untyped result: no completion in an editor, and nothing that notices a wrong argument."""
    script = tmp_path / "user.py"
    script.write_text(
        "from pathlib import Path\n"
        "from m2m import M2MPipeline\n"
        "pipe = M2MPipeline.from_pretrained(Path('tiny-self'))\n"
        "images = pipe(['a.png', Path('b.png')], num_images=4).images\n"
        "reveal_type(images)\n"
        "images[0].save('c.png')\n"
        "pipe(['a.png'], num_images='four')\n"
    )
    settings = tmp_path / "mypy.ini"
    skipped = "\n".join(f"[mypy-{name}.*]\nfollow_imports = skip" for name in SKIPPED)
    settings.write_text(f"[mypy]\nmypy_path = {ROOT / 'src'}\n{skipped}\n")
    command = [sys.executable, "-m", "mypy", "--config-file", settings, "--cache-dir", tmp_path / "cache", script]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False)
    notes = [line.split(": ", 1)[1] for line in run.stdout.splitlines()[:-1] if line.startswith("user.py:")]
    assert len(notes) == 2, run.stdout + run.stderr
    assert notes[0] == 'note: Revealed type is "list[PIL.Image.Image]"'
    assert 'error: Argument "num_images"' in notes[1]


MODES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "cmyk.jpg": lambda image: image.convert("CMYK"),
    "palette.png": lambda image: image.quantize(8),
    "alpha.png": lambda image: Image.merge("RGBA", (*image.split(), image.getchannel(0))),
    "deep.png": lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257),
    "turned.jpg": lambda image: image,
}


@pytest.mark.parametrize("name", MODES)
def test_pictures_are_read_as_the_command_line_reads_them(name: str, pipe: M2MPipeline, tmp_path: Path) -> None:
    """Bug: white where 16 bits were clipped, black where nothing was, a photograph on its side: from a path, and where
    the caller has opened the file."""
    exif = Image.Exif()
    if name == "turned.jpg":
        exif[0x0112] = 6
    MODES[name](pictures(1, size=80)[0].resize((80, 64))).save(tmp_path / name, exif=exif)
    wanted = pipe._pixels(read_picture(tmp_path / name))
    assert wanted.std() > 0.05
    assert torch.equal(pipe._pixels(tmp_path / name), wanted)
    assert torch.equal(pipe._pixels(Image.open(tmp_path / name)), wanted)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a folder with a picture and a text."""
    MODES["alpha.png"](pictures(1)[0]).save(tmp_path / "alpha.png")
    (tmp_path / "text.png").write_text("no picture")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_url_is_a_picture_too(pipe: M2MPipeline, served: str, tmp_path: Path) -> None:
    """Bug: a URL that is read otherwise than the file, or whose failure is a page of requests and Pillow."""
    assert torch.equal(pipe._pixels(f"{served}/alpha.png"), pipe._pixels(tmp_path / "alpha.png"))
    for name in ("text.png", "missing.png"):
        with pytest.raises(UserError, match=f"'{served}/{name}' gives no picture: ") as caught:
            pipe([f"{served}/{name}"], **FEW)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["missing.png"], "'missing.png' does not exist"),
        ([Path("text.png")], "'text.png' is not a picture of a known format"),
        (["."], "'.' is a folder, not a picture"),
        ("text.png", "images is a single picture: give a list"),
        (Path("text.png"), "images is a single picture: give a list"),
        (["text.png", ["text.png"]], "images mixes pictures and lists of pictures"),
        (None, "images is of type NoneType: give a list of pictures"),
        ([3], r"images\[0\] is of type int: give paths, URLs or PIL images"),
        ([["text.png"], [["text.png"]]], r"images\[1\]\[0\] is of type list"),
        (np.zeros((2, 8, 8, 3)), r"images\[0\] is of type ndarray"),
    ],
)
def test_what_is_no_list_of_pictures_is_one_line(
    images: Any, message: str, pipe: M2MPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a traceback of Pillow or numpy for a typo, or a string that is read as a list of its letters."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=message) as caught:
        pipe(images, **FEW)
    assert "\n" not in str(caught.value)


def test_given_images_that_no_image_sees_are_read_but_not_encoded(pipe: M2MPipeline) -> None:
    """Bug: eight passes of the autoencoder for a window of two; or, the other way, a missing file that nobody notices,
    and the first given images in the place of the last."""
    encoded: list[int] = []
    latents_of = pipe._latents
    given = pictures(4)
    wanted = pipe(given[2:], **FEW, output_type="latent").images
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipe, "_latents", lambda pixels: encoded.append(len(pixels)) or latents_of(pixels))
        made = pipe(given, **FEW, window=2, output_type="latent").images
        assert (made - wanted).abs().max() < 1e-5
        pipe([given, given[:1]], **FEW, window=2)
        pipe(given, **FEW, window=2, window_policy="anchor")
    assert encoded == [2, 3, 4]
    with pytest.raises(UserError, match="does not exist"):
        pipe(["missing.png", *given], **FEW, window=2)


@pytest.mark.parametrize("wrong", [torch.zeros(1, 4, 4, 4), torch.zeros(4, 8, 8), None])
def test_a_callback_cannot_change_the_size(wrong: torch.Tensor | None, pipe: M2MPipeline) -> None:
    """Bug: latents that are broadcast in silence, or break three modules further down."""
    with pytest.raises(UserError, match=r"latents is .*; give a tensor of shape \[1, 4, 8, 8\]"):
        pipe(pictures(1), **FEW, callback_on_step_end=lambda *_: {"latents": wrong})


def arrivals(pipe: M2MPipeline) -> list[str]:
    """The parts as they are brought to the device, in the order of their first calls in a row; filled from now on."""
    brought: list[str] = []

    def note(name: str, arrive: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if brought[-1:] != [name]:
            brought.append(name)
        return arrive(*args, **options)

    for name, hook in hooks(pipe).items():
        hook.pre_forward = partial(note, name, hook.pre_forward)
    return brought


def hooks(pipe: M2MPipeline) -> dict[str, Any]:
    """accelerate's hook of every part."""
    return {name: part._hf_hook for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_offloading_brings_every_part_when_it_is_called(variant: str) -> None:
    """Bug: a part that is called past its hook and stays on the CPU, or the U-Net that stays beside the next part. The
    CPU stands for the accelerator; the hooks are accelerate's own."""
    pipe = tiny_pipeline(variant)
    arguments = {"num_images": 2, "num_inference_steps": 2, "output_type": "pt"}
    plain = pipe(pictures(2), **arguments).images
    pipe.enable_model_cpu_offload(device="cpu")
    sends_away = {name: getattr(hook.prev_module_hook, "model", None) for name, hook in hooks(pipe).items()}
    assert sends_away["vae"] is pipe.model and sends_away["model"] is pipe.vision_encoder
    brought = arrivals(pipe)
    assert torch.equal(pipe(pictures(2), **arguments).images, plain)
    if variant == "self":
        assert brought == ["vae", "model", "vae"]
    else:
        assert brought == ["vision_encoder", "model", "vae", "vision_encoder", "model", "vae"]


def test_an_abort_frees_the_device() -> None:
    """Bug: a user stops a run, and the model stays on the accelerator until the next one."""
    pipe = tiny_pipeline()
    pipe.enable_model_cpu_offload(device="cpu")
    before = list(pipe._all_hooks)

    def stop(*_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe(pictures(1), **FEW, callback_on_step_end=stop)
    assert len(pipe._all_hooks) == len(before) == 2
    assert not set(map(id, before)) & set(map(id, pipe._all_hooks)), "the hooks are those of the aborted run"


def test_half_precision_stays_close(shipped: M2MPipeline) -> None:
    """Bug: a sum, a schedule or a picture that bfloat16 spoils: other images than those of the seed."""
    arguments = {"num_images": 2, "num_inference_steps": 8, "output_type": "np"}
    half = M2MPipeline.from_pretrained("tiny-self", dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    whole = shipped(FOXES[:2], **arguments).images
    close = np.abs(half(FOXES[:2], **arguments).images - whole).mean()
    other = np.abs(shipped(FOXES[:2], seed=1, **arguments).images - whole).mean()
    assert half.model.dtype == half.vae.dtype == torch.bfloat16
    assert close < 0.06 and close < other / 4


def test_attention_slicing_leaves_image_set_attention_alone() -> None:
    """Bug: diffusers' slices put a processor of its own in the place of ours, and the context is never read."""
    pipe = tiny_pipeline()
    plain = pipe(pictures(2), **FEW, output_type="pt").images
    pipe.enable_attention_slicing()
    assert torch.equal(pipe(pictures(2), **FEW, output_type="pt").images, plain)
