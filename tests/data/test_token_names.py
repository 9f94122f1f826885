"""Names of tokens for readers, as the explorer and the report of a bottleneck show them."""

from pipeline.data import byte_level
from pipeline.data.tokenizer import train_bpe, train_wordpiece

TEXTS = ["the old king 朋友 left.", "the old king 朋友 left."]


def test_a_token_of_bytes_is_shown_as_its_text_or_its_bytes():
    tokenizer = train_bpe(TEXTS, 400)
    tokenizer.add_labels(["good"])
    (ids,) = tokenizer.encode(["the king 朋友 鱻"], ["good"])
    names = [tokenizer.name(index) for index in ids]
    assert names == ["[CLS]", "[LABEL:good]", "the", " king", " 朋友", " ", "<e9>", "<b1>", "<bb>", "[SEP]"]


def test_every_byte_has_its_name():
    tokenizer = train_bpe(TEXTS, 261).tokenizer
    found = {byte_level.as_bytes(token) for token in tokenizer.get_vocab() if len(token) == 1}
    assert found == {bytes([byte]) for byte in range(256)}


def test_a_token_of_words_is_shown_as_it_is():
    tokenizer = train_wordpiece(TEXTS, 60, lower_case=False)
    (ids,) = tokenizer.encode(["the king [UNK]"])
    assert [tokenizer.name(index) for index in ids] == ["[CLS]", "the", "king", "[UNK]", "[SEP]"]
