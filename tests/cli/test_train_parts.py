"""What `m2m train` puts together: pictures at the model's own size, whatever size they are stored at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from m2m.cli.parts import weights_hash
from m2m.cli.train_outline import outline_of
from m2m.cli.train_parts import at_own_size, build_pipeline, encoder_of, open_training_sets, training_checks
from m2m.pipeline import M2MPipeline
from m2m.tasks.visual_procedure import POSITION
from m2m.training.image_sets import TrainConfig
from m2m.types import UserError
from tests.data.reading.toy_shards import full_sets, write_folder
from tests.tiny import tiny_autoencoder, tiny_pipeline, tiny_unet_config
from tests.toy_shards import write_toy_shards

SMALL = {"sample_size": 4}  # pictures of 32 pixels; the latents of `write_toy_shards` are those of 64


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder, latents, and pictures of two sizes."""
    folder = tmp_path_factory.mktemp("parts")
    tiny_autoencoder().save_pretrained(folder / "vae")
    write_toy_shards(folder / "latents", encoders={"latents": "", "features": None})
    write_folder(folder / "pictures", full_sets(2, 3), sizes={"set001": (40, 56)})
    return folder


def settings(place: Path, data: str, **changes: Any) -> TrainConfig:
    parts = {"autoencoder": str(place / "vae"), "unet": {**tiny_unet_config(), **SMALL}}
    return TrainConfig(data=str(place / data), batch_sets=2, images_per_set=3, **{**parts, **changes})


def pipeline(config: TrainConfig) -> M2MPipeline:
    return build_pipeline(config, open_training_sets(settings(Path(config.data).parent, "pictures")), "cpu")


def test_pictures_are_read_at_the_models_size(place: Path) -> None:
    """Bug: a model of 256 pixels that is trained on pictures of 512 as they are stored, and pictures of two sizes."""
    config = settings(place, "pictures")
    data = at_own_size(config, open_training_sets(config), pipeline(config))
    shapes = [images.shape for images in (data[0].images, data[1].images) if images is not None]
    assert shapes == [(3, 32, 32, 3)] * 2
    assert outline_of(config)[0].arrays == {"images": (3, 32, 32, 3)}


def test_latents_are_read_as_they_are(place: Path) -> None:
    """Guards against latents that are refused, or opened again, for a size that is not theirs to have."""
    config = settings(place, "latents")
    data = open_training_sets(config)
    assert at_own_size(config, data, pipeline(config)) is data and data[0].latents.shape == (3, 4, 8, 8)  # type: ignore[union-attr]


def task_settings(place: Path, **changes: Any) -> TrainConfig:
    """Of a task, on `own_latents`."""
    parts = {"data": str(place / "own"), "base": str(place / "base"), "batch_sets": 2, "images_per_set": 3}
    return TrainConfig(**{**parts, "task": "visual_procedure", **changes})


def built(config: TrainConfig) -> M2MPipeline:
    return build_pipeline(config, open_training_sets(config), "cpu")


@pytest.fixture(scope="module")
def own_latents(place: Path) -> None:
    """A base, and latents of its autoencoder."""
    tiny_pipeline().save_pretrained(place / "base")
    made_with = {"latents": weights_hash(place / "base" / "vae"), "features": None}
    write_toy_shards(place / "own", encoders=made_with, images=5)


@pytest.mark.usefixtures("own_latents")
def test_a_task_model_is_its_base_with_embedders(place: Path) -> None:
    """Guards against a fine-tuning that begins anywhere else than at its base, and guidance that is not exported."""
    scales = {"sample_guidance": 3.0, "sample_condition_guidance": 5.0, "sample_guidance_interval": (0.0, 0.9)}
    pipe = built(task_settings(place, **scales))
    assert pipe.model.condition == POSITION
    state = pipe.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in tiny_pipeline().model.state_dict().items())
    assert pipe.config.default_guidance_scale == 3.0 and pipe.config.default_condition_guidance_scale == 5.0
    assert pipe.config.default_guidance_interval == [0.0, 0.9]


@pytest.mark.usefixtures("own_latents")
def test_a_window_is_the_runs_own_for_a_task_and_else_the_bases(place: Path) -> None:
    """Guards against a procedure whose steps see the given ones alone, as its base's images do, a fine-tuned model that
    fades where its base does not, and a window that is found to be none when the training is over."""
    base = tiny_pipeline()
    base.register_to_config(default_window=1, default_window_policy="anchor")
    base.save_pretrained(place / "anchored")
    settings = task_settings(place, base=str(place / "anchored"))

    def window(config: TrainConfig) -> tuple[int | None, str]:
        found = built(config).config
        return found.default_window, found.default_window_policy

    assert window(settings) == (None, "sliding") and window(replace(settings, task="")) == (1, "anchor")
    assert window(replace(settings, sample_window=3, sample_window_policy="nearest")) == (3, "nearest")
    with pytest.raises(UserError, match="window_policy 'last' is unknown"):
        built(replace(settings, sample_window_policy="last"))


@pytest.mark.usefixtures("own_latents")
def test_a_base_learns_how_many_images_it_is_shown(place: Path) -> None:
    """Guards against a setting that only a new model takes up, or that is laid over what a base has learned."""
    config = task_settings(place, task="", context_sizes=4)
    pipe = built(config)
    state = pipe.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in tiny_pipeline().model.state_dict().items())
    assert not state["unet.class_embedding.1.weight"].any() and pipe.model.config.context_sizes == 4
    outline = outline_of(config)[0].model
    assert {name: tensor.shape for name, tensor in outline.state_dict().items()} == {
        name: tensor.shape for name, tensor in state.items()
    }
    pipe.save_pretrained(place / "told")
    told = replace(config, base=str(place / "told"))
    sizes = [built(own).model.config.context_sizes for own in (told, replace(told, context_sizes=0))]
    assert sizes == [4, 4]
    with pytest.raises(UserError, match="told context sizes up to 4 already"):
        built(replace(told, context_sizes=5))
    fresh = settings(place, "pictures", context_sizes=2)
    assert pipeline(fresh).model.config.context_sizes == 2


@pytest.mark.usefixtures("own_latents")
def test_from_scratch_keeps_all_but_the_weights(place: Path) -> None:
    """Guards against a comparison with another network, schedule or autoencoder; and against weights that stay."""
    config = task_settings(place, from_scratch=True, seed=3)
    pipe, base = built(config), tiny_pipeline()
    fresh, again, old = (part.model.state_dict() for part in (pipe, built(config), base))
    assert set(old) < set(fresh) and all(torch.equal(fresh[name], again[name]) for name in fresh)
    assert pipe.model.unet.config == base.model.unet.config
    assert torch.equal(pipe.scheduler.alphas_cumprod, base.scheduler.alphas_cumprod)
    assert all(torch.equal(*pair) for pair in zip(pipe.vae.parameters(), base.vae.parameters(), strict=True))
    kept = [name for name in old if torch.equal(fresh[name], old[name]) and old[name].unique().numel() > 1]
    assert kept == []
    seeds = (built(replace(config, seed=seed)).model.unet.conv_in.weight for seed in (1, 2))
    assert not torch.equal(*seeds)


def test_from_scratch_needs_a_base(place: Path) -> None:
    """Guards against a word that changes nothing."""
    with pytest.raises(UserError, match="from_scratch=true takes the structure of a base"):
        pipeline(settings(place, "pictures", from_scratch=True))


@pytest.mark.usefixtures("own_latents")
def test_steps_of_a_procedure_are_read_as_neighbours(place: Path) -> None:
    """Guards against procedures that are shuffled as sets are."""
    config = task_settings(place)
    data = open_training_sets(config)
    drawn = [data[index].numbers for index in range(6)]
    assert all(numbers == tuple(range(numbers[0], numbers[0] + 3)) for numbers in drawn)
    plain = open_training_sets(replace(config, task=""))
    assert any(list(plain[index].numbers) != sorted(plain[index].numbers) for index in range(6))


@pytest.mark.usefixtures("own_latents")
def test_validation_is_told_what_training_is(place: Path) -> None:
    """Guards against a validation loss without the condition, which only falls as the task is forgotten."""
    config = task_settings(place, validation=str(place / "own"), validate_every=1)
    pipe = built(config)
    for parameter in pipe.model.added_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    seen: list[torch.Tensor] = []
    pipe.model.condition_embedder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    (check,) = training_checks(pipe, encoder_of(pipe), config)
    assert check.run(1)["loss"] > 0
    noisy = [told for told in seen if told.shape[1] > 2][0].unflatten(1, (3, -1))[..., 0, 0]
    assert torch.equal(noisy, noisy[:, :1] + torch.arange(3.0)), "neighbours, every one at its own position"


@pytest.mark.parametrize("validation", ["pictures", "latents"])
def test_validation_reads_as_training_does(place: Path, validation: str) -> None:
    """Bug: a validation loss of pictures at another size than the model sees in training."""
    config = settings(place, "pictures", validation=str(place / validation), validate_every=1)
    pipe = pipeline(config)
    seen: list[torch.Size] = []
    pipe.model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[2:]))
    (check,) = training_checks(pipe, encoder_of(pipe), config)
    assert check.run(1)["loss"] > 0
    assert set(seen) == {(4, 4, 4) if validation == "pictures" else (4, 8, 8)}
