"""Tokenizers: loaded or trained, stored with the data, and turned back into readable text."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.runtime.errors import UserError
from pipeline.runtime.files import replacing

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FILE = "tokenizer.json"
_LABEL = "[LABEL:"

_JOINED = re.compile(r" (?=[,.'!?;:)\]}])|(?<=[(\[{]) |(?<=') (?=(?:s|t|re|ve|ll|d|m)\b)")


class TextTokenizer:
    """A tokenizer with `[CLS] … [SEP]` around every sentence.

    Args:
        tokenizer: of the tokenizers library.
        source: where it came from, for errors.

    Raises:
        UserError: it lacks one of [PAD], [UNK], [CLS], [SEP].
    """

    def __init__(self, tokenizer: "Tokenizer", source: str) -> None:
        missing = [token for token in SPECIAL[:4] if tokenizer.token_to_id(token) is None]
        if missing:
            raise UserError(f"the tokenizer {source} has no {', '.join(missing)}; take a BERT-like one, or wordpiece")
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = (tokenizer.token_to_id(token) for token in SPECIAL[:4])
        marked = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        # A token that the file does not mark as special would be cut like any other text: "[UNK]" into three.
        tokenizer.add_special_tokens([token for token in SPECIAL[:4] if token not in marked])
        tokenizer.no_padding()
        tokenizer.no_truncation()
        _add_template(tokenizer, self.cls_id, self.sep_id)
        self.tokenizer = tokenizer
        self.labels = {
            token.content[len(_LABEL) : -1]: number
            for number, token in sorted(tokenizer.get_added_tokens_decoder().items())
            if token.content.startswith(_LABEL)
        }

    def add_labels(self, labels: Sequence[str]) -> None:
        """Have a token of its own for each label, which stands in front of its texts."""
        for label in labels:
            self.tokenizer.add_special_tokens([f"{_LABEL}{label}]"])
            self.labels[label] = self.tokenizer.token_to_id(f"{_LABEL}{label}]")

    @property
    def label_ids(self) -> list[int]:
        """Ids of the labels' tokens."""
        return list(self.labels.values())

    @property
    def vocabulary_size(self) -> int:
        """Ids that can occur: 0 to this, exclusive."""
        return max(self.tokenizer.get_vocab().values()) + 1

    def encode(self, texts: Sequence[str], labels: Sequence[str | None] | None = None) -> list[list[int]]:
        """The ids of each text, `[CLS] … [SEP]`, whatever its length; `[CLS] label … [SEP]` where it has a label."""
        encoded = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]
        if labels is not None:
            for ids, label in zip(encoded, labels, strict=True):
                if label is not None:
                    ids.insert(1, self.labels[label])
        return encoded

    def decode(self, ids: Sequence[int]) -> str:
        """Readable text: word pieces joined, [UNK] shown, other special tokens left out."""
        hidden = {self.pad_id, self.cls_id, self.sep_id, *self.label_ids}
        tokens = [self.tokenizer.id_to_token(int(index)) or SPECIAL[1] for index in ids if index not in hidden]
        return _JOINED.sub("", " ".join(tokens).replace(" ##", "").removeprefix("##"))

    def decode_batch(self, batch: Iterable[Sequence[int]]) -> list[str]:
        """The text of each sentence."""
        return [self.decode(ids) for ids in batch]

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` into a folder."""
        with replacing(Path(folder) / FILE) as temporary:
            self.tokenizer.save(str(temporary))


def tokenizer_file(name: str) -> Path | None:
    """The `tokenizer.json` that a path leads to, or None for a name on the hub.

    Raises:
        UserError: there is none, and the hub has no such names.
    """
    path = os.path.join(name, FILE) if os.path.isdir(name) else name
    if os.path.isfile(path):
        return Path(path)
    on_hub = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_.\-]+)?", path) and not path.endswith(".json")
    if not on_hub or os.path.exists(path):
        raise UserError(f"{path[:200]} is not there; --TOKENIZER names a hub tokenizer, a folder or a tokenizer.json")
    return None


def load_tokenizer(name: str) -> TextTokenizer:
    """Load a tokenizer by hub name, folder or `tokenizer.json`.

    Raises:
        UserError: it is not there, damaged, out of reach, or lacks a special token.
    """
    from tokenizers import Tokenizer

    path = tokenizer_file(name)
    if path is not None:
        try:
            return TextTokenizer(Tokenizer.from_file(str(path)), str(path))
        except UserError:
            raise
        except Exception as error:  # the library raises a bare Exception
            raise UserError(
                f"{path} is no tokenizer of the tokenizers library ({' '.join(str(error).split())})"
            ) from None
    print(f"asking the Hugging Face hub for the tokenizer {name}", flush=True)
    try:
        from huggingface_hub import hf_hub_download, logging

        logging.set_verbosity_error()  # a line for every retry; the one that counts is ours
        return TextTokenizer(Tokenizer.from_file(hf_hub_download(name, FILE)), name)
    except UserError:
        raise
    except Exception as error:  # many kinds; all mean that it did not come
        raise UserError(
            f"the Hugging Face hub did not deliver the tokenizer {name!r} ({type(error).__name__}); check the "
            "connection, give a folder with a tokenizer.json, or take --TOKENIZER wordpiece"
        ) from None


def train_wordpiece(texts: Iterable[str], vocabulary_size: int, lower_case: bool) -> TextTokenizer:
    """Train WordPiece (Wu et al. 2016) on texts; the same texts give the same tokenizer.

    Args:
        texts: the training split; read twice, so no iterator.
        vocabulary_size: tokens at most, special ones counted; single characters are kept even beyond it.
        lower_case: whether case and accents are dropped; only text that has none already should.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    first = _bert_like(Tokenizer(models.WordPiece(unk_token=SPECIAL[1])), lower_case)
    # The trainer numbers the characters that continue a word (##a) in the order of a randomly seeded hash, and
    # breaks ties by these numbers. Named among the special tokens, they have their numbers before it begins.
    reserved = [*SPECIAL, *_continuing_characters(first, texts)]
    # A word of more characters than WordPiece cuts is [UNK], and takes the trainer time with the square of its length.
    too_long = pre_tokenizers.Split(Regex(f".{{{first.model.max_input_chars_per_word + 1},}}"), "removed")
    first.pre_tokenizer = pre_tokenizers.Sequence([first.pre_tokenizer, too_long])
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary_size, special_tokens=reserved, show_progress=False)
    first.train_from_iterator(texts, trainer)
    # The vocabulary moves to a tokenizer in which ##a is a piece like any other.
    tokenizer = _bert_like(Tokenizer(models.WordPiece(first.get_vocab(), unk_token=SPECIAL[1])), lower_case)
    tokenizer.add_special_tokens(list(SPECIAL))
    return TextTokenizer(tokenizer, "wordpiece")


def _bert_like(tokenizer: "Tokenizer", lower_case: bool) -> "Tokenizer":
    """Give a tokenizer BERT's treatment of case, accents and punctuation.

    Text whose case is kept also keeps the joiners inside the words of Persian and Hindi and inside emoji, which
    BERT's cleaning drops with all other format characters.
    """
    from tokenizers import normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=lower_case, lowercase=lower_case, strip_accents=lower_case
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _continuing_characters(tokenizer: "Tokenizer", texts: Iterable[str]) -> list[str]:
    """The characters of texts that can continue a word, sorted and written as pieces: `##a`."""
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    continuing: set[str] = set()
    for character in characters:
        words = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str("a" + character))
        if len(words) == 1:  # punctuation and white space end the word
            continuing.update(words[0][0][1:])
    return [f"##{character}" for character in sorted(continuing)]


def _add_template(tokenizer: "Tokenizer", cls_id: int, sep_id: int) -> None:
    """Put [CLS] and [SEP] around every sentence: a freshly trained tokenizer has no such template."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", cls_id), ("[SEP]", sep_id)]
    )
