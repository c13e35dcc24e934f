"""Which weights of a model are trained: all, its transformer blocks, image-set attention alone, or that and a low-rank
adapter of the rest. What a task adds for its condition is trained in any case.

    all                  what the paper does: nothing is frozen
    transformer_blocks   self-attention, image-set attention and feed-forward, with their norms and projections; the
                         convolutions and the embedding of time stay the base's
    image_set_attention  50 million weights (M2M-Self) or 63 million (M2M-DINO) at Stable Diffusion 2.1's size
    lora                 the same, and beside the frozen linear layers of self-attention and feed-forward a product of
                         two thin matrices (Hu et al. 2021, "LoRA: Low-rank adaptation of large language models")

What is frozen costs no gradient, no optimiser state and no average, and may lie in half precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from m2m.model.unet import M2MModel
from m2m.types import UserError

TRAINABLE = ("all", "transformer_blocks", "image_set_attention", "lora")
FROZEN_PRECISIONS = ("bfloat16", "float32")

# Below each transformer block. Image-set attention (attn2) is trained whole.
ADAPTED = r".*\.(attn1\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2))"
ADAPTER = "default"  # peft's own name for an adapter that needs none
BASE, DOWN, UP = ".base_layer", f".lora_A.{ADAPTER}.weight", f".lora_B.{ADAPTER}.weight"


def check_trainable(trainable: str, lora_rank: int, frozen_precision: str, precision: str = "bfloat16") -> None:
    """Raise UserError for a word that is unknown, or a frozen part that the run's precision cannot multiply with.

    precision: of the run, `StepConfig.precision`.
    """
    if trainable not in TRAINABLE:
        raise UserError(f"trainable '{trainable}' is not one of {', '.join(TRAINABLE)}")
    if frozen_precision not in FROZEN_PRECISIONS:
        raise UserError(f"frozen_precision '{frozen_precision}' is not one of {', '.join(FROZEN_PRECISIONS)}")
    if trainable == "lora" and lora_rank < 1:
        raise UserError(f"lora_rank is {lora_rank}: it is the width of the thin matrices, 1 or more (16 is usual)")
    if trainable != "all" and frozen_precision != "float32" and precision == "float32":
        raise UserError(
            f"frozen_precision '{frozen_precision}' needs precision=bfloat16, for the frozen weights are multiplied "
            "under autocast; or set frozen_precision=float32"
        )


def set_trainable(
    model: M2MModel, trainable: str = "all", lora_rank: int = 16, frozen_precision: str = "bfloat16", seed: int = 0
) -> None:
    """Freeze what is not trained, in place, and add the adapter. What is trained is float32 afterwards.

    A model with weights in bfloat16 must run under autocast, in training and in sampling alike.

    Args:
        model: without an adapter, on any device.
        trainable: a word of `TRAINABLE`.
        lora_rank: width of the adapter's matrices; its scale is 1.
        frozen_precision: of the frozen matrices and kernels. Frozen vectors (norms, biases) stay float32: they are
            small, and norms are worked out in float32.
        seed: draws the adapter, which adds nothing until it is trained.

    Raises UserError for an unknown word, and where `lora` finds no peft.
    """
    check_trainable(trainable, lora_rank, frozen_precision)
    model.requires_grad_(trainable == "all")
    if trainable == "lora":
        _add_lora(model, lora_rank, seed)
    for parameter in _trained_whole(model, trainable):
        parameter.requires_grad_(True)
    frozen = getattr(torch, frozen_precision)
    for parameter in model.parameters():
        half = not parameter.requires_grad and parameter.ndim > 1
        parameter.data = parameter.data.to(frozen if half else torch.float32)


def merged(
    model: M2MModel, tensors: Mapping[str, Tensor] | None = None, dtype: torch.dtype = torch.float32
) -> M2MModel:
    """A plain copy for export: the adapter folded into the weights beside it, plain names, one dtype, nothing shared.

    tensors: the model's whole `state_dict` where its parameters are sharded; by default its own.
    """
    plain = plain_tensors(model.state_dict() if tensors is None else tensors, dtype)
    with torch.device("meta"):
        copied = model.rebuilt()
    copied.load_state_dict(plain, strict=True, assign=True)
    return copied.requires_grad_(False).eval()


def plain_tensors(tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The `state_dict` of an adapted model as that of a plain one. The sums are made in float32."""
    plain = {}
    for name, tensor in tensors.items():
        if name.endswith((DOWN, UP)):
            continue
        layer, adapted, _ = name.rpartition(f"{BASE}.weight")
        if adapted:
            # W + B A: the scale is lora_alpha / r, which is 1.
            tensor = tensor.float() + tensors[layer + UP].float() @ tensors[layer + DOWN].float()
        plain[name.replace(f"{BASE}.", ".")] = tensor.detach().to(dtype, copy=True)
    return plain


def _trained_whole(model: M2MModel, trainable: str) -> Iterator[nn.Parameter]:
    """What is trained where not all is: image-set attention or all of its blocks, and what was added to it."""
    if trainable == "transformer_blocks":
        blocks = (module for module in model.unet.modules() if isinstance(module, Transformer2DModel))
        yield from (parameter for block in blocks for parameter in block.parameters())
    elif trainable != "all":
        yield from model.image_set_attention_parameters()
    yield from model.added_parameters()


def _add_lora(model: M2MModel, rank: int, seed: int) -> None:
    """peft's adapter beside the linear layers of `ADAPTED`; A as nn.Linear draws it, from `seed`, and B zero."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError("trainable 'lora' needs peft: pip install 'm2m-diffusion[train]'") from error
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=ADAPTED), model.unet, ADAPTER)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith(DOWN):
            drawn = torch.empty(parameter.shape, device="cpu")
            # Drawn on the CPU, so that it is the same adapter on every device.
            parameter.data.copy_(nn.init.kaiming_uniform_(drawn, a=5**0.5, generator=generator))
