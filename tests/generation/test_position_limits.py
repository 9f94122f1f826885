"""A base with positions for few tokens: what is too long for it is refused in one line, and what fits is not."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from models.decoding import GREEDY
from models.packing import Packing
from models.text_model import Noise
from pipeline import load_experiment
from pipeline.data.dataset import load_prepared
from pipeline.evaluation.judge import perplexity, tokenized
from pipeline.generation.generate import sample
from pipeline.generation.latents import from_prior
from pipeline.generation.trained_model import TrainedModel
from pipeline.runtime.errors import UserError
from tests.data.own_files import MANY, places, write_table
from tests.helpers import call, one_line_of_error
from tests.models.tiny_bases import around, save_base, texts

PROMPT = 15  # tokens of the instruction in the tiny tokenizer
LONGEST = 16  # tokens of the longest sentence
FITTING = PROMPT + (LONGEST + 1) + LONGEST  # instruction, components of NVIB and the sentence
KINDS = {"NVIB": 17, "VTV": 16, "VTS": 8, "LM": None}  # vectors of a text with 16 tokens
LONG = " ".join(MANY[:3])
HAS = rf"gpt2 has positions for {FITTING} tokens"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with exactly the positions that NVIB needs for the longest sentence."""
    return save_base(tmp_path_factory.mktemp("limits") / "gpt2", "gpt2", positions=FITTING)


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_the_positions_that_a_model_counts_are_those_that_its_base_reads(tmp_path: Path, name: str):
    vectors = KINDS[name]
    needed = LONGEST if vectors is None else PROMPT + vectors + LONGEST
    for spare in (0, -1):
        folder = save_base(tmp_path / str(spare), "gpt2", positions=needed + spare)
        model = around(folder, name)
        assert (model.positions, model.positions_of(LONGEST)) == (needed + spare, needed)
        source, mask, target_input = texts(folder, 5, LONGEST)
        latent = None if vectors is None else model.encode(source, mask).latent
        assert model.positions_before(latent) == needed - LONGEST
        if spare == 0:
            model.score(target_input, latent, source, Packing.of(mask))
        else:
            with pytest.raises(IndexError):
                model.score(target_input, latent, source, Packing.of(mask))


@torch.no_grad()
def test_the_draws_of_a_component_take_one_position(base: Path):
    model = around(base, "NVIB")
    drawn = model.sample_prior(torch.tensor([4, 9]), noise=Noise(kappa=3))
    assert drawn.key_padding_mask.shape[1] == 30
    assert model.positions_before(drawn) == PROMPT + 10
    read = around(base, "NVIB", reading="draws-2", kappa=2)
    source, mask, _ = texts(base, 3, 8)
    assert read.positions_before(read.encode(source, mask).latent) == PROMPT + 9


@pytest.fixture(scope="module")
def folder(base: Path) -> Path:
    """An NVAE and a language model around the tiny GPT-2, after one step."""
    folder = base.parent
    write_table(folder / "own.csv", review=MANY)
    flags = ("--DATA", folder / "own.csv", "--TEXT_COLUMN", "review", "--TOKENIZER", base)
    call("prepareDatasets.py", *flags, "--DATA_DIR", folder / "data")
    for name in ("NVIB", "LM"):
        train(folder, name, base)
    return folder


def train(folder: Path, name: str, base: Path, **checks: Any) -> Any:
    flags = ("--MODEL", name, "--PRETRAINED", base, "--DATA", "own", "--MAX_STEPS", 1, "--PRECISION", "fp32")
    return call("train.py", "--EXPERIMENT_NAME", name, *places(folder), *flags, **checks)


@pytest.fixture(scope="module")
def model(folder: Path) -> TrainedModel:
    return load_experiment(folder / "outputs" / "nvib" / "NVIB", folder / "data")


@pytest.mark.slow
def test_sentences_that_fit_without_their_latent_alone_are_refused_for_training(folder: Path, tmp_path: Path):
    less = save_base(tmp_path / "less", "gpt2", positions=FITTING - 1)
    places_ = ("--OUTPUT_DIR", tmp_path, "--DATA_DIR", folder / "data", "--DATA", "own", "--MAX_STEPS", 1)
    flags = ("--EXPERIMENT_NAME", "x", "--PRETRAINED", less, *places_)
    line = one_line_of_error(call("train.py", *flags, "--MODEL", "NVIB", expect=2))
    assert "a sentence of own is too long" in line
    assert f"less has positions for {FITTING - 1} tokens, and it has 16, which take 48 with the latent" in line
    assert not (tmp_path / "nvib").exists()
    call("train.py", *flags, "--MODEL", "LM")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "reported"),
    [
        (("--MAX_LENGTH", 2000), HAS + r", \d\d of which the prompt takes, and the text may have 1,999; take a lower"),
        (("--MAX_LENGTH", 200, "--SAMPLING_DISTRIBUTION", "uniform"), HAS + r", \d{2,3} of which the prompt takes"),
        (("--VECTORS", 39), "54 of which the prompt takes, and the text may have 16; take a lower --MAX_LENGTH, "),
        (("--NEAR", LONG), HAS + ", and it has"),
        (("--MIX", MANY[0], LONG), HAS + ", and it has"),
        (("--NEAR", MANY[0], "--MAX_LENGTH", 40), "and the text may have 39; take a lower --MAX_LENGTH"),
    ],
)
def test_samples_for_which_the_base_has_no_positions_are_refused(
    folder: Path, flags: tuple[object, ...], reported: str
):
    own = folder / "outputs" / "nvib" / "NVIB"
    before = {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()}
    command = ("sample.py", "--EXPERIMENT_NAME", "NVIB", *places(folder), "--NUMBER_SAMPLES", 2)
    line = one_line_of_error(call(*command, *flags, expect=2))
    assert re.search(reported, line), line
    assert {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()} == before


@pytest.mark.slow
def test_samples_that_fit_exactly_are_drawn(folder: Path):
    command = ("sample.py", *places(folder), "--NUMBER_SAMPLES", 2)
    exact = FITTING - PROMPT - 10 + 1  # the end token has no position
    for flags in ((), ("--VECTORS", 10, "--MAX_LENGTH", exact, "--MIN_LENGTH", exact), ("--NEAR", MANY[0])):
        call(*command, "--EXPERIMENT_NAME", "NVIB", *flags)
    line = one_line_of_error(
        call(*command, "--EXPERIMENT_NAME", "NVIB", "--VECTORS", 10, "--MAX_LENGTH", exact + 1, expect=2)
    )
    assert f"25 of which the prompt takes, and the text may have {exact}; " in line
    lengths = ("--MAX_LENGTH", FITTING + 1, "--MIN_LENGTH", FITTING + 1, "--SAMPLING_DISTRIBUTION", "uniform")
    call(*command, "--EXPERIMENT_NAME", "LM", *lengths)
    rows = (folder / "outputs" / "nvib" / "LM" / "samples.jsonl").read_text().splitlines()
    assert [json.loads(row)["tokens_generated"] for row in rows] == [FITTING, FITTING]
    more = ("--MAX_LENGTH", FITTING + 2, "--SAMPLING_DISTRIBUTION", "uniform")
    line = one_line_of_error(call(*command, "--EXPERIMENT_NAME", "LM", *more, expect=2))
    assert f"positions for {FITTING} tokens, and the text may have {FITTING + 1}; take a lower --MAX_LENGTH" in line


@pytest.mark.slow
def test_a_learned_prior_imagines_no_texts_whose_latents_are_too_long(folder: Path, tmp_path: Path):
    for part in ("data", "outputs"):
        shutil.copytree(folder / part, tmp_path / part)
    command = ("--EXPERIMENT_NAME", "NVIB", *places(tmp_path))
    call("train_prior.py", *command, "--FROM", "LM")
    flags = ("--PRIOR", "learned", "--NUMBER_SAMPLES", 2)
    call("sample.py", *command, *flags)
    line = one_line_of_error(call("sample.py", *command, *flags, "--MAX_LENGTH", 30, expect=2))
    assert re.search(HAS + ", 46 of which the prompt takes, and the text may have 29; take a lower", line)


@pytest.mark.slow
def test_a_long_latent_is_refused_before_the_first_text(model: TrainedModel, monkeypatch: pytest.MonkeyPatch):
    source = from_prior(model.experiment, [3, 3, 25])
    assert source.before == PROMPT + 26
    monkeypatch.setattr(type(model.model), "start", lambda *_: pytest.fail("a text was begun"))
    with pytest.raises(UserError, match=HAS + ", 41 of which the prompt takes, and the text may have 9; take a lower"):
        sample(model.experiment, source, 3, 1, GREEDY, 1, max_length=10)


@pytest.mark.slow
def test_a_long_text_is_refused_in_python(model: TrainedModel):
    for work in (
        lambda: model.encode([MANY[0], LONG]),
        lambda: model.reconstruct([LONG]),
        lambda: model.interpolate(MANY[0], LONG),
        lambda: model.generate(1, near=LONG),
    ):
        with pytest.raises(UserError, match=r"the sentence '.*' is too long: .*" + HAS + ", and it has"):
            work()
    with pytest.raises(UserError, match=HAS + r", \d\d of which .* and the text may have 99; take a lower --MAX"):
        model.generate(1, max_length=100)
    assert len(model.reconstruct(MANY)) == len(MANY)


@pytest.mark.slow
def test_a_judge_does_not_judge_longer_texts_than_it_has_positions_for(folder: Path):
    judge = load_experiment(folder / "outputs" / "nvib" / "LM", folder / "data")
    data = load_prepared(folder / "data", "own")
    assert perplexity(judge.model, tokenized(MANY[:3], data), data, 2, "") > 1
    with pytest.raises(UserError, match="cannot judge the longest text: .*" + HAS + r", and it has \d+; take another"):
        perplexity(judge.model, tokenized([LONG, " ".join(MANY[3:10])], data), data, 2, "")
