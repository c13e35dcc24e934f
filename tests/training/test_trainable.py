"""What is trained moves, what is frozen does not, and what comes out is a plain model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from m2m.model.sizes import SD21_UNET
from m2m.model.unet import M2MModel
from m2m.training.trainable import TRAINABLE, check_trainable, merged, plain_tensors, set_trainable
from m2m.types import UserError
from tests.tiny import tiny_context, tiny_model, tiny_task_model

VARIANTS = ("self", "dino")
PARTS = ("transformer_blocks", "image_set_attention", "lora")


def adapted(variant: str, trainable: str, frozen: str = "float32") -> M2MModel:
    model = tiny_model(variant)
    set_trainable(model, trainable, lora_rank=4, frozen_precision=frozen, seed=5)
    return model


def batch(variant: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "noisy": torch.randn(2, 3, 4, 8, 8, generator=generator),
        "context": tiny_context(tiny_model(variant), 2, 3),
        "timesteps": torch.randint(0, 1000, (2, 3), generator=generator),
        "keep_context": torch.tensor([True, True]),
    }


def loss(model: M2MModel, half: bool) -> Tensor:
    arguments = batch(model.config.variant)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        predicted = model(**arguments)
    return (predicted.float() - arguments["noisy"].flip(0)).square().mean()


def steps(model: M2MModel, count: int, half: bool = False) -> list[float]:
    """A few steps of AdamW on one batch; the losses."""
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    losses = []
    for _ in range(count):
        value = loss(model, half)
        value.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(value.item())
    return losses


def gradients(model: M2MModel, half: bool) -> dict[str, Tensor]:
    loss(model, half).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def trained_names(model: M2MModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(("variant", "count"), [("self", 49_574_080), ("dino", 63_131_840)])
def test_sizes_at_stable_diffusion_21(variant: str, count: int) -> None:
    """Bug: a layer of the base that trains along, or one of image-set attention that does not."""
    with torch.device("meta"):
        model = M2MModel(unet_config=SD21_UNET, variant=variant, context_dim=1536 if variant == "dino" else None)
    set_trainable(model, "image_set_attention")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == count
    assert {parameter.dtype for parameter in trained} == {torch.float32}


@pytest.mark.parametrize("trainable", ["image_set_attention", "lora"])
def test_frozen_vectors_stay_float32(trainable: str) -> None:
    """Bug: norms in half precision, whose gains of about 1 then step by 0.8%."""
    for name, parameter in adapted("self", trainable, "bfloat16").named_parameters():
        half = not parameter.requires_grad and parameter.ndim > 1
        assert parameter.dtype == (torch.bfloat16 if half else torch.float32), name
        assert parameter.requires_grad == (".attn2." in name or ".lora_" in name), name


def test_names_of_the_state() -> None:
    """Bug: a checkpoint of names that no other run has; or an adapter on a layer that is trained whole."""
    plain = set(tiny_model("self").state_dict())
    assert set(adapted("self", "image_set_attention").state_dict()) == plain
    names = set(adapted("self", "lora").state_dict())
    adapters = {name for name in names if ".lora_" in name}
    assert {name.replace(".base_layer", "") for name in names - adapters} == plain
    layers = {name.split(".transformer_blocks.0.")[1].split(".lora_")[0] for name in adapters}
    assert layers == {"attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj", "ff.net.2"}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("trainable", TRAINABLE)
def test_what_is_trained_moves_and_what_is_frozen_does_not(variant: str, trainable: str) -> None:
    """Bug: weight decay, an average or a cast that moves frozen weights; or an adapter that is never reached."""
    model = adapted(variant, trainable, "bfloat16")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses = steps(model, 4, half=True)
    assert losses[-1] < losses[0]
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == trained_names(model)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("trainable", PARTS)
def test_checkpointing_gives_the_same_gradients(variant: str, trainable: str) -> None:
    """Bug: reentrant checkpointing, which gives no gradient at all where a block's inputs are frozen, in silence."""
    plain, checkpointed = adapted(variant, trainable, "bfloat16"), adapted(variant, trainable, "bfloat16")
    checkpointed.train().enable_gradient_checkpointing()
    wanted, found = gradients(plain.train(), half=True), gradients(checkpointed, half=True)
    assert found.keys() == trained_names(plain) == wanted.keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_transformer_blocks_are_trained_whole_and_nothing_else(variant: str) -> None:
    """Bug: norms or projections around the attentions that stay behind, or a convolution that comes along."""
    model = adapted(variant, "transformer_blocks")
    names = {name for name in model.state_dict() if ".attentions." in name}
    assert trained_names(model) == names
    parts = {name.split(".attentions.")[1].split(".", 1)[1].split(".")[0] for name in names}
    assert parts == {"norm", "proj_in", "transformer_blocks", "proj_out"}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("trainable", TRAINABLE)
def test_what_was_added_is_trained_in_any_case(variant: str, trainable: str) -> None:
    """Bug: embedders that are frozen, or cast to half precision, with the base: the task is never learned."""
    model = tiny_task_model(variant, context_sizes=2)
    own = {name for name, _ in model.named_parameters()} - {name for name, _ in tiny_model(variant).named_parameters()}
    set_trainable(model, trainable, lora_rank=4, frozen_precision="bfloat16")
    assert len(list(model.added_parameters())) == len(own) and own <= trained_names(model)
    assert all(parameter.dtype == torch.float32 for parameter in model.added_parameters())
    plain = merged(model)
    assert plain.condition == model.condition
    told = {**batch(variant), "conditions": torch.randn(2, 3, 3)}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert (plain(**told) - model(**told)).abs().max() < 0.1
        assert (plain(**told) - plain(**batch(variant))).abs().max() > 0.2


def test_a_clean_pass_through_frozen_weights_keeps_no_graph() -> None:
    """Bug: hidden states of the clean pass that ask for gradients which nothing trained needs."""
    model = adapted("self", "image_set_attention")
    states: list[Tensor] = []
    layer = next(model.image_set_attentions())
    layer.register_forward_pre_hook(lambda module, arguments: states.append(arguments[0]))
    cache = model.write_context(batch("self")["context"])
    assert states and not any(state.requires_grad for state in states)
    assert all(key.requires_grad for key in cache.keys.values())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("trainable", TRAINABLE)
def test_merged_is_the_adapted_model(variant: str, trainable: str) -> None:
    """Bug: an adapter left out of the export, or folded in with another scale than it was trained with."""
    model = adapted(variant, trainable)
    steps(model, 2)
    plain = merged(model)
    assert plain.state_dict().keys() == tiny_model(variant).state_dict().keys()
    with torch.no_grad():
        assert (plain(**batch(variant)) - model(**batch(variant))).abs().max() < 1e-5
        assert (plain(**batch(variant)) - tiny_model(variant)(**batch(variant))).abs().max() > 1e-3


def test_merged_shares_nothing_and_has_one_dtype() -> None:
    """Bug: an export that changes when the trained weights return into the place of the averaged ones."""
    model = adapted("self", "lora", "bfloat16")
    plain = merged(model)
    assert {tensor.dtype for tensor in plain.state_dict().values()} == {torch.float32}
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    for parameter in model.parameters():
        parameter.data.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain.state_dict().items())


def test_merged_from_tensors_that_were_gathered() -> None:
    """Bug: a sharded model exports the first process's part of it."""
    model = adapted("self", "lora")
    steps(model, 1)
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = merged(model).state_dict()
    for parameter in model.parameters():
        parameter.data.zero_()
    found = merged(model, whole).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert plain_tensors(whole).keys() == wanted.keys()


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_the_exported_folder_loads_strictly(tmp_path: Path, trainable: str) -> None:
    """Bug: names of the adapter in the files, which nobody's U-Net has."""
    plain = merged(adapted("dino", trainable))
    plain.save_pretrained(tmp_path, safe_serialization=True)
    loaded = M2MModel.from_pretrained(tmp_path)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in plain.state_dict().items())


def test_the_adapter_starts_silent_and_from_the_seed() -> None:
    """Bug: a first step from another model than the base; or an adapter that differs from run to run."""
    first, other = adapted("self", "lora"), tiny_model("self")
    torch.manual_seed(99)
    again = adapted("self", "lora")
    with torch.no_grad():
        assert torch.equal(first(**batch("self")), tiny_model("self")(**batch("self")))
    set_trainable(other, "lora", 4, "float32", seed=6)
    down = next(name for name in first.state_dict() if ".lora_A." in name)
    assert torch.equal(first.state_dict()[down], again.state_dict()[down])
    assert not torch.equal(first.state_dict()[down], other.state_dict()[down])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainable": "everything"}, "one of all, transformer_blocks, image_set_attention, lora"),
        ({"frozen_precision": "int8"}, "one of bfloat16, float32"),
        ({"trainable": "lora", "lora_rank": 0}, "lora_rank is 0"),
        ({"trainable": "lora", "precision": "float32"}, "precision=bfloat16"),
    ],
)
def test_what_cannot_be_is_one_line(changes: dict[str, Any], words: str) -> None:
    """Bug: a misspelt word trains something else, or fails after minutes with a dtype error of torch."""
    right = {"trainable": "all", "lora_rank": 16, "frozen_precision": "bfloat16", "precision": "bfloat16"}
    check_trainable(**right)
    check_trainable(**{**right, "precision": "float32"})  # nothing is frozen
    with pytest.raises(UserError, match=words):
        check_trainable(**{**right, **changes})


def test_a_misspelt_word_freezes_nothing() -> None:
    """Bug: `trainable: loar` is taken for something else than `all`, and image-set attention alone is trained."""
    with pytest.raises(UserError, match="'loar'"):
        set_trainable(tiny_model("self"), "loar")
