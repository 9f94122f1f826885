"""Tokenizers, trained and loaded: [CLS] … [SEP] around every sentence, and readable text back."""

from pathlib import Path

import pytest

from pipeline.data.tokenizer import TextTokenizer, load_tokenizer, train_wordpiece
from pipeline.runtime.errors import UserError
from tests.helpers import ROOT

SENTENCES = [
    "the king's old dogs, who saw the river, left.",
    "it doesn't end, said the queen.",
    "we're under the town and they've found a house.",
    "[UNK] took the cat.",
] * 3
BERT = ROOT.parent / "shared" / "tokenizers" / "bert-base-uncased"


@pytest.fixture
def trained() -> TextTokenizer:
    return train_wordpiece(SENTENCES, 300, lower_case=True)


@pytest.fixture
def bert() -> TextTokenizer:
    if not BERT.is_dir():
        pytest.skip(f"the BERT vocabulary is not at {BERT}")
    return load_tokenizer(str(BERT))


@pytest.fixture(params=["trained", "saved", "bert"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> TextTokenizer:
    """A newly trained tokenizer, a saved and loaded one, and BERT's."""
    if request.param == "bert":
        return request.getfixturevalue("bert")
    fresh = request.getfixturevalue("trained")
    if request.param == "trained":
        return fresh
    fresh.save(tmp_path)
    return load_tokenizer(str(tmp_path))


def bare(vocabulary: list[str]):
    """A tokenizer of the library with whole words and without special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece({token: index for index, token in enumerate(vocabulary)}))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def test_a_sentence_begins_with_cls_and_ends_with_sep(tokenizer: TextTokenizer):
    for ids in tokenizer.encode(["the king left.", ""]):
        assert (ids[0], ids[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
        assert not {tokenizer.cls_id, tokenizer.sep_id} & set(ids[1:-1])


def test_the_ids_are_those_of_the_special_tokens(tokenizer: TextTokenizer):
    ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    assert [tokenizer.tokenizer.id_to_token(index) for index in ids] == tokens


def test_berts_ids_are_those_it_was_published_with(bert: TextTokenizer):
    assert (bert.pad_id, bert.unk_id, bert.cls_id, bert.sep_id, bert.vocabulary_size) == (0, 100, 101, 102, 30522)
    assert bert.encode(["the king left."]) == [[101, 1996, 2332, 2187, 1012, 102]]


def test_unk_is_one_token(tokenizer: TextTokenizer):
    assert tokenizer.encode(["[UNK]"]) == [[tokenizer.cls_id, tokenizer.unk_id, tokenizer.sep_id]]
    assert tokenizer.encode(["the [UNK]'s dogs"])[0].count(tokenizer.unk_id) == 1


def test_a_word_of_unknown_characters_is_unk(tokenizer: TextTokenizer):
    ids = tokenizer.encode(["the \N{ALEMBIC} king"])[0]
    assert ids.count(tokenizer.unk_id) == 1
    assert tokenizer.decode(ids) == "the [UNK] king"


def test_unk_is_one_token_of_a_tokenizer_that_does_not_mark_it_special():
    tokenizer = TextTokenizer(bare(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "[", "]", "UNK"]), "bare")
    assert tokenizer.encode(["the [UNK]"]) == [[2, 4, 1, 3]]
    assert tokenizer.vocabulary_size == 8


@pytest.mark.parametrize("sentence", dict.fromkeys(SENTENCES))
def test_clean_text_of_known_words_comes_back_unchanged(tokenizer: TextTokenizer, sentence: str):
    assert tokenizer.decode(tokenizer.encode([sentence])[0]) == sentence


def test_decoding_leaves_padding_out_and_joins_a_piece_that_comes_first(trained: TextTokenizer):
    ids = trained.encode(["the king left."])[0]
    piece = next(index for token, index in trained.tokenizer.get_vocab().items() if token.startswith("##"))
    assert trained.decode_batch([[*ids, trained.pad_id], [piece]]) == [
        "the king left.",
        trained.tokenizer.id_to_token(piece)[2:],
    ]


def test_a_long_text_is_neither_cut_nor_padded(tokenizer: TextTokenizer):
    long, short = tokenizer.encode(["the " * 1000, "the"])
    assert (len(long), len(short)) == (1002, 3)


def test_case_is_kept_unless_lower_case_is_asked_for():
    sentences = ["The King saw Zoë ."] * 3
    for lower_case, back in ((False, "The King saw Zoë."), (True, "the king saw zoe.")):
        tokenizer = train_wordpiece(sentences, 300, lower_case)
        assert tokenizer.decode(tokenizer.encode(sentences)[0]) == back


def test_the_same_texts_give_the_same_tokenizer():
    first, second = (train_wordpiece(SENTENCES, 120, lower_case=True) for _ in range(2))
    assert first.tokenizer.to_str() == second.tokenizer.to_str()


def test_no_piece_is_a_special_token_of_a_trained_tokenizer(trained: TextTokenizer):
    marked = [token.content for token in trained.tokenizer.get_added_tokens_decoder().values()]
    assert marked == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert [trained.tokenizer.token_to_id(token) for token in marked] == [0, 1, 2, 3, 4]


def test_training_keeps_to_the_vocabulary_size():
    assert train_wordpiece(SENTENCES, 60, lower_case=True).vocabulary_size == 60


def test_a_saved_tokenizer_comes_back_the_same(trained: TextTokenizer, tmp_path: Path):
    trained.save(tmp_path)
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        assert load_tokenizer(str(place)).tokenizer.to_str() == trained.tokenizer.to_str()
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_a_tokenizer_without_special_tokens_is_refused(tmp_path: Path):
    bare(["[PAD]", "[UNK]", "the"]).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match=r"tokenizer\.json has no \[CLS\], \[SEP\]"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff\xfe", b"[1, 2]"])
def test_a_damaged_tokenizer_is_refused_by_its_path(tmp_path: Path, content: bytes):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(UserError, match=r"tokenizer\.json is no tokenizer"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_that_is_not_there_is_refused_by_its_path(tmp_path: Path):
    with pytest.raises(UserError, match=r"tokenizer\.json is not there"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(UserError, match=r"absent\.json is not there"):
        load_tokenizer(str(tmp_path / "absent.json"))
    with pytest.raises(UserError, match="absent"):
        load_tokenizer(str(tmp_path / "absent"))


def test_an_unreachable_hub_is_reported_with_a_remedy():
    with pytest.raises(UserError, match=r"hub did not deliver the tokenizer 'no-such-tokenizer'.*--TOKENIZER bpe"):
        load_tokenizer("no-such-tokenizer")
