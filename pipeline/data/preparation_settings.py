"""Settings of the preparation of a text."""

from dataclasses import dataclass

BPE, WORDPIECE, TABLE = "bpe", "wordpiece", "table"
TRAINED = (BPE, WORDPIECE, TABLE)  # tokenizers that are trained on the data
LOSSLESS = (BPE, TABLE)


@dataclass(frozen=True)
class PreparationSettings:
    """Settings of the preparation of a text.

    Args:
        tokenizer: `bundled`, hub name, folder or `tokenizer.json`; `bpe` or `wordpiece` for one trained on the training
            split; `table` for rows of a table.
        vocabulary_size: maximal number of tokens of a trained tokenizer.
        clean: `paper`, or `none`, which changes nothing.
        more_than: sentences have more tokens than this, [CLS] and [SEP] counted.
        fewer_than: sentences have fewer tokens than this, [CLS] and [SEP] counted.
        whole: True keeps a document as one text; False splits it into sentences.
        own: True for a user's own text, of which nothing may vanish: a sentence that is too long is cut. `prepare` sets
            it.
    """

    tokenizer: str
    vocabulary_size: int
    clean: str
    more_than: int = 5
    fewer_than: int = 50
    whole: bool = False
    own: bool = False
