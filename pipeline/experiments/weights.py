"""Checkpoint files in safetensors format: tensors and one line of JSON, no code."""

import errno
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.runtime.errors import UserError
from pipeline.runtime.files import replacing


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and a JSON state with their checksum, whole or not at all. Equal values give equal files.

    Args:
        path: file to write.
        tensors: tensors by name.
        state: JSON-serialisable values.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = {name: t.detach().contiguous().cpu() for name, t in tensors.items()}
    text = json.dumps(state)
    with replacing(path) as temporary:
        try:
            # In one entry: safetensors writes several in an order that differs from process to process.
            whole = json.dumps({"state": text, "sha256": _digest(tensors, text)})
            save_file(tensors, temporary, {"checkpoint": whole})
        except SafetensorError as error:
            raise _disk_error(error, path) from None


def load_checkpoint(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the state that `save_checkpoint` wrote.

    Raises:
        UserError: the file is absent or damaged. The message ends with `remedy`.
    """
    if not Path(path).exists():
        raise UserError(f"{path} does not exist; {remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            text, digest = _entries(file)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if digest != _digest(tensors, text):
            raise ValueError("its checksum does not match")
        return tensors, json.loads(text)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is damaged or is not a checkpoint of this project ({reason}); {remedy}") from None


def fingerprint_of_weights(path: Path) -> str:
    """Identify the weights of a checkpoint and its state, without reading the tensors: 16 digits of their SHA-256.

    Raises:
        UserError: the file is absent or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return _entries(file)[1][:16]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a checkpoint of this project ({' '.join(str(error).split())[:200]})") from None


def _entries(file: Any) -> tuple[str, str]:
    """Read the state and the checksum of an open checkpoint."""
    metadata = file.metadata() or {}
    if "checkpoint" in metadata:  # an earlier version wrote two entries
        metadata = json.loads(metadata["checkpoint"])
    return metadata["state"], metadata["sha256"]


def _digest(tensors: dict[str, Tensor], state: str) -> str:
    """Hash names, types, shapes and every bit. safetensors detects truncated files, not changed values."""
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _disk_error(error: SafetensorError, path: Path) -> OSError:
    """Return the operating system's error behind a safetensors error."""
    found = re.search(r"os error (\d+)", str(error))
    return OSError(int(found[1]) if found else errno.EIO, " ".join(str(error).split()), str(path))


def load_weights(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load a checkpoint's weights into a model.

    Args:
        model: model to fill.
        tensors: state dict.
        path: checkpoint, for the error message.

    Raises:
        UserError: names or shapes differ from the model's.
    """
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"{path} does not fit the model of config.json beside it: {str(error).splitlines()[-1].strip()}"
        ) from None


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state by `<parameter>|<quantity>`."""
    return {
        f"{name}|{quantity}": value
        for name, parameter in model.named_parameters()
        for quantity, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore the state that `optimizer_tensors` returned."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, quantity = key.split("|")
        parameter = parameters[name]
        # Adam keeps its step count on the CPU unless it is fused. The moments live on the parameter's device.
        device = "cpu" if quantity == "step" and not optimizer.defaults.get("fused") else parameter.device
        optimizer.state[parameter][quantity] = value.to(device)
