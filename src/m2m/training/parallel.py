"""The processes of a run: one alone, or as many as `accelerate launch` or `torchrun` has started.

accelerate finds out who we are and joins the processes, on CPUs (gloo) and GPUs alike. How the weights are held is
decided here: a whole copy in each process (DDP), or a part of every tensor (FSDP2). A tensor on disk is always whole:
`gathered` and `placed` go between the two.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from m2m.training.optimizer import PRECISIONS, check_choices
from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.training.loop import LoopConfig

PARALLEL = ("ddp", "fsdp")
# Ways into the model beside `forward`, by which checks sample while training.
FORWARD_METHODS = ("write_context", "denoise")


class Processes:
    """All processes of a run, as one of them sees them. A context manager; `close` ends what was begun here.

    Attributes: rank (0..ranks-1), ranks, is_main (rank 0), device, parallel (`ddp` or `fsdp`, how several share the
    weights), scaler (torch's GradScaler for float16, else None). Every method but `autocast` and `close` must be called
    by all processes in the same order. Raises UserError for a way to share weights or a launch that cannot be.
    """

    def __init__(self, config: LoopConfig) -> None:
        from accelerate import Accelerator

        check_choices(config, {"parallel": PARALLEL, "precision": PRECISIONS})
        _check_environment()
        self._joined_before = dist.is_available() and dist.is_initialized()
        # Precision is ours: accelerate would wrap the module's own `forward` in autocast, and knows no float16 on CPUs.
        self._accelerator = Accelerator(cpu=_is_cpu(config.device), mixed_precision="no")
        self.rank: int = self._accelerator.process_index
        self.ranks: int = self._accelerator.num_processes
        self.is_main = self.rank == 0
        self.parallel = config.parallel
        self.device = _device(config.device, self._accelerator.device, self.ranks)
        self.scaler = torch.amp.GradScaler(self.device.type) if config.precision == "float16" else None
        self._dtype: torch.dtype = getattr(torch, config.precision)
        self._check_joined()
        self._control = self._control_group()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module as all processes train it together; call what is returned. Alone: the module itself.

        All copies become that of rank 0. FSDP turns the parameters of `module` itself into their sharded form.
        """
        if self.ranks == 1:
            return module
        if self.parallel == "fsdp":
            return _sharded(module, self.device)
        devices = None if self.device.type == "cpu" else [self.device]
        # Otherwise DDP arranges the gradients anew behind the first step, and so sums those of three and more processes
        # in another order: a resumed run would differ in the last bit. It also allows parameters without a gradient.
        return nn.parallel.DistributedDataParallel(
            module, device_ids=devices, gradient_as_bucket_view=True, find_unused_parameters=True
        )

    def autocast(self) -> AbstractContextManager[Any]:
        """Around the loss: `precision` below float32 computes in it; weights and optimiser stay float32."""
        return torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32)

    @contextmanager
    def sync(self, wrapped: nn.Module, last: bool) -> Iterator[None]:
        """Around loss and backward of a micro-batch: only behind the last one of a step do gradients travel."""
        if isinstance(wrapped, nn.parallel.DistributedDataParallel) and not last:
            with wrapped.no_sync():
                yield
            return
        if is_sharded(wrapped):
            wrapped.set_requires_gradient_sync(last)  # type: ignore[operator]
        yield

    def part(self, wrapped: nn.Module) -> None:
        """FSDP: forget joined weights, which a forward without backward leaves; they go stale when the parts move."""
        if is_sharded(wrapped):
            wrapped.reshard()  # type: ignore[operator]

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process."""
        if self.ranks == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self._control)
        return bool(flags)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Mean of each value over the processes that name it."""
        return mean_by_name(self.gather_objects(values))

    def gather_objects(self, value: Any) -> list[Any]:
        """The value of every process (small, plain), in the order of ranks."""
        if self.ranks == 1:
            return [value]
        values: list[Any] = [None] * self.ranks
        dist.all_gather_object(values, value, group=self._control)
        return values

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.ranks > 1:
            dist.barrier(group=self._control)

    def close(self) -> None:
        """Leave the group that was joined here, and accelerate's global state, so that another run can follow."""
        from accelerate.state import AcceleratorState, GradientState

        if self.ranks > 1 and not self._joined_before and dist.is_initialized():
            dist.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    def _control_group(self) -> dist.ProcessGroup | None:
        """Flags and small values travel between CPUs: asking a GPU would wait for all that it still has to do."""
        if self.ranks == 1 or dist.get_backend() == "gloo":
            return None
        return dist.new_group(backend="gloo")

    def _check_joined(self) -> None:
        """Processes that cannot be joined on their device each believe to be alone, and would all write to `out`."""
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        if launched != self.ranks:
            self.close()
            raise UserError(f"{launched} processes were launched, but on device '{self.device}' they cannot be joined")


def mean_by_name(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean of each value (floats, or tensors alike) over the parts that name it, in the order of their first names."""
    names = {name: None for part in parts for name in part}
    found = {name: [part[name] for part in parts if name in part] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}


def gathered(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """The full tensor, on the CPU, in every process (which all must ask for it).

    tensor: a whole one, a sharded one, or this process's part of one that is sharded as `like` is.
    """
    from torch.distributed.tensor import DTensor

    if isinstance(like, DTensor) and not isinstance(tensor, DTensor) and tensor.ndim == like.ndim:
        local = tensor.detach().to(like.device)
        tensor = DTensor.from_local(
            local, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )
    return joined(tensor.detach()).cpu()


def joined(tensor: Tensor) -> Tensor:
    """The full tensor of a sharded one, where it lies; a whole one as it is. All processes must ask for it."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def placed(full: Tensor, like: Tensor) -> Tensor:
    """A full tensor, known to every process, as `like` lies: on its device, and sharded where it is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or full.ndim != like.ndim:
        return full.to(like.device)
    # No source rank: every process cuts its part out of its own copy, and nothing travels.
    return distribute_tensor(full.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def local_part(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor; a whole one as it is. They share memory."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def is_sharded(module: nn.Module) -> bool:
    """Whether FSDP holds the parameters of `module` in parts."""
    if not dist.is_available():
        return False
    from torch.distributed.fsdp import FSDPModule

    return isinstance(module, FSDPModule)


def _sharded(module: nn.Module, device: torch.device) -> nn.Module:
    """FSDP2: each unit's tensors are joined when it runs, and parted again.

    Units are convolutional blocks; all else, transformer blocks too, belongs to the whole model, which is joined from
    the clean pass to the end of backward. A transformer block cannot be a unit: its keys and values leave it on the
    side, so under checkpointing backward enters it through them, before FSDP's hook on its output has joined its
    weights, and the gradients would be wrong without a word.
    """
    from diffusers.models.downsampling import Downsample2D
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.upsampling import Upsample2D
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # FSDP warns that nothing may be done in place to a view. Nothing is, and all keys and values of the context are
    # views: to copy them would be dear.
    warnings.filterwarnings("ignore", r"FSDP2-wrapped module .* returned a view tensor")
    for tensor in module.state_dict().values():
        dist.broadcast(tensor, src=0)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for part in list(module.modules()):
        if isinstance(part, (ResnetBlock2D, Downsample2D, Upsample2D)):
            fully_shard(part, mesh=mesh)
    fully_shard(module, mesh=mesh)
    for name in FORWARD_METHODS:
        if hasattr(module, name):
            register_fsdp_forward_method(module, name)
    return module


def _check_environment() -> None:
    """`accelerate launch` also starts other ways to share a model, which would work against ours."""
    for kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{kind}", "").lower() == "true":
            raise UserError(f"accelerate is configured for {kind}: launch plain processes, and give parallel=fsdp here")


def _is_cpu(name: str) -> bool:
    return name == "cpu" or (name == "auto" and not torch.cuda.is_available())


def _device(name: str, found: torch.device, ranks: int) -> torch.device:
    """Several processes take the GPU that accelerate gives each; one alone takes the one that is named."""
    device = found if ranks > 1 or name == "auto" else torch.device(name)
    return torch.device("cpu") if device.type == "cpu" else device  # there is no second one, `cpu:0` or not
