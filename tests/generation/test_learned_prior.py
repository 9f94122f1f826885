"""The learned prior: posteriors of imagined texts, how it is fitted, shared and refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.decoding import Decoding
from models.sampling import SamplingSettings
from models.text_model import AS_TRAINED, Noise
from pipeline import from_pretrained, load_experiment
from pipeline.data.documents import Split
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from pipeline.experiments.paths import ExperimentFiles
from pipeline.generation.learned_prior import LearnedPrior
from pipeline.generation.sampler import sample_with, source_of
from pipeline.generation.trained_model import TrainedModel
from pipeline.runtime.errors import UserError
from tests.helpers import ROOT, call, one_line_of_error, prepare_tiny, run, run_ranks, train_tiny
from tests.zygote import zygote

pytestmark = pytest.mark.slow  # several models are trained; together some ten seconds

SIZES = ("--PRECISION", "fp32", "--BATCH_SIZE", 16, "--LEARNING_RATE", 0.01)


def at(folder: Path, name: str = "nvib") -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def of(folder: Path, name: str = "nvib") -> TrainedModel:
    return load_experiment(folder / "outputs" / "nvib" / name, data_dir=folder / "data")


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An NVAE with a language model of the same data as its prior, and a Transformer."""
    folder = tmp_path_factory.mktemp("prior")
    for part in ("data", "outputs"):
        shutil.copytree(trained / part, folder / part)
    train_tiny(folder, "lm", "LM")
    call("train_prior.py", *at(folder), "--FROM", "lm")
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to change."""
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def written(folder: Path, name: str = "nvib") -> list[dict[str, Any]]:
    path = folder / "outputs" / "nvib" / name / "samples.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


# The distribution.


def test_a_latent_is_a_draw_from_the_posterior_of_the_imagined_text(folder: Path):
    model = of(folder)
    cold = LearnedPrior.of(model.experiment).source(Noise(0.0), Decoding("sample"), 1, None)
    with torch.inference_mode():
        latent = cold.draw([0, 1, 2], torch.Generator().manual_seed(1), None)
    imagined = [cold.made_from(number) for number in (0, 1, 2)]
    assert len({row["imagined"] for row in imagined}) > 1
    for place, row in enumerate(imagined):
        encoding = model.encode([row["imagined"]])
        assert row["drawn_length"] == int(encoding.vectors) - 1  # component 0 is the prior's
        own = latent.select(torch.tensor([place]))
        assert torch.allclose(
            own.z[~own.key_padding_mask], encoding.latent.z[~encoding.latent.key_padding_mask], atol=1e-4
        )


def test_the_noise_is_that_of_the_posterior(folder: Path):
    """With one text imagined over and over, the vectors have the posterior's means and variances."""
    model = of(folder)
    source = LearnedPrior.of(model.experiment).source(AS_TRAINED, Decoding("greedy"), 1, None)
    with torch.inference_mode():
        latent = source.draw(range(400), torch.Generator().manual_seed(2), None)
        encoding = model.encode([source.made_from(0)["imagined"]])
    posterior = encoding.posterior
    assert len({source.made_from(number)["imagined"] for number in range(400)}) == 1
    assert posterior is not None
    own = latent.z[:, 1:]
    deviation = (0.5 * posterior.logvar[0, 1:]).exp()
    assert ((own.mean(dim=0) - posterior.mu[0, 1:]) / deviation * 20).std() == pytest.approx(1, abs=0.15)
    assert (own.std(dim=0) / deviation).mean() == pytest.approx(1, abs=0.02)


def test_lengths_are_those_asked_for(folder: Path):
    experiment = of(folder).experiment
    for asked, lengths in (({"vectors": 8}, {7}), ({"min_length": 5, "max_length": 6}, {5, 6})):
        settings = SamplingSettings(number_samples=12, prior="learned", **asked)
        assert {row["drawn_length"] for row in sample_with(experiment, settings, 5)} <= lengths


def test_an_imagined_text_may_be_longer_than_those_of_training(folder: Path):
    experiment = of(folder).experiment
    longest = max(experiment.data.length_distribution)
    settings = SamplingSettings(number_samples=3, prior="learned", min_length=longest + 5)
    assert {row["drawn_length"] for row in sample_with(experiment, settings, 5)} == {longest + 5}


def test_texts_of_any_length_that_has_the_vectors_are_imagined(copy: Path):
    """The one vector of a VTP is that of every text."""
    train_tiny(copy, "vtp", "VTP", steps=20)
    call("train_prior.py", *at(copy, "vtp"), "--FROM", "lm")
    drawn = [
        sample_with(of(copy, "vtp").experiment, SamplingSettings(number_samples=8, prior="learned", vectors=asked), 5)
        for asked in (None, 1)
    ]
    assert drawn[0] == drawn[1]
    assert len({row["imagined"] for row in drawn[0]}) > 1


def test_the_same_seed_draws_the_same_and_another_one_others(folder: Path):
    model = of(folder)
    first = model.generate(6, seed=3, prior="learned")
    assert first == model.generate(6, seed=3, prior="learned")
    assert first != model.generate(6, seed=4, prior="learned")
    assert first != model.generate(6, seed=3)
    # Mean latents of different texts differ.
    assert len(set(model.generate(12, prior="learned", latent_temperature=0.0))) > 1


def test_the_prior_is_given_the_label(tmp_path: Path):
    """Texts of two labels have different words: an imagined text has those of the label that is asked for."""
    rows = "".join(f"{'a cat saw the dog .' if n % 2 else 'old kings left town .'},{'xy'[n % 2]}\n" for n in range(300))
    (tmp_path / "tiny.csv").write_text("text,label\n" + rows)
    source = TextSource(str(tmp_path / "tiny.csv"), Split(0.1, 0.1, 0), text_column="text", label_column="label")
    prepare(source, "tiny", tmp_path / "data", PreparationSettings("wordpiece", 200, "none", 2, 60))
    train_tiny(tmp_path, "nvib", "NVIB", steps=20)
    train_tiny(tmp_path, "lm", "LM", steps=60)
    call("train_prior.py", *at(tmp_path), "--FROM", "lm")
    experiment = of(tmp_path).experiment
    for vectors in (3, 6):
        source = source_of(experiment, SamplingSettings(prior="learned", vectors=vectors))
        with torch.inference_mode():
            latent: Any = source.draw([0, 1], torch.Generator().manual_seed(0), ["x", "y"])
        assert (~latent.key_padding_mask).sum(dim=1).tolist() == [vectors] * 2
    with pytest.raises(UserError, match="--VECTORS 2: the label and the end of a text have more already"):
        source_of(experiment, SamplingSettings(prior="learned", vectors=2))
    for label, word in (("x", "kings"), ("y", "cat")):
        settings = SamplingSettings(number_samples=20, prior="learned", label=label)
        drawn = sample_with(of(tmp_path).experiment, settings, 8)
        assert {row["label"] for row in drawn} == {label}
        assert sum(word in row["imagined"] for row in drawn) >= 18
    mixed = sample_with(of(tmp_path).experiment, SamplingSettings(number_samples=40, prior="learned"), 8)
    agree = [("cat" in row["imagined"]) == (row["label"] == "y") for row in mixed]
    assert sum(agree) >= 36


# The scripts.


def test_the_script_writes_what_the_library_returns(copy: Path):
    before = {path.name: path.read_bytes() for path in (copy / "outputs/nvib/nvib").glob("*.safetensors")}
    flags = ("--PRIOR", "learned", "--PRIOR_TOP_P", 0.9, "--PRIOR_TEMPERATURE", 0.8, "--NUMBER_SAMPLES", 9)
    said = call("sample.py", *at(copy), *flags, "--DECODING", "sample")
    expected = of(copy).generate(9, prior="learned", prior_top_p=0.9, prior_temperature=0.8, decoding="sample")
    rows = written(copy)
    assert [row["text"] for row in rows] == expected
    assert all(row["imagined"] and row["drawn_length"] > 1 for row in rows)
    assert "two decodings of one draw" in said.stdout
    assert json.loads((copy / "outputs/nvib/nvib/summary.json").read_text())["samples/prior"] == "learned"
    assert before == {path.name: path.read_bytes() for path in (copy / "outputs/nvib/nvib").glob("*.safetensors")}


def test_two_processes_draw_what_one_draws(copy: Path):
    flags = ("--PRIOR", "learned", "--NUMBER_SAMPLES", 20, "--GENERATION_BATCH_SIZE", 4, "--DECODING", "sample")
    run("sample.py", *at(copy), *flags)
    alone = written(copy)
    run_ranks("sample.py", *at(copy), *flags)
    assert written(copy) == alone


def test_a_prior_is_trained_and_resumed_with_the_same_bits(copy: Path):
    prior = copy / "outputs" / "nvib" / "nvib" / "prior"
    weights = []
    for limits in ((2,), (1, 2)):
        call("train_prior.py", *at(copy), *SIZES, "--RESTART", "True", "--EPOCHS", limits[0])
        for epochs in limits[1:]:
            call("sample.py", *at(copy), "--PRIOR", "learned", "--NUMBER_SAMPLES", 2)
            said = call("train_prior.py", *at(copy), *SIZES, "--EPOCHS", epochs)
            assert "continuing after step" in said.stdout
            left = json.loads((prior.parent / "summary.json").read_text())
            assert not [key for key in left if key.startswith("samples/")], "the prior that drew them is another"
        weights.append(load_file(prior / "latest.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    config = json.loads((prior / "config.json").read_text())
    own = json.loads((prior.parent / "config.json").read_text())
    assert config["model"]["name"] == "LM"
    assert config["model"]["dim_h"] == own["model"]["dim_h"]
    assert config["data"] == own["data"]
    call("sample.py", *at(copy), "--PRIOR", "learned", "--NUMBER_SAMPLES", 5)


def test_a_prior_whose_training_is_killed_ends_with_the_same_bits(copy: Path, tmp_path: Path):
    """The same command is killed at several moments, and then runs to its end."""
    prior = copy / "outputs" / "nvib" / "nvib" / "prior"
    command = ["train_prior.py", *at(copy), *SIZES, "--EPOCHS", 6, "--SAVE_STEPS", 2]
    whole = start(tmp_path / "log", [*command, "--RESTART", "True"])
    assert zygote().wait(whole) == 0
    expected = load_file(prior / "latest.safetensors")
    shutil.rmtree(prior)
    ended = []
    for wait in (0.0, 0.1, 0.3, 0.6):
        log = tmp_path / f"log-{wait}"
        pid = start(log, command)
        while "batch/s" not in (log.read_text(errors="replace") if log.exists() else "") and running(pid):
            time.sleep(0.01)
        time.sleep(wait)
        os.kill(pid, signal.SIGKILL)  # the process id stays taken until `wait`
        ended.append(zygote().wait(pid))
    assert -signal.SIGKILL in ended
    assert zygote().wait(start(tmp_path / "last", command)) == 0
    own = load_file(prior / "latest.safetensors")
    assert all(torch.equal(expected[name], own[name]) for name in expected)
    call("sample.py", *at(copy), "--PRIOR", "learned", "--NUMBER_SAMPLES", 5)


def test_a_prior_that_is_killed_between_its_best_weights_and_its_state_is_trained(copy: Path):
    prior = copy / "outputs" / "nvib" / "nvib" / "prior"
    call("train_prior.py", *at(copy), *SIZES, "--RESTART", "True", "--EPOCHS", 1)
    expected = (prior / "best.safetensors").read_bytes()
    (prior / "latest.safetensors").unlink()
    call("train_prior.py", *at(copy), *SIZES, "--EPOCHS", 1)
    assert (prior / "best.safetensors").read_bytes() == expected


def test_of_several_processes_one_takes_the_language_model_over(copy: Path, monkeypatch: pytest.MonkeyPatch):
    """Another one has nothing to check: the first may have written the prior already."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    shutil.rmtree(copy / "outputs" / "nvib" / "nvib" / "prior")
    for rank, said in (("0", "lm is the prior of nvib now"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        shown = call("train_prior.py", *at(copy), "--FROM", "lm").stdout
        assert said in shown
        assert bool(said) == bool(shown)


def test_figures_of_samples_go_with_the_prior_that_drew_them(copy: Path):
    summary = copy / "outputs" / "nvib" / "nvib" / "summary.json"
    for anew in (("--FROM", "lm"), (*SIZES, "--MAX_STEPS", 2)):
        call("sample.py", *at(copy), "--PRIOR", "learned", "--NUMBER_SAMPLES", 5)
        assert json.loads(summary.read_text())["samples/prior"] == "learned"
        said = call("train_prior.py", *at(copy), *anew, "--RESTART", "True").stdout
        assert "the figures of the samples of nvib are removed" in said
        assert not [key for key in json.loads(summary.read_text()) if key.startswith("samples/")]
        assert "validation/perplexity" in json.loads(summary.read_text())


def test_an_experiment_is_not_removed_while_its_prior_is_trained(copy: Path):
    folder = copy / "outputs" / "nvib" / "nvib"
    code = "import sys, time; from pathlib import Path; from pipeline.experiments.paths import ExperimentFiles\n"
    code += "ExperimentFiles(Path(sys.argv[1])).prior.claim(); print(flush=True); time.sleep(60)"
    again = ("train.py", *at(copy), "--DATA", "tiny", "--MODEL", "NVIB", *SIZES, "--MAX_STEPS", 1, "--RESTART", "True")
    with subprocess.Popen([sys.executable, "-c", code, folder], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert "experiment 'prior'" in refused(*again)
        assert (folder / "prior" / "best.safetensors").exists()
        other.kill()
    assert "the learned prior of nvib is removed with it" in call(*again).stdout
    assert not (folder / "prior").exists()


def start(log: Path, arguments: list[object]) -> int:
    return zygote().start([ROOT / str(arguments[0]), *arguments[1:]], log, tracker=False)


def running(pid: int) -> bool:
    return bool(Path(f"/proc/{pid}/cmdline").read_text())  # a zombie's is empty


def test_a_shared_model_has_its_prior(folder: Path, tmp_path: Path):
    model = of(folder)
    model.save_pretrained(tmp_path / "shared")
    assert (tmp_path / "shared" / "prior.safetensors").exists()
    assert 'prior="learned"' in (tmp_path / "shared" / "README.md").read_text()
    shared = from_pretrained(tmp_path / "shared")
    expected = model.generate(5, prior="learned")
    assert shared.generate(5, prior="learned") == expected
    shared.save_pretrained(tmp_path / "again")
    assert from_pretrained(tmp_path / "again").generate(5, prior="learned") == expected
    damaged = bytearray((tmp_path / "shared" / "prior.safetensors").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "shared" / "prior.safetensors").write_bytes(damaged)
    with pytest.raises(UserError, match=r"prior\.safetensors is damaged"):
        from_pretrained(tmp_path / "shared")


# Refused.


def refused(script: str, *arguments: object) -> str:
    return one_line_of_error(call(script, *arguments, expect=2))


def test_an_experiment_without_a_prior_says_how_to_fit_one(trained: Path):
    with pytest.raises(UserError, match=r"'nvib' has no learned prior; fit one with train_prior\.py"):
        of(trained).generate(2, prior="learned")


def test_a_prior_is_for_models_with_a_posterior(copy: Path):
    assert "vanilla is of the model T, which has no posterior" in refused("train_prior.py", *at(copy, "vanilla"))
    assert "lm is of the model LM, which has no posterior" in refused("train_prior.py", *at(copy, "lm"))
    for name, lacking in (("lm", "LM has no latent"), ("vanilla", "T has no posterior")):
        with pytest.raises(UserError, match=lacking):
            of(copy, name).generate(2, prior="learned")


def test_what_becomes_a_prior_is_a_language_model_of_the_same_data(copy: Path):
    anew = ("--RESTART", "True")
    assert "--FROM vanilla is of the model T; name one" in refused(
        "train_prior.py", *at(copy), "--FROM", "vanilla", *anew
    )
    assert "no experiment 'none'" in refused("train_prior.py", *at(copy), "--FROM", "none", *anew)
    assert "a prior that was taken over" in refused("train_prior.py", *at(copy), "--FROM", "lm")
    assert "--LORA_RANK is for the prior of a model around a causal base, and that of nvib has" in refused(
        "train_prior.py", *at(copy), *anew, "--LORA_RANK", 4
    )
    assert "--MAX_STEPS is for training" in refused(
        "train_prior.py", *at(copy), "--FROM", "lm", "--MAX_STEPS", 3, *anew
    )
    assert "a prior that was taken over" in refused("train_prior.py", *at(copy), *SIZES)
    call("train_prior.py", *at(copy), *SIZES, *anew, "--MAX_STEPS", 2)
    assert "has a prior already" in refused("train_prior.py", *at(copy), "--FROM", "lm")
    said = refused("train_prior.py", *at(copy), *SIZES[:-1], 0.02)
    assert "'nvib-prior' was trained with learning_rate = 0.01, not 0.02; train it anew with --RESTART True" in said
    kept = (copy / "outputs/nvib/nvib/prior/best.safetensors").read_bytes()
    shutil.rmtree(copy / "outputs/nvib/lm")
    prepare_tiny(copy / "data", "other", 100)
    call("train.py", *at(copy, "lm"), "--DATA", "other", "--MODEL", "LM", *SIZES, "--MAX_STEPS", 2, "--DIM_H", 8)
    assert "was trained on other data" in refused("train_prior.py", *at(copy), "--FROM", "lm", *anew)
    assert (copy / "outputs/nvib/nvib/prior/best.safetensors").read_bytes() == kept


def test_a_sound_prior_is_not_replaced_by_a_damaged_one_or_one_of_other_data(copy: Path):
    prior = copy / "outputs" / "nvib" / "nvib" / "prior" / "best.safetensors"
    kept = prior.read_bytes()
    damaged = copy / "outputs" / "nvib" / "lm" / "best.safetensors"
    damaged.write_bytes(kept[:-8])
    said = refused("train_prior.py", *at(copy), "--FROM", "lm", "--RESTART", "True")
    assert "lm/best.safetensors is damaged" in said and "train lm anew" in said
    prepare_tiny(copy / "data", count=100)
    said = refused("train_prior.py", *at(copy), *SIZES, "--MAX_STEPS", 2, "--RESTART", "True")
    assert "is not the data that 'nvib' was trained on" in said
    assert prior.read_bytes() == kept


def test_a_damaged_prior_is_refused(copy: Path):
    path = copy / "outputs" / "nvib" / "nvib" / "prior" / "best.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    said = refused("sample.py", *at(copy), "--PRIOR", "learned")
    assert "is damaged" in said
    assert "train_prior.py --RESTART True" in said
    assert not (copy / "outputs/nvib/nvib/samples.jsonl").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--PRIOR_TOP_P", 0.9), "--PRIOR_TOP_P is for --PRIOR learned"),
        (("--PRIOR_TEMPERATURE", 0.9), "--PRIOR_TEMPERATURE is for --PRIOR learned"),
        (("--PRIOR", "learned", "--NEAR", "a cat"), "--NEAR draws them around a text"),
        (("--PRIOR", "learned", "--SAMPLING_DISTRIBUTION", "uniform"), "leave --SAMPLING_DISTRIBUTION out"),
        (("--PRIOR", "learned", "--WHERE", "age > 3"), "--WHERE is for --PRIOR plain"),
        (("--PRIOR", "learned", "--BALANCE", "sex"), "--BALANCE is for --PRIOR plain"),
    ],
)
def test_flags_that_mean_nothing_are_refused(flags: tuple[object, ...], message: str):
    assert message in refused("sample.py", "--EXPERIMENT_NAME", "none", *flags)


def test_the_files_of_a_prior_have_its_experiment_and_project_in_their_name(folder: Path):
    files = ExperimentFiles.of(folder / "outputs", "nvib", "nvib")
    assert (files.name, files.project, files.of_prior) == ("nvib", "nvib", False)
    assert (files.prior.name, files.prior.project, files.prior.of_prior) == ("nvib-prior", "nvib", True)
    plain = ExperimentFiles.of(folder / "outputs", "nvib", "prior")
    assert (plain.name, plain.project, plain.of_prior) == ("prior", "nvib", False)
