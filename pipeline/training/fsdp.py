"""Fully sharded data parallelism (FSDP2) as Accelerate configures it: each process holds a part of every parameter.

A layer's parameters are gathered while the layer computes. Parameters outside the layers are gathered while the model
computes.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, parse_flag_from_env
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from pipeline.runtime.devices import on_cpu
from pipeline.runtime.errors import UserError


def check_configuration(compiled: bool = False, pretrained: str | None = None) -> None:
    """Check the configuration of `accelerate launch` before anything is written.

    Args:
        compiled: True if torch is to compile the model.
        pretrained: the pretrained model that the model is built around, or None.

    Raises:
        UserError: the configuration asks for an FSDP feature that training does not support.
    """
    if not parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise UserError(
            "FSDP is configured with version 1; add --fsdp_version 2 to accelerate launch, or fsdp_version: 2 to its "
            "configuration"
        )
    if parse_flag_from_env("FSDP_ACTIVATION_CHECKPOINTING"):
        # Its second forward pass draws other dropout masks.
        raise UserError(
            "fsdp_activation_checkpointing does not work with these models; leave it out of accelerate launch's "
            "configuration, and add --GRADIENT_CHECKPOINTING True to train.py"
        )
    if compiled:
        # Accelerate shards the compiled model, but evaluation calls the model inside it.
        raise UserError("a sharded model (FSDP) cannot be compiled; leave --COMPILE out")
    if pretrained is not None:
        # Its layers are not the units that this project shards, and its frozen weights have no moments to shard.
        raise UserError(
            f"a model around --PRETRAINED {pretrained} is not sharded (FSDP); start it with torchrun, or with "
            "accelerate launch without FSDP"
        )


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that training changes, all but the frozen ones of a pretrained model."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def new_accelerator(mixed_precision: str) -> Accelerator:
    """Create the Accelerator for this launch. Its `is_fsdp2` is True if it shards the model.

    Args:
        mixed_precision: `bf16` or `no`.

    Raises:
        UserError: the configuration asks for an FSDP feature that training does not support.
    """
    check_configuration()
    os.environ.setdefault("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP")
    accelerator = Accelerator(cpu=on_cpu(), mixed_precision=mixed_precision)
    state = accelerator.state
    if state.distributed_type == DistributedType.MULTI_CPU and parse_flag_from_env("ACCELERATE_USE_FSDP"):
        # torch shards on CPUs as on GPUs, but Accelerate ignores the request there.
        state.fsdp_plugin, state.distributed_type = FullyShardedDataParallelPlugin(), DistributedType.FSDP
    if state.distributed_type == DistributedType.FSDP:
        # Only autocast lowers precision, as without sharding: parameters and the bottleneck stay in float32.
        plugin = cast(FullyShardedDataParallelPlugin, state.fsdp_plugin)
        plugin.mixed_precision_policy = None
        # The training loop changes none of the models' outputs in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    return accelerator


@contextmanager
def outer_gathered(model: nn.Module) -> Iterator[None]:
    """Gather the parameters outside a sharded model's layers, for methods other than `forward`."""
    unshard = cast("Callable[[], object] | None", getattr(model, "unshard", None))
    reshard = cast("Callable[[], object] | None", getattr(model, "reshard", None))
    if unshard is None or reshard is None:
        yield
        return
    unshard()
    try:
        yield
    finally:
        reshard()


def whole(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor from all processes; return a plain tensor unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def placed_like(tensor: Tensor, own: Tensor) -> Tensor:
    """Shard a whole tensor like `own`.

    Args:
        tensor: the same whole tensor in every process.
        own: this process's tensor, sharded or plain.

    Returns:
        This process's part, or `tensor` itself if `own` is plain.
    """
    if not isinstance(own, DTensor):
        return tensor
    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
