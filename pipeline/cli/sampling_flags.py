"""The options of `sample.py`: what latents are made from, how they are decoded, and what contradicts itself.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import argparse
from typing import TYPE_CHECKING, Any

from pipeline.cli import types
from pipeline.cli.parser import Parser, add_batch_option
from pipeline.runtime.errors import UserError

if TYPE_CHECKING:
    from pipeline.experiments.load import Experiment
    from pipeline.generation.latents import Source

LONGEST = 10_000  # tokens of a sample, and vectors of its latent, at most
DEFAULT_COUNT = 200

# Options without a default of argparse's, so that one which was given where it means nothing can be told.
DISTRIBUTION, BEAMS, LENGTH_PENALTY = "data", 5, 1.0


def add_latent_options(parser: Parser) -> None:
    """Add the options that say what latents are made from, and how they are drawn."""
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--NUMBER_SAMPLES",
        type=types.integer(1, 10**7),
        help=f"sentences to generate (default: {DEFAULT_COUNT}; 1 of --NEAR or --MIX where neither latents nor tokens "
        "are drawn, so that all would be the same)",
    )
    group.add_argument(
        "--SAMPLING_DISTRIBUTION",
        choices=("data", "uniform"),
        help="where the lengths are drawn from that the prior's latents are for: the training set's, or evenly from "
        f"MIN_LENGTH to MAX_LENGTH (default: {DISTRIBUTION})",
    )
    for name, word, rule in (("MIN", "shortest", "forbidden before"), ("MAX", "longest", "forced there")):
        group.add_argument(
            f"--{name}_LENGTH",
            type=types.integer(1, LONGEST),
            help=f"{word} sentence, in tokens, the end token counted, which is {rule}; also the {word} length drawn "
            "for a latent of the prior (default: lengths are the training set's, and the model ends its sentences)",
        )
    group.add_argument(
        "--SEED", type=types.integer(0, 2**32 - 1), default=42, help="seed of lengths, latents and tokens"
    )
    group.add_argument(
        "--LABEL",
        type=types.sentence,
        help="label of all sentences, where the data was prepared with --LABEL_COLUMN (default: drawn as in the "
        "training set)",
    )
    group = parser.add_argument_group("latent")
    group.add_argument(
        "--VECTORS",
        type=types.integer(1, LONGEST),
        help="vectors of every latent of the prior; for NVIB a multiple of the draws per component (default: what a "
        "sentence of the drawn length has)",
    )
    group.add_argument(
        "--NEAR",
        type=types.sentence,
        help="a sentence around which latents are drawn, from its posterior (default: from the prior)",
    )
    group.add_argument(
        "--MIX",
        type=types.sentence,
        nargs="+",
        action=types.Distinct,
        help="two or more sentences whose latents are mixed (default: latents are drawn from the prior)",
    )
    group.add_argument(
        "--WEIGHTS",
        type=types.number(0, 1e6),
        nargs="+",
        help="the share of each sentence of --MIX; their sum is made 1 (default: equal ones)",
    )
    group.add_argument(
        "--LATENT_TEMPERATURE",
        type=types.number(0, 100),
        help="scale of the latent's noise: Gaussians are drawn with so many times their standard deviation, weights "
        "from Gammas whose pseudo-counts are divided by its square; 0 is the mean latent (default: 1, and 0 for --MIX)",
    )
    group.add_argument(
        "--KAPPA",
        type=types.integer(1, 1000),
        help="vectors drawn per component of a latent, of NVIB (default: as in training)",
    )


def add_decoding_options(parser: Parser) -> None:
    """Add the options that say how tokens are chosen."""
    group = parser.add_argument_group("decoding")
    group.add_argument(
        "--DECODING",
        choices=("greedy", "sample", "beam"),
        default="greedy",
        help="greedy takes the most probable token, sample draws one, beam looks for the most probable sentence",
    )
    group.add_argument(
        "--TEMPERATURE",
        type=types.number(above=0),
        default=1.0,
        help="divides the logits before a token is drawn; above 0",
    )
    group.add_argument(
        "--TOP_P",
        type=types.number(above=0, high=1),
        default=1.0,
        help="draw among the most probable tokens that make up this share, in (0, 1]",
    )
    group.add_argument(
        "--BEAMS",
        type=types.integer(1, 1000),
        help=f"sentences that beam search follows side by side; 1 is greedy (default: {BEAMS})",
    )
    group.add_argument(
        "--LENGTH_PENALTY",
        type=types.number(0, 100),
        help="beam search compares log probabilities divided by the number of tokens to this power: 0 favours short "
        f"sentences, more favours longer ones (default: {LENGTH_PENALTY})",
    )
    add_batch_option(group)


def check(arguments: argparse.Namespace) -> None:
    """Refuse what contradicts itself, and fill in what was left out.

    Raises:
        UserError: two flags contradict each other, or one means nothing beside another.
    """
    given = {name for name, value in vars(arguments).items() if value is not None}
    low, high = arguments.MIN_LENGTH, arguments.MAX_LENGTH
    if low is not None and high is not None and low > high:
        raise UserError(f"--MIN_LENGTH {low} is above --MAX_LENGTH {high}; no length is left to draw")
    if {"NEAR", "MIX"} <= given:
        raise UserError("--NEAR draws around one sentence and --MIX mixes several; leave one of them out")
    of_text = next((f"--{name}" for name in ("NEAR", "MIX") if name in given), None)
    if arguments.MIX is not None:
        _check_mixture(arguments)
    elif "WEIGHTS" in given:
        raise UserError("--WEIGHTS are those of the sentences of --MIX; name these, or leave it out")
    for name in ("VECTORS", "SAMPLING_DISTRIBUTION"):
        if of_text and name in given:
            raise UserError(f"--{name} is of the prior and means nothing for {of_text}; leave it out")
    if {"VECTORS", "SAMPLING_DISTRIBUTION"} <= given:
        raise UserError(
            "--SAMPLING_DISTRIBUTION means nothing for --VECTORS, with which no length is drawn; leave it out"
        )
    if arguments.LATENT_TEMPERATURE is None:
        arguments.LATENT_TEMPERATURE = 0.0 if arguments.MIX is not None else 1.0
    if arguments.LATENT_TEMPERATURE == 0 and "KAPPA" in given:
        raise UserError("--KAPPA means nothing where --LATENT_TEMPERATURE is 0, and nothing drawn; raise it above 0")
    _check_decoding(arguments, given)
    arguments.SAMPLING_DISTRIBUTION = arguments.SAMPLING_DISTRIBUTION or DISTRIBUTION
    if arguments.NUMBER_SAMPLES is None:
        drawn = not of_text or arguments.LATENT_TEMPERATURE > 0 or arguments.DECODING == "sample"
        arguments.NUMBER_SAMPLES = DEFAULT_COUNT if drawn else 1


def of_values(**values: Any) -> argparse.Namespace:
    """The options as Python's values say, checked as those of the command line; what is None was not given.

    Raises:
        UserError: a value is none of its option, or two contradict each other.
    """
    parser = Parser("", together=True)
    add_latent_options(parser)
    add_decoding_options(parser)
    arguments = parser.parse_args([])
    for action in parser._actions:
        value = values.get(action.dest)
        if value is None:
            continue
        several = action.nargs == "+"
        if several and (isinstance(value, str) or not list(value)):
            raise UserError(f"{action.dest.lower()} must be a list of one or more, got {value!r}")
        try:
            taken = [parser._get_value(action, str(item)) for item in (value if several else [value])]
            for item in taken:
                parser._check_value(action, item)
            action(parser, arguments, taken if several else taken[0])
        except argparse.ArgumentError as error:
            raise UserError(f"{action.dest.lower()}: {error.message}") from None
    check(arguments)
    return arguments


def sampled(arguments: argparse.Namespace, experiment: "Experiment") -> list[dict[str, Any]]:
    """Sample as the options say; see `pipeline.generation.generate.sample`."""
    from models.decoding import Decoding
    from pipeline.generation.generate import checked_label, sample

    label = checked_label(experiment, arguments.LABEL)
    return sample(
        experiment,
        _source_of(arguments, experiment),
        arguments.NUMBER_SAMPLES,
        arguments.SEED,
        Decoding(arguments.DECODING, arguments.TEMPERATURE, arguments.TOP_P, arguments.BEAMS, arguments.LENGTH_PENALTY),
        arguments.GENERATION_BATCH_SIZE,
        arguments.MIN_LENGTH or 1,
        arguments.MAX_LENGTH,
        label,
    )


def _source_of(arguments: argparse.Namespace, experiment: "Experiment") -> "Source":
    """Where the latents come from."""
    from models.text_model import Noise
    from pipeline.generation import latents

    noise, label = Noise(arguments.LATENT_TEMPERATURE, arguments.KAPPA), arguments.LABEL
    if arguments.NEAR is not None:
        return latents.near(experiment, arguments.NEAR, noise, label)
    if arguments.MIX is not None:
        return latents.mixture(experiment, arguments.MIX, arguments.WEIGHTS, noise, label)
    if arguments.VECTORS is not None:
        return latents.from_prior_with(experiment, arguments.VECTORS, arguments.NUMBER_SAMPLES, noise)
    asked = latents.LengthRange(arguments.SAMPLING_DISTRIBUTION, arguments.MIN_LENGTH, arguments.MAX_LENGTH)
    distribution, count = experiment.data.length_distribution, arguments.NUMBER_SAMPLES
    return latents.from_prior(experiment, latents.draw_lengths(distribution, count, asked, arguments.SEED), noise)


def _check_mixture(arguments: argparse.Namespace) -> None:
    sentences, weights = arguments.MIX, arguments.WEIGHTS
    if len(sentences) < 2:
        raise UserError("--MIX mixes two sentences or more, got one; draw around one with --NEAR")
    if weights is not None and len(weights) != len(sentences):
        raise UserError(f"--WEIGHTS has {len(weights)} for the {len(sentences)} sentences of --MIX; give one for each")
    if weights is not None and not any(weights):
        raise UserError("--WEIGHTS are all 0; give at least one sentence of --MIX a share")


def _check_decoding(arguments: argparse.Namespace, given: set[str]) -> None:
    used = {name for name in ("TEMPERATURE", "TOP_P") if getattr(arguments, name) != 1.0}
    used |= given & {"BEAMS", "LENGTH_PENALTY"}
    for method, names in (("sample", ("TEMPERATURE", "TOP_P")), ("beam", ("BEAMS", "LENGTH_PENALTY"))):
        for name in names:
            if name in used and method != arguments.DECODING:
                raise UserError(
                    f"--{name} means nothing for --DECODING {arguments.DECODING}; leave it out, or take --DECODING "
                    f"{method}"
                )
    arguments.BEAMS = BEAMS if arguments.BEAMS is None else arguments.BEAMS
    if arguments.LENGTH_PENALTY is None:
        arguments.LENGTH_PENALTY = LENGTH_PENALTY
