"""Damaged, foreign and hostile files: one line names the file and the remedy, and no code of theirs runs."""

import ast
import os
import pickle
import random
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from models import MODELS, build
from models.decoding import GREEDY
from pipeline.data.dataset import load_prepared
from pipeline.experiments.config import new_config, start_or_continue
from pipeline.experiments.load import load_experiment
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import Tracker
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.experiments.weights import load_checkpoint
from pipeline.generation.generate import interpolations, read_interpolations, read_samples, sample
from pipeline.generation.latents import from_prior
from pipeline.reporting.results import from_outputs
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_jsonl
from pipeline.runtime.locks import release
from pipeline.training.trainer import Trainer
from tests.helpers import ROOT, call, one_line_of_error, prepare_tiny, run

COUNT = 1000


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A folder with prepared data and an experiment with every kind of file."""
    folder = tmp_path_factory.mktemp("sound")
    prepare_tiny(folder / "data", count=200)
    data = load_prepared(folder / "data", "tiny")
    settings = MODELS["NVIB"](vocabulary_size=data.tokenizer.vocabulary_size, dim_h=16)
    training = TrainingSettings(batch_size=32, max_steps=6, save_steps=4, precision="fp32")
    files = ExperimentFiles.of(folder / "outputs", "nvib", "a")
    start_or_continue(files, new_config(settings, training, "tiny", data.identity))
    torch.manual_seed(0)
    tracker = Tracker(files, run=None, offline=True)
    tracker.summarise(Trainer(build(settings), data, training, files, tracker).train())
    experiment = load_experiment(folder / "outputs", "nvib", "a", folder / "data")
    write_jsonl(files.samples, sample(experiment, from_prior(experiment, [8] * 5), 5, 1, GREEDY, 5))
    write_jsonl(files.folder / "interpolations.jsonl", interpolations(experiment, 2, 2))
    return folder


def experiment_of(folder: Path) -> tuple:
    """Everything that evaluation reads, as comparable values."""
    loaded = load_experiment(folder / "outputs", "nvib", "a", folder / "data")
    return (
        loaded.config,
        {name: tensor.tolist() for name, tensor in loaded.model.state_dict().items()},
        {name: split[:] for name, split in loaded.data.splits.items()},
        loaded.data.length_distribution,
        loaded.data.statistics,
        loaded.data.tokenizer.encode(["the old king"]),
    )


def continued(folder: Path) -> tuple:
    """Everything that a resumed run reads."""
    files = ExperimentFiles.of(folder / "outputs", "nvib", "a")
    tensors, state = load_checkpoint(files.latest, "train anew")
    return {name: tensor.tolist() for name, tensor in tensors.items()}, state


def reported(folder: Path) -> tuple:
    """Everything that the report reads; raises the reason why it would leave the experiment out."""
    results, failures = from_outputs(folder / "outputs", "nvib", ["a"])
    if failures:
        raise UserError(failures[0].reason)
    return results[0].settings, results[0].figures, results[0].history


def generated(folder: Path) -> tuple:
    """Samples and interpolations, which a changed letter does not make unreadable."""
    files = ExperimentFiles.of(folder / "outputs", "nvib", "a")
    return read_samples(files), read_interpolations(files.folder / "interpolations.jsonl")


EXPERIMENT, DATA = Path("outputs/nvib/a"), Path("data/tiny")
READ: dict[Path, Callable[[Path], tuple]] = {
    EXPERIMENT / "best.safetensors": experiment_of,
    EXPERIMENT / "latest.safetensors": continued,
    EXPERIMENT / "config.json": experiment_of,
    EXPERIMENT / "summary.json": reported,
    EXPERIMENT / "metrics.jsonl": reported,
    EXPERIMENT / "samples.jsonl": generated,
    EXPERIMENT / "interpolations.jsonl": generated,
    DATA / "statistics.json": experiment_of,
    DATA / "length_distribution.json": experiment_of,
    DATA / "checksums.json": experiment_of,
    DATA / "tokenizer/tokenizer.json": experiment_of,
    DATA / "dataset/dataset_dict.json": experiment_of,
    DATA / "dataset/train/data-00000-of-00001.arrow": experiment_of,
    DATA / "dataset/train/state.json": experiment_of,
    DATA / "dataset/train/dataset_info.json": experiment_of,
    DATA / "dataset/validation/data-00000-of-00001.arrow": experiment_of,
}


def damaged(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """The content with one of eight kinds of damage."""
    at = draw.randrange(len(content))
    length = min(draw.randint(1, 64), len(content) - at)
    way = draw.randrange(8)
    if way == 0:
        return content[:at]
    if way == 1:
        return b""
    if way == 2:
        return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
    if way == 3:
        return content[:at] + draw.randbytes(length) + content[at + length :]
    if way == 4:
        return content[:at] + content[at + length :]
    if way == 5:
        return content + draw.randbytes(length)
    if way == 6:
        return draw.choice(others)
    value = draw.choice([b"null", b"[]", b"{}", b"1e999", b"-1", b"NaN", b'"x"', b"[" * 100_000])
    return re.sub(rb'(?<=[:\[, ])-?\d[\d.e+-]*|"[^"]*"', lambda _: value, content, count=draw.randint(1, 3))


@pytest.mark.slow
def test_damage_is_refused_in_one_line_or_changes_nothing(sound: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(sound, folder)
    contents = {path: (folder / path).read_bytes() for path in READ}
    expected = {path: read(folder) for path, read in READ.items()}
    draw = random.Random(0)
    refused = 0
    for number in range(COUNT):
        path = draw.choice(list(READ))
        others = [content for other, content in contents.items() if other != path]
        changed = damaged(contents[path], others, draw)
        (folder / path).write_bytes(changed)
        try:
            found = READ[path](folder)
        except UserError as error:  # any other exception fails the test
            refused += 1
            assert "\n" not in str(error), (number, path, str(error))
            assert path.name in str(error) or str(folder / DATA) in str(error), (number, path, str(error))
            assert ";" in str(error) or ":" in str(error), (number, path, str(error))
        else:
            assert READ[path] is generated or found == expected[path], (number, path)
        (folder / path).write_bytes(contents[path])
    assert refused > 0.8 * COUNT


def files_of(folder: Path) -> dict[Path, bytes]:
    """Content of every file of the experiment and the data, except those of wandb and the lock."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "wandb" not in path.parts]
    return {path: path.read_bytes() for path in paths if path.suffix != ".lock"}


def test_every_script_refuses_a_damaged_file_in_one_line_and_changes_nothing(sound: Path, tmp_path: Path):
    for path, script, *flags in (
        (EXPERIMENT / "best.safetensors", "reconstruction.py"),
        (EXPERIMENT / "latest.safetensors", "train.py", "--DATA", "tiny", "--MODEL", "NVIB", "--DIM_H", 16),
        (EXPERIMENT / "config.json", "sample.py"),
        (EXPERIMENT / "metrics.jsonl", "report.py"),
        (EXPERIMENT / "samples.jsonl", "forwardSampleEvaluation.py", "--LANGUAGE_MODEL", "a"),
        (DATA / "dataset/train/data-00000-of-00001.arrow", "sample.py"),
        (DATA / "tokenizer/tokenizer.json", "regularisation.py"),
    ):
        folder = tmp_path / script / path.name
        shutil.copytree(sound, folder)
        content = (folder / path).read_bytes()
        (folder / path).write_bytes(content[: len(content) // 2])
        before = files_of(folder)
        flags += (
            ["--BATCH_SIZE", 32, "--MAX_STEPS", 6, "--SAVE_STEPS", 4, "--PRECISION", "fp32"]
            if script == "train.py"
            else []
        )
        name = ["--EXPERIMENT_NAME", "a"] if script != "report.py" else ["--PROJECT_NAME", "nvib"]
        places = [
            "--OUTPUT_DIR",
            folder / "outputs",
            *(["--DATA_DIR", folder / "data"] if script != "report.py" else []),
        ]
        reported = one_line_of_error(call(script, *name, *places, *flags, expect=2))
        assert path.name in reported or str(folder / DATA) in reported, reported
        assert files_of(folder) == before


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_no_file_runs_code_when_it_is_read(sound: Path, tmp_path: Path, kind: str):
    folder, marker = tmp_path / "copy", tmp_path / "ran"
    shutil.copytree(sound, folder)
    payload = tmp_path / "payload"
    if kind == "pickle":
        payload.write_bytes(pickle.dumps(Malicious(marker)))
    else:
        torch.save({"model": Malicious(marker)}, payload)
    extra = [EXPERIMENT / "failure.json", EXPERIMENT / "histograms.jsonl", EXPERIMENT / "optimizer.pt"]
    for path in [*READ, *extra]:
        content = (folder / path).read_bytes() if (folder / path).exists() else None
        shutil.copy(payload, folder / path)
        for read in (experiment_of, continued, reported, generated):
            with suppress(UserError):
                read(folder)
        assert not marker.exists(), path
        (folder / path).unlink()
        if content is not None:
            (folder / path).write_bytes(content)
    pickle.loads(pickle.dumps(Malicious(marker)))  # the payload works
    assert marker.exists()


def code_of(path: Path) -> list[str]:
    """Lines of a module without comments and without strings that are statements, such as docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ...
    return ast.unparse(tree).splitlines()


def test_no_module_unpickles_or_evaluates_files():
    forbidden = re.compile(
        r"\b(pickle|cloudpickle|dill|joblib|shelve|marshal)\b|torch\.load|allow_pickle|trust_remote_code|\beval\(|\bexec\("
    )
    for path in [
        *ROOT.glob("*.py"),
        *(p for part in ("nvib", "models", "pipeline") for p in (ROOT / part).rglob("*.py")),
    ]:
        code = [line for line in code_of(path) if not re.search(r"\.eval\(|def eval", line)]
        assert not [line for line in code if forbidden.search(line)], path


def test_other_data_of_the_same_name_is_refused_with_the_difference(sound: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(sound, folder)
    shutil.rmtree(folder / DATA)
    prepare_tiny(folder / "data", count=210)
    with pytest.raises(UserError, match=r"is not the data that 'a' was trained on \(.*tokenizer.*\)"):
        load_experiment(folder / "outputs", "nvib", "a", folder / "data")


@pytest.mark.slow
def test_a_second_process_may_not_write_an_experiment_that_another_is_writing(sound: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(sound, folder)
    files = ExperimentFiles.of(folder / "outputs", "nvib", "a")
    files.claim()
    files.claim()  # a second claim of the same process changes nothing
    places = ("--EXPERIMENT_NAME", "a", "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")
    reported = one_line_of_error(run("reconstruction.py", *places, expect=2))
    assert f"'a' is being written by process {os.getpid()} on" in reported
    release()
    run("reconstruction.py", *places)
