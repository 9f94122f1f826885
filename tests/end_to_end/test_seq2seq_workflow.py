"""From a text to samples with a pretrained encoder-decoder: preparation, training, and every script behind it."""

import json
import re
from pathlib import Path

import pytest
import torch

from pipeline import from_pretrained, load_experiment
from tests.data.own_files import MANY, places, write_table
from tests.helpers import call, one_line_of_error
from tests.models.tiny_seq2seq import save_seq2seq

SPECIAL = ("<s>", "</s>", "<pad>", "<unk>")


def prepared(folder: Path, family: str, positions: int = 128) -> Path:
    """Save a tiny base, and prepare a small labelled text with its tokenizer."""
    base = save_seq2seq(folder / family, family, positions=positions)
    write_table(folder / "own.csv", review=MANY, stars=["5", "4"] * (len(MANY) // 2))
    flags = ("--DATA", folder / "own.csv", "--TEXT_COLUMN", "review", "--LABEL_COLUMN", "stars")
    call("prepareDatasets.py", *flags, "--TOKENIZER", base, "--DATA_DIR", folder / "data")
    return base


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bart", "flan"])
def test_a_model_around_an_encoder_decoder_is_trained_sampled_and_shared(tmp_path: Path, family: str):
    base, where = prepared(tmp_path, family), places(tmp_path)
    named = ("--EXPERIMENT_NAME", "mine", *where)
    steps = ("--MAX_STEPS", 3, "--BATCH_SIZE", 8)
    call("train.py", *named, "--MODEL", "NVIB", "--PRETRAINED", base, "--DATA", "own", *steps)
    folder = tmp_path / "outputs" / "nvib" / "mine"
    settings = json.loads((folder / "config.json").read_text())["model"]
    assert settings["bottleneck"] == "identity"
    assert settings["alpha_threshold"] == 0.0
    few = ("--NUMBER_SAMPLES", 4)
    for flags in ((), ("--LABEL", "4"), ("--NEAR", "validation"), ("--DECODING", "beam"), ("--DECODING", "sample")):
        call("sample.py", *named, *few, *flags)
        rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        assert len(rows) == 4
        assert not any(token in row["text"] for row in rows for token in SPECIAL)
    call("train_prior.py", *named, *steps)
    call("sample.py", *named, *few, "--PRIOR", "learned")
    imagined = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert all(row["imagined"] for row in imagined)
    assert json.loads((folder / "prior" / "config.json").read_text())["model"]["pretrained"] is None
    subset = ("--DATA_SUBSET", "validation")
    call("reconstruction.py", *named, *subset)
    call("interpolation_evaluation.py", *named, "--NUMBER_PAIRS", 2)
    call("regularisation.py", *named, *subset)
    model = load_experiment(folder, tmp_path / "data")
    centre = model.model.state_dict()["centre"]
    assert centre.abs().max() > 0
    model.save_pretrained(tmp_path / "shared")
    again = from_pretrained(tmp_path / "shared")
    assert torch.equal(again.model.state_dict()["centre"], centre)
    assert again.reconstruct(MANY[:4]) == model.reconstruct(MANY[:4])
    assert len(again.generate(2)) == 2
    assert not any(name.startswith("backbone") and "lora" not in name for name in model.model.state_dict())


@pytest.mark.slow
def test_the_other_models_train_and_nvib_starts_from_the_tuned_autoencoder(tmp_path: Path):
    base, where = prepared(tmp_path, "t5"), places(tmp_path)
    usual = ("--PRETRAINED", base, "--DATA", "own", "--MAX_STEPS", 2, "--BATCH_SIZE", 8, *where)
    for name in ("T", "VTV", "VTS"):
        call("train.py", "--EXPERIMENT_NAME", name, "--MODEL", name, *usual)
    call("reconstruction.py", "--EXPERIMENT_NAME", "T", "--DATA_SUBSET", "validation", *where)
    call("train.py", "--EXPERIMENT_NAME", "late", "--MODEL", "NVIB", "--START_FROM", "T", *usual)
    refused = call("train.py", "--EXPERIMENT_NAME", "lm", "--MODEL", "LM", *usual, expect=2)
    assert "--MODEL LM has no form around" in one_line_of_error(refused)
    assert "which is encoder-decoder" in refused.stderr
    refused = call("train.py", "--EXPERIMENT_NAME", "deep", "--MODEL", "T", "--NUM_LAYERS", 3, *usual, expect=2)
    assert "--NUM_LAYERS is determined by --PRETRAINED" in one_line_of_error(refused)
    own = tmp_path / "outputs" / "nvib" / "VTV" / "config.json"
    call("train.py", "--EXPERIMENT_NAME", "again", "--CONFIG", own, "--DATA", "own", *where)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"model_type": "from-tomorrow"}))
    refused = call("train.py", "--EXPERIMENT_NAME", "new", "--MODEL", "NVIB", *usual, expect=2)
    assert "does not know its model type from-tomorrow" in one_line_of_error(refused)


@pytest.mark.slow
def test_sentences_longer_than_the_bases_positions_are_refused(tmp_path: Path):
    base = prepared(tmp_path, "bart", positions=16)
    flags = ("--EXPERIMENT_NAME", "mine", "--MODEL", "NVIB", "--PRETRAINED", base, "--DATA", "own", *places(tmp_path))
    line = one_line_of_error(call("train.py", *flags, expect=2))
    assert re.search(r"a sentence of own is too long: .*bart has positions for 16 tokens, and it has 1[78]; ", line)
    assert not (tmp_path / "outputs" / "nvib" / "mine").exists()
