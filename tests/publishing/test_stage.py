"""The folder that is published: complete, of any kind of model, without what nobody should publish."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from m2m.derived import write_derived
from m2m.loading import load_pipeline
from m2m.model_folder import find_model
from m2m.pipeline import M2MPipeline
from m2m.publishing.stage import Publication, stage
from m2m.types import UserError
from tests.tiny import pictures, tiny_pipeline, tiny_task_model

CATS = Publication("jane/cats", licence="cc0-1.0", data="Four cats.")
RUN = "data: /home/jane/secret/cats\nvalidation: ''\nobjective: {noise_draws: 2}\nsteps: 40\nout: /home/jane/out\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RUN/config.yaml and RUN/model, with what training and life leave in such folders."""
    run = tmp_path_factory.mktemp("run")
    tiny_pipeline("dino").save_pretrained(run / "model")
    config = run / "model/vae/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_name_or_path": "/home/jane/secret/vae"}))
    (run / "config.yaml").write_text(RUN)
    (run / "model/passwords.txt").write_text("1234")
    (run / "model/vae/old.bin").write_bytes(b"pickle")
    return run / "model"


def images_of(pipe: M2MPipeline) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    return np.asarray(pipe(pictures(2), num_images=1, num_inference_steps=2, output_type="np").images)


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_published_whole_and_nothing_else_of_it(saved: Path, tmp_path: Path) -> None:
    """Passwords beside a model, pickles in it, or the name of a home folder in a config, for all to read."""
    files = stage(find_model(str(saved)), CATS, tmp_path / "out")
    weights = {f"{part}/diffusion_pytorch_model.safetensors" for part in ("model", "vae", "vision_encoder")}
    configs = {f"{part}/config.json" for part in ("model", "vae", "vision_encoder")}
    others = {"model_index.json", "pipeline.py", "README.md", "scheduler/scheduler_config.json"}
    assert {str(path.relative_to(tmp_path / "out")) for path in files} == weights | configs | others
    assert not any(b"secret" in path.read_bytes() for path in files)
    assert np.array_equal(images_of(load_pipeline(str(tmp_path / "out"))), images_of(load_pipeline(str(saved))))


def test_the_card_tells_data_licence_and_settings(saved: Path, tmp_path: Path) -> None:
    """A card that says nothing of where a model comes from; the run's settings without the folders of the machine."""
    stage(find_model(str(saved)), Publication("jane/cats", licence="cc0-1.0", datasets=["jane/photos"]), tmp_path / "o")
    card = ModelCard.load(tmp_path / "o/README.md")
    assert card.data.to_dict() | {"tags": 0} == {
        "license": "cc0-1.0",
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image",
        "tags": 0,
        "datasets": ["jane/photos"],
    }
    for expected in ("`cats`, by the run below", "| steps | 40 |", "M2M-DINO", "64 x 64 pixels", "Nobody has measured"):
        assert expected in card.text
    assert 'DiffusionPipeline.from_pretrained("jane/cats", custom_pipeline="pipeline", trust_remote' in card.text


def test_a_derived_model_is_written_out_whole(tmp_path: Path) -> None:
    """Plain diffusers knows no derived.json: the repository must hold every tensor."""
    base = tiny_pipeline()
    base.save_pretrained(tmp_path / "base")
    task = tiny_pipeline(model=tiny_task_model(default="index", dim=1))
    task.register_to_config(default_guidance_scale=2.5)
    task.model.unet.load_state_dict(base.model.unet.state_dict(), strict=False)
    write_derived(task, find_model(str(tmp_path / "base")), tmp_path / "derived")
    stage(find_model(str(tmp_path / "derived")), CATS, tmp_path / "out")
    whole, derived = load_pipeline(str(tmp_path / "out")), load_pipeline(str(tmp_path / "derived"))
    tensors = load_file(tmp_path / "out/model/diffusion_pytorch_model.safetensors")
    assert tensors.keys() == derived.model.state_dict().keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in derived.model.state_dict().items())
    assert whole.config.default_guidance_scale == 2.5
    assert np.array_equal(images_of(whole), images_of(derived))
    assert "fine-tuned from" in (tmp_path / "out/README.md").read_text()


def test_a_shipped_model_brings_the_notice_of_its_drawings(tmp_path: Path) -> None:
    """CC-BY drawings went into its weights: their authors must be named wherever the weights go."""
    stage(find_model("tiny-self"), Publication("jane/tiny"), tmp_path / "out")
    assert "Twemoji" in (tmp_path / "out/NOTICE").read_text()
    card = ModelCard.load(tmp_path / "out/README.md")
    assert card.data.license == "apache-2.0" and "tiny world" in card.text
    assert "made from the given ones alone; with `window='all'`" in card.text


def test_sharing_an_autoencoder_is_no_fine_tuning(tmp_path: Path) -> None:
    """A card that says tiny-dino was fine-tuned from tiny-self, of which it has the autoencoder alone."""
    stage(find_model("tiny-dino"), Publication("jane/tiny-dino"), tmp_path / "out")
    index = json.loads((tmp_path / "out/model_index.json").read_text())
    assert (index["default_window"], index["default_window_policy"]) == (1, "anchor")
    assert ModelCard.load(tmp_path / "out/README.md").data.to_dict().get("base_model") is None


def test_mistakes_leave_nothing(saved: Path, tmp_path: Path) -> None:
    """Found after gigabytes were copied, or with half a folder left behind that somebody uploads."""
    tiny_pipeline().save_pretrained(tmp_path / "alone/deep")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/model_index.json").write_text((saved / "model_index.json").read_text())
    (tmp_path / "text.png").write_text("no picture")
    before = names_in(tmp_path)
    run, alone = find_model(str(saved)), find_model(str(tmp_path / "alone/deep"))
    for expected, (model, wanted) in {
        "give --licence": (run, Publication("jane/cats")),
        "give --data": (alone, Publication("jane/cats", licence="mit")),
        "is no PNG": (run, Publication("jane/cats", "mit", grids=[tmp_path / "a.gif"])),
        "text.png'": (run, Publication("jane/cats", "mit", grids=[tmp_path / "text.png"])),
        "result.json' does not exist": (run, Publication("jane/cats", "mit", evaluations=[tmp_path])),
        "cannot be loaded": (find_model(str(tmp_path / "broken")), CATS),
    }.items():
        with pytest.raises(UserError, match="^[^\n]+$") as caught:
            stage(model, wanted, tmp_path / "out")
        assert expected in str(caught.value)
    assert names_in(tmp_path) == before
    with pytest.raises(UserError, match="is there already"):
        stage(run, CATS, tmp_path / "alone")
