"""Roles of the special tokens of pretrained models, from the files beside their tokenizers."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from pipeline.data.special_tokens import DOCUMENT
from pipeline.data.text_tokenizer import TextTokenizer
from pipeline.data.tokenizer import load_tokenizer, train_wordpiece
from pipeline.runtime.errors import UserError
from tests.data.base_tokenizers import BART, CHAT, SMOLLM2, byte_level_bpe, folder_of, sentencepiece, smollm2_like
from tests.data.own_files import DOCUMENTS


def roles(tokenizer: TextTokenizer) -> dict[str, str | None]:
    """The tokens of the four roles."""
    ids = {
        "pad": tokenizer.pad_id,
        "unknown": tokenizer.unk_id,
        "start": tokenizer.cls_id,
        "end": tokenizer.sep_id,
    }
    return {role: None if number is None else tokenizer.tokenizer.id_to_token(number) for role, number in ids.items()}


def test_a_text_of_smollm2_begins_after_the_token_between_documents_and_ends_a_turn(tmp_path: Path):
    tokenizer = load_tokenizer(str(smollm2_like(tmp_path)))
    assert roles(tokenizer) == {"pad": CHAT[1], "unknown": CHAT[0], "start": CHAT[0], "end": CHAT[2]}
    (ids,) = tokenizer.encode(["the king"])
    assert (ids[0], ids[-1]) == (0, 2)


@pytest.mark.parametrize(
    ("special", "declared", "config", "expected"),
    [
        # GPT-2 has one special token for all.
        ((DOCUMENT,), dict.fromkeys(("bos_token", "eos_token", "unk_token"), DOCUMENT), None, (0, None, 0, 0)),
        ((DOCUMENT,), None, {"bos_token_id": 0, "eos_token_id": 0}, (0, None, 0, 0)),
        # Qwen, its base and its chat model: no bos_token.
        (CHAT, {"bos_token": None, "eos_token": CHAT[0], "pad_token": CHAT[0]}, None, (1, None, 0, 0)),
        (CHAT, {"eos_token": CHAT[2], "pad_token": CHAT[0]}, None, (0, None, 0, 2)),
        # BART.
        (("<s>", "<pad>", "</s>", "<unk>"), BART, {"decoder_start_token_id": 2}, (1, 3, 0, 2)),
        # An encoder-decoder whose decoder begins with a token of its own, and no bos_token.
        (("<s>", "<pad>", "</s>", "<unk>"), BART | {"bos_token": None}, {"decoder_start_token_id": 0}, (1, 3, 0, 2)),
        # Without padding, any other special token takes its place, and the unknown token last.
        (("<unk>", "<s>", "</s>", "<r>"), BART | {"pad_token": None}, None, (3, 0, 1, 2)),
        # Llama 2 has no padding; Llama 3 has several ends.
        (("<unk>", "<s>", "</s>"), BART | {"pad_token": None}, None, (0, 0, 1, 2)),
        (("<b>", "<e>", "<eot>", "<r>"), None, {"bos_token_id": 0, "eos_token_id": [1, 2]}, (2, None, 0, 1)),
        # A token that is declared and not in the vocabulary has no role.
        (CHAT, SMOLLM2 | {"bos_token": "<s>", "pad_token": "<pad>"}, None, (1, 0, 0, 2)),
    ],
)
def test_the_roles_of_byte_level_tokenizers(
    tmp_path: Path,
    special: tuple[str, ...],
    declared: dict[str, Any] | None,
    config: dict[str, Any] | None,
    expected: tuple[int, int | None, int, int],
):
    found = load_tokenizer(str(folder_of(tmp_path, byte_level_bpe(special), declared, config)))
    assert (found.pad_id, found.unk_id, found.cls_id, found.sep_id) == expected


@pytest.mark.parametrize("config", [{"decoder_start_token_id": 0, "vocab_size": 128}, None])
def test_a_text_of_t5_begins_after_its_padding_token(tmp_path: Path, config: dict[str, Any] | None):
    declared = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = load_tokenizer(str(folder_of(tmp_path, sentencepiece(), declared, config)))
    assert roles(tokenizer) == {"pad": "<pad>", "unknown": "<unk>", "start": "<pad>", "end": "</s>"}


def test_the_map_of_special_tokens_declares_what_the_configuration_of_the_tokenizer_does_not(tmp_path: Path):
    folder_of(tmp_path, byte_level_bpe(("<s>", "<pad>", "</s>", "<unk>")), {"bos_token": "<s>"})
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(BART | {"bos_token": "<unk>"}))
    assert roles(load_tokenizer(str(tmp_path))) == {"pad": "<pad>", "unknown": "<unk>", "start": "<s>", "end": "</s>"}


def test_the_roles_come_back_from_the_stored_file_alone(tmp_path: Path):
    for number, folder in enumerate(
        (
            smollm2_like(tmp_path / "a"),
            folder_of(tmp_path / "b", byte_level_bpe((DOCUMENT,)), {"eos_token": DOCUMENT}),
            folder_of(tmp_path / "c", sentencepiece(), {"eos_token": "</s>", "unk_token": "<unk>"}),
        )
    ):
        fresh = load_tokenizer(str(folder))
        fresh.add_labels(["x"])
        stored = tmp_path / str(number)
        stored.mkdir()
        fresh.save(stored)
        assert [path.name for path in stored.iterdir()] == ["tokenizer.json"]
        again = load_tokenizer(str(stored))
        assert roles(again) == roles(fresh)
        assert again.tokenizer.to_str() == fresh.tokenizer.to_str()
        assert (again.labels, again.lossless, again.special_ids) == (fresh.labels, fresh.lossless, fresh.special_ids)
        assert again.encode(["the </s> king"], ["x"]) == fresh.encode(["the </s> king"], ["x"])


def test_a_tokenizer_whose_end_is_not_declared_is_refused(tmp_path: Path):
    folder_of(tmp_path, byte_level_bpe(("<s>", "</s>")), {"bos_token": "<s>"}, {})
    with pytest.raises(UserError, match=r"tokenizer\.json has no \[PAD\], .*no file beside it declares an eos_token"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_a_damaged_declaration_is_refused_by_its_path(tmp_path: Path, content: str):
    smollm2_like(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(UserError, match=r"tokenizer_config\.json .*fetch the model's folder anew"):
        load_tokenizer(str(tmp_path))


def test_a_folder_with_a_sentencepiece_file_alone_is_refused_by_its_name(tmp_path: Path):
    (tmp_path / "source.spm").write_bytes(b"")  # as Marian's models have it
    with pytest.raises(UserError, match=r"tokenizer\.json is not there \(a SentencePiece file, source\.spm, is not"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("kind", ["base", "bert", "unreachable"])
def test_the_hub_is_asked_for_the_files_that_declare_special_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    smollm2_like(tmp_path, rows=500)
    if kind == "bert":
        train_wordpiece(DOCUMENTS, 100, lower_case=True).save(tmp_path)
    asked: list[str] = []

    def download(name: str, file: str) -> str:
        asked.append(file)
        if kind == "unreachable" and file == "config.json":
            raise LocalEntryNotFoundError("offline")
        if not (tmp_path / file).exists():
            raise EntryNotFoundError("404")
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    if kind == "unreachable":  # without the file, labels could collide with rows of the embedding
        with pytest.raises(UserError, match="did not deliver the tokenizer 'a/b'"):
            load_tokenizer("a/b")
        return
    tokenizer = load_tokenizer("a/b")
    declaring = ["tokenizer_config.json", "special_tokens_map.json", "config.json"]
    assert asked == ["tokenizer.json", *([] if kind == "bert" else declaring)]
    assert kind == "bert" or tokenizer.vocabulary_size == 500
