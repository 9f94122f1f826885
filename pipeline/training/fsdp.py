"""Fully sharded data parallelism (FSDP2), as Accelerate is configured: a process holds a part of every parameter.

A layer's parameters are gathered for as long as it computes; what stands outside the layers is gathered for as long as
the model does.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from accelerate.utils import DistributedType, parse_flag_from_env
from torch import Tensor, nn

from pipeline.runtime.devices import on_cpu
from pipeline.runtime.errors import UserError


def check_configuration(compiled: bool = False) -> None:
    """Look at how `accelerate launch` was configured, before anything is written.

    Args:
        compiled: whether torch is to compile the model.

    Raises:
        UserError: for something of FSDP that training cannot do.
    """
    if not parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise UserError(
            "FSDP is asked for in its version 1; add --fsdp_version 2 to accelerate launch, or fsdp_version: 2 to "
            "its configuration"
        )
    if parse_flag_from_env("FSDP_ACTIVATION_CHECKPOINTING"):
        # It draws other dropout the second time.
        raise UserError(
            "fsdp_activation_checkpointing is not for these models; leave it out of accelerate launch's "
            "configuration, and add --GRADIENT_CHECKPOINTING True to train.py"
        )
    if compiled:
        # What Accelerate shards is the compiled model, but evaluation calls the model that it is made of.
        raise UserError("a model that is sharded (FSDP) is not compiled; leave --COMPILE out")


def new_accelerator(mixed_precision: str) -> Accelerator:
    """What launches, GPUs and `accelerate launch`'s configuration make of this process; `is_fsdp2` where it shards.

    Raises:
        UserError: it is configured for something of FSDP that training cannot do.
    """
    check_configuration()
    os.environ.setdefault("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP")
    accelerator = Accelerator(cpu=on_cpu(), mixed_precision=mixed_precision)
    state = accelerator.state
    if state.distributed_type == DistributedType.MULTI_CPU and parse_flag_from_env("ACCELERATE_USE_FSDP"):
        # torch shards on CPUs as on GPUs, but Accelerate overlooks that it is asked to.
        from accelerate.utils import FullyShardedDataParallelPlugin

        state.fsdp_plugin, state.distributed_type = FullyShardedDataParallelPlugin(), DistributedType.FSDP
    if state.distributed_type == DistributedType.FSDP:
        # Autocast alone lowers precision, as without sharding: parameters and the bottleneck stay in float32.
        state.fsdp_plugin.mixed_precision_policy = None
        # Nothing is changed in place of what the models return.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    return accelerator


@contextmanager
def outer_gathered(model: nn.Module) -> Iterator[None]:
    """Inside, methods other than `forward` find the parameters whole that stand outside a sharded model's layers."""
    if not hasattr(model, "unshard"):
        yield
        return
    model.unshard()
    try:
        yield
    finally:
        model.reshard()


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process may hold a part, gathered from all of them."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def placed_like(tensor: Tensor, own: Tensor) -> Tensor:
    """Of a whole tensor, the same in every process, the part that this one holds of its `own`."""
    if not hasattr(own, "placements"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
