"""Tokenizers of prepared data: loaded from a file, a pretrained model or the hub, or trained on the text.

The tokenizers library is imported in functions: this module is imported while a command line is parsed.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data import byte_level, row_tokenizer
from pipeline.data.base_models import BUNDLED, base_folder
from pipeline.data.pretrained_tokenizer import PretrainedTokenizer, identity
from pipeline.data.special_tokens import CONFIG, DECLARING, declared_roles, embedding_rows, stored_roles
from pipeline.data.text_tokenizer import FILE, SPECIAL, TextTokenizer, has_native_roles
from pipeline.runtime.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def tokenizer_file(name: str) -> Path | None:
    """Return the `tokenizer.json` of a folder or path, or None for a name on the hub.

    Raises:
        UserError: no such file exists, and `name` cannot be a name on the hub.
    """
    if name == BUNDLED:
        return None
    path = os.path.join(name, FILE) if os.path.isdir(name) else name
    if os.path.isfile(path):
        return Path(path)
    on_hub = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_.\-]+)?", path) and not path.endswith(".json")
    if not on_hub or os.path.exists(path):
        files = os.listdir(name) if os.path.isdir(name) else []
        pieces = sorted(file for file in files if file.endswith((".spm", ".model")))
        reason = f" (a SentencePiece file, {pieces[0]}, is not read)" if pieces else ""
        raise UserError(
            f"{path[:200]} is not there{reason}; --TOKENIZER names a hub tokenizer, a folder or a tokenizer.json"
        )
    return None


def load_tokenizer(name: str) -> TextTokenizer:
    """Load a tokenizer: `bundled`, a hub name, a folder or `tokenizer.json`.

    A tokenizer without [PAD], [UNK], [CLS] and [SEP] is a pretrained model's: see `PretrainedTokenizer`.

    Raises:
        UserError: the tokenizer does not exist, is damaged, cannot be downloaded, or lacks a special token.
    """
    from tokenizers import Tokenizer

    path = tokenizer_file(str(base_folder(name)) if name == BUNDLED else name)
    if path is not None:
        return _loaded(path, str(path))
    print(f"asking the Hugging Face hub for the tokenizer {name}", flush=True)
    try:
        from huggingface_hub import errors, hf_hub_download, logging

        logging.set_verbosity_error()  # no line for every retry: the last error has its own line
        path = Path(hf_hub_download(name, FILE))
        native = has_native_roles(Tokenizer.from_file(str(path)))
        for file in () if native else (*DECLARING, CONFIG):
            try:
                hf_hub_download(name, file)
            except errors.LocalEntryNotFoundError:  # the connection failed; the file may exist
                raise
            except errors.EntryNotFoundError:  # a repository needs none of them
                continue
    except Exception as error:  # many kinds; all mean that the tokenizer did not arrive
        raise UserError(
            f"the Hugging Face hub did not deliver the tokenizer {name!r} ({type(error).__name__}); check the "
            "connection, give a folder with a tokenizer.json, or take --TOKENIZER bpe"
        ) from None
    return _loaded(path, name)


def _loaded(path: Path, source: str) -> TextTokenizer:
    """Read a tokenizer; the files beside it may declare its special tokens."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
        if (rows := path.parent / row_tokenizer.FILE).is_file():
            return row_tokenizer.RowTokenizer.load(tokenizer, rows)
        stored = stored_roles(tokenizer)
        if stored is not None:
            return PretrainedTokenizer(tokenizer, stored)
        if has_native_roles(tokenizer):
            return TextTokenizer(tokenizer, source)
        roles = declared_roles(tokenizer, path.parent)
        if roles is None:
            return TextTokenizer(tokenizer, source)  # raises an error that names the tokens
        return PretrainedTokenizer(tokenizer, roles, embedding_rows(path.parent))
    except UserError:
        raise
    except Exception as error:  # the library raises a bare Exception
        raise UserError(f"{path} is no tokenizer of the tokenizers library ({' '.join(str(error).split())})") from None


def same_tokenizer(tokenizer: TextTokenizer, folder: Path) -> bool:
    """Return True if prepared data has the tokenizer of a pretrained model, labels apart.

    Args:
        tokenizer: tokenizer of the data.
        folder: folder of the model, with its `tokenizer.json`.

    Raises:
        UserError: the folder has no tokenizer, or a damaged one.
    """
    return identity(tokenizer) == identity(load_tokenizer(str(folder)))


def train_bpe(texts: Iterable[str], vocabulary_size: int) -> TextTokenizer:
    """Train lossless byte-level BPE on texts, see `byte_level.train`; the same texts give the same tokenizer."""
    return TextTokenizer(byte_level.train(texts, vocabulary_size, SPECIAL), "bpe")


def train_wordpiece(texts: Iterable[str], vocabulary_size: int, lower_case: bool) -> TextTokenizer:
    """Train WordPiece (Wu et al. 2016) on texts; the same texts give the same tokenizer.

    Args:
        texts: training split; it is read twice and cannot be an iterator.
        vocabulary_size: maximal number of tokens, special ones counted; single characters are kept even beyond it.
        lower_case: True drops case and accents; meant for text that is cleaned of both.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    model = models.WordPiece(unk_token=SPECIAL[1])
    first = _bert_like(Tokenizer(model), lower_case)
    # The trainer numbers the characters that continue a word (##a) in the order of a randomly seeded hash, and
    # breaks ties by these numbers. As special tokens, they have their numbers before the training begins.
    reserved = [*SPECIAL, *_continuing_characters(first, texts)]
    # WordPiece encodes a longer word as [UNK], and the trainer's time grows with the square of a word's length.
    too_long = pre_tokenizers.Split(Regex(f".{{{model.max_input_chars_per_word + 1},}}"), "removed")
    first.pre_tokenizer = pre_tokenizers.Sequence([first.pre_tokenizer, too_long])
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary_size, special_tokens=reserved, show_progress=False)
    first.train_from_iterator(texts, trainer)
    # The vocabulary moves to a tokenizer in which ##a is no special token.
    tokenizer = _bert_like(Tokenizer(models.WordPiece(first.get_vocab(), unk_token=SPECIAL[1])), lower_case)
    tokenizer.add_special_tokens(list(SPECIAL))
    return TextTokenizer(tokenizer, "wordpiece")


def _bert_like(tokenizer: "Tokenizer", lower_case: bool) -> "Tokenizer":
    """Give a tokenizer BERT's normalizer and its splitting at punctuation.

    BERT's cleaning would drop the joiners inside Persian and Hindi words and inside emoji, with all other format
    characters. Text that keeps its case is not cleaned in this way.
    """
    from tokenizers import normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=lower_case, lowercase=lower_case, strip_accents=lower_case
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _continuing_characters(tokenizer: "Tokenizer", texts: Iterable[str]) -> list[str]:
    """Return the characters of texts that can continue a word, sorted, as word pieces: `##a`."""
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    continuing: set[str] = set()
    for character in characters:
        words = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str("a" + character))
        if len(words) == 1:  # punctuation and white space end the word
            continuing.update(words[0][0][1:])
    return [f"##{character}" for character in sorted(continuing)]
