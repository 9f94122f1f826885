"""Measure the dials of near-samples: the share of vectors kept, and the temperature of the latent.

    python -m benchmarks.dials --EXPERIMENT_NAME mine                                    # 48 sentences, sampled
    python -m benchmarks.dials --EXPERIMENT_NAME mine --DECODING sample greedy --COUNT 200

Each setting draws one near-sample of each of the same sentences, as `sample.py --NEAR` does with `--KEEP` or
`--LATENT_TEMPERATURE`. Its row has the distance to the sentence (BLEU, cosine similarity of MiniLM's vectors, share of
exact copies) and the fluency (bits a character and perplexity a token under a pretrained judge). Rows of the sentences
themselves, and of other sentences in their place, stand beside them. Writes benchmarks/dials.json, from which
`benchmarks.doc_tables` writes the table of docs/pretrained.md. The experiment is unchanged.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import processor
from models.decoding import Decoding
from models.text_model import Noise
from pipeline.cli import types
from pipeline.cli.entry import run
from pipeline.cli.parser import Parser, add_experiment_options, add_subset_option
from pipeline.data.base_models import BUNDLED
from pipeline.data.batches import in_order, loader
from pipeline.evaluation.base_judge import BaseJudge
from pipeline.evaluation.bleu import corpus_bleu
from pipeline.evaluation.sentence_encoder import ABSENT, SentenceEncoder, load_encoder
from pipeline.experiments.load import Experiment, load_experiment
from pipeline.generation.generate import decode, require_latent
from pipeline.generation.latents import unsupported_as_user_error
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_json
from pipeline.runtime.progress import bar
from pipeline.runtime.seeds import mixed

RESULTS = Path(__file__).parent / "dials.json"
EXAMPLES = 1  # sentences whose near-samples are kept, the first ones


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__ or "")
    add_experiment_options(parser, logged=False)
    group = parser.add_argument_group("dials")
    group.add_argument(
        "--KEEP",
        type=types.number(above=0, below=1),
        nargs="+",
        action=types.Distinct,
        default=(0.97, 0.9, 0.7, 0.5, 0.3),
        help="shares of the vectors that are kept, at latent temperature 1",
    )
    group.add_argument(
        "--LATENT_TEMPERATURE",
        type=types.number(0, 100),
        nargs="+",
        action=types.Distinct,
        default=(0.5, 0.7, 0.85, 1.0, 1.5, 2.0),
        help="scales of the latent's noise, with all vectors",
    )
    group.add_argument(
        "--DECODING",
        choices=("sample", "greedy"),
        nargs="+",
        action=types.Distinct,
        default=("sample",),
        help="ways to choose the tokens",
    )
    group.add_argument(
        "--TOP_P", type=types.number(above=0), default=0.95, help="share of the probability to draw from"
    )
    group.add_argument("--COUNT", type=types.integer(2), default=48, help="sentences, drawn at random")
    group.add_argument("--SEED", type=types.integer(0, 2**32 - 1), default=42, help="seed of sentences and draws")
    group.add_argument("--LANGUAGE_MODEL", type=types.base, default=BUNDLED, help="pretrained model that judges")
    group.add_argument("--GENERATION_BATCH_SIZE", type=types.integer(1), default=16, help="sentences decoded together")
    group.add_argument("--RESULTS", type=Path, default=RESULTS, help="file of the results")
    add_subset_option(group, "split of the sentences")
    return parser.parse_args()


@torch.inference_mode()
def near_samples(
    experiment: Experiment,
    subset: str,
    numbers: Sequence[int],
    dial: tuple[str, float],
    decoding: Decoding,
    seed: int,
    size: int,
) -> list[str]:
    """Draw one near-sample of each sentence.

    Args:
        experiment: model and data.
        subset: split of the sentences.
        numbers: numbers of the sentences.
        dial: `keep` or `latent_temperature`, and its value.
        decoding: method that chooses the tokens.
        seed: seed of the draws.
        size: sentences that are decoded together.

    Raises:
        UserError: the model has no posterior, or no such noise.
    """
    model, device, (name, value) = experiment.model, experiment.device, dial
    noise = Noise(value if name == "latent_temperature" else 1.0)
    batches = [[numbers[place] for place in places] for places in in_order(len(numbers), size)]
    loaded = loader(experiment.data.splits[subset], batches, experiment.data.tokenizer.pad_id, device)
    texts: list[str] = []
    for place, batch in enumerate(bar(loaded, total=len(batches), desc=f"{name} {value:g}", unit="batch")):
        # The same draws for every setting: settings differ by the dial alone.
        generator = torch.Generator(device).manual_seed(mixed(seed, place))
        batch = batch.to(device)
        with unsupported_as_user_error():
            encoding = model.encode(batch.source, batch.key_padding_mask)
            latent = model.sample_posterior(encoding, generator, noise)
        if name == "keep":
            latent = model.keep_some(latent, value, generator)
        made = decode(experiment, latent, len(batch.source), decoding, generator=generator)
        texts += [text for text, _ in made]
    return texts


def figures(
    texts: Sequence[str], sources: Sequence[str], encoder: SentenceEncoder, judge: BaseJudge, size: int
) -> dict[str, Any]:
    """Compute distance to the sources and fluency of texts.

    Args:
        texts: a text for each source.
        sources: the sentences.
        encoder: sentence encoder.
        judge: judge of fluency.
        size: texts that go through encoder and judge together.

    Returns:
        `bleu` in [0, 100]; `similarity`, the mean cosine, with its standard error; `copies`, the share of texts that
        equal their source; `bits_per_character`; `token_perplexity`; `unscored`, texts that the judge cannot score.
    """
    own, other = (encoder.encode(some, size, "MiniLM") for some in (texts, sources))
    cosines = (own * other).sum(axis=1).astype(float)  # [M]
    score = judge.score(texts, size, "judge")
    found = score.figures()
    return {
        "bleu": corpus_bleu(texts, sources)[0],
        "similarity": float(cosines.mean()),
        "similarity_error": float(cosines.std(ddof=1) / len(cosines) ** 0.5),
        "copies": sum(text == source for text, source in zip(texts, sources, strict=True)) / len(texts),
        "bits_per_character": found["pretrained_bits_per_character"],
        "token_perplexity": found["pretrained_forward_perplexity"],
        "unscored": score.empty + score.too_long,
    }


def main() -> None:
    """Measure every setting, and write the results."""
    arguments = parse()
    encoder = load_encoder()
    if encoder is None:
        raise UserError(f"the similarity in meaning cannot be measured: {ABSENT}")
    judge = BaseJudge.load(arguments.LANGUAGE_MODEL)
    named = arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME
    experiment = load_experiment(*named, arguments.DATA_DIR)
    require_latent(experiment)
    size, split = arguments.GENERATION_BATCH_SIZE, experiment.data.splits[arguments.DATA_SUBSET]
    if len(split) < arguments.COUNT:
        raise UserError(f"the {arguments.DATA_SUBSET} split has {len(split)} sentences; take a lower --COUNT")
    numbers = np.random.default_rng(arguments.SEED).permutation(len(split))[: arguments.COUNT].tolist()
    sources = experiment.data.tokenizer.decode_batch([split[number]["input_ids"] for number in numbers])
    controls = {"sentences": sources, "others": [*sources[1:], sources[0]]}
    results: dict[str, Any] = {
        "controls": {name: figures(texts, sources, encoder, judge, size) for name, texts in controls.items()},
        "examples": sources[:EXAMPLES],
        "rows": [],
    }
    dials = [("keep", value) for value in arguments.KEEP]
    dials += [("latent_temperature", value) for value in arguments.LATENT_TEMPERATURE]
    for method in arguments.DECODING:
        decoding = Decoding(method, top_p=arguments.TOP_P if method == "sample" else 1.0)
        for dial in dials:
            drawn = (arguments.DATA_SUBSET, numbers, dial, decoding, arguments.SEED, size)
            texts = near_samples(experiment, *drawn)
            about = {"decoding": method, "dial": dial[0], "value": dial[1]}
            row = about | figures(texts, sources, encoder, judge, size) | {"examples": texts[:EXAMPLES]}
            results["rows"].append(row)
            print({name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()})
    threads = torch.get_num_threads()
    results |= {
        "count": arguments.COUNT,
        "subset": arguments.DATA_SUBSET,
        "seed": arguments.SEED,
        "top_p": arguments.TOP_P,
        "judge": judge.name,
        "machine": f"{processor()}, {threads} thread" + ("s" if threads > 1 else ""),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    write_json(arguments.RESULTS, results)
    print(f"written to {arguments.RESULTS}")


if __name__ == "__main__":
    run(main)
