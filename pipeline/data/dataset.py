"""Prepared data on disk: `data/<DATA>/`, which `pipeline.data.prepare` writes and all later steps read.

    dataset/                  a DatasetDict of Arrow files, one a shard: text, input_ids, length
    tokenizer/tokenizer.json
    statistics.json           sentences, tokens and lengths of each split, settings, versions, fingerprint
    length_distribution.json  training sentences by length
    length_distribution.png
    checksums.json            sizes and SHA-256 of all these

`input_ids` is `[CLS] x_1 … x_{n-1} [SEP]`; a pretrained model's tokenizer has tokens of its own for these two. `length`
is n, the number of tokens that a model encodes and predicts: it counts the end token, not the start token.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.documents import SPLITS
from pipeline.data.text_tokenizer import TextTokenizer
from pipeline.data.tokenizer import load_tokenizer, same_tokenizer
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import check_files, read_json

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from datasets import Dataset
    from torch import Tensor


@dataclass(frozen=True)
class PreparedData:
    """A prepared dataset.

    Args:
        splits: `train`, `validation`, `test`, each with the columns `text`, `input_ids`, `length`.
        tokenizer: tokenizer of the data.
        statistics: content of `statistics.json`.
        length_distribution: number of training sentences by length in tokens.
        fingerprint: SHA-256 of all token ids and the tokenizer.
    """

    splits: "dict[str, Dataset]"
    tokenizer: TextTokenizer
    statistics: dict[str, Any]
    length_distribution: dict[int, int]
    fingerprint: str

    @property
    def identity(self) -> dict[str, Any]:
        """Fingerprints and settings, by which an experiment recognizes its data."""
        return {name: self.statistics.get(name) for name in ("fingerprint", "tokenizer_fingerprint", "settings")}


def load_prepared(data_dir: Path, name: str) -> PreparedData:
    """Load the prepared dataset `name` from the folder of all prepared datasets.

    Raises:
        UserError: the dataset is absent or damaged; the message says how to prepare it.
    """
    folder = Path(data_dir) / name
    remedy = f"prepare it with prepareDatasets.py --DATA {name}"
    if not folder.is_dir():
        known = sorted(path.parent.name for path in Path(data_dir).glob("*/statistics.json"))
        there = f"there are: {', '.join(known)}" if known else f"{data_dir} holds none"
        raise UserError(f"no prepared dataset {name!r} in {data_dir} ({there}); {remedy}")
    check_files(folder, remedy)
    statistics = read_json(folder / "statistics.json", remedy)
    lengths = read_json(folder / "length_distribution.json", remedy)
    tokenizer = load_tokenizer(str(folder / "tokenizer"))

    # Loads slowly, and the commands that compare identities alone, with `difference`, do without it.
    from datasets import DatasetDict

    try:
        splits = DatasetDict.load_from_disk(str(folder / "dataset"))
        return PreparedData(
            {split: splits[split] for split in SPLITS},
            tokenizer,
            statistics,
            {int(length): count for length, count in lengths.items()},
            statistics["fingerprint"],
        )
    except Exception as error:  # Arrow, JSON, missing splits or keys: all mean damage
        raise UserError(f"{folder} is damaged ({' '.join(str(error).split())[:200]}); {remedy}") from None


def lengths_of(split: "Dataset") -> "Callable[[np.ndarray], np.ndarray]":
    """Return a function from row numbers of a split to the lengths of these sentences, in tokens."""
    column = split.select_columns(["length"]).with_format("numpy")
    return lambda rows: column[rows]["length"]


def token_counts(split: "Dataset", vocabulary_size: int) -> "Tensor":
    """Count each token of a split, start tokens left out: [V], int64."""
    import torch

    counts = torch.zeros(vocabulary_size, dtype=torch.long)
    for start in range(0, len(split), 1000):
        sentences = split[start : start + 1000]["input_ids"]
        ids = torch.tensor([index for sentence in sentences for index in sentence[1:]])
        counts += torch.bincount(ids, minlength=vocabulary_size)
    return counts


def check_tokenizer(data: PreparedData, name: str, base: str, folder: Path) -> None:
    """Check that prepared data has the tokenizer of a pretrained model.

    Args:
        data: prepared data.
        name: its name.
        base: the pretrained model, as --PRETRAINED names it.
        folder: folder of the model.

    Raises:
        UserError: the data has another tokenizer; the message says how to prepare it.
    """
    if same_tokenizer(data.tokenizer, folder):
        return
    suffix = (data.statistics.get("source") or {}).get("format") or ""
    cased = " --CLEAN none" if (data.statistics.get("settings") or {}).get("clean") == "paper" else ""
    raise UserError(
        f"the data {name!r} has another tokenizer than {base}; prepare it anew with prepareDatasets.py "
        f"--DATA {shlex.quote(name + suffix)} --TOKENIZER {shlex.quote(base)}{cased}"
    )


def difference(trained_on: dict[str, Any], found: dict[str, Any]) -> str:
    """Describe the difference between two identities of data for a message; empty if they are equal."""
    if trained_on.get("fingerprint") == found.get("fingerprint"):
        return ""
    old, new = (identity.get("settings") or {} for identity in (trained_on, found))
    differing = [f"{name} was {old.get(name)}, not {new.get(name)}" for name in new if old.get(name) != new.get(name)]
    if trained_on.get("tokenizer_fingerprint") != found.get("tokenizer_fingerprint"):
        differing.append("another tokenizer")
    return ", ".join(differing) or "other text"
