"""Sentences of own text: nothing but white space is left out, whatever the script."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.encoding import encode
from pipeline.data.preparation_settings import PreparationSettings
from pipeline.data.segmentation import covers, cut_by_length, own_sentences
from pipeline.data.tokenizer import TextTokenizer, train_bpe, train_wordpiece
from tests.data.own_files import DOCUMENTS

THAI = "ราชาเฒ่าเห็นแม่น้ำและเมืองที่อยู่ไกลออกไปแล้วก็กลับบ้านไปนอนหลับอย่างมีความสุขทุกคืน"
WORDS = [
    "the",
    "Dr.",
    "end.",
    "3.14",
    "U.S.",
    "今天。",
    "「はい！」",
    "राजा।",
    "؟",
    "۔",
    THAI,
    "=",
    "e\u0301",
    "👨‍👩‍👧",
    "?!",
]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\n\n", "\v", "\x1c", "\x85", "\u00a0", "\u2028", "\u3000"]
PIECES = st.one_of(
    st.sampled_from(WORDS), st.sampled_from(SPACES), st.text(st.characters(exclude_categories=("Cs",)), max_size=5)
)
DOCUMENT = st.lists(PIECES, max_size=20).map("".join)


@pytest.fixture(scope="module")
def bpe() -> TextTokenizer:
    return train_bpe([*DOCUMENTS, *WORDS] * 2, 400)


@pytest.fixture(scope="module")
def wordpiece() -> TextTokenizer:
    return train_wordpiece([*DOCUMENTS, *WORDS] * 2, 400, lower_case=False)


def without_space(text: str) -> str:
    return "".join(text.split())


@settings(max_examples=400, deadline=None)
@given(DOCUMENT)
def test_the_sentences_of_a_document_cover_it(document: str):
    found = own_sentences(document)
    assert covers(document, found)
    assert without_space("".join(found)) == without_space(document)
    assert all(sentence.strip() for sentence in found)


@settings(max_examples=300, deadline=None)
@given(DOCUMENT, st.integers(1, 12))
def test_the_pieces_of_a_text_cover_it(bpe: TextTokenizer, text: str, limit: int):
    spans = bpe.tokenizer.encode(text, add_special_tokens=False).offsets
    pieces = cut_by_length(text, spans, limit)
    assert covers(text, pieces)
    assert without_space("".join(pieces)) == without_space(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(DOCUMENT, min_size=1, max_size=3), st.integers(12, 20), st.booleans())
def test_no_sentence_of_own_text_is_too_long(
    bpe: TextTokenizer, wordpiece: TextTokenizer, documents: list[str], fewer_than: int, lossless: bool
):
    limits = PreparationSettings("bpe", 400, "none", more_than=2, fewer_than=fewer_than, own=True)
    sentences = [sentence for document in documents for sentence in own_sentences(document)]
    found = encode({"text": sentences}, bpe if lossless else wordpiece, limits)
    assert max(map(len, found["input_ids"]), default=0) < fewer_than
    assert without_space("".join(found["text"])) == without_space("".join(sentences))


def test_a_document_that_lacks_a_character_is_not_covered():
    assert covers(" one  two\n", ["one", "two"])
    assert not covers("one two", ["one"])
    assert not covers("one two", ["one", "tw"])
    assert not covers("one two", ["two", "one"])
    assert not covers("one", ["one", "one"])


@pytest.mark.parametrize(
    ("document", "sentences"),
    [
        ("今天很高兴。我们去图书馆！你呢？", ["今天很高兴。", "我们去图书馆！", "你呢？"]),
        ("「はい。」と言った。彼は帰った。", ["「はい。」", "と言った。", "彼は帰った。"]),
        ("価格は３．１４円です．次の文．", ["価格は３．１４円です．", "次の文．"]),
        ("राजा ने देखा। वह गया॥ अंत", ["राजा ने देखा।", "वह गया॥", "अंत"]),
        ("هل رأيت الملك؟ نعم رأيته۔ وداعا", ["هل رأيت الملك؟", "نعم رأيته۔", "وداعا"]),
        ("Նա գնաց։ Վերջ", ["Նա գնաց։", "Վերջ"]),
        ("Dr. Smith paid $3.14 in the U.S. He left.", ["Dr. Smith paid $3.14 in the U.S.", "He left."]),
        ("See https://a.example/?q=b!c and v2.5.1 of it.", ["See https://a.example/?q=b!c and v2.5.1 of it."]),
        ("  two  spaces \n\n and a line ", ["  two  spaces ", " and a line "]),
        ("ไปโรงเรียน ทุกวัน", ["ไปโรงเรียน ทุกวัน"]),
    ],
)
def test_sentences_end_at_the_marks_of_their_script(document: str, sentences: list[str]):
    assert own_sentences(document) == sentences


@pytest.mark.parametrize("unit", [THAI, "กขค", "漢字", "x", "🎉"])
@pytest.mark.parametrize("count", [40, 3000])
def test_a_long_text_without_a_space_is_cut_and_not_lost(bpe: TextTokenizer, unit: str, count: int):
    limits = PreparationSettings("bpe", 400, "none", more_than=5, fewer_than=50, own=True)
    text = unit * count
    found = encode({"text": own_sentences(text)}, bpe, limits)
    assert "".join(found["text"]) == text
    assert max(map(len, found["input_ids"])) < 50
    assert not any(found["dropped"])
    assert all(found["cut"]) == (len(found["text"]) > 1)


def test_a_text_with_spaces_is_cut_at_spaces(bpe: TextTokenizer):
    limits = PreparationSettings("bpe", 400, "none", more_than=5, fewer_than=20, own=True)
    words = ["the", "old", "king", "saw", "a", "cat", "and", "the", "queen", "found", "the", "river"]
    found = encode({"text": [" ".join(words * 5)]}, bpe, limits)["text"]
    assert [word for piece in found for word in piece.split()] == words * 5
    assert all(piece == piece.strip() for piece in found)


def test_a_whole_document_is_never_cut(bpe: TextTokenizer):
    limits = PreparationSettings("bpe", 400, "none", more_than=2, fewer_than=50, own=True, whole=True)
    found = encode({"text": ["the king " * 50]}, bpe, limits)
    assert (found["text"], found["cut"], len(found["dropped"])) == (["the king " * 50], [False], 1)
    assert found["dropped"] != [0]
