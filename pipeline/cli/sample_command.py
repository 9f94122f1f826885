"""Command of sample.py: generate sentences with a trained model."""

import argparse

from pipeline.cli.parser import Parser, add_experiment_options, add_reading_option
from pipeline.cli.sampling_flags import add_sampling_options, sampling_settings
from pipeline.runtime.errors import UserError


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description, together=True)
    add_experiment_options(parser)
    add_sampling_options(parser)
    add_reading_option(parser.add_argument_group("reading"), kept_apart=False)
    arguments = parser.parse_args()
    settings = sampling_settings(arguments)  # flags that contradict each other are refused before any work
    if arguments.READING is not None and not settings.of_mean:
        raise UserError(
            "--READING is for the mean latent of a given text, of --MIX or of --NEAR with --LATENT_TEMPERATURE 0, and "
            "not for latents of a prior or with noise; leave it out"
        )
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Sample, write the samples and their figures, and print a summary."""
    from pipeline.data.writers import write_synthetic
    from pipeline.evaluation.controls import unigram_sentences, unigrams_are_texts
    from pipeline.evaluation.diversity import text_figures
    from pipeline.evaluation.judge import tokenized_samples
    from pipeline.evaluation.latent_influence import NAMES, in_words, influence, two_decodings
    from pipeline.experiments.load import load_experiment
    from pipeline.experiments.metric_types import REAL_TEXT, UNIGRAMS
    from pipeline.experiments.tracker import Tracker, check_login, fingerprint, read_summary, tracking
    from pipeline.generation.known_texts import KnownTexts
    from pipeline.generation.novel_samples import check_novel, draw_again
    from pipeline.generation.sampler import draws_from_prior, sample_with
    from pipeline.reporting.console import beside_controls, copies, of_own_form, on_one_line
    from pipeline.runtime.files import as_jsonl, write_text
    from pipeline.runtime.processes import is_first

    check_login(arguments.WANDB_ENTITY)
    experiment = load_experiment(
        arguments.OUTPUT_DIR,
        arguments.PROJECT_NAME,
        arguments.EXPERIMENT_NAME,
        arguments.DATA_DIR,
        arguments.READING,
    )
    experiment.files.claim()
    read_summary(experiment.files)  # refuses a damaged summary before the work
    settings = sampling_settings(arguments)
    batch_size = arguments.GENERATION_BATCH_SIZE
    if settings.novel:
        check_novel(experiment, settings)
    rows = sample_with(experiment, settings, batch_size)
    twice = two_decodings(experiment, settings, batch_size, rows)
    if not settings.novel and not is_first():
        return  # only rank 0 writes files and logs
    known, novel = KnownTexts.of(experiment.data), None
    if settings.novel:
        novel = draw_again(experiment, settings, batch_size, rows, known)
        rows = novel.rows
    if not is_first():
        return
    samples, text_file = experiment.files.samples, experiment.files.samples.with_suffix(".txt")
    # Figures of the old samples are removed first, so that a killed process leaves no outdated figure. `tracking`
    # writes an offline run from the files at its beginning, so they hold the new samples by then.
    outdated: list[str] = []
    if not samples.exists() or samples.read_bytes() != as_jsonl(rows).encode():
        outdated = Tracker(experiment.files, run=None, offline=True).forget_samples()
        if of_earlier := [path.name for path in experiment.files.of_quality if path.exists()]:
            print(f"of earlier samples, until quality.py runs again: {', '.join(of_earlier)}")
    write_text(samples, as_jsonl(rows))
    with tracking(experiment.files, experiment.config, arguments.WANDB_ENTITY) as tracker:
        tracker.summarise({}, outdated)  # an online run has them still
        write_text(text_file, "".join(on_one_line(row["text"]) + "\n" for row in rows))
        source = experiment.data.statistics.get("source") or {}
        written = write_synthetic(rows, source, experiment.files.folder)
        split = tokenized_samples(rows, experiment.data)
        held_out = experiment.data.splits["validation"]
        as_many = range(min(len(rows), len(held_out)))  # repetition grows with the number of sentences
        texts = {"": split.select(as_many), REAL_TEXT: held_out.select(as_many)}
        if unigrams_are_texts(experiment.data):
            texts[UNIGRAMS] = unigram_sentences(experiment.data, len(as_many))
        measured = {suffix: text_figures(text, experiment.data, known) for suffix, text in texts.items()}
        measured[""] |= known.repeats([row["text"] for row in rows]).shares()  # of all samples: shares do not grow
        decided = None if twice is None else influence(*twice)
        drawn = [row["drawn_length"] for row in rows if "drawn_length" in row]  # only for latents of the prior
        figures = {
            **{f"samples/{name}{suffix}": value for suffix, of in measured.items() for name, value in of.items()},
            **{f"samples/{name}": None if decided is None else decided[name] for name in NAMES},
            "samples/prior": settings.prior if draws_from_prior(experiment, settings) else None,
            "samples/count": len(rows),
            "samples/fingerprint": fingerprint([row["text"] for row in rows]),
            "samples/redrawn": None if novel is None else novel.redrawn,
            "samples/redraw_rounds": None if novel is None else novel.rounds,
            "samples/left_copies": None if novel is None else novel.left,
            "samples/mean_length": sum(row["tokens_generated"] for row in rows) / len(rows),
            "samples/mean_drawn_length": sum(drawn) / len(drawn) if drawn else None,
        }
        if written.path is not None:
            figures |= {"samples/rejected": written.rejected}
        tracker.log_samples()
        tracker.summarise(figures)
    for row in rows[:10]:
        print(f"  {on_one_line(row['text'])}")
    print(beside_controls(measured))
    print(copies(measured, len(rows), len(as_many)))
    if novel is not None:
        print(novel.in_words())
    if decided is not None:
        print(in_words(decided))
    beside = f" ({figures['samples/mean_drawn_length']:.1f} drawn)" if drawn else ""
    print(
        f"{len(rows)} sentences, {figures['samples/mean_length']:.1f} tokens on average{beside}, "
        f"written to {text_file} and {experiment.files.samples}"
    )
    if written.path is not None:
        print(of_own_form(written))
