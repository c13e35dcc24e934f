"""A Stable Diffusion folder as a generator: every picture a function of its caption and seed alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m2m.data.generators import Generator, GeneratorOptions, open_generator
from m2m.types import UserError
from tests.data.generators.pipelines import SIZE, save_stable_diffusion, save_stable_diffusion_3
from tests.model.bases import UNET_FILE, edit_weights

CAPTIONS = ["a photo of a cat", "seagulls above the harbour", "", "a cat"]
SEEDS = [7, 2**63 - 1, 9, 0]


@pytest.fixture(scope="module")
def folder(stable_diffusion: Path) -> Path:
    return stable_diffusion


def opened(folder: Path, **options: Any) -> Generator:
    """Three steps on the CPU; else the defaults, so Euler and 7.5."""
    return open_generator(GeneratorOptions(f"diffusers:{folder}", **{"steps": 3, "device": "cpu", **options}))


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return opened(folder)


def arrays(pictures: list[Any]) -> np.ndarray:
    return np.stack(pictures).astype(int)


def test_pictures_do_not_depend_on_their_place_in_a_batch(generator: Generator) -> None:
    """One generator for a whole batch gives a picture other noise as soon as the batch is cut or ordered otherwise."""
    together = arrays(generator.generate(CAPTIONS, SEEDS))
    assert together.shape == (4, SIZE, SIZE, 3)
    backwards = arrays(generator.generate(CAPTIONS[::-1], SEEDS[::-1]))[::-1]
    alone = arrays([generator.generate([caption], [seed])[0] for caption, seed in zip(CAPTIONS, SEEDS, strict=True)])
    assert np.array_equal(together, backwards)
    assert np.abs(together - alone).max() <= 1  # another batch may round otherwise


def test_a_second_process_would_make_the_same(folder: Path, generator: Generator) -> None:
    """Weights that are drawn at loading, or noise from torch's global state."""
    torch.manual_seed(99)
    assert np.array_equal(arrays(opened(folder).generate(CAPTIONS, SEEDS)), arrays(generator.generate(CAPTIONS, SEEDS)))


def test_seed_and_caption_matter(generator: Generator) -> None:
    """The images of a set differ by their noise; a text that is not encoded would give each set the same images."""
    same, other_seed, other_caption = arrays(generator.generate(["a cat", "a cat", "a ship"], [1, 2, 1]))
    assert np.abs(same - other_seed).mean() > 5
    assert np.abs(same - other_caption).mean() > 5


def test_guidance_and_scheduler_and_steps_matter(folder: Path, generator: Generator) -> None:
    """An option that is not passed on leaves the paper's setting only on paper."""
    default = arrays(generator.generate(CAPTIONS, SEEDS))
    for options in ({"guidance_scale": 1.0}, {"steps": 4}, {"scheduler": "EulerAncestralDiscreteScheduler"}):
        assert np.abs(default - arrays(opened(folder, **options).generate(CAPTIONS, SEEDS))).mean() > 1, options


def test_equals_the_pipeline_as_diffusers_runs_it(folder: Path, generator: Generator) -> None:
    """Section 4: Euler, 7.5. The picture that a user of diffusers gets from the same noise."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    noise = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    theirs = pipe(CAPTIONS, generator=noise, num_inference_steps=3, guidance_scale=7.5).images
    assert np.array_equal(arrays(theirs), arrays(generator.generate(CAPTIONS, SEEDS)))


def test_noise_of_a_stochastic_scheduler_is_each_pictures_own(folder: Path) -> None:
    """Noise that is added between steps must come from the same seeds as the first."""
    generator = opened(folder, scheduler="EulerAncestralDiscreteScheduler")
    together = arrays(generator.generate(CAPTIONS, SEEDS))
    assert np.array_equal(together[::-1], arrays(generator.generate(CAPTIONS[::-1], SEEDS[::-1])))


def test_settings_tell_what_shapes_the_pixels(folder: Path, tmp_path: Path) -> None:
    """Shards of other weights or settings must not be continued; where the model lies does not matter."""
    settings = opened(folder).settings()
    assert settings == json.loads(json.dumps(settings))
    assert settings["scheduler"]["class"] == "EulerDiscreteScheduler" and settings["guidance_scale"] == 7.5
    assert settings["size"] == SIZE and str(folder) not in json.dumps(settings)
    copied = save_stable_diffusion(tmp_path / "elsewhere")
    assert opened(copied).settings() == settings
    for options in ({"size": 32}, {"dtype": "bfloat16"}, {"channels_last": True}, {"scheduler": "DDIMScheduler"}):
        assert opened(folder, **options).settings() != settings, options
    edit_weights(copied / UNET_FILE, **{"conv_in.bias": torch.ones(16)})
    assert opened(copied).settings()["weights_sha256"] != settings["weights_sha256"]


@pytest.mark.parametrize("options", [{"channels_last": True}, {"dtype": "bfloat16"}, {"size": 32}])
def test_switches(folder: Path, generator: Generator, options: dict[str, Any]) -> None:
    """Each runs, and those that only change the arithmetic change the picture little."""
    made = arrays(opened(folder, **options).generate(CAPTIONS, SEEDS))
    if "size" in options:
        assert made.shape == (4, 32, 32, 3)
    else:
        assert np.abs(made - arrays(generator.generate(CAPTIONS, SEEDS))).mean() < 12


def test_a_pipeline_of_another_family(tmp_path: Path) -> None:
    """Stable Diffusion 3 is a transformer with flow matching, and Euler discrete does not fit its noise schedule."""
    folder = save_stable_diffusion_3(tmp_path / "sd3")
    with pytest.raises(UserError, match=r"does not fit .*use 'model', its own FlowMatchEulerDiscreteScheduler"):
        opened(folder)
    generator = opened(folder, scheduler="model")
    together = arrays(generator.generate(CAPTIONS, SEEDS))
    assert np.array_equal(together[::-1], arrays(generator.generate(CAPTIONS[::-1], SEEDS[::-1])))
    assert generator.settings()["name"] == "StableDiffusion3Pipeline"


def test_values_that_are_no_numbers_are_no_black_pictures(tmp_path: Path) -> None:
    """float16 overflows in some autoencoders; diffusers then gives black pictures, which nobody would notice."""
    folder = save_stable_diffusion(tmp_path / "sd")
    edit_weights(
        folder / "vae/diffusion_pytorch_model.safetensors", **{"decoder.conv_out.bias": torch.full((3,), torch.nan)}
    )
    with pytest.raises(UserError, match="no numbers, in float32"):
        opened(folder).generate(["a cat"], [1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": "NoScheduler"}, "scheduler 'NoScheduler' does not fit"),
        ({"scheduler": "FlowMatchEulerDiscreteScheduler"}, "does not fit"),
        ({"size": 60}, "multiple of 8"),
        ({"dtype": "int8"}, "dtype 'int8' is not one of"),
        ({"guidance_scale": float("nan")}, "guidance scale nan is no number"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"safety_checker": "model"}, "has no safety checker"),
    ],
)
def test_options_that_do_not_fit(folder: Path, options: dict[str, Any], message: str) -> None:
    """Each is found when the generator is opened, not in the first shard."""
    with pytest.raises(UserError, match=message) as error:
        opened(folder, **options)
    assert "\n" not in str(error.value)


def test_unequal_lists_and_none_at_all(generator: Generator) -> None:
    """zip() would drop the rest without a word."""
    assert generator.generate([], []) == []
    with pytest.raises(ValueError, match="2 captions for 1 seeds"):
        generator.generate(["a", "b"], [1])
