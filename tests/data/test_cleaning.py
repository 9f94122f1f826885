"""From documents to clean sentences."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.cleaning import clean_none, clean_paper, paragraphs, sentences, split_document

# Text with many of the characters that the cleaning changes.
TEXT = st.text(st.one_of(st.characters(), st.sampled_from("aZ09 ,.'<>[]=-@\t\n")), max_size=80)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("The Old King", "the old king"),
        ("well @-@ known ; a 1 @,@ 000 m tower !", "well known a 1, 000 m tower"),
        ("the café , naïve", "the caf, nave"),
        ("the king , the queen .", "the king, the queen."),
        ("the king 's dogs ' tails", "the king's dogs' tails"),
        ('" quoted " ( and so on )', "quoted and so on"),
        ("a , . 'b", "a,.'b"),
        ("the <unk> of <unk> .", "the [UNK] of [UNK]."),
        ("x<unk>y", "x [UNK] y"),
        ("a < b > c", "a < b > c"),
        ("[UNK]", "unk"),
        ("  one \t two \n three\u00a0four  ", "one two three four"),
        ("— ; !", ""),
        ("", ""),
    ],
)
def test_the_papers_cleaning(raw: str, cleaned: str):
    assert clean_paper(raw) == cleaned


@given(TEXT)
def test_only_the_papers_characters_remain(text: str):
    assert re.fullmatch(r"[a-z0-9 ,'<>.]*", clean_paper(text).replace("[UNK]", ""))


@given(TEXT)
def test_nothing_is_left_to_clean(text: str):
    cleaned = clean_paper(text)
    assert clean_paper(cleaned.replace("[UNK]", "<unk>")) == cleaned


@given(TEXT)
def test_no_space_precedes_a_mark_nor_beside_another(text: str):
    cleaned = clean_paper(text)
    assert not re.search(r" [,.' ]", cleaned)
    assert cleaned == cleaned.strip()


@given(TEXT)
def test_without_cleaning_nothing_changes(text: str):
    assert clean_none(text) == text


@pytest.mark.parametrize("heading", [" = Title = ", "= = Section = =", " = = = Deeper = = = \n", "== Wiki =="])
def test_headings_are_dropped(heading: str):
    assert paragraphs(f"{heading}\n The text . \n") == [" The text . "]


@pytest.mark.parametrize("line", ["x = y", "= an opening sign alone", "one = two = three", "the end ="])
def test_a_sentence_with_equals_signs_is_no_heading(line: str):
    assert paragraphs(line) == [line]


def test_empty_lines_are_no_paragraphs():
    assert paragraphs("one\n\n  \n\ttwo\n") == ["one", "\ttwo"]


def test_a_paragraph_is_cut_at_the_ends_of_its_sentences():
    assert sentences("Dr. Smith saw the U.S. team. It won 3.5 points.") == [
        "Dr. Smith saw the U.S. team.",
        "It won 3.5 points.",
    ]


def test_a_document_becomes_clean_sentences_none_of_them_empty():
    document = " = Title = \n\n The <unk> king . He left ! \n — \n A new paragraph\n"
    assert split_document(document, "paper") == ["the [UNK] king.", "he left", "a new paragraph"]
    assert split_document(document, "none") == [
        " The <unk> king .",
        "He left !",
        " —",
        " A new paragraph",
    ]


def test_a_sentence_never_runs_over_two_paragraphs():
    assert split_document("it ends here\nand begins anew", "paper") == ["it ends here", "and begins anew"]
