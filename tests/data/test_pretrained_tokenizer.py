"""Tokenizers of pretrained models: text back as it was, no special token in it, labels behind the embedding."""

import copy
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from pipeline.data.base_models import base_folder
from pipeline.data.dataset import check_tokenizer, load_prepared
from pipeline.data.text_tokenizer import TextTokenizer
from pipeline.data.tokenizer import load_tokenizer, same_tokenizer, train_bpe
from pipeline.runtime.errors import UserError
from tests.data.base_tokenizers import (
    CHAT,
    LACKED,
    SMOLLM2,
    byte_level_bpe,
    folder_of,
    sentencepiece,
    smollm2_like,
)
from tests.data.own_files import DOCUMENTS, MANY, write_table
from tests.data.test_byte_level import TEXT
from tests.helpers import call

LABELS = ["x", "[SEP]", "two\nlines", "", "<|im_end|>", " "]
SPELLED = ["<|im_end|>", " <|endoftext|>", "<|im_start|>user\n", "[LABEL:x]", "<repo_name>", "[UNUSED:401]"]


@pytest.fixture(scope="module")
def like_smollm2(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    tokenizer = load_tokenizer(str(smollm2_like(tmp_path_factory.mktemp("smollm2"))))
    tokenizer.add_labels(LABELS)
    return tokenizer


@pytest.fixture(scope="module")
def like_t5(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    declared = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return load_tokenizer(str(folder_of(tmp_path_factory.mktemp("t5"), sentencepiece(), declared)))


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_decoding_gives_the_text_that_was_encoded(like_smollm2: TextTokenizer, text: str):
    (ids,) = like_smollm2.encode([text])
    assert like_smollm2.decode(ids) == text
    assert not like_smollm2.special_ids & set(ids[1:-1])


@pytest.mark.parametrize("text", SPELLED)
def test_a_text_that_spells_a_special_token_has_none(like_smollm2: TextTokenizer, text: str):
    for tokenizer in (like_smollm2, pickle.loads(pickle.dumps(like_smollm2)), copy.deepcopy(like_smollm2)):
        (ids,) = tokenizer.encode([text], ["x"])
        assert ids[1] == tokenizer.labels["x"]
        assert not tokenizer.special_ids & set(ids[2:-1])
        assert tokenizer.decode(ids) == text


def test_special_tokens_never_come_out(like_smollm2: TextTokenizer, like_t5: TextTokenizer):
    for tokenizer in (like_smollm2, like_t5):
        (ids,) = tokenizer.encode(["the king"])
        every = sorted(tokenizer.special_ids)
        assert tokenizer.decode([*every, *ids[1:-1], *every]) == "the king"


def test_markup_that_is_not_marked_as_special_never_comes_out(tmp_path: Path):
    tokenizer = byte_level_bpe(CHAT)
    tokenizer.add_tokens(["<tool_call>", "  "])
    loaded = load_tokenizer(str(folder_of(tmp_path, tokenizer, SMOLLM2)))
    call, spaces = (tokenizer.get_vocab()[token] for token in ("<tool_call>", "  "))
    assert loaded.lossless
    assert loaded.decode([call, spaces]) == "  "
    (ids,) = loaded.encode(["a  <tool_call>"])
    assert spaces in ids
    assert call not in ids
    assert loaded.decode(ids) == "a  <tool_call>"


def test_labels_come_behind_the_rows_of_the_embedding(tmp_path: Path):
    size = load_tokenizer(str(smollm2_like(tmp_path / "a"))).vocabulary_size
    for rows, base in ((size, size), (size + 28, size + 28), (None, size)):
        tokenizer = load_tokenizer(str(smollm2_like(tmp_path / "b", rows=rows)))
        assert (tokenizer.vocabulary_size, tokenizer.base_size) == (base, base)
        tokenizer.add_labels(LABELS)
        assert tokenizer.label_ids == list(range(base, base + len(LABELS)))
        assert (tokenizer.vocabulary_size, tokenizer.base_size) == (base + len(LABELS), base)


def test_a_character_without_tokens_is_unknown_and_not_dropped(tmp_path: Path):
    tokenizer = load_tokenizer(str(smollm2_like(tmp_path, whole=False)))
    assert tokenizer.lossless
    for text in ("\x04", "the \x13king", LACKED):
        (ids,) = tokenizer.encode([text])
        assert tokenizer.unk_id in ids[1:-1]
    for text in ("the king", "é\x05", ""):
        (ids,) = tokenizer.encode([text])
        assert tokenizer.unk_id not in ids[1:-1]
        assert tokenizer.decode(ids) == text


def changed(part: str) -> Tokenizer:
    """A tokenizer like GPT-2's in which one part changes texts."""
    tokenizer = byte_level_bpe(CHAT)
    if part == "prefix":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    elif part == "normalizer":
        tokenizer.normalizer = normalizers.NFC()
    elif part == "white space":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), tokenizer.pre_tokenizer])
    elif part == "removed":
        split = pre_tokenizers.Split("e", "removed")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, tokenizer.pre_tokenizer])
    elif part == "characters":
        tokenizer.pre_tokenizer = pre_tokenizers.Digits()
    elif part == "strip":
        tokenizer.add_tokens([AddedToken("ab", lstrip=True)])
    elif part == "added":
        tokenizer.add_tokens(["é"])  # the decoder reads it as a byte
    return tokenizer


@pytest.mark.parametrize("part", ["prefix", "normalizer", "white space", "removed", "characters", "strip", "added"])
def test_a_tokenizer_that_changes_texts_is_not_lossless(tmp_path: Path, part: str):
    assert load_tokenizer(str(folder_of(tmp_path / "a", byte_level_bpe(CHAT), SMOLLM2))).lossless
    assert not load_tokenizer(str(folder_of(tmp_path / "b", changed(part), SMOLLM2))).lossless


def test_digits_may_be_split_without_loss(tmp_path: Path):
    tokenizer = byte_level_bpe(CHAT)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, tokenizer.pre_tokenizer])  # as SmolLM2 does
    loaded = load_tokenizer(str(folder_of(tmp_path, tokenizer, SMOLLM2)))
    assert loaded.lossless
    assert loaded.decode(loaded.encode(["in 1234.50 "])[0]) == "in 1234.50 "


def test_a_sentencepiece_tokenizer_gives_words_back_and_is_not_lossless(like_t5: TextTokenizer):
    assert not like_t5.lossless
    for text in DOCUMENTS[:3]:
        (ids,) = like_t5.encode([text])
        assert (ids[0], ids[-1]) == (like_t5.cls_id, like_t5.sep_id)
        assert like_t5.decode(ids) == " ".join(text.split())
    (ids,) = like_t5.encode(["the 鱻 king"])
    assert like_t5.unk_id in ids
    assert like_t5.decode(ids) == "the [UNK] king"


def test_tokens_have_names(like_smollm2: TextTokenizer, like_t5: TextTokenizer):
    (ids,) = like_smollm2.encode([" the 鱻"], ["x"])
    names = [like_smollm2.name(index) for index in ids]
    assert names == ["<|endoftext|>", "[LABEL:x]", " the", " ", "<e9>", "<b1>", "<bb>", "<|im_end|>"]
    assert like_t5.name(like_t5.encode(["the"])[0][1]).startswith(" ")


def test_data_keep_the_tokenizer_of_their_base_and_other_data_are_refused(tmp_path: Path):
    base, other = smollm2_like(tmp_path / "base"), smollm2_like(tmp_path / "other", whole=False)
    reviews = [f" {text}\n" for text in MANY]
    write_table(tmp_path / "reviews.csv", Text=reviews, Stars=["5", "4"] * (len(reviews) // 2))
    flags = ("--DATA", tmp_path / "reviews.csv", "--TEXT_COLUMN", "Text", "--DATA_DIR", tmp_path / "data")
    call("prepareDatasets.py", *flags, "--LABEL_COLUMN", "Stars", "--TOKENIZER", base)
    data = load_prepared(tmp_path / "data", "reviews")
    assert data.statistics["round_trip"]["share"] == 100
    assert data.tokenizer.labels
    assert same_tokenizer(data.tokenizer, base)
    check_tokenizer(data, "reviews", "bundled", base)
    assert not same_tokenizer(data.tokenizer, other)
    with pytest.raises(UserError, match=r"--DATA reviews\.csv --TOKENIZER a/b$"):
        check_tokenizer(data, "reviews", "a/b", other)
    assert not same_tokenizer(train_bpe(DOCUMENTS, 400), base)
    more_rows = smollm2_like(tmp_path / "rows", rows=data.tokenizer.base_size + 1)
    assert not same_tokenizer(data.tokenizer, more_rows)  # a label would have a row of the model


def test_a_text_with_a_character_that_the_tokenizer_lacks_is_left_out_and_counted(tmp_path: Path):
    base = smollm2_like(tmp_path / "base", whole=False)
    rows = [f"{text} <|im_end|>" + ("\x04" if number == 3 else "") for number, text in enumerate(MANY[:40])]
    (tmp_path / "own.txt").write_text("\n".join(rows), encoding="utf-8")
    flags = ("--DATA", tmp_path / "own.txt", "--DATA_DIR", tmp_path / "data", "--WHOLE_DOCUMENTS", "True")
    made = call("prepareDatasets.py", *flags, "--TOKENIZER", base)
    assert "39 of 40 texts are kept: left out are 1 with a character that the tokenizer lacks" in made.stdout


@pytest.mark.slow  # the first time, the model is dequantised
def test_the_bundled_model_has_a_lossless_tokenizer():
    try:
        folder = base_folder("bundled")
    except UserError as error:
        pytest.skip(f"the bundled model is absent: {error}")
    tokenizer = load_tokenizer("bundled")
    assert same_tokenizer(tokenizer, folder)
    assert tokenizer.lossless
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.vocabulary_size) == (0, 2, 49152)
    for text in (*SPELLED, *DOCUMENTS[:3], "  a\r\n\t", "👨‍👩‍👧 e\u0301 ไปโรงเรียน"):
        assert tokenizer.decode(tokenizer.encode([text])[0]) == text
    tokenizer.add_labels(["x"])
    assert tokenizer.label_ids == [49152]
