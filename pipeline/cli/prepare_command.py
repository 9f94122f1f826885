"""Command of prepareDatasets.py: prepare a corpus."""

import argparse
import time
from pathlib import Path

from pipeline.cli import types
from pipeline.cli.parser import Parser, add_column_options, add_limit_options, check_column_types
from pipeline.data.corpora import HUB, NAMES
from pipeline.data.documents import Split
from pipeline.data.formats import format_of, listed_formats, stem_of
from pipeline.data.preparation_settings import BPE, TABLE, TRAINED, WORDPIECE, PreparationSettings
from pipeline.data.text_source import TextSource, check_source, dataset_name
from pipeline.data.tokenizer import tokenizer_file
from pipeline.runtime.errors import UserError

VOCABULARY = 8000  # tokens of a trained tokenizer by default


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description)
    group = parser.add_argument_group("text")
    group.add_argument(
        "--DATA",
        type=types.Checked(check_source),
        default="wikitext2",
        help=f"{', '.join(NAMES)}, the path of a {listed_formats()} file, also compressed with .gz behind its name, or "
        "a dataset on the hub as owner/name",
    )
    group.add_argument(
        "--LOCAL_PATH",
        type=types.OrNone(types.folder),
        help="folder with wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens, in place of the Hugging Face hub "
        "(default: None, the hub)",
    )
    add_column_options(group)
    group.add_argument(
        "--WHOLE_DOCUMENTS",
        type=types.boolean,
        help="True keeps a document as one text; False splits it into sentences (default: True for a table's rows as "
        "text, False otherwise)",
    )
    group.add_argument(
        "--VALIDATION_FRACTION",
        type=types.number(above=0, below=1),
        default=0.05,
        help="share of the documents for validation, for a text without splits of its own",
    )
    group.add_argument(
        "--TEST_FRACTION",
        type=types.number(above=0, below=1),
        default=0.05,
        help="share of the documents for testing, for a text without splits of its own",
    )
    group.add_argument("--SEED", type=types.integer(0, 2**63 - 1), default=42, help="seed of the division into splits")
    group = parser.add_argument_group("sentences")
    group.add_argument(
        "--CLEAN",
        choices=("paper", "none"),
        help="paper: lower case; letters, digits and , ' < > . only; none: changes nothing "
        "(default: paper for the named corpora, none for a file of your own)",
    )
    add_limit_options(group)
    group = parser.add_argument_group("tokenizer")
    group.add_argument(
        "--TOKENIZER",
        type=types.OrNone(types.Checked(tokenizer_file)),
        help="that of a pretrained model (bundled, a hub name or a folder), or a tokenizer.json; bpe (byte-level: "
        "every text comes back as it was) and wordpiece train one on the training split; table has a token for each "
        "column and value of a table's rows (default: bert-base-uncased for the paper's corpora, wordpiece for "
        "wikipedia-sample, table for rows as text, bpe for other text of your own)",
    )
    group.add_argument(
        "--VOCAB_SIZE",
        type=types.integer(100, 10**6),
        help="maximal number of tokens of a trained tokenizer; bytes or single characters are kept even beyond it "
        f"(default: {VOCABULARY})",
    )
    group = parser.add_argument_group("output")
    group.add_argument("--DATA_DIR", type=types.folder, default=Path("data"), help="folder of all prepared datasets")
    group.add_argument(
        "--REPLACE",
        type=types.boolean,
        default=True,
        help="False keeps prepared data of this name that are of another text or other flags, and ends with an error",
    )
    arguments = parser.parse_args()
    named = arguments.DATA in NAMES
    of_rows = arguments.ROW_TEMPLATE is not None
    if arguments.TOKENIZER is None:
        own = TABLE if of_rows else BPE
        arguments.TOKENIZER = "bert-base-uncased" if arguments.DATA in HUB else (WORDPIECE if named else own)
    arguments.WHOLE_DOCUMENTS = of_rows if arguments.WHOLE_DOCUMENTS is None else arguments.WHOLE_DOCUMENTS
    arguments.MORE_THAN = arguments.MORE_THAN or (2 if arguments.WHOLE_DOCUMENTS else 5)
    arguments.FEWER_THAN = arguments.FEWER_THAN or (250 if of_rows else (50 if named else 150))
    if arguments.CLEAN is None:
        arguments.CLEAN = "paper" if named else "none"
    check(arguments)
    return arguments


def check(arguments: argparse.Namespace) -> None:
    """Check that the flags are consistent.

    Raises:
        UserError: two flags contradict each other; the message names them.
    """
    if arguments.VALIDATION_FRACTION + arguments.TEST_FRACTION >= 1:
        raise UserError(
            "--VALIDATION_FRACTION and --TEST_FRACTION leave nothing to train on; their sum must be below 1"
        )
    if arguments.FEWER_THAN - arguments.MORE_THAN < 2:
        raise UserError("--MORE_THAN and --FEWER_THAN leave no length between them; set them further apart")
    if arguments.TOKENIZER == TABLE and arguments.ROW_TEMPLATE is None:
        raise UserError("--TOKENIZER table is for the rows of a table; add --ROW_TEMPLATE, or take another tokenizer")
    if arguments.ROW_TEMPLATE is not None and not arguments.WHOLE_DOCUMENTS:
        raise UserError("--WHOLE_DOCUMENTS False would divide a row's text; leave it out, or take no --ROW_TEMPLATE")
    if arguments.ROW_TEMPLATE is not None and arguments.CLEAN == "paper":
        raise UserError(
            "--CLEAN paper would change the words of the rows' texts; leave it out, or take no --ROW_TEMPLATE"
        )
    check_column_types(arguments.COLUMN_TYPES)
    text_source(arguments)
    dataset_name(arguments.DATA, arguments.NAME)
    if arguments.VOCAB_SIZE is not None and arguments.TOKENIZER not in TRAINED:
        raise UserError(
            f"--VOCAB_SIZE means nothing for --TOKENIZER {arguments.TOKENIZER}, which is not trained; leave it out, or "
            f"take --TOKENIZER {' or '.join(TRAINED)}"
        )


def text_source(arguments: argparse.Namespace) -> TextSource:
    """Create the source of the text from the flags, which checks them."""
    split = Split(arguments.VALIDATION_FRACTION, arguments.TEST_FRACTION, arguments.SEED)
    columns = (arguments.TEXT_COLUMN, arguments.LABEL_COLUMN, arguments.ROW_TEMPLATE)
    types = dict(arguments.COLUMN_TYPES or ())
    return TextSource(arguments.DATA, split, arguments.LOCAL_PATH, *columns, arguments.DELIMITER, types)


def run(arguments: argparse.Namespace) -> None:
    """Prepare the text and print the statistics of the splits."""
    from pipeline.data.prepare import prepare
    from pipeline.reporting.preparation import report

    name = dataset_name(arguments.DATA, arguments.NAME)
    if format_of(arguments.DATA) and arguments.NAME is None and name != stem_of(arguments.DATA):
        print(f"the data of {arguments.DATA} are known as {name} (--NAME {name})", flush=True)
    settings = PreparationSettings(
        tokenizer=arguments.TOKENIZER,
        vocabulary_size=arguments.VOCAB_SIZE or VOCABULARY,
        clean=arguments.CLEAN,
        more_than=arguments.MORE_THAN,
        fewer_than=arguments.FEWER_THAN,
        whole=arguments.WHOLE_DOCUMENTS,
    )
    started = time.monotonic()
    source = text_source(arguments)
    statistics = prepare(source, name, arguments.DATA_DIR, settings, arguments.ACCEPT_LOSS, arguments.REPLACE)
    print("\n" + report(statistics, arguments.DATA_DIR / name))
    print(f"written to {arguments.DATA_DIR / name} in {time.monotonic() - started:.1f} s")
