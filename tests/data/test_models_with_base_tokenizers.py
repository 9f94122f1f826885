"""Training and generation on data with the tokenizer of a pretrained model, whose tokens may share their roles."""

from pathlib import Path
from typing import Any

import pytest

from pipeline import from_pretrained, load_experiment
from pipeline.data.special_tokens import DOCUMENT
from pipeline.runtime.errors import UserError
from tests.data.base_tokenizers import LACKED, byte_level_bpe, folder_of, sentencepiece, smollm2_like
from tests.data.own_files import MANY, places, sampled_rows, write_table
from tests.helpers import call

GPT2: dict[str, Any] = dict.fromkeys(("bos_token", "eos_token", "unk_token"), DOCUMENT)
T5 = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["GPT-2", "T5"])
def test_a_model_is_trained_sampled_and_shared_where_tokens_have_two_roles(tmp_path: Path, kind: str):
    """GPT-2 starts, ends and pads with one token; T5 starts and pads with one."""
    tokenizer, declared = (byte_level_bpe((DOCUMENT,)), GPT2) if kind == "GPT-2" else (sentencepiece(), T5)
    base = folder_of(tmp_path / "base", tokenizer, declared, {"decoder_start_token_id": 0, "vocab_size": 450})
    write_table(tmp_path / "own.csv", review=MANY, stars=["5", "4"] * (len(MANY) // 2))
    flags = ("--DATA", tmp_path / "own.csv", "--TEXT_COLUMN", "review", "--LABEL_COLUMN", "stars")
    call("prepareDatasets.py", *flags, "--TOKENIZER", base, "--DATA_DIR", tmp_path / "data")
    rows, _ = sampled_rows(tmp_path, "--LABEL", "4")
    assert {row["label"] for row in rows} == {"4"}
    call("reconstruction.py", "--EXPERIMENT_NAME", "nvib", "--DATA_SUBSET", "validation", *places(tmp_path))
    model = load_experiment(tmp_path / "outputs" / "nvib" / "nvib", tmp_path / "data")
    found = model.experiment.data.tokenizer
    assert found.vocabulary_size == 452
    assert model.model.settings.vocabulary_size == 452
    for text in [row["text"] for row in rows] + model.reconstruct(MANY[:4]):
        assert not any(token in text for token in (DOCUMENT, "</s>", "<pad>", "[LABEL:", "[UNUSED:"))
    model.save_pretrained(tmp_path / "shared")
    again = from_pretrained(tmp_path / "shared")
    assert again.tokenizer.special_ids == found.special_ids
    assert again.reconstruct(MANY[:4]) == model.reconstruct(MANY[:4])


@pytest.mark.slow
def test_a_sentence_with_a_character_that_the_tokenizer_lacks_is_refused(tmp_path: Path):
    base = smollm2_like(tmp_path / "base", whole=False)
    write_table(tmp_path / "own.csv", review=MANY)
    flags = ("--DATA", tmp_path / "own.csv", "--TEXT_COLUMN", "review", "--DATA_DIR", tmp_path / "data")
    call("prepareDatasets.py", *flags, "--TOKENIZER", base)
    sampled_rows(tmp_path)
    model = load_experiment(tmp_path / "outputs" / "nvib" / "nvib", tmp_path / "data")
    assert model.reconstruct([MANY[0]])
    with pytest.raises(UserError, match="no token for a character of the sentence"):
        model.reconstruct([MANY[0] + LACKED])
