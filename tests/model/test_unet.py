"""The two models: sizes, initialisation, saving, bad configs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from m2m.model.sizes import DINOV2_GIANT, SD21_UNET
from m2m.model.unet import M2MModel
from m2m.types import UserError
from tests.tiny import CONTEXT_DIM, tiny_context, tiny_model, tiny_unet_config


def count(parameters) -> int:
    return sum(p.numel() for p in parameters)


def test_sizes_at_stable_diffusion_2_1() -> None:
    """Guards against a replaced layer too many, too few, or of another width: exact counts at full size."""
    with torch.device("meta"):
        base = UNet2DConditionModel(**SD21_UNET)
        self_model = M2MModel(SD21_UNET, variant="self")
        dino_model = M2MModel(SD21_UNET, variant="dino", context_dim=DINOV2_GIANT[1])
    assert count(base.parameters()) == 865_910_724
    assert count(p for name, p in base.named_parameters() if ".attn2." in name) == 50_352_320
    assert count(self_model.image_set_attention_parameters()) == 49_574_080
    assert count(dino_model.image_set_attention_parameters()) == 63_131_840
    assert count(self_model.parameters()) == 865_132_484
    assert count(dino_model.parameters()) == 878_690_244
    assert len(list(self_model.image_set_attentions())) == 16


@pytest.mark.parametrize("variant", ["self", "dino"])
@torch.no_grad()
def test_at_step_0_the_model_is_its_base_without_text_attention(variant: str) -> None:
    """Guards against an initialisation that disturbs the pre-trained base before the first step."""
    torch.manual_seed(0)
    context_dim = CONTEXT_DIM if variant == "dino" else None
    model = M2MModel(tiny_unet_config(), variant=variant, context_dim=context_dim).eval()
    base = UNet2DConditionModel.from_config({**tiny_unet_config(), "cross_attention_dim": 12}).eval()
    weights = {k: v for k, v in model.unet.state_dict().items() if ".attn2." not in k}
    rest = {k: torch.zeros_like(v) for k, v in base.state_dict().items() if ".attn2." in k}
    base.load_state_dict({**weights, **rest})
    noisy = torch.randn(1, 2, 4, 8, 8)
    ours = model(noisy, tiny_context(model, 1, 2), torch.full((1, 2), 40), torch.tensor([True]))
    theirs = base(noisy[0], 40, encoder_hidden_states=torch.randn(2, 7, 12)).sample
    assert torch.allclose(ours[0], theirs, atol=1e-6)


@pytest.mark.parametrize("variant", ["self", "dino"])
@torch.no_grad()
def test_saves_and_loads_itself(variant: str, tmp_path: Path) -> None:
    """Guards against a config field or a weight that is lost on the way to the disk."""
    model = tiny_model(variant, clean_timestep=3)
    model.save_pretrained(tmp_path)
    loaded = M2MModel.from_pretrained(tmp_path)
    assert loaded.config.clean_timestep == 3 and loaded.config.variant == variant
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    noisy, context = torch.randn(1, 2, 4, 8, 8), tiny_context(model, 1, 2)
    arguments = (noisy, context, torch.full((1, 2), 40), torch.tensor([True]))
    assert torch.equal(model(*arguments), loaded(*arguments))


def test_bad_configs_say_what_would_be_right() -> None:
    """Guards against a misspelt variant that falls through to a default."""
    with pytest.raises(UserError, match="variant 'clip' is unknown"):
        M2MModel(tiny_unet_config(), variant="clip")
    with pytest.raises(UserError, match="needs context_dim"):
        M2MModel(tiny_unet_config(), variant="dino")
    with pytest.raises(UserError, match="null_context 'none' is unknown"):
        M2MModel(tiny_unet_config(), null_context="none")


def test_image_set_attention_refuses_a_mask() -> None:
    """Guards against diffusers' additive masks, under which a row that may see nothing sees everything."""
    model = tiny_model("self")
    with pytest.raises(ValueError, match="takes no mask"):
        model.unet(torch.randn(1, 4, 8, 8), 1, encoder_hidden_states=None, encoder_attention_mask=torch.ones(1, 3))
