"""Compare candidates for the learned prior of an NVAE.

    python -m benchmarks.priors --EXPERIMENT_NAME nvae --LANGUAGE_MODEL_PRIOR lm --JUDGE judge --MINUTES 8
    python -m benchmarks.priors ... --PRIORS plain autoregressive --NUMBER_SAMPLES 500
    python -m benchmarks.priors --EXPERIMENT_NAME nvae --LANGUAGE_MODEL_PRIOR lm --JUDGE bundled \
        --PRIORS plain mixture embeddings autoregressive --RESULTS benchmarks/priors_pretrained.json
        an NVAE around a pretrained model

Candidates: the plain prior of the model; a mixture over tokens with fitted means; the same around the embeddings of a
pretrained base; a rectified flow over the set of components, without and with their positions, and an autoregressive
prior over vectors, trained for `--MINUTES` each; the autoregressive prior, posteriors of texts that the language model
imagines (`sample.py --PRIOR learned`). Each draws the same number of samples, decoded greedily and with top-p, and has
a row for both, beside real text and the language model's own samples. The rate is the divergence of the posteriors of
real text from the prior, of the first texts; for the autoregressive prior it is the bound -ln p(x) of the language
model. R-PPL is the perplexity of the real text under a model that learns from the samples alone, with the settings of
the judge, or of the language model where the judge is a pretrained one. Writes the results after each candidate, and a
figure; `benchmarks.doc_tables` writes the tables of docs/priors.md. The experiments are unchanged. With the 1.8 million
vectors of WikiText-2 it took 13 GB.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from benchmarks import prior_flow, prior_vectors
from benchmarks.machine import processor
from benchmarks.prior_candidates import Posteriors, TokenMixture, collect, plain_rate, source_of
from benchmarks.prior_judges import Judge, TrainedJudge, UntouchedJudge, reverse_perplexity
from benchmarks.prior_tables import NAMES, draw
from models.decoding import GREEDY, Decoding
from models.prompt_models import PromptAutoencoder
from models.text_model import AS_TRAINED
from pipeline.cli import types
from pipeline.cli.entry import run
from pipeline.cli.parser import Parser, add_experiment_options, add_subset_option
from pipeline.data.dataset import difference
from pipeline.evaluation.diversity import text_figures
from pipeline.evaluation.judge import is_experiment, perplexity, tokenized_samples
from pipeline.evaluation.latent_influence import DRAWS, influence
from pipeline.experiments.load import Experiment, load_experiment
from pipeline.generation import latents
from pipeline.generation.generate import sample
from pipeline.generation.learned_prior import LearnedPrior
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_json

RESULTS = Path(__file__).parent / "priors.json"
FIGURE = Path(__file__).parent.parent / "docs" / "results" / "priors.png"
PRIORS = tuple(NAMES)
SCRATCH = tuple(name for name in PRIORS if name != "embeddings")  # candidates for an NVAE without a base
RATED = 200  # texts whose rate is measured
EXAMPLES = 2  # samples that are kept, the first ones
KEPT = ("distinct_2", "self_bleu", "length_divergence", "exact_training_fraction")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__ or "")
    add_experiment_options(parser, logged=False)
    group = parser.add_argument_group("priors")
    group.add_argument(
        "--LANGUAGE_MODEL_PRIOR", type=types.name, required=True, help="experiment with --MODEL LM and the same data"
    )
    group.add_argument(
        "--JUDGE", type=types.base, required=True, help="experiment with --MODEL LM and the same data, or a base model"
    )
    group.add_argument(
        "--PRIORS", choices=PRIORS, nargs="+", action=types.Distinct, default=SCRATCH, help="candidates to compare"
    )
    group.add_argument(
        "--MINUTES",
        type=types.number(above=0),
        default=8.0,
        help="duration of the training of each flow, and of the prior over vectors",
    )
    group.add_argument("--NUMBER_SAMPLES", type=types.integer(2), default=1000, help="samples of each candidate")
    group.add_argument(
        "--TOP_P", type=types.number(above=0), default=0.95, help="share of the probability to draw tokens from"
    )
    group.add_argument(
        "--REVERSE_STEPS",
        type=types.integer(0),
        default=400,
        help="largest number of optimizer steps of each model of R-PPL; 0 leaves it out",
    )
    group.add_argument("--SEED", type=types.integer(0, 2**32 - 1), default=1, help="seed of trainings and draws")
    group.add_argument("--GENERATION_BATCH_SIZE", type=types.integer(1), default=64, help="sentences decoded together")
    group.add_argument("--RESULTS", type=Path, default=RESULTS, help="file of the results")
    group.add_argument("--FIGURE", type=Path, default=FIGURE, help="file of the figure")
    add_subset_option(group, "split of the real text")
    return parser.parse_args()


def sources(
    experiment: Experiment, writer: Experiment, arguments: argparse.Namespace, lengths: Sequence[int]
) -> dict[str, Callable[[], tuple[latents.Source, dict[str, Any]]]]:
    """Make the candidates by their names; each fits itself when it is called, and returns its source and facts.

    The facts have the `rate` where it is known, in nats a vector.

    Args:
        experiment: the NVAE.
        writer: the language model.
        arguments: the command line.
        lengths: tokens of each sample, the end token included; the autoregressive prior draws its own.
    """
    held: dict[str, Posteriors] = {}
    tokenizer, subset = experiment.data.tokenizer, arguments.DATA_SUBSET

    def posteriors() -> Posteriors:
        if "train" not in held:
            held["train"] = collect(experiment, "train", arguments.GENERATION_BATCH_SIZE)
        return held["train"]

    def rated() -> Posteriors:
        if "rated" not in held:
            held["rated"] = collect(experiment, subset, arguments.GENERATION_BATCH_SIZE, each=True, texts=RATED)
        return held["rated"]

    def plain() -> tuple[latents.Source, dict[str, Any]]:
        return latents.from_prior(experiment, lengths), {"rate": plain_rate(rated())}

    def of_tokens(made: TokenMixture) -> tuple[latents.Source, dict[str, Any]]:
        explained = 1.0 - float(made.variance.mean() / posteriors().mu.var(dim=0).mean())
        drawn = torch.Generator().manual_seed(arguments.SEED)
        facts = {"explained_variance": explained, "rate": made.rate(rated(), drawn)}
        return source_of(experiment, made, posteriors(), lengths), facts

    def mixture() -> tuple[latents.Source, dict[str, Any]]:
        return of_tokens(TokenMixture.fit(posteriors(), tokenizer.vocabulary_size, tokenizer.sep_id))

    def embeddings() -> tuple[latents.Source, dict[str, Any]]:
        if not isinstance(experiment.model, PromptAutoencoder):
            raise UserError(
                f"{experiment.files.folder.name} has no embeddings of a causal base; leave embeddings out of --PRIORS"
            )
        return of_tokens(TokenMixture.around(posteriors(), experiment.model.codes.codes.cpu(), tokenizer.sep_id))

    def flow(ordered: bool) -> tuple[latents.Source, dict[str, Any]]:
        trained = prior_flow.train(posteriors(), ordered, arguments.MINUTES, arguments.SEED)
        facts = {"updates": trained.updates, "loss": trained.loss}
        return source_of(experiment, trained, posteriors(), lengths), facts

    def vectors() -> tuple[latents.Source, dict[str, Any]]:
        start = TokenMixture.fit(posteriors(), tokenizer.vocabulary_size, tokenizer.sep_id)
        trained = prior_vectors.train(posteriors(), start, arguments.MINUTES, arguments.SEED, arguments.TOP_P)
        drawn = torch.Generator().manual_seed(arguments.SEED)
        facts = {"updates": trained.updates, "loss": trained.loss}
        facts["rate"] = trained.rate(rated(), drawn)
        return source_of(experiment, trained, posteriors(), lengths), facts

    def autoregressive() -> tuple[latents.Source, dict[str, Any]]:
        imagined = Decoding("sample", top_p=arguments.TOP_P)
        split = experiment.data.splits[subset]
        some = split.select(range(min(RATED, len(split))))
        rate = math.log(perplexity(writer.model, some, writer.data, arguments.GENERATION_BATCH_SIZE, "rate"))
        return LearnedPrior(experiment, writer).source(AS_TRAINED, imagined, 1, None), {"rate": rate}

    return {
        "plain": plain,
        "mixture": mixture,
        "embeddings": embeddings,
        "flow": lambda: flow(False),
        "flow-ordered": lambda: flow(True),
        "vectors": vectors,
        "autoregressive": autoregressive,
    }


def figures(
    judge: Judge, like: Experiment, split: Dataset, learned: Dataset, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Compute the figures of texts, MAUVE against training text.

    Args:
        judge: the judge.
        like: language model whose settings the model of R-PPL has, and whose data the texts are compared with.
        split: token ids of the texts.
        learned: token ids that the model of R-PPL learns from: the texts themselves if they are samples.
        arguments: the command line.

    Returns:
        `forward_perplexity`; `reverse_perplexity`, None without steps; `mauve` and `mauve_of_real_text`, both of as
        many texts; `distinct_2`; `self_bleu`; `length_divergence`; `exact_training_fraction`.
    """
    size, steps = arguments.GENERATION_BATCH_SIZE, arguments.REVERSE_STEPS
    mauve = judge.mauve(split, size)
    diversity = text_figures(split, like.data)
    real = like.data.splits[arguments.DATA_SUBSET]
    return {
        "forward_perplexity": judge.perplexity(split, size),
        "reverse_perplexity": reverse_perplexity(like, learned, real, steps, arguments.SEED, size) if steps else None,
        **mauve,
        **{name: diversity[name] for name in KEPT},
    }


def compared(
    experiment: Experiment, judge: Judge, like: Experiment, source: latents.Source, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Draw samples from a source, greedily and with top-p, and measure them; a row for each way to decode.

    Args:
        experiment: model of the samples.
        judge: the judge.
        like: see `figures`.
        source: source of the latents.
        arguments: the command line.

    Returns:
        Rows with the figures, `decoding`, `seconds` of the samples and `examples`; where tokens are drawn, the BLEU of
        `influence` too.
    """
    size, count, rows = arguments.GENERATION_BATCH_SIZE, arguments.NUMBER_SAMPLES, []
    for decoding in (GREEDY, Decoding("sample", top_p=arguments.TOP_P)):
        if experiment.model.settings.name == "LM" and decoding is GREEDY:
            continue  # all of its samples would be one text
        started = time.monotonic()
        made = sample(experiment, source, count, arguments.SEED, decoding, size)
        row = {"decoding": decoding.method, "seconds": time.monotonic() - started}
        texts = tokenized_samples(made, like.data)
        row |= figures(judge, like, texts, texts, arguments)
        if decoding is not GREEDY:
            again = sample(experiment, source, count, arguments.SEED, decoding, size, again=min(DRAWS, count))
            row |= influence([one["text"] for one in made[: len(again)]], [one["text"] for one in again])
        rows.append(row | {"examples": [text["text"] for text in made[:EXAMPLES]]})
    return rows


def real_text(judge: Judge, like: Experiment, arguments: argparse.Namespace) -> dict[str, Any]:
    """Compute the figures of the first held-out texts; the model of R-PPL learns from the first training texts."""
    count, splits = arguments.NUMBER_SAMPLES, like.data.splits
    split, train = (
        splits[name].select(range(min(count, len(splits[name])))) for name in (arguments.DATA_SUBSET, "train")
    )
    found = figures(judge, like, split, train, arguments)
    examples = like.data.tokenizer.decode_batch(split[:EXAMPLES]["input_ids"])
    return found | {"decoding": None, "texts": len(split), "examples": examples}


def checked(experiment: Experiment, other: Experiment, flag: str) -> Experiment:
    """Return an experiment after a check that it is a language model of the same data.

    Raises:
        UserError: it is another model, or it was trained on other data.
    """
    name = other.files.folder.name
    if other.model.settings.name != "LM":
        raise UserError(f"{flag} {name} is of the model {other.model.settings.name}; name one of --MODEL LM")
    if differs := difference(experiment.data.identity, other.data.identity):
        raise UserError(f"{flag} {name} was trained on other data ({differs}); train one on that of the NVAE")
    return other


def main() -> None:
    """Compare the candidates, and write the results and the figure after each of them."""
    arguments = parse()
    place = arguments.OUTPUT_DIR, arguments.PROJECT_NAME

    def loaded(name: str) -> Experiment:
        return load_experiment(*place, name, arguments.DATA_DIR)

    experiment = loaded(arguments.EXPERIMENT_NAME)
    writer = checked(experiment, loaded(arguments.LANGUAGE_MODEL_PRIOR), "--LANGUAGE_MODEL_PRIOR")
    judge: Judge
    if is_experiment(*place, arguments.JUDGE):
        like = checked(experiment, loaded(arguments.JUDGE), "--JUDGE")
        judge = TrainedJudge(like)
    else:
        like, judge = writer, UntouchedJudge(arguments.JUDGE, experiment)
    count = arguments.NUMBER_SAMPLES
    held = latents.LengthRange("data")
    lengths = latents.draw_lengths(experiment.data.length_distribution, count, held, arguments.SEED)
    threads = torch.get_num_threads()
    results: dict[str, Any] = {
        "count": count,
        "minutes": arguments.MINUTES,
        "reverse_steps": arguments.REVERSE_STEPS,
        "seed": arguments.SEED,
        "top_p": arguments.TOP_P,
        "subset": arguments.DATA_SUBSET,
        "data": experiment.config["data"]["name"],
        "machine": f"{processor()}, {threads} thread" + ("s" if threads > 1 else ""),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "judge": arguments.JUDGE,
        "real": real_text(judge, like, arguments),
        "rows": [],
    }
    candidates: Mapping[str, Any] = sources(experiment, writer, arguments, lengths)
    results["language_model"] = compared(writer, judge, like, latents.from_prior(writer, lengths), arguments)[0]
    for name in arguments.PRIORS:
        started = time.monotonic()
        source, facts = candidates[name]()
        facts["fit_seconds"] = time.monotonic() - started
        for row in compared(experiment, judge, like, source, arguments):
            results["rows"].append({"prior": name} | row | facts)
            print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})
        results["rows"].sort(key=lambda row: PRIORS.index(row["prior"]))
        write_json(arguments.RESULTS, results)
        draw(results, arguments.FIGURE)
    print(f"written to {arguments.RESULTS} and {arguments.FIGURE}")


if __name__ == "__main__":
    run(main)
