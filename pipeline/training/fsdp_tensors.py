"""Sharded tensors in a folder, through torch.distributed.checkpoint. Each process writes and reads its part.

Torch's own index, `.metadata`, can run code when it is read. It is written for the tools of Accelerate and torch, and
never read: `index.json` holds the same. Only tensors are written, and torch reads them with `weights_only`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from pipeline.runtime.errors import UserError, first_line
from pipeline.runtime.files import read_record, write_record
from pipeline.runtime.processes import is_first, peer_lost

INDEX = "index.json"
DTYPES = ("float32", "float64", "bfloat16", "float16", "int64")

Result = TypeVar("Result")


def write_shards(folder: Path, tensors: dict[str, dict[str, Tensor]]) -> None:
    """Write this process's part of tensors. All processes call it together.

    Args:
        folder: a new folder, the same for all processes.
        tensors: groups of tensors by name.

    Raises:
        OSError: the disk refuses.
    """
    metadata = _first_error_raised(lambda: save(tensors, storage_writer=FileSystemWriter(folder)))
    if is_first():
        write_record(folder / INDEX, _index(metadata))


def read_shards(folder: Path, tensors: dict[str, dict[str, Tensor]], alone: bool, remedy: str) -> None:
    """Fill tensors in place with the stored values, whatever the number of processes that wrote them.

    Args:
        folder: folder that `write_shards` wrote.
        tensors: tensors to fill, with the stored names. A sharded tensor gets this process's part.
        alone: True if this process reads by itself, False if all processes read together.
        remedy: end of the error message.

    Raises:
        UserError: the folder is damaged or does not fit.
    """
    reader = _Reader(folder)
    reader.index = read_index(folder, remedy)
    try:
        _first_error_raised(lambda: load(tensors, storage_reader=reader, no_dist=alone))
    except Exception as error:
        if peer_lost(error):
            raise
        raise UserError(f"{folder} is damaged or does not fit the model ({first_line(error)}); {remedy}") from None


def names_in(folder: Path, group: str, remedy: str) -> list[str]:
    """Return the names of the stored tensors of a group."""
    names = read_index(folder, remedy).state_dict_metadata
    return [name.removeprefix(f"{group}.") for name in names if name.startswith(f"{group}.")]


def read_index(folder: Path, remedy: str) -> Metadata:
    """Read the index of a folder of shards.

    Raises:
        UserError: the index is absent or damaged, or names a file outside the folder.
    """
    path = folder / INDEX
    values = read_record(path, remedy)
    tensors, stored = {}, {}
    try:
        for name, tensor in values["tensors"].items():
            if tensor["dtype"] not in DTYPES:
                raise ValueError(f"{tensor['dtype']} is not a tensor's type")
            properties = TensorProperties(getattr(torch, tensor["dtype"]))
            chunks: list[ChunkStorageMetadata] = []
            for n, chunk in enumerate(tensor["chunks"]):
                if Path(chunk["file"]).name != chunk["file"]:
                    raise ValueError(f"{chunk['file']} is outside the folder")
                chunks.append(ChunkStorageMetadata(torch.Size(chunk["offsets"]), torch.Size(chunk["sizes"])))
                place = _StorageInfo(chunk["file"], chunk["at"], chunk["bytes"])
                stored[MetadataIndex(name, chunks[-1].offsets, n)] = place
            tensors[name] = TensorStorageMetadata(properties, torch.Size(tensor["size"]), chunks)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not an index of shards ({first_line(error)}); {remedy}") from None
    return Metadata(tensors, storage_data=stored, storage_meta=StorageMeta())


def _index(metadata: Metadata) -> dict[str, Any]:
    """Return the content of `index.json` for torch's metadata."""
    tensors = {}
    for name, tensor in metadata.state_dict_metadata.items():
        if not isinstance(tensor, TensorStorageMetadata):
            raise TypeError(f"{name} is not a tensor")
        chunks = []
        for chunk in tensor.chunks:
            place = metadata.storage_data[MetadataIndex(name, chunk.offsets)]
            at = {"file": place.relative_path, "at": place.offset, "bytes": place.length}
            chunks.append({"offsets": list(chunk.offsets), "sizes": list(chunk.sizes), **at})
        dtype = str(tensor.properties.dtype).removeprefix("torch.")
        tensors[name] = {"dtype": dtype, "size": list(tensor.size), "chunks": chunks}
    return {"tensors": tensors}


class _Reader(FileSystemReader):
    """Reader that uses an index read beforehand."""

    index: Metadata

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """Return the index."""
        return self.index


def _first_error_raised(action: Callable[[], Result]) -> Result:
    """Run a torch action that collects the errors of all processes, and raise the first of them unchanged."""
    try:
        return action()
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from None
