"""Regularise a pretrained language model after its training, without training (Fehr & Henderson 2024).

    python -m benchmarks.post_training --LOCAL_PATH <folder of WikiText-2>   # runs, then writes JSON and the page
    python -m benchmarks.post_training                                       # writes the page's table anew

**Question.** `nvib.hugging_face.convert` makes every attention layer of SmolLM2-135M-Instruct (`--PRETRAINED`) a
denoising attention with unchanged outputs. Does it predict text of another domain better once its latents move towards
an empirical prior, and what does that cost in the prior's domain?

**Runs.** The prior is mean and variance of the vectors of each layer on training sentences of WikiText-2. Each control
moves alone, then all three together. Three texts, equally many sentences of each: validation sentences of WikiText-2
(the prior's domain), articles of gensim's Wikipedia sample (near), docstrings of Python's standard library (far). The
perplexity is per token; the first token of a sentence is context alone. Sentences are in the plain spelling, 6 to 24
words, none with an unknown word, drawn with seed 0. A regularised model may be less confident, and a model that was too
confident gains by that alone. So the logits of the base model times a factor are one more control, without a prior.

**Criterion.** For each control, the setting with the lowest perplexity of the far text is chosen on the first half of
the sentences. It helps if the interval (95 %, paired bootstrap over sentences) of its perplexity relative to that of
the base model on the second half of the far text is below 1. It is free if its relative perplexity on the second half
of the prior's domain is at most 1.05. The prior itself helps only where the gain exceeds that of the scaled logits.

Writes benchmarks/post_training.json after every setting, and the table of docs/results.md. A run continues the file of
an earlier one with the same model, sentences, versions and machine.
"""

import argparse
import ast
import platform
import random
import re
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nvib
from benchmarks.doc_facts import table
from benchmarks.machine import processor
from pipeline.cli import types
from pipeline.cli.entry import run
from pipeline.cli.parser import Parser
from pipeline.data.base_models import BUNDLED, base_folder, require
from pipeline.data.cleaning import paragraphs, sentences
from pipeline.data.corpora import wikipedia_articles, wikitext_files
from pipeline.evaluation.bootstrap import score_estimate
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json, write_json, write_text

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "post_training.json"
PAGE = ROOT / "docs" / "results.md"
MARKED = re.compile(r"(<!-- table: post_training -->\n).*?(<!-- end -->)", re.DOTALL)
CONTROLS = ("mu_tau", "stdev_tau", "alpha_tau")
LABELS = {"none": "base model", "all three": "all three", "logits": "logits × τ, no prior"}
TAUS: dict[str, tuple[float, ...]] = {
    "mu_tau": (0.95, 0.9, 0.8),
    "stdev_tau": (0.9, 0.7, 0.5),
    "alpha_tau": (0.95, 0.9, 0.7),
    "all three": (0.95, 0.9),
    "logits": (0.95, 0.9, 0.8),
}
IN, NEAR, FAR = "WikiText-2", "Wikipedia sample", "Python docstrings"
WORDS = range(6, 25)
POOL = 50  # sentences to draw from, for each that is drawn
FREE = 1.05
# Spelling of WikiText: joined marks, and spaces around marks.
SPELLING = (
    (r" @(.)@ ", r"\1"),
    (r" ([,.;:!?)%]|'s\b|n't\b|'\B)", r"\1"),
    (r"([(]) ", r"\1"),
    (r'" ([^"]*) "', r'"\1"'),
)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__ or "")
    group = parser.add_argument_group("runs")
    group.add_argument("--LOCAL_PATH", type=types.folder, help="folder of WikiText-2 (default: no run)")
    group.add_argument(
        "--PRETRAINED", default=BUNDLED, help="causal language model: bundled, a folder, or a hub's name"
    )
    group.add_argument("--SENTENCES", type=types.integer(4), default=100, help="sentences of each text")
    group.add_argument("--PRIOR_SENTENCES", type=types.integer(1), default=200, help="sentences of the empirical prior")
    group.add_argument("--BATCH_SIZE", type=types.integer(1), default=16, help="sentences of a batch")
    return parser.parse_args()


def wikitext(folder: Path, split: str) -> Iterator[str]:
    """Yield the sentences of a split of WikiText in the plain spelling, without those with unknown words."""
    with wikitext_files(folder)[split].open(encoding="utf-8") as file:
        for line in file:
            for sentence in (found for part in paragraphs(line) for found in sentences(part)):
                if "<unk>" not in sentence:
                    yield plain(sentence)


def plain(sentence: str) -> str:
    """Undo the tokenisation of WikiText."""
    sentence = sentence.strip()
    for pattern, spelling in SPELLING:
        sentence = re.sub(pattern, spelling, sentence)
    return sentence


def wikipedia() -> Iterator[str]:
    """Yield the sentences of gensim's Wikipedia sample."""
    for article in wikipedia_articles():
        yield from (sentence.strip() for part in paragraphs(article) for sentence in sentences(part))


def docstrings() -> Iterator[str]:
    """Yield the sentences of the docstrings of Python's standard library, without lines that are indented further."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="replace"))):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                if not re.search(r"^\s|>>>", paragraph, re.MULTILINE):
                    yield from (sentence.strip() for sentence in sentences(" ".join(paragraph.split())))


def drawn(found: Iterator[str], count: int) -> list[str]:
    """Draw distinct sentences of a proper length that end like one, from the first `POOL` times as many.

    Raises:
        UserError: the text has too few of them.
    """
    fitting: dict[str, None] = {}
    for sentence in found:
        if len(sentence.split()) in WORDS and sentence.endswith((".", "?", "!")) and sentence[0].isupper():
            fitting[sentence] = None
        if len(fitting) == POOL * count:
            break
    if len(fitting) < count:
        raise UserError(f"a text has {len(fitting)} sentences that fit, and {count} are needed; lower --SENTENCES")
    return random.Random(0).sample(list(fitting), count)


class LanguageModel:
    """A causal language model of transformers, and losses of sentences."""

    def __init__(self, name: str, batch: int) -> None:
        require("transformers")
        import transformers  # an optional extra

        folder = base_folder(name)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.batch = batch

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
        """Yield the numbers and the padded tokens of sentences of about one length."""
        ids = [self.tokenizer(text)["input_ids"] for text in texts]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids[row]) for row in rows], batch_first=True)
            lengths = torch.tensor([len(ids[row]) for row in rows])
            mask = torch.arange(tokens.shape[1]) < lengths.unsqueeze(1)
            yield rows, {"input_ids": tokens, "attention_mask": mask.long()}

    @torch.inference_mode()
    def losses(self, texts: Sequence[str], factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Return the summed cross-entropy of each sentence in nats, and the number of its tokens after the first.

        Args:
            texts: sentences.
            factor: factor of the logits.
        """
        losses, counts = np.zeros(len(texts)), np.zeros(len(texts))
        for rows, batch in self.batches(texts):
            target, real = batch["input_ids"][:, 1:], batch["attention_mask"][:, 1:]
            logits = factor * self.model(**batch).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none") * real
            losses[rows], counts[rows] = loss.sum(dim=1).numpy(), real.sum(dim=1).numpy()
        return losses, counts


def figures(losses: np.ndarray, base: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """Compute the perplexity of both halves, and that of the second half relative to the base model's."""
    half = len(losses) // 2
    change, second = (losses - base)[half:], counts[half:]
    ratio = score_estimate(lambda rows: float(np.exp(change[rows].sum() / second[rows].sum())), len(second))
    return {
        "first": float(np.exp(losses[:half].sum() / counts[:half].sum())),
        "second": float(np.exp(losses[half:].sum() / second.sum())),
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
    }


def settings() -> Iterator[tuple[str, float]]:
    """Yield the name of the control and its value for every setting, the base model first."""
    yield "none", 1.0
    for control, taus in TAUS.items():
        yield from ((control, tau) for tau in taus)


def measure(arguments: argparse.Namespace) -> None:
    """Run every setting, and write the results after each."""
    from nvib import hugging_face

    language_model = LanguageModel(arguments.PRETRAINED, arguments.BATCH_SIZE)
    folder, count = arguments.LOCAL_PATH, arguments.SENTENCES
    texts = {
        IN: drawn(wikitext(folder, "validation"), count),
        NEAR: drawn(wikipedia(), count),
        FAR: drawn(docstrings(), count),
    }
    base = {name: language_model.losses(found) for name, found in texts.items()}
    prior = [batch for _, batch in language_model.batches(drawn(wikitext(folder, "train"), arguments.PRIOR_SENTENCES))]
    model = hugging_face.convert(language_model.model, hugging_face.estimate_prior(language_model.model, prior))
    about: dict[str, Any] = {
        "model": arguments.PRETRAINED,
        "sentences": count,
        "prior_sentences": arguments.PRIOR_SENTENCES,
        "tokens": {name: int(counts.sum()) for name, (_, counts) in base.items()},
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": processor(),
        "threads": torch.get_num_threads(),
    }
    rows = measured(about)
    about["date"] = time.strftime("%Y-%m-%d")
    done = {(row["control"], row["tau"]) for row in rows}
    for control, tau in settings():
        if (control, tau) in done:
            continue
        started = time.perf_counter()
        nvib.regularise(model, **{name: tau for name in CONTROLS if control in (name, "all three")})
        row: dict[str, Any] = {"control": control, "tau": tau, "texts": {}}
        for name, found in texts.items():
            losses, counts = language_model.losses(found, tau if control == "logits" else 1.0)
            row["texts"][name] = figures(losses, base[name][0], counts)
        rows.append(row | {"seconds": time.perf_counter() - started})
        write_json(RESULTS, {**about, "rows": rows})
        shown = ", ".join(f"{name} {found['second']:.1f}" for name, found in row["texts"].items())
        print(f"{control} {tau}: perplexity {shown} ({rows[-1]['seconds']:.0f} s)", flush=True)


def measured(about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of an earlier run with the same facts, or none."""
    if not RESULTS.exists():
        return []
    earlier = read_json(RESULTS, f"remove {RESULTS.name} to measure anew")
    return earlier["rows"] if about.items() <= earlier.items() else []


def chosen(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the setting of each control with the lowest perplexity of the far text on the first half."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        control = row["control"]
        if control not in best or row["texts"][FAR]["first"] < best[control]["texts"][FAR]["first"]:
            best[control] = row
    return best


def verdict(row: dict[str, Any]) -> str:
    """Judge a chosen setting by the criterion."""
    far, domain = row["texts"][FAR], row["texts"][IN]
    helps = "helps" if far["high"] < 1 else "harms" if far["low"] > 1 else "no difference shown"
    return f"{helps}, {'free' if domain['ratio'] <= FREE else 'costs'}"


def filled(page: str, results: dict[str, Any]) -> str:
    """Return a page with its marked table replaced."""
    best = [row for control, row in chosen(results["rows"]).items() if control != "none"]
    header = ("control", "τ", *(f"{name}, PPL" for name in (IN, NEAR, FAR)))
    header += (f"{IN}, × base", f"{FAR}, × base (95 %)", "chosen")

    def cells(row: dict[str, Any]) -> list[str]:
        found, far = row["texts"], row["texts"][FAR]
        return [
            f"`{row['control']}`" if row["control"] in CONTROLS else LABELS[row["control"]],
            f"{row['tau']:g}",
            *(f"{found[name]['second']:,.1f}" for name in (IN, NEAR, FAR)),
            f"{found[IN]['ratio']:.3f}",
            f"{far['ratio']:.3f} ({far['low']:.3f} to {far['high']:.3f})",
            verdict(row) if row in best else "",
        ]

    written = table(header, map(cells, results["rows"]))
    return MARKED.sub(lambda found: f"{found[1]}\n{written}\n{found[2]}", page)


def main() -> None:
    """Run if a folder is given, and write the page's table."""
    arguments = parse()
    if arguments.LOCAL_PATH is not None:
        measure(arguments)
    results = read_json(RESULTS, "give --LOCAL_PATH to run the benchmark")
    write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), results))
    print(f"written to {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    run(main)
