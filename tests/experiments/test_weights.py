"""Checkpoint files: equal values give equal bytes, damage is named, and those of earlier versions load."""

import hashlib
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.experiments.weights import load_checkpoint, save_checkpoint
from pipeline.runtime.errors import UserError

TENSORS = {"weight": torch.arange(100.0), "bias": torch.ones(3, dtype=torch.bfloat16)}
STATE = {"step": 3, "validation": {"loss": 2.5}}


def test_equal_values_give_equal_files(tmp_path: Path):
    path = tmp_path / "best.safetensors"
    written = set()
    for _ in range(20):
        save_checkpoint(path, TENSORS, STATE)
        written.add(path.read_bytes())
    assert len(written) == 1
    tensors, state = load_checkpoint(path, "")
    assert state == STATE
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert load_file(path).keys() == TENSORS.keys()


def test_a_checkpoint_of_an_earlier_version_loads(tmp_path: Path):
    path, state = tmp_path / "best.safetensors", '{"step": 3}'
    digest = hashlib.sha256(f"{state}weight|torch.float32|(2,)|".encode() + struct.pack("<2f", 1, 1)).hexdigest()
    save_file({"weight": torch.ones(2)}, path, {"state": state, "sha256": digest})
    tensors, read = load_checkpoint(path, "")
    assert (tensors["weight"].tolist(), read) == ([1, 1], {"step": 3})


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "changed"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str):
    path = tmp_path / "latest.safetensors"
    save_checkpoint(path, TENSORS, STATE)
    whole = path.read_bytes()
    changed = whole[:-1] + bytes([whole[-1] ^ 1])
    path.write_bytes({"cut": whole[:-10], "empty": b"", "foreign": b"PK\x03\x04 else", "changed": changed}[damage])
    with pytest.raises(UserError, match=r"latest.safetensors is damaged .*; train anew"):
        load_checkpoint(path, "train anew")


@pytest.mark.parametrize("entries", [{}, {"checkpoint": "[1]"}, {"checkpoint": "{"}, {"checkpoint": "{}"}])
def test_a_file_with_other_entries_is_no_checkpoint(tmp_path: Path, entries: dict[str, str]):
    path = tmp_path / "latest.safetensors"
    save_file(TENSORS, path, entries)
    with pytest.raises(UserError, match="is not a checkpoint of this project"):
        load_checkpoint(path, "train anew")
