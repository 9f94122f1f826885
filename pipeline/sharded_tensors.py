"""Tensors in a folder, of which each process writes and reads its part, through torch.distributed.checkpoint.

Its index, `.metadata`, is a pickle, and what is no tensor is pickled within the shards. So tensors alone are written,
and the index is read by an unpickler that knows nothing but what an index of tensors is made of. The shards' tensors
torch reads with `weights_only`.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from pipeline.errors import UserError, first_line
from pipeline.team import peer_lost

INDEX = ".metadata"
# `BytesStorageMetadata`, which is not among them, would have torch unpickle what the shards hold.
KNOWN = {
    "torch.distributed.checkpoint.metadata": {
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch": {"Size", "float32", "float64", "bfloat16", "float16", "int64"},
    "torch.serialization": {"_get_layout"},
    "pathlib": {"PosixPath"},
    "pathlib._local": {"PosixPath"},  # its name in Python 3.13
}


def write_shards(folder: Path, tensors: dict[str, dict[str, Tensor]]) -> None:
    """Write this process's part of tensors; all processes call it together.

    Args:
        folder: a new one, the same for all.
        tensors: by a name for all of them and their own.

    Raises:
        OSError: a disk refuses.
    """
    _together(lambda: dcp.save(tensors, storage_writer=dcp.FileSystemWriter(folder)))


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
    """The index of a folder of shards; nothing that it names is run.

    Raises:
        UserError: it is absent, damaged, or names what no index of tensors needs.
    """
    path = folder / INDEX
    try:
        with open(path, "rb") as file:
            index = _IndexReader(file).load()
        if not isinstance(index, Metadata):
            raise ValueError("it is none")
        if not all(isinstance(each, TensorStorageMetadata) for each in index.state_dict_metadata.values()):
            raise ValueError("it is not of tensors alone")
        for stored in index.storage_data.values():
            if Path(stored.relative_path).name != stored.relative_path:
                raise ValueError(f"it leads out of its folder, to {stored.relative_path}")
    except Exception as error:  # a damaged pickle can raise any
        raise UserError(f"{path} is damaged or no index of shards ({first_line(error)}); {remedy}") from None
    return index


class _IndexReader(pickle.Unpickler):
    """Refuses all that is not `KNOWN`."""

    def find_class(self, module: str, name: str) -> Any:
        """One of the few classes of an index."""
        if name not in KNOWN.get(module, ()):
            raise ValueError(f"it names {module}.{name}")
        return super().find_class(module, name)


class _Reader(dcp.FileSystemReader):
    """Goes by an index that was read already."""

    index: Metadata

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """The index, not unpickled again."""
        return self.index


def _together(action: Callable[[], Any]) -> None:
    """Do something of torch's that gathers the errors of all processes, and raise the first as it is."""
    try:
        action()
    except dcp.CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from None
