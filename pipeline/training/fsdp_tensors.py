"""Tensors in a folder, of which each process writes and reads its part, through torch.distributed.checkpoint.

Torch's own index, `.metadata`, is unsafe to read. It is written, for Accelerate's and torch's tools, and never read:
the same is in `index.json`. Tensors alone are written, and the shards' tensors torch reads with `weights_only`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from pipeline.runtime.errors import UserError, first_line
from pipeline.runtime.files import read_record, write_record
from pipeline.runtime.processes import is_first, peer_lost

INDEX = "index.json"
DTYPES = ("float32", "float64", "bfloat16", "float16", "int64")


def write_shards(folder: Path, tensors: dict[str, dict[str, Tensor]]) -> None:
    """Write this process's part of tensors; all processes call it together.

    Args:
        folder: a new one, the same for all.
        tensors: by a name for all of them and their own.

    Raises:
        OSError: a disk refuses.
    """
    metadata = _together(lambda: dcp.save(tensors, storage_writer=dcp.FileSystemWriter(folder)))
    if is_first():
        write_record(folder / INDEX, _index(metadata))


def read_shards(folder: Path, tensors: dict[str, dict[str, Tensor]], alone: bool, remedy: str) -> None:
    """Fill tensors with what was written, by however many processes.

    Args:
        folder: what `write_shards` wrote.
        tensors: to fill, with the same names; sharded ones with this process's part, whole ones wholly.
        alone: whether this process reads for itself, and not all together.
        remedy: ends the message of an error.

    Raises:
        UserError: the folder is damaged or does not fit.
    """
    reader = _Reader(folder)
    reader.index = read_index(folder, remedy)
    try:
        _together(lambda: dcp.load(tensors, storage_reader=reader, no_dist=alone))
    except Exception as error:
        if peer_lost(error):
            raise
        raise UserError(f"{folder} is damaged or does not fit the model ({first_line(error)}); {remedy}") from None


def names_in(folder: Path, prefix: str, remedy: str) -> list[str]:
    """The names of the tensors that were written under a name for all of them."""
    names = read_index(folder, remedy).state_dict_metadata
    return [name.removeprefix(f"{prefix}.") for name in names if name.startswith(f"{prefix}.")]


def read_index(folder: Path, remedy: str) -> Metadata:
    """The index of a folder of shards.

    Raises:
        UserError: it is absent, damaged, or leads out of the folder.
    """
    path = folder / INDEX
    values = read_record(path, remedy)
    tensors, stored = {}, {}
    try:
        for name, tensor in values["tensors"].items():
            if tensor["dtype"] not in DTYPES:
                raise ValueError(f"no tensor is of {tensor['dtype']}")
            properties = TensorProperties(getattr(torch, tensor["dtype"]))
            chunks = []
            for n, chunk in enumerate(tensor["chunks"]):
                if Path(chunk["file"]).name != chunk["file"]:
                    raise ValueError(f"it leads out of its folder, to {chunk['file']}")
                chunks.append(ChunkStorageMetadata(torch.Size(chunk["offsets"]), torch.Size(chunk["sizes"])))
                place = _StorageInfo(chunk["file"], chunk["at"], chunk["bytes"])
                stored[MetadataIndex(name, chunks[-1].offsets, n)] = place
            tensors[name] = TensorStorageMetadata(properties, torch.Size(tensor["size"]), chunks)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no index of shards ({first_line(error)}); {remedy}") from None
    return Metadata(tensors, storage_data=stored, storage_meta=StorageMeta())


def _index(metadata: Metadata) -> dict[str, Any]:
    """What `read_index` reads, of what was written."""
    tensors = {}
    for name, tensor in metadata.state_dict_metadata.items():
        chunks = []
        for chunk in tensor.chunks:
            place = metadata.storage_data[MetadataIndex(name, chunk.offsets)]
            at = {"file": place.relative_path, "at": place.offset, "bytes": place.length}
            chunks.append({"offsets": list(chunk.offsets), "sizes": list(chunk.sizes), **at})
        dtype = str(tensor.properties.dtype).removeprefix("torch.")
        tensors[name] = {"dtype": dtype, "size": list(tensor.size), "chunks": chunks}
    return {"tensors": tensors}


class _Reader(dcp.FileSystemReader):
    """Goes by an index that was read already."""

    index: Metadata

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """The index."""
        return self.index


def _together(action: Callable[[], Any]) -> Any:
    """Do something of torch's that gathers the errors of all processes, and raise the first as it is."""
    try:
        return action()
    except dcp.CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from None
