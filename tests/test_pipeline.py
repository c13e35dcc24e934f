"""The auto-regressive sampler: the same images as the plain way, reproducible, and never deaf to its context."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from PIL import Image

from m2m.diffusion.guidance import guide
from m2m.diffusion.noise import image_noise
from m2m.model.context import ContextCache, ContextReader
from m2m.model.context_window import ContextWindow
from m2m.pipeline import M2MPipeline
from m2m.prediction import predict
from m2m.types import UserError
from tests.model.reference import reference_prediction
from tests.tiny import pictures, tiny_context, tiny_model, tiny_pipeline

VARIANTS = ["self", "dino"]


def plain_sampler(pipe: M2MPipeline, given, num_images: int, steps: int, scale: float, window: int | None, set_id: int):
    """Section 6.1 by hand: every clean image re-run at every step, one set, both branches apart."""
    features = _context_features(pipe, given)
    made = []
    for index in range(num_images):
        pipe.scheduler.set_timesteps(steps)
        latents = image_noise(7, set_id, index, (4, 8, 8))
        seen = features if window is None else features[-window:]
        for t in pipe.scheduler.timesteps:
            conditional = reference_prediction(pipe.model, latents, int(t), seen)
            unconditional = reference_prediction(pipe.model, latents, int(t), seen[:0])
            predicted = unconditional + scale * (conditional - unconditional)
            latents = pipe.scheduler.step(predicted, t, latents).prev_sample
        made.append(latents)
        new = latents[None] if pipe.model.config.variant == "self" else pipe._tokens(pipe.decode(latents[None]))
        features = torch.cat([features, new])
    return torch.stack(made)


def _context_features(pipe: M2MPipeline, given) -> torch.Tensor:
    if pipe.model.config.variant == "self":
        return pipe.encode(given) if given else torch.zeros(0, 4, 8, 8)
    if not given:
        return torch.zeros(0, pipe.vision_encoder.tokens, pipe.vision_encoder.dim)
    return pipe._tokens(torch.cat([pipe._pixels(image) for image in given]))


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_pipeline_equals_the_plain_sampler(variant: str, window: int | None) -> None:
    """Guards against a stale or misplaced context anywhere in the loop: sets of 0, 1 and 3 images in one batch,
    a window that slides, images that go back in as context."""
    pipe = tiny_pipeline(variant)
    sets = [pictures(1, seed=1), pictures(3, seed=2), []]
    made = pipe(sets, 3, 4, 2.0, window=window, seed=7, output_type="latent").images
    for b, given in enumerate(sets):
        expected = plain_sampler(pipe, given, 3, 4, 2.0, window, set_id=b)
        assert (made[b] - expected).abs().max() < 2e-4, f"set {b}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_reused_context_equals_recomputed_context(variant: str) -> None:
    """Guards against a cache that changes the picture: the paper's way (``reuse_context=False``) gives the same."""
    pipe = tiny_pipeline(variant)
    sets = [pictures(4, seed=1), pictures(2, seed=2)]
    arguments = {"num_images": 3, "num_inference_steps": 3, "window": 4, "output_type": "pt"}
    cached = pipe(sets, **arguments).images
    recomputed = pipe(sets, **arguments, reuse_context=False).images
    assert max((a - b).abs().max() for a, b in zip(cached, recomputed, strict=True)) < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_context_image_is_encoded_once_ever(variant: str) -> None:
    """Guards against the paper's cost creeping back: counts the images that go through ``write_context``."""
    pipe = tiny_pipeline(variant)
    written = []
    write = pipe.model.write_context
    pipe.model.write_context = lambda context, *rest: written.append(context.shape[1]) or write(context, *rest)
    pipe([pictures(4), pictures(2)], num_images=3, num_inference_steps=5)
    assert sum(written) == 4 + 2 + 2 * 2


def test_a_set_gets_the_same_images_at_any_batch_size_and_place() -> None:
    """Guards against noise that depends on the batch instead of (seed, set id, image index)."""
    pipe = tiny_pipeline("self")
    sets = [pictures(2, seed=s) for s in range(3)]
    arguments = {"num_images": 2, "num_inference_steps": 3, "seed": 5, "output_type": "latent"}
    together = pipe(sets, set_ids=["a", "b", "c"], **arguments).images
    alone = pipe([sets[2]], set_ids=["c"], **arguments).images
    assert torch.allclose(together[2], alone[0], atol=1e-4)  # of values up to 16
    other_id = pipe([sets[2]], set_ids=["d"], **arguments).images
    assert not torch.allclose(together[2], other_id[0], atol=1e-2)


def test_the_seed_decides_everything() -> None:
    """Guards against a draw from the global generator, and against a seed that is ignored."""
    pipe = tiny_pipeline("self")
    arguments = {"num_images": 2, "num_inference_steps": 3, "output_type": "latent", "eta": 1.0, "context_noise": 50}
    first = pipe(pictures(2), seed=1, **arguments).images
    torch.manual_seed(99)
    assert torch.equal(first, pipe(pictures(2), seed=1, **arguments).images)
    assert not torch.equal(first, pipe(pictures(2), seed=2, **arguments).images)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_changed_context_changes_the_images(variant: str) -> None:
    """Guards against a context that is carried along but never read."""
    pipe = tiny_pipeline(variant)
    arguments = {"num_images": 2, "num_inference_steps": 3, "output_type": "latent"}
    before = pipe(pictures(3, seed=1), **arguments).images
    for place in range(3):
        changed = pictures(3, seed=1)
        changed[place] = pictures(1, seed=9)[0]
        after = pipe(changed, **arguments).images
        assert (after[0] - before[0]).abs().max() > 1e-3, f"given image {place} is ignored"
    nothing = pipe([], **arguments).images
    assert (nothing[1] - pipe([], **arguments, window=1).images[1]).abs().max() < 1e-6
    assert (nothing[0] - before[0]).abs().max() > 1e-3


def test_zeros_null_context_guides_away_from_zeroed_latents() -> None:
    """Guards against an unconditional branch that differs from the one trained with ``null_context: zeros``."""
    pipe = tiny_pipeline("self", null_context="zeros")
    context = ContextWindow(pipe.model, sets=1, size=3)
    clean = tiny_context(pipe.model, 1, 3)[0]
    context.append(clean, [0, 0, 0])
    latents, t = torch.randn(1, 4, 8, 8), torch.tensor(500)
    with torch.no_grad():
        predicted = predict(pipe.model, context, latents, t, (3.0, 1.0))[0]
        conditional = reference_prediction(pipe.model, latents[0], 500, clean)
        unconditional = reference_prediction(pipe.model, latents[0], 500, torch.zeros_like(clean))
    assert (predicted - guide(conditional, unconditional, 3.0)).abs().max() < 1e-5


def test_the_papers_way_runs_zeroed_images_at_every_step() -> None:
    """Guards against a comparison with half of the paper's way: its unconditional branch has a clean pass too."""
    pipe = tiny_pipeline("self", null_context="zeros")
    arguments = {"num_images": 2, "num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "latent"}
    runs: list[int] = []
    write = pipe.model.write_context

    def counted(context: torch.Tensor, *others: torch.Tensor | None) -> ContextCache:
        runs.append(context.shape[0] * context.shape[1])
        return write(context, *others)

    pipe.model.write_context = counted
    cached = pipe(pictures(3), **arguments).images
    assert sum(runs) == 4 + 1  # three given, one made; one zeroed image
    runs.clear()
    recomputed = pipe(pictures(3), **arguments, reuse_context=False).images
    assert sum(runs) == 2 * (3 + 3) + 2 * (4 + 4)
    assert (cached - recomputed).abs().max() < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_guidance_acts_inside_its_interval_alone(variant: str) -> None:
    """Guards against an interval that is ignored, turned round, or counted in steps instead of noise levels."""
    pipe = tiny_pipeline(variant)
    given = pictures(2)
    branches: list[int] = []
    denoise = pipe.model.denoise

    def counted(noisy: torch.Tensor, timesteps: torch.Tensor, reader: ContextReader) -> torch.Tensor:
        branches.append(noisy.shape[1])
        return denoise(noisy, timesteps, reader)

    pipe.model.denoise = counted
    arguments = {"num_images": 1, "num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "latent"}
    levels = {}
    for interval in ((0.0, 1.0), (0.0, 0.6), (0.6, 1.0), (0.0, 0.0)):
        branches.clear()
        levels[interval] = pipe(given, guidance_interval=interval, **arguments).images
        # Timesteps 751, 501, 251, 1 of 1000; two branches where guidance acts.
        assert branches == [2 if interval[0] <= t / 1000 <= interval[1] else 1 for t in (751, 501, 251, 1)]
    assert torch.equal(levels[0.0, 1.0], pipe(given, **arguments).images)
    assert torch.equal(levels[0.0, 0.0], pipe(given, **{**arguments, "guidance_scale": 1.0}).images)
    assert not torch.equal(levels[0.0, 0.6], levels[0.6, 1.0])


@pytest.mark.parametrize(
    ("policy", "size", "given", "seen"),
    [
        ("sliding", 3, 2, [3, 4, 5]),
        ("anchor", 3, 2, [0, 1, 5]),
        ("anchor", 1, 3, [0, 1, 2]),
        ("anchor", 3, 0, [0, 4, 5]),
    ],
)
@torch.no_grad()
def test_window_policies_keep_the_right_images(policy: str, size: int, given: int, seen: list[int]) -> None:
    """Guards against an anchor that slides away, a sliding window that keeps the wrong end, given pictures that the
    user's window is too small for, and a first image that none of its own set resembles."""
    model = tiny_model("self")
    images = tiny_context(model, 1, 6)[0]
    noisy = torch.randn(1, 1, 4, 8, 8)
    window = ContextWindow(model, sets=1, size=size, policy=policy, capacity=given)
    window.append(images[:given], [0] * given, given=True)
    for i in range(given, 6):
        window.append(images[i : i + 1], [0])
    assert window.counts == (len(seen),)
    predicted = model.denoise(noisy, torch.tensor([[400]]), ContextReader([window.conditional()]))
    expected = reference_prediction(model, noisy[0, 0], 400, images[seen])
    assert (predicted[0, 0] - expected).abs().max() < 1e-5


def test_a_call_that_names_no_window_takes_the_models_own() -> None:
    """Guards against a default that is read and not used, and against an "all" that is not what all images were."""
    pipe, former = tiny_pipeline(), tiny_pipeline()
    pipe.register_to_config(default_window=4, default_window_policy="anchor")
    given, arguments = pictures(4), {"num_images": 5, "num_inference_steps": 2, "output_type": "latent"}
    made, every = pipe(given, **arguments).images, former(given, **arguments).images
    assert torch.equal(made, former(given, **arguments, window=4, window_policy="anchor").images)
    assert not torch.equal(made, every)
    for policy in (None, "sliding", "anchor", "nearest"):
        assert torch.equal(pipe(given, **arguments, window="all", window_policy=policy).images, every)


def test_a_window_and_its_policy_are_chosen_apart() -> None:
    """Guards against a window of the user's that loses the model's policy, or the other way round."""
    pipe = tiny_pipeline()
    given, arguments = pictures(3), {"num_images": 4, "num_inference_steps": 1, "output_type": "latent"}
    anchored = pipe(given, **arguments, window=4, window_policy="anchor").images
    sliding = pipe(given, **arguments, window=4).images
    pipe.register_to_config(default_window=2, default_window_policy="anchor")
    assert torch.equal(pipe(given, **arguments, window=4).images, anchored)
    pipe.register_to_config(default_window=4)
    assert torch.equal(pipe(given, **arguments, window_policy="sliding").images, sliding)
    assert not torch.equal(anchored, sliding)


def test_anchors_are_each_sets_own() -> None:
    """Guards against a set that sees more of its own images because another one of the batch has more given ones."""
    pipe = tiny_pipeline()
    sets = [pictures(1, seed=1), pictures(4, seed=2), []]
    arguments = {"num_images": 4, "num_inference_steps": 2, "output_type": "latent"}
    together = pipe(sets, **arguments, window=2, window_policy="anchor").images
    for b, given in enumerate(sets):
        alone = pipe([given], **arguments, window=2, window_policy="anchor", set_ids=[b]).images[0]
        assert (together[b] - alone).abs().max() < 1e-4, f"set {b}"


def test_a_folder_that_names_no_window_shows_all_images(tmp_path: Path) -> None:
    """Guards against folders of before that load no more, or make other images now."""
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index.pop("default_window") is None and index.pop("default_window_policy") == "sliding"
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    loaded = M2MPipeline.from_pretrained(tmp_path)
    arguments = {"num_images": 3, "num_inference_steps": 2, "output_type": "latent"}
    made = loaded(pictures(2), **arguments).images
    assert torch.equal(made, pipe(pictures(2), **arguments, window=4).images)
    assert not torch.equal(made, pipe(pictures(2), **arguments, window=2).images)


@pytest.mark.parametrize("variant", VARIANTS)
def test_saves_and_loads_itself(variant: str, tmp_path: Path) -> None:
    """Guards against a component or setting that ``model_index.json`` forgets."""
    pipe = tiny_pipeline(variant)
    pipe.register_to_config(default_guidance_scale=2.5, default_guidance_interval=[0.1, 0.7])
    pipe.register_to_config(default_window=3, default_window_policy="anchor")
    pipe.save_pretrained(tmp_path)
    loaded = M2MPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.config.default_guidance_scale == 2.5
    assert list(loaded.config.default_guidance_interval) == [0.1, 0.7]
    assert (loaded.config.default_window, loaded.config.default_window_policy) == (3, "anchor")
    arguments = {"num_images": 2, "num_inference_steps": 2, "output_type": "latent"}
    assert torch.equal(pipe(pictures(2), **arguments).images, loaded(pictures(2), **arguments).images)


def test_output_types_agree(tmp_path: Path) -> None:
    """Guards against an axis or range mix-up between the four output types, and paths that are not read."""
    pipe = tiny_pipeline("self")
    path = tmp_path / "a.png"
    pictures(1)[0].save(path)
    outputs = {
        kind: pipe([str(path)], num_images=2, num_inference_steps=2, output_type=kind).images
        for kind in ("pil", "np", "pt", "latent")
    }
    assert isinstance(outputs["pil"][0], Image.Image) and outputs["pil"][0].size == (64, 64)
    assert outputs["np"].shape == (2, 64, 64, 3) and outputs["pt"].shape == (2, 3, 64, 64)
    assert outputs["latent"].shape == (2, 4, 8, 8)
    assert np.abs(np.asarray(outputs["pil"][1]) / 255 - outputs["np"][1]).max() <= 0.5 / 255 + 1e-6
    assert torch.allclose(torch.from_numpy(outputs["np"]).permute(0, 3, 1, 2), outputs["pt"])


SCHEDULERS = ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler"]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_other_schedulers_by_name(name: str) -> None:
    """Guards against DDIM-only arithmetic: model input scaling, initial sigma, multistep state, generators."""
    pipe = tiny_pipeline("self")
    images = pipe([pictures(2), pictures(1)], 2, 3, scheduler=name, output_type="latent").images
    again = pipe([pictures(2), pictures(1)], 2, 3, scheduler=name, output_type="latent").images
    assert all(torch.isfinite(made).all() and torch.equal(made, more) for made, more in zip(images, again, strict=True))


def test_callback_sees_every_step_and_can_steer_and_stop() -> None:
    """Guards against a callback whose latents are thrown away, and against an abort that is swallowed."""
    pipe = tiny_pipeline("self")
    seen = []

    def blank(pipe, step, timestep, kwargs):
        seen.append((kwargs["image_index"], step, timestep))
        return {"latents": torch.zeros_like(kwargs["latents"])}

    made = pipe(pictures(1), 2, 3, callback_on_step_end=blank, output_type="latent").images
    assert seen == [(i, s, t) for i in range(2) for s, t in enumerate((667, 334, 1))]
    assert made.abs().max() == 0

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe(pictures(1), 2, 3, callback_on_step_end=stop)


def test_timesteps_are_the_papers() -> None:
    """Appendix A: 50 DDIM steps; guards against a scheduler whose steps run 980..0."""
    pipe = tiny_pipeline("self")
    pipe.scheduler.set_timesteps(50)
    assert pipe.scheduler.timesteps[0] == 981 and pipe.scheduler.timesteps[-1] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 0}, "num_images is 0"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"num_inference_steps": 1000}, "num_inference_steps is 1000: use 1 to 999"),
        ({"window": 0}, "window is 0: use 1 or more, or 'all'"),
        ({"window": "4"}, "window is 4"),
        ({"window_policy": "random"}, "window_policy 'random' is unknown"),
        ({"context_noise": 1000}, "context_noise is 1000"),
        ({"scheduler": "Euler"}, "scheduler 'Euler' is unknown"),
        ({"scheduler": "FlowMatchEulerDiscreteScheduler"}, "another noise schedule"),
        ({"guidance_interval": (0.7, 0.2)}, r"guidance_interval is \(0.7, 0.2\)"),
        ({"output_type": "jpg"}, "output_type 'jpg' is unknown"),
        ({"set_ids": [1, 2]}, "set_ids names 2 sets"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments, message: str) -> None:
    """Guards against a bad value that is only noticed after minutes of sampling."""
    with pytest.raises(UserError, match=message):
        tiny_pipeline("self")(pictures(1), **arguments)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_part_runs_under_offload_hooks(variant: str) -> None:
    """Guards against a part that ``enable_model_cpu_offload`` never moves to the GPU."""
    pipe = tiny_pipeline(variant)
    parts = [pipe.model, pipe.vae, *([pipe.vision_encoder] if variant == "dino" else [])]
    seen = set()

    class Seen(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            seen.add(module)
            return args, kwargs

    for part in parts:
        add_hook_to_module(part, Seen())
    pipe(pictures(1), num_images=1, num_inference_steps=1)
    assert seen >= set(parts)


def test_mixed_and_single_images_are_refused() -> None:
    """Guards against a lone picture that is read as a list of its rows."""
    pipe = tiny_pipeline("self")
    with pytest.raises(UserError, match="single picture"):
        pipe(pictures(1)[0])
    with pytest.raises(UserError, match="mixes pictures and lists"):
        pipe([pictures(1), pictures(1)[0]])
