"""Models that share parts with their base: written small, loaded whole, and refused where anything does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from m2m import load_pipeline
from m2m.derived import Shares, write_derived
from m2m.model.conditions import ConditionConfig
from m2m.model.unet import M2MModel
from m2m.model_folder import DERIVED, SHARDS, find_model
from m2m.pipeline import M2MPipeline
from m2m.types import UserError
from tests.tiny import pictures, tiny_autoencoder, tiny_pipeline, tiny_scheduler

POSITION = ConditionConfig("position", 1, width=8, default="index")
OWN = "model/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module", params=["self", "dino"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in float16, as exports are, for M2M-Self and M2M-DINO."""
    folder = tmp_path_factory.mktemp(request.param) / "base"
    tiny_pipeline(request.param).to(torch.float16).save_pretrained(folder)
    return folder


def fine_tuned(base: Path, **settings: Any) -> M2MPipeline:
    """The base as a model of a task: a condition, image-set attention trained, everything else left alone."""
    pipe = load_pipeline(str(base), "cpu")
    pipe.model.add_condition(POSITION)
    pipe.register_to_config(**settings)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in pipe.model.image_set_attention_parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return pipe


def derived(base: Path, folder: Path, **settings: Any) -> tuple[M2MPipeline, Shares]:
    pipe = fine_tuned(base, **settings)
    return pipe, write_derived(pipe, find_model(str(base)), folder)


def test_it_loads_as_what_was_written(saved: Path, tmp_path: Path) -> None:
    """A tensor of the base in the place of a trained one, or a setting that is lost: pictures that are a bit worse."""
    pipe, _ = derived(saved, tmp_path / "task", default_guidance_scale=2.5)
    loaded = load_pipeline(str(tmp_path / "task"), "cpu")
    wanted, found = pipe.model.state_dict(), loaded.model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name].half(), tensor.half()) for name, tensor in wanted.items())
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert loaded.config.default_guidance_scale == 2.5
    assert loaded.config.default_guidance_interval == pipe.config.default_guidance_interval
    assert loaded.model.condition == POSITION and not loaded.model.training
    loaded.set_progress_bar_config(disable=True)
    assert len(loaded(pictures(1), num_images=1, num_inference_steps=1).images) == 1


def test_the_window_is_never_the_bases(tmp_path: Path) -> None:
    """Bug: a task model that was shown all images sees others, because somebody gave its base a window."""
    tiny_pipeline().save_pretrained(tmp_path / "base")
    derived(tmp_path / "base", tmp_path / "before")
    index = tmp_path / "base/model_index.json"
    index.write_text(
        json.dumps(json.loads(index.read_text()) | {"default_window": 4, "default_window_policy": "anchor"})
    )
    assert window_of(tmp_path / "before") == (None, "sliding")
    derived(tmp_path / "base", tmp_path / "as_base")
    derived(tmp_path / "base", tmp_path / "all", default_window=None, default_window_policy="sliding")
    assert window_of(tmp_path / "as_base") == (4, "anchor") and window_of(tmp_path / "all") == (None, "sliding")


def window_of(folder: Path) -> tuple[int | None, str]:
    config = load_pipeline(str(folder), "cpu").config
    return config.default_window, config.default_window_policy


def test_only_what_differs_is_kept(saved: Path, tmp_path: Path) -> None:
    """Bug: everything is written again, and four models no longer go into the weight limit."""
    pipe, shares = derived(saved, tmp_path / "task")
    own = load_file(tmp_path / "task" / OWN)
    changed = {id(own) for own in (*pipe.model.image_set_attention_parameters(), *pipe.model.added_parameters())}
    wanted = {name for name, parameter in pipe.model.named_parameters() if id(parameter) in changed}
    assert own.keys() == wanted and {tensor.dtype for tensor in own.values()} == {torch.float16}
    assert shares.kept == len(own) and shares.kept + shares.shared == len(pipe.model.state_dict())
    assert shares.kept_bytes == sum(tensor.numel() * 2 for tensor in own.values()) > 0
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert names == ["task/derived.json", "task/model/config.json", f"task/{OWN}"]
    assert str(saved) not in (tmp_path / "task/model/config.json").read_text(), "a path of this machine"


def test_the_digest_covers_the_base_and_the_own_weights(saved: Path, tmp_path: Path) -> None:
    """Evaluations keep images under the digest: it must change with either part."""
    _, _ = derived(saved, tmp_path / "task")
    found = find_model(str(tmp_path / "task"))
    assert found.derivation is not None
    digests = {found.weight_digest(), found.derivation.base.weight_digest()}
    rewrite(tmp_path / "task" / OWN, lambda own: {name: tensor + 1 for name, tensor in own.items()})
    digests.add(find_model(str(tmp_path / "task")).weight_digest())
    assert len(digests) == 3


def test_parts_lie_in_the_own_folder_or_in_the_base(saved: Path, tmp_path: Path) -> None:
    """Training and encoding read a model's autoencoder and config from its folder without loading the pipeline."""
    derived(saved, tmp_path / "task")
    found, whole = find_model(str(tmp_path / "task")), find_model(str(saved))
    assert found.part("model") == tmp_path / "task/model"
    assert found.part("vae").resolve() == whole.part("vae").resolve() == saved / "vae"
    assert (found.condition() or {})["name"] == "position" and whole.condition() is None


def test_both_folders_can_be_moved_together(tmp_path: Path) -> None:
    """A base that is written down by where it lay on one machine is lost on the next."""
    tiny_pipeline().save_pretrained(tmp_path / "here/base")
    derived(tmp_path / "here/base", tmp_path / "here/task")
    (tmp_path / "here").rename(tmp_path / "there")
    assert load_pipeline(str(tmp_path / "there/task"), "cpu").model.condition == POSITION


def rewrite(file: Path, change: Callable[[dict], dict]) -> None:
    save_file(change(load_file(file)), file)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda own: {**own, "unet.third_eye": torch.zeros(1)}, "unexpected unet.third_eye"),
        (
            lambda own: {k: v for k, v in own.items() if k != "condition_embedder.out.bias"},
            "missing condition_embedder",
        ),
        (lambda own: {**own, "condition_embedder.out.bias": torch.zeros(9)}, r"has shape \[9\], expected \[8\]"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, change: Callable[[dict], dict], expected: str) -> None:
    """A tensor that is left out quietly stays random, and nobody knows why the pictures are noise."""
    tiny_pipeline().save_pretrained(tmp_path / "base")
    derived(tmp_path / "base", tmp_path / "task")
    rewrite(tmp_path / "task" / OWN, change)
    with pytest.raises(UserError, match=expected):
        load_pipeline(str(tmp_path / "task"), "cpu")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"base_sha256": "0" * 64}, "was derived from other weights than '../base' has now"),
        ({"base": "./nowhere"}, "its base is not there"),
        ({"base": "../task"}, "is no complete pipeline"),
        ({"base": 7}, "must hold these and nothing else"),
        ({"more": 1}, "must hold these and nothing else"),
        ({"pipeline": {"guidance": 3}}, "'guidance' is no setting; known: default_guidance_scale"),
    ],
)
def test_a_wrong_description_is_one_line(tmp_path: Path, change: dict, expected: str) -> None:
    """Another version of the base gives noise, a chain that ends in itself never ends, a typo is a setting lost."""
    tiny_pipeline().save_pretrained(tmp_path / "base")
    derived(tmp_path / "base", tmp_path / "task")
    file = tmp_path / "task" / DERIVED
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match=expected) as caught:
        load_pipeline(str(tmp_path / "task"), "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["vae", "scheduler"])
def test_another_part_than_the_model_is_kept(tmp_path: Path, part: str) -> None:
    """Latents of one autoencoder read by another, noise of one schedule removed by another: the pictures are noise."""
    tiny_pipeline().save_pretrained(tmp_path / "base")
    pipe = fine_tuned(tmp_path / "base")
    with torch.no_grad():
        other = {"vae": tiny_autoencoder(), "scheduler": tiny_scheduler(prediction_type="v_prediction")}
        next(other["vae"].parameters()).add_(1)
    pipe.register_modules(**{part: other[part]})
    shares = write_derived(pipe, find_model(str(tmp_path / "base")), tmp_path / "task")
    assert shares.kept_parts == (part,) and part not in shares.shared_parts
    assert {path.name for path in (tmp_path / "task").iterdir()} == {"derived.json", "model", part}
    assert str(tmp_path) not in next((tmp_path / "task" / part).glob("*.json")).read_text(), "a path of this machine"
    loaded = load_pipeline(str(tmp_path / "task"), "cpu")
    assert loaded.scheduler.config.prediction_type == pipe.scheduler.config.prediction_type
    wanted, found = pipe.vae.state_dict(), loaded.vae.state_dict()
    assert all(torch.equal(found[name].half(), tensor.half()) for name, tensor in wanted.items())
    assert {tensor.dtype for tensor in pipe.vae.state_dict().values()} == {torch.float32}, "halved in the caller's hand"


def of_another_variant(folder: Path) -> tuple[M2MPipeline, Shares]:
    """An M2M-DINO model of its own, with its vision encoder, on the autoencoder of an M2M-Self one."""
    tiny_pipeline().save_pretrained(folder / "base")
    pipe = tiny_pipeline("dino")
    with torch.no_grad():
        for parameter in pipe.model.parameters():  # of one seed, the two models share what has one shape
            parameter.add_(0.1)
    return pipe, write_derived(pipe, find_model(str(folder / "base")), folder / "dino")


def test_a_model_of_another_variant_shares_the_autoencoder(tmp_path: Path) -> None:
    """Two shipped models of one autoencoder, 7 MB twice; a vision encoder that the base has not is lost."""
    pipe, shares = of_another_variant(tmp_path)
    found, loaded = find_model(str(tmp_path / "dino")), load_pipeline(str(tmp_path / "dino"), "cpu")
    assert (shares.kept_parts, shares.shared_parts) == (("vision_encoder",), ("vae", "scheduler"))
    assert shares.shared == 0
    assert found.part("vae").resolve() == tmp_path / "base/vae" and found.part("vision_encoder").parent == found.path
    for name in ("model", "vision_encoder", "vae"):
        wanted, own = pipe.components[name].state_dict(), loaded.components[name].state_dict()
        assert wanted.keys() == own.keys()
        assert all(torch.equal(own[key].half(), tensor.half()) for key, tensor in wanted.items()), name
    loaded.set_progress_bar_config(disable=True)
    assert len(loaded(pictures(1), num_images=1, num_inference_steps=1).images) == 1


def test_the_digest_follows_own_parts(tmp_path: Path) -> None:
    """Images that another vision encoder made, taken out of a cache for this one's."""
    of_another_variant(tmp_path)
    found = find_model(str(tmp_path / "dino"))
    before = found.weight_digest()
    file = found.part("vision_encoder") / "diffusion_pytorch_model.safetensors"
    rewrite(file, lambda own: {name: tensor + 1 for name, tensor in own.items()})
    assert found.weight_digest() != before


@pytest.mark.parametrize(
    ("name", "file", "named", "expected"),
    [
        ("vision_encoder", "config.json", "Stranger", "class 'Stranger' is no ModelMixin of diffusers or m2m"),
        ("vision_encoder", "config.json", "DDIMScheduler", "class 'DDIMScheduler' is no ModelMixin"),
        ("vision_encoder", "config.json", "utils", "class 'utils' is no ModelMixin"),
        ("scheduler", "scheduler_config.json", "TinyAutoencoder", "'TinyAutoencoder' is no SchedulerMixin"),
        ("vae", "config.json", "TinyAutoencoder", "the vae of a derived model, cannot be loaded: "),
        ("vae", "other.json", "TinyAutoencoder", "vae/config.json' does not exist"),
    ],
)
def test_an_own_part_of_an_unknown_class_is_refused(
    tmp_path: Path, name: str, file: str, named: str, expected: str
) -> None:
    """A name in a file of a stranger that is imported, or a traceback of twenty lines for a part without weights."""
    of_another_variant(tmp_path)
    place = tmp_path / "dino" / name
    place.mkdir(exist_ok=True)
    (place / file).write_text(json.dumps({"_class_name": named}))
    with pytest.raises(UserError, match=expected) as caught:
        load_pipeline(str(tmp_path / "dino"), "cpu")
    assert "\n" not in str(caught.value)


def test_a_part_that_only_the_base_has_is_refused(saved: Path, tmp_path: Path) -> None:
    """A model that takes a vision encoder from its base, though it was written without one."""
    if not (saved / "vision_encoder").is_dir():
        tiny_pipeline("dino").save_pretrained(saved := tmp_path / "base")
    with pytest.raises(UserError, match="the pipeline has no vision_encoder, which base '.*' has"):
        write_derived(tiny_pipeline(), find_model(str(saved)), tmp_path / "task")
    assert not (tmp_path / "task").exists()


@pytest.fixture
def sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A derived model whose own tensors lie in several files, as those above 15 MB do."""
    monkeypatch.setattr("m2m.derived.SHARD", "40KB")
    of_another_variant(tmp_path)
    return tmp_path / "dino"


def test_large_weights_lie_in_shards_as_diffusers_writes_them(sharded: Path) -> None:
    """A file above the limit of a repository; an index that diffusers' own loader cannot follow."""
    files = sorted((sharded / "model").glob("*.safetensors"))
    assert len(files) > 1
    whole = M2MModel.from_pretrained(sharded / "model").state_dict()
    loaded = load_pipeline(str(sharded), "cpu").model.state_dict()
    assert whole.keys() == loaded.keys() and all(torch.equal(whole[name], loaded[name]) for name in whole)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda index: {**index, "weight_map": []}, "must hold a weight_map"),
        (lambda index: {"weight_map": dict.fromkeys(index["weight_map"], "../../a.safetensors")}, "must hold a weight"),
        (lambda index: {"weight_map": dict.fromkeys(index["weight_map"], "a.safetensors")}, "does not exist"),
        (lambda index: {"weight_map": dict(list(index["weight_map"].items())[1:])}, "unexpected unet"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(sharded: Path, change: Callable[[dict], dict], expected: str) -> None:
    """A shard that is not there or not whole: weights that stay random; a path that leaves the folder."""
    index = sharded / "model" / SHARDS
    index.write_text(json.dumps(change(json.loads(index.read_text()))))
    with pytest.raises(UserError, match=expected):
        load_pipeline(str(sharded), "cpu")


def test_weights_that_float16_cannot_say_are_refused(tmp_path: Path) -> None:
    """An infinity in a shipped model: every picture is black."""
    tiny_pipeline().save_pretrained(tmp_path / "base")
    pipe = fine_tuned(tmp_path / "base")
    with torch.no_grad():
        pipe.model.unet.conv_in.bias += 1e6
    with pytest.raises(UserError, match=r"'unet.conv_in.bias' are not finite in float16"):
        write_derived(pipe, find_model(str(tmp_path / "base")), tmp_path / "task")


def test_a_base_that_is_derived_itself_is_refused(tmp_path: Path) -> None:
    """A chain of folders breaks with its weakest link."""
    tiny_pipeline().save_pretrained(tmp_path / "base")
    pipe, _ = derived(tmp_path / "base", tmp_path / "task")
    with pytest.raises(UserError, match="is derived itself, from '../base': give that"):
        write_derived(pipe, find_model(str(tmp_path / "task")), tmp_path / "second")


def test_a_model_of_a_shipped_base(tmp_path: Path) -> None:
    """A path into the place where one machine has installed the package means nothing on another; and the configs of
    shipped models were written before there were conditions, which diffusers then leaves out of the new one's."""
    pipe = load_pipeline("tiny-self", "cpu")
    pipe.model.add_condition(POSITION)
    pipe.register_to_config(default_guidance_scale=1.25)
    shares = write_derived(pipe, find_model("tiny-self"), tmp_path / "task")
    content = json.loads((tmp_path / "task" / DERIVED).read_text())
    assert content["base"] == "tiny-self" and content["pipeline"] == {
        "default_guidance_scale": 1.25,
        "default_window": 1,
        "default_window_policy": "anchor",
    }
    base = load_pipeline("tiny-self", "cpu").model
    assert shares.kept == len(list(pipe.model.added_parameters())) - len(list(base.added_parameters()))
    assert (find_model(str(tmp_path / "task")).condition() or {})["name"] == "position"
