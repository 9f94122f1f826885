"""Two real processes that shard a model (FSDP2), against processes that each hold the whole model."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models import build
from pipeline.experiments.config import read_config, settings_from_json
from pipeline.experiments.paths import ExperimentFiles
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record, write_checksums, write_record
from pipeline.training.checkpoints import MOMENTS, PROGRESS, WEIGHTS, Progress, ShardedCheckpoints, WholeCheckpoints
from pipeline.training.fsdp_tensors import INDEX, names_in, read_index, read_shards
from tests.helpers import call, of_rank, one_line_of_error, prepare_tiny, run, run_ranks, start, wait_for

pytestmark = pytest.mark.slow
SMALL = ("--DATA", "tiny", "--DIM_H", 16, "--PRECISION", "fp32", "--DROPOUT", 0, "--BATCH_SIZE", 16)
COMPUTED = ("train/cross_entropy", "validation/cross_entropy", "validation/end_cross_entropy", "validation/perplexity")


def at(folder: Path, name: str) -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def experiment(folder: Path, name: str) -> Path:
    return folder / "outputs" / "nvib" / name


def figures(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (experiment(folder, name) / "metrics.jsonl").read_text().splitlines()]


def restored(folder: Path) -> Progress | None:
    """Checkpoint of the sharded run as one process of train.py restores it."""
    files = ExperimentFiles.of(folder / "outputs", "nvib", "sharded")
    model = build(settings_from_json(read_config(files)["model"], files.config))
    return WholeCheckpoints(files, model, torch.optim.AdamW(model.parameters()), first=True).restore()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One step of the same run by two processes: with the whole model in each, and with a shard in each."""
    folder = tmp_path_factory.mktemp("sharding")
    prepare_tiny(folder / "data")
    run_ranks("train.py", *at(folder, "whole"), *SMALL, "--MAX_STEPS", 1)
    run("train.py", *at(folder, "sharded"), *SMALL, "--MAX_STEPS", 1, processes=2, sharded=True)
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the sharded run, to resume."""
    shutil.copytree(folder / "data", tmp_path / "data")
    shutil.copytree(experiment(folder, "sharded"), experiment(tmp_path, "sharded"))
    return tmp_path


def test_a_sharded_model_has_the_loss_and_the_gradients_of_a_whole_one(folder: Path):
    """After one step Adam's first moment is a tenth of the gradient; the figures of the epoch agree as well."""
    for a, b in zip(figures(folder, "whole"), figures(folder, "sharded"), strict=True):
        for name in COMPUTED:
            assert b[name] == pytest.approx(a[name], rel=1e-4)
    whole = load_file(experiment(folder, "whole") / "latest.safetensors")
    shards = experiment(folder, "sharded") / "latest" / MOMENTS
    of_shards = {
        name: torch.zeros_like(whole[f"optimizer/{name}"])
        for name in names_in(shards, "optimizer", "")
        if name.endswith("|exp_avg")
    }
    assert of_shards.keys() == {name.removeprefix("optimizer/") for name in whole if name.endswith("|exp_avg")}
    read_shards(shards, {"optimizer": of_shards}, alone=True, remedy="")
    for name, moment in of_shards.items():
        assert (whole[f"optimizer/{name}"] - moment).norm() <= 1e-4 * moment.norm(), name
    best = {name: load_file(experiment(folder, name) / "best.safetensors") for name in ("whole", "sharded")}
    assert best["whole"].keys() == best["sharded"].keys()


def test_each_process_writes_its_shard_and_accelerate_merges_them(folder: Path, tmp_path: Path):
    shards = experiment(folder, "sharded") / "latest"
    assert not (experiment(folder, "sharded") / "latest.safetensors").exists()
    assert len(list((shards / WEIGHTS).glob("*.distcp"))) == 2
    command = ("-m", "accelerate.commands.accelerate_cli", "merge-weights", shards / WEIGHTS, tmp_path)
    subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)
    (merged,) = tmp_path.glob("*.safetensors")
    weights = {name.removeprefix("model."): tensor for name, tensor in load_file(merged).items()}
    best = load_file(experiment(folder, "sharded") / "best.safetensors")
    assert weights.keys() == {name for name in best if not name.startswith("_")}
    assert all(torch.equal(weights[name], best[name]) for name in weights)


def test_one_process_resumes_a_sharded_run_as_a_run_without_shards(copy: Path, folder: Path):
    shutil.copytree(experiment(folder, "whole"), experiment(copy, "whole"))
    for name in ("sharded", "whole"):
        shown = call("train.py", *at(copy, name), *SMALL, "--MAX_STEPS", 3).stdout
        assert "continuing after step 1 of" in shown
        assert not (experiment(copy, name) / "latest").exists()
    for name in COMPUTED:
        assert figures(copy, "sharded")[-1][name] == pytest.approx(figures(copy, "whole")[-1][name], rel=1e-4)
    a, b = (load_file(experiment(copy, name) / "latest.safetensors") for name in ("whole", "sharded"))
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name] - b[name]).norm() <= 1e-3 * a[name].norm(), name


def test_sharded_processes_resume_a_run_without_shards(folder: Path, tmp_path: Path):
    shutil.copytree(folder / "data", tmp_path / "data")
    shutil.copytree(experiment(folder, "whole"), experiment(tmp_path, "whole"))
    shown = run("train.py", *at(tmp_path, "whole"), *SMALL, "--MAX_STEPS", 2, processes=2, sharded=True).stdout
    assert "continuing after step 1 of" in shown
    assert not (experiment(tmp_path, "whole") / "latest.safetensors").exists()
    assert read_record(experiment(tmp_path, "whole") / "latest" / PROGRESS, "")["step"] == 2


def test_a_stopped_sharded_run_keeps_its_last_step(folder: Path):
    command = (*at(folder, "stopped"), *SMALL, "--EPOCHS", 50, "--SAVE_STEPS", 1000)
    process = start("train.py", *command, processes=2, sharded=True)
    wait_for(experiment(folder, "stopped") / "best.safetensors")
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=90)[0]
    step = int(said.split("stopped after step ")[1].split()[0])
    assert read_record(experiment(folder, "stopped") / "latest" / PROGRESS, "")["step"] == step


@pytest.mark.parametrize("rank", [0, 1])
def test_if_one_of_two_processes_is_killed_the_other_names_the_step_that_is_kept(folder: Path, rank: int):
    """The other process holds a shard alone, so it cannot save."""
    name = f"killed{rank}"
    command = (*at(folder, name), *SMALL, "--EPOCHS", 50, "--SAVE_STEPS", 5)
    process = start("train.py", *command, processes=2, sharded=True)
    kept = experiment(folder, name) / "latest" / PROGRESS
    wait_for(kept)
    os.kill(of_rank(process, rank), signal.SIGKILL)
    said = process.communicate(timeout=90)[0]
    assert process.returncode != 0
    (reported,) = re.findall(r"train\.py: .*", said)  # a progress bar may precede it
    step = read_record(kept, "")["step"]
    assert f"step {step}" in reported, reported
    assert reported.endswith("the same command continues there")


def test_the_reported_step_is_the_one_on_disk(copy: Path):
    files = ExperimentFiles.of(copy / "outputs", "nvib", "sharded")
    model = build(settings_from_json(read_config(files)["model"], files.config))
    checkpoints = ShardedCheckpoints(files, model, torch.optim.AdamW(model.parameters()), first=False)
    assert checkpoints.save_alone(Progress()) == 1
    shutil.rmtree(files.latest_shards)
    assert checkpoints.save_alone(Progress()) is None
    checkpoints.kept = 5  # the next checkpoint was about to replace it
    assert checkpoints.save_alone(Progress()) == 5


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_pickled_metadata_of_shards_is_never_read(copy: Path, tmp_path: Path):
    shards, marker = experiment(copy, "sharded") / "latest", tmp_path / "ran"
    for part in (WEIGHTS, MOMENTS):
        (shards / part / ".metadata").write_bytes(pickle.dumps(Malicious(marker)))
    checksums_again(shards)
    assert restored(copy).step == 1
    assert not marker.exists()


def test_hostile_shards_are_refused_in_one_line(copy: Path, tmp_path: Path):
    shards, marker = experiment(copy, "sharded") / "latest", tmp_path / "ran"
    index = read_record(shards / WEIGHTS / INDEX, "")
    for file in (shards / WEIGHTS).glob("*.distcp"):
        torch.save(Malicious(marker), file)
        for tensor in index["tensors"].values():
            for chunk in tensor["chunks"]:
                if chunk["file"] == file.name:
                    chunk |= {"at": 0, "bytes": file.stat().st_size}
    write_record(shards / WEIGHTS / INDEX, index)
    checksums_again(shards)
    with pytest.raises(UserError, match=r"is damaged or does not fit the model .*; train anew with --RESTART True"):
        restored(copy)
    assert not marker.exists()


def checksums_again(shards: Path) -> None:
    (shards / "checksums.json").unlink()
    write_checksums(shards)


@pytest.mark.parametrize("damage", ["absent", "cut", "changed"])
def test_damaged_shards_are_refused_in_one_line(copy: Path, damage: str):
    part = next((experiment(copy, "sharded") / "latest" / WEIGHTS).glob("*.distcp"))
    content = part.read_bytes()
    if damage == "absent":
        part.unlink()
    elif damage == "cut":
        part.write_bytes(content[:-10])
    else:
        part.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    with pytest.raises(UserError, match="train anew with --RESTART True"):
        restored(copy)


def test_an_invalid_index_or_one_that_leads_outside_the_folder_is_refused(copy: Path):
    folder = experiment(copy, "sharded") / "latest" / WEIGHTS
    sound = read_record(folder / INDEX, "")
    assert read_index(folder, "").state_dict_metadata
    name = next(iter(sound["tensors"]))
    for change in ({"file": "../x"}, {"file": "/etc/passwd"}, {"offsets": "x"}, {"file": 3}, {"sizes": None}):
        tensor = sound["tensors"][name]
        changed = {**tensor, "chunks": [{**tensor["chunks"][0], **change}, *tensor["chunks"][1:]]}
        write_record(folder / INDEX, {"tensors": {**sound["tensors"], name: changed}})
        with pytest.raises(UserError, match="is not an index of shards"):
            read_index(folder, "")
    for text in ("[]", "{}", '{"tensors": 3}'):
        (folder / INDEX).write_text(text)
        with pytest.raises(UserError):
            read_index(folder, "")
    for dtype in ("load", "nothing", 3):
        write_record(
            folder / INDEX, {"tensors": {**sound["tensors"], name: {**sound["tensors"][name], "dtype": dtype}}}
        )
        with pytest.raises(UserError, match="is not an index of shards"):
            read_index(folder, "")


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        ({"FSDP_VERSION": "2"}, "cannot be compiled; leave --COMPILE out"),
        ({}, "FSDP is configured with version 1; add --fsdp_version 2"),
        ({"FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"}, "add --GRADIENT_CHECKPOINTING True"),
    ],
)
def test_unsupported_options_of_fsdp_are_refused(folder: Path, monkeypatch, given: dict[str, str], reported: str):
    """Environment variables hold the configuration that accelerate launch passes."""
    for name, value in {"ACCELERATE_USE_FSDP": "true", **given}.items():
        monkeypatch.setenv(name, value)
    assert reported in one_line_of_error(
        call("train.py", *at(folder, "refused"), *SMALL, "--COMPILE", "True", expect=2)
    )
    assert not experiment(folder, "refused").exists()
