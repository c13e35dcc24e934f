"""Conversion of a base: every weight accounted for, equal to the bit, and nothing but Stable Diffusion 1.x/2.x."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from m2m.model.context import Column, ContextCache, ContextReader
from m2m.model.convert import BASE_FILES, convert_unet, ddim_scheduler, load_vae, unet_config, weight_files
from m2m.model.unet import M2MModel
from m2m.types import UserError
from tests.model.bases import (
    STYLES,
    TEXT_DIM,
    UNET_FILE,
    VAE_FILE,
    base_scheduler,
    base_unet,
    base_vae,
    edit_config,
    edit_weights,
    save_base,
)
from tests.tiny import CONTEXT_DIM, tiny_context

VARIANTS = ["self", "dino"]
ATTENTION = "mid_block.attentions.0.transformer_blocks.0."


def context_dim(variant: str) -> int | None:
    return CONTEXT_DIM if variant == "dino" else None


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_weight_but_attn2_is_the_base_to_the_bit(style: str, variant: str, tmp_path: Path) -> None:
    """Guards against a weight that is renamed, cast, left random, or carried over from the text attention."""
    base = load_file(save_base(tmp_path, style) / UNET_FILE)
    model, counts = convert_unet(tmp_path, variant, context_dim(variant))
    ours = {name.removeprefix("unet."): tensor for name, tensor in model.state_dict().items()}
    kept = {name for name in base if ".attn2." not in name}
    assert {name for name in ours if ".attn2." not in name} == kept
    assert all(torch.equal(ours[name], base[name]) and ours[name].dtype == base[name].dtype for name in kept)
    assert not any(tensor.is_meta for tensor in ours.values())
    assert counts.base == sum(tensor.numel() for tensor in base.values())
    assert counts.text_attention == sum(tensor.numel() for name, tensor in base.items() if name not in kept)
    assert counts.total == counts.base - counts.text_attention + counts.image_set_attention
    assert counts.total == sum(tensor.numel() for tensor in ours.values())


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_untrained_model_equals_its_base_with_attn2_zeroed(style: str, variant: str, tmp_path: Path) -> None:
    """Guards against heads or projections that change on the way: SD 1.x and 2.x count heads differently."""
    base = UNet2DConditionModel.from_pretrained(save_base(tmp_path, style) / "unet").eval()
    for name, parameter in base.named_parameters():
        if ".attn2.to_out." in name:
            parameter.zero_()
    model, _ = convert_unet(tmp_path, variant, context_dim(variant))
    noisy = torch.randn(1, 2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    reader = ContextReader([Column(model.write_context(tiny_context(model, 1, 3)), (n,)) for n in (3, 0)])
    ours = model.denoise(noisy, torch.full((1, 2), 321), reader)[0]
    theirs = base(noisy[0], 321, encoder_hidden_states=torch.randn(2, 7, TEXT_DIM)).sample
    assert torch.allclose(ours, theirs, atol=1e-6)


@torch.no_grad()
def test_image_set_attention_is_drawn_from_the_seed(tmp_path: Path) -> None:
    """Guards against queries, keys or values that start at zero beside a zero output: no gradient would ever flow."""
    save_base(tmp_path)
    first, again, other = (convert_unet(tmp_path, "self", seed=seed)[0] for seed in (0, 0, 1))
    for a, b, c in zip(*(m.image_set_attentions() for m in (first, again, other)), strict=True):
        assert torch.equal(a.to_k.weight, b.to_k.weight) and not torch.equal(a.to_k.weight, c.to_k.weight)
        bound = a.to_q.weight.shape[1] ** -0.5
        assert 0.9 * bound < a.to_q.weight.abs().max() <= bound
        assert a.to_out[0].weight.abs().max() == 0 and a.to_out[0].bias.abs().max() == 0
    layers = list(first.image_set_attentions())
    assert not torch.equal(layers[0].to_k.weight, layers[0].to_v.weight)


def test_the_first_step_of_training_moves_the_output(tmp_path: Path) -> None:
    """Guards against converted tensors that take no gradient, or cannot be written to because they are mapped."""
    before = (save_base(tmp_path) / UNET_FILE).read_bytes()
    model, _ = convert_unet(tmp_path, "self")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noisy, context = torch.randn(1, 2, 4, 8, 8), tiny_context(model, 1, 2)
    model(noisy, context, torch.full((1, 2), 40), torch.tensor([True])).square().mean().backward()
    optimizer.step()
    assert all(layer.to_out[0].weight.abs().max() > 0 for layer in model.image_set_attentions())
    assert (tmp_path / UNET_FILE).read_bytes() == before


@pytest.mark.parametrize("name", ["conv_in.weight", ATTENTION + "attn1.to_q.weight", ATTENTION + "attn2.to_k.weight"])
def test_a_missing_weight_is_named(name: str, tmp_path: Path) -> None:
    """Guards against a truncated base, and against one whose text attention is already gone."""
    edit_weights(save_base(tmp_path) / UNET_FILE, **{name: None})
    with pytest.raises(UserError, match=f"missing weights: {re.escape(name)}"):
        convert_unet(tmp_path, "self")


def test_an_unexpected_weight_is_named(tmp_path: Path) -> None:
    """Guards against a base that holds more than its config says: an adapter, or another architecture."""
    edit_weights(save_base(tmp_path) / UNET_FILE, **{"conv_in.lora.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=re.escape("unexpected weights: conv_in.lora.weight")):
        convert_unet(tmp_path, "self")


@pytest.mark.parametrize("name", ["conv_out.bias", ATTENTION + "attn2.to_k.weight"])
def test_a_weight_of_another_shape_is_named(name: str, tmp_path: Path) -> None:
    """Guards against a config and weights of different models, in the text attention (which is dropped) too."""
    edit_weights(save_base(tmp_path) / UNET_FILE, **{name: torch.zeros(3)})
    with pytest.raises(UserError, match=rf"'{re.escape(name)}' has shape \[3\]"):
        convert_unet(tmp_path, "self")


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    """Guards against a traceback from an interrupted download."""
    path = save_base(tmp_path) / UNET_FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="is no whole safetensors file"):
        convert_unet(tmp_path, "self")


def test_sharded_base_equals_whole_base(tmp_path: Path) -> None:
    """Guards against a shard that is not read."""
    whole, _ = convert_unet(save_base(tmp_path / "whole"), "self")
    save_base(tmp_path / "shards", max_shard_size="60KB")
    assert len(weight_files(tmp_path / "shards/unet")) > 2 and not (tmp_path / "shards" / UNET_FILE).exists()
    sharded, _ = convert_unet(tmp_path / "shards", "self")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), sharded.parameters(), strict=True))
    weight_files(tmp_path / "shards/unet")[1].unlink()
    with pytest.raises(UserError, match=r"00002-of-\d+.safetensors' is missing: .*index.json names it"):
        convert_unet(tmp_path / "shards", "self")


def test_the_ema_weights_are_read(tmp_path: Path) -> None:
    """Appendix A: guards against starting from the non-EMA weights that lie beside them, or from them alone."""
    path = save_base(tmp_path) / UNET_FILE
    other = path.with_name("diffusion_pytorch_model.non_ema.safetensors")
    other.write_bytes(path.read_bytes())
    edit_weights(other, **{"conv_in.weight": torch.zeros(16, 4, 3, 3)})
    assert weight_files(tmp_path / "unet") == [path]
    model, _ = convert_unet(tmp_path, "self")
    assert torch.equal(model.unet.conv_in.weight, base_unet().conv_in.weight)
    path.unlink()
    with pytest.raises(UserError, match=r"has no diffusion_pytorch_model.safetensors, only .*non_ema.safetensors"):
        convert_unet(tmp_path, "self")


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_pickled_weights_are_refused(part: str, tmp_path: Path) -> None:
    """Guards against reading a pickle, and against 'file not found' where the file plainly lies there."""
    save_base(tmp_path)
    path = tmp_path / part / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(UserError, match=r"holds diffusion_pytorch_model.bin but no .*safetensors: pickled") as caught:
        convert_unet(tmp_path, "self") if part == "unet" else load_vae(tmp_path)
    assert "\n" not in str(caught.value)


FOREIGN = [
    ({"in_channels": 9}, "in_channels 9, not 4"),
    ({"in_channels": 5}, "in_channels 5, not 4"),
    ({"out_channels": 8}, "out_channels 8, not 4"),
    ({"addition_embed_type": "text_time"}, "addition_embed_type 'text_time', as SDXL has"),
    ({"class_embed_type": "projection"}, "class_embed_type 'projection'"),
    ({"num_class_embeds": 1000}, "num_class_embeds 1000"),
    ({"time_cond_proj_dim": 256}, "a latent consistency model"),
    ({"_class_name": "SD3Transformer2DModel"}, "describes a SD3Transformer2DModel, not a UNet2DConditionModel"),
    ({"sample_size": None}, "has sample_size None"),
]


@pytest.mark.parametrize(("changes", "message"), FOREIGN)
def test_other_models_are_refused_by_their_config(changes: dict, message: str, tmp_path: Path) -> None:
    """Guards against an inpainting, depth, SDXL, .. U-Net that converts and then paints noise."""
    edit_config(save_base(tmp_path) / "unet/config.json", **changes)
    with pytest.raises(UserError, match=re.escape(message)):
        convert_unet(tmp_path, "self")


def test_a_unet_without_text_attention_is_refused(tmp_path: Path) -> None:
    """Guards against an unconditional base, which has no place for image-set attention."""
    plain = {
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "mid_block_type": None,
    }
    save_base(tmp_path, unet=plain)
    with pytest.raises(UserError, match="has no text attention"):
        convert_unet(tmp_path, "self")


@pytest.mark.parametrize("missing", ["unet", "vae", "scheduler"])
def test_a_missing_part_is_named(missing: str, tmp_path: Path) -> None:
    """Guards against an error from deep inside diffusers where the folder is simply the wrong one."""
    save_base(tmp_path)
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=rf"no Stable Diffusion folder .*'{tmp_path}/{missing}/\w+.json' is missing"):
        {"unet": unet_config, "vae": load_vae, "scheduler": ddim_scheduler}[missing](tmp_path)


def test_autoencoder_is_carried_over_under_old_names_too(tmp_path: Path) -> None:
    """Older bases have other names for the VAE's attention: guards against losing those weights."""
    save_base(tmp_path)
    modern = load_vae(tmp_path).state_dict()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    changes: dict[str, torch.Tensor | None] = {}
    for name, tensor in modern.items():
        for new_name, old_name in old.items():
            if f".attentions.0.{new_name}." in name:
                changes |= {name: None, name.replace(f".{new_name}.", f".{old_name}."): tensor}
    assert len(changes) == 32  # encoder and decoder, four projections of weight and bias, under two names each
    edit_weights(tmp_path / VAE_FILE, **changes)
    loaded = load_vae(tmp_path).state_dict()
    for name, tensor in base_vae().state_dict().items():
        assert torch.equal(modern[name], tensor) and torch.equal(loaded[name], tensor), name


def test_autoencoder_is_read_strictly(tmp_path: Path) -> None:
    """Guards against diffusers' silence about a weight that stays random."""
    edit_weights(save_base(tmp_path) / VAE_FILE, **{"decoder.conv_out.bias": None})
    with pytest.raises(UserError, match=re.escape("missing keys: decoder.conv_out.bias")):
        load_vae(tmp_path)
    edit_weights(tmp_path / VAE_FILE, **{"decoder.conv_out.bias": torch.zeros(3), "extra": torch.zeros(1)})
    with pytest.raises(UserError, match="unexpected keys: extra"):
        load_vae(tmp_path)


def test_scheduler_is_ddim_on_the_timesteps_of_appendix_a(tmp_path: Path) -> None:
    """Guards against PNDM's 51 steps, against 980..0, and against a schedule other than the base's."""
    scheduler = ddim_scheduler(save_base(tmp_path))
    assert type(scheduler).__name__ == "DDIMScheduler"
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == list(range(981, 0, -20))
    assert torch.equal(scheduler.alphas_cumprod, base_scheduler().alphas_cumprod)
    assert scheduler.config.prediction_type == "epsilon"
    assert not scheduler.config.clip_sample and scheduler.final_alpha_cumprod == scheduler.alphas_cumprod[0]
    base_scheduler(prediction_type="v_prediction").save_pretrained(tmp_path / "scheduler")
    assert ddim_scheduler(tmp_path).config.prediction_type == "v_prediction"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtype_is_the_base_s_or_the_one_asked_for(dtype: torch.dtype, tmp_path: Path) -> None:
    """Guards against a model of mixed types, and against a half-precision base that doubles."""
    save_base(tmp_path)
    asked, _ = convert_unet(tmp_path, "self", dtype=dtype)
    assert {p.dtype for p in asked.parameters()} == {dtype} == {p.dtype for p in load_vae(tmp_path, dtype).parameters()}
    half = {f"{part}/diffusion_pytorch_model": part for part in ("unet", "vae")}
    for stem in half:
        whole = load_file(tmp_path / f"{stem}.safetensors")
        (tmp_path / f"{stem}.safetensors").rename(tmp_path / f"{stem}.fp16.safetensors")
        edit_weights(tmp_path / f"{stem}.fp16.safetensors", **{name: t.half() for name, t in whole.items()})
    kept, _ = convert_unet(tmp_path, "self")
    assert {p.dtype for p in kept.parameters()} == {torch.float16} == {p.dtype for p in load_vae(tmp_path).parameters()}


def test_a_download_names_the_files_that_a_conversion_reads(tmp_path: Path) -> None:
    """Guards against a hub download that leaves out a shard, or fetches the pickles and the text encoder too."""
    save_base(tmp_path, max_shard_size="60KB")
    (tmp_path / "unet/diffusion_pytorch_model.bin").write_bytes(b"")
    (tmp_path / "unet/diffusion_pytorch_model.non_ema.safetensors").write_bytes(b"")
    present = [path for path in tmp_path.rglob("*") if path.is_file()]
    fetched = {p.relative_to(tmp_path).as_posix() for p in present if any(p.match(f"*/{glob}") for glob in BASE_FILES)}
    assert {name for name in fetched if "-of-" in name} == {
        f"unet/{path.name}" for path in weight_files(tmp_path / "unet")
    }
    assert "vae/config.json" in fetched and VAE_FILE in fetched and "scheduler/scheduler_config.json" in fetched
    assert not any(name.endswith((".bin", "non_ema.safetensors", "model_index.json")) for name in fetched)


def test_config_of_the_model_is_json_and_rebuilds_it(tmp_path: Path) -> None:
    """Guards against a private entry (a path of this machine) that goes into every converted model."""
    save_base(tmp_path)
    edit_config(tmp_path / "unet/config.json", _name_or_path="/home/somebody/sd")
    model, _ = convert_unet(tmp_path, "self")
    assert "somebody" not in json.dumps(model.config["unet_config"])
    with torch.device("meta"):
        rebuilt = M2MModel.from_config(model.config)
    assert [p.shape for p in rebuilt.parameters()] == [p.shape for p in model.parameters()]
    assert isinstance(model.write_context(tiny_context(model, 1, 1)), ContextCache)
