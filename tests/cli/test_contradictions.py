"""Flags that contradict each other, and damaged configuration files, are refused in one line and before any work."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.scripts import light_place, refusal


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with light_place(tmp_path):
        yield tmp_path


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        *(
            (script, ("--MODEL", model, flag, value), f"{flag} means nothing for --MODEL {model}; leave it out")
            for script in ("train.py", "tune.py")
            for model, flag, value in (
                ("T", "--DELTA", "0.5"),
                ("T", "--KL_GAUSSIAN_LAMBDA", "1"),
                ("VTV", "--KAPPA", "2"),
                ("VTV", "--READING", "plug-in"),
                ("VTV", "--POOLING", "max"),
                ("VTP", "--STRIDE_PERC", "0.5"),
                ("VTS", "--ALPHA_ACTIVATION", "relu"),
                ("NVIB", "--POOLING", "mean"),
                ("LM", "--PRIOR_VAR", "1"),
            )
        ),
        *(
            (script, ("--MODEL", "NVIB", *arguments), "DIM_H must be a multiple of NUM_HEADS, got")
            for script in ("train.py", "tune.py")
            for arguments in (("--DIM_H", "16", "--NUM_HEADS", "3"), ("--NUM_HEADS", "7"), ("--NUM_HEADS", "512"))
        ),
        *(
            (script, ("--MODEL", model, *arguments), message)
            for script in ("train.py", "tune.py")
            for model, arguments, message in (
                ("T", ("--TARGET_RATE", "30"), "--MODEL T has none; leave them out"),
                ("LM", ("--RATE_PATH", "30", "15"), "--MODEL LM has none; leave them out"),
                ("VTV", ("--TARGET_KEPT", "0.5"), "--TARGET_KEPT is for NVIB"),
                (
                    "NVIB",
                    ("--BOTTLENECK", "identity", "--ALPHA_ACTIVATION", "relu"),
                    "--ALPHA_ACTIVATION relu means nothing for --BOTTLENECK identity",
                ),
                (
                    "NVIB",
                    ("--TARGET_RATE", "30", "--KL_GAUSSIAN_LAMBDA", "0"),
                    "--KL_GAUSSIAN_LAMBDA 0 leaves no weight that --TARGET_RATE could change",
                ),
                (
                    "NVIB",
                    ("--TARGET_KEPT", "0.5", "--KL_DIRICHLET_LAMBDA", "0"),
                    "--KL_DIRICHLET_LAMBDA 0 leaves no weight that --TARGET_KEPT could change",
                ),
                ("VTV", ("--RATE_PATH", "30", "15", "--PATIENCE", "3"), "--PATIENCE means nothing for --RATE_PATH"),
                ("NVIB", ("--TARGET_RATE", "0"), "argument --TARGET_RATE: must be"),
                ("NVIB", ("--START_PERPLEXITY", "2"), "--START_PERPLEXITY means nothing without one of --TARGET_RATE"),
                ("NVIB", ("--FULL_TEXTS", "0.5"), "--FULL_TEXTS means nothing without --VECTOR_DROPOUT"),
                (
                    "NVIB",
                    ("--DROPPED_VECTORS", "prior", "--PRIOR_TEXTS", "0.5"),
                    "--DROPPED_VECTORS means nothing without --VECTOR_DROPOUT",
                ),
                (
                    "LM",
                    ("--BATCH_TOKENS", "900", "--BATCH_SIZE", "8"),
                    "--BATCH_SIZE and --BATCH_TOKENS both set the size",
                ),
                (
                    "T",
                    ("--BATCH_TOKENS", "900", "--GROUP_BY_LENGTH", "False"),
                    "--BATCH_TOKENS groups sentences by length; leave --GROUP_BY_LENGTH False out",
                ),
                ("T", ("--BATCH_TOKENS", "0"), "argument --BATCH_TOKENS: must be"),
                ("NVIB", ("--RATE_PATH", "30"), "--RATE_PATH takes two rates, the second one lower"),
                ("NVIB", ("--RATE_PATH", "15", "30"), "--RATE_PATH takes two rates, the second one lower"),
                ("NVIB", ("--RATE_PATH", "30", "15", "--TARGET_RATE", "20"), "--RATE_PATH and --TARGET_RATE both set"),
            )
        ),
        ("sample.py", ("--KEEP", "0.5"), "--KEEP is the share of a sentence's vectors; name the sentence with --NEAR"),
        *(
            ("sample.py", (*arguments, "--READING", "plug-in"), "--READING is for the mean latent")
            for arguments in ((), ("--NEAR", "a"), ("--MIX", "a", "b", "--LATENT_TEMPERATURE", "0.5"))
        ),
        ("sample.py", ("--MIN_LENGTH", "9", "--MAX_LENGTH", "8"), "--MIN_LENGTH 9 is above --MAX_LENGTH 8"),
        ("sample.py", ("--TEMPERATURE", "0.5"), "--TEMPERATURE means nothing for --DECODING greedy"),
        ("sample.py", ("--DECODING", "greedy", "--TOP_P", "0.9"), "--TOP_P means nothing for --DECODING greedy"),
        *(
            ("sample.py", arguments, message)
            for arguments, message in (
                (("--DECODING", "beam", "--TOP_P", "0.9"), "--TOP_P means nothing for --DECODING beam"),
                (
                    ("--BEAMS", "5"),
                    "--BEAMS means nothing for --DECODING greedy; leave it out, or take --DECODING beam",
                ),
                (
                    ("--DECODING", "sample", "--LENGTH_PENALTY", "1"),
                    "--LENGTH_PENALTY means nothing for --DECODING sam",
                ),
                (("--NEAR", "a", "--MIX", "a", "b"), "leave one of them out"),
                (("--MIX", "a"), "--MIX mixes two sentences or more, got one"),
                (("--MIX", "a", "b", "--WEIGHTS", "1"), "--WEIGHTS has 1 for the 2 sentences of --MIX"),
                (("--MIX", "a", "b", "--WEIGHTS", "0", "0"), "--WEIGHTS are all 0"),
                (("--WEIGHTS", "1"), "--WEIGHTS are those of the sentences of --MIX"),
                (("--NEAR", "a", "--WEIGHTS", "1"), "--WEIGHTS are those of the sentences of --MIX"),
                (("--NEAR", "a", "--VECTORS", "3"), "--VECTORS is for the prior and means nothing for --NEAR"),
                (("--MIX", "a", "b", "--SAMPLING_DISTRIBUTION", "data"), "for the prior and means nothing for --MIX"),
                (("--VECTORS", "3", "--SAMPLING_DISTRIBUTION", "uniform"), "means nothing for --VECTORS"),
                (("--MIX", "a", "b", "--KAPPA", "3"), "--KAPPA means nothing where --LATENT_TEMPERATURE is 0"),
                (("--NEAR", "a", "--KAPPA", "3", "--LATENT_TEMPERATURE", "0"), "--KAPPA means nothing where"),
            )
        ),
        *(
            ("prepareDatasets.py", arguments, message)
            for arguments, message in (
                (("--VALIDATION_FRACTION", ".5", "--TEST_FRACTION", ".5"), "their sum must be below 1"),
                (("--MORE_THAN", "50"), "--MORE_THAN and --FEWER_THAN leave no length between them"),
                (("--FEWER_THAN", "6"), "--MORE_THAN and --FEWER_THAN leave no length between them"),
                (("--DATA", "ptb", "--LOCAL_PATH", "data"), "--LOCAL_PATH holds WikiText and means nothing for --DATA"),
                (("--DATA", "own.txt", "--LOCAL_PATH", "data"), "--LOCAL_PATH holds WikiText and means nothing for"),
                (("--TEXT_COLUMN", "text"), "--TEXT_COLUMN is for tables and means nothing for --DATA wikitext2"),
                (("--DATA", "own.txt", "--TEXT_COLUMN", "text"), "--TEXT_COLUMN is for tables and means nothing for"),
                (("--LABEL_COLUMN", "stars"), "--LABEL_COLUMN is for tables and means nothing for --DATA wikitext2"),
                (("--DATA", "own.txt", "--ROW_TEMPLATE"), "--ROW_TEMPLATE is for tables and means nothing for"),
                (
                    ("--DATA", "own.csv", "--TEXT_COLUMN", "a", "--ROW_TEMPLATE"),
                    "--TEXT_COLUMN and --ROW_TEMPLATE are two ways",
                ),
                (
                    ("--DATA", "own.csv", "--ROW_TEMPLATE", "--WHOLE_DOCUMENTS", "False"),
                    "--WHOLE_DOCUMENTS False would divide a row's text",
                ),
                (("--DATA", "own.csv", "--TEXT_COLUMN", "a", "--LABEL_COLUMN", "a"), "name the same column; name two"),
                (("--DATA", "owner/name", "--ROW_TEMPLATE"), "--ROW_TEMPLATE is of a table in a file"),
                (("--DATA", "own.csv"), "name the column that holds the text with --TEXT_COLUMN"),
                (("--DATA", "own.csv", "--TEXT_COLUMN", "None"), "name the column that holds the text with"),
                (("--VOCAB_SIZE", "100"), "--VOCAB_SIZE means nothing for --TOKENIZER bert-base-uncased"),
                (
                    ("--DATA", "wikipedia-sample", "--TOKENIZER", "me/mine", "--VOCAB_SIZE", "100"),
                    "--VOCAB_SIZE means nothing for --TOKENIZER me/mine",
                ),
            )
        ),
    ],
)
def test_flags_that_contradict_each_other_are_refused(place: Path, script: str, arguments: tuple, message: str):
    assert message in refusal(place, script, *arguments)


CONFIGURATIONS = {
    "": "cannot be read",
    "{": "cannot be read",
    "\0": "cannot be read",
    "null": "is no configuration",
    "[1]": "is no configuration",
    "3": "is no configuration",
    '"text"': "is no configuration",
    "{}": "is no configuration",
    '{"model": {}}': "is no configuration",
    '{"model": [], "training": {}}': "is no configuration",
    '{"model": {}, "training": null}': "is no configuration",
    **{
        f'{{"model": {{"name": {name}}}, "training": {{}}}}': "names the model"
        for name in ('"BERT"', '""', '"t"', "null", "5", "true", '["T"]', "{}", '"a\\nb"')
    },
    **{
        f'{{"model": {{"name": "NVIB", {setting}}}, "training": {{}}}}': message
        for setting, message in (
            ('"wings": 2', "has 'wings', which is no setting"),
            ('"DIM_H": 16', "has 'DIM_H', which is no setting"),
            ('"experiment_name": "x"', "has 'experiment_name', which is no setting"),
            ('"a\\nb": 2', "which is no setting"),
            ('"dim_h": "16"', "dim_h must be an integer"),
            ('"dim_h": 16.0', "dim_h must be an integer"),
            ('"dim_h": true', "dim_h must be an integer"),
            ('"dim_h": null', "dim_h must be an integer"),
            ('"dim_h": [16]', "dim_h must be an integer"),
            ('"dim_h": {"value": 16}', "dim_h must be an integer"),
            ('"dim_h": -16', "dim_h must be at least 2"),
            ('"dropout": 2', "dropout must be at least 0 and below 1"),
            ('"dropout": NaN', "c.json"),
            ('"prior_mu": 1e999', "prior_mu must be finite"),
            ('"alpha_activation": "tanh"', "alpha_activation must be one of exp, relu"),
            ('"alpha_activation": null', "alpha_activation must be one of exp, relu"),
            ('"alpha_activation": ["exp"]', "alpha_activation must be one of exp, relu"),
            ('"pooling": "max"', "--POOLING means nothing for --MODEL NVIB"),
            ('"dim_h": 16, "num_heads": 3', "DIM_H must be a multiple of NUM_HEADS"),
        )
    },
    **{
        f'{{"model": {{"name": "T"}}, "training": {{{setting}}}}}': message
        for setting, message in (
            ('"seed": -1', "seed must be at least 0"),
            ('"max_steps": 0', "max_steps must be at least 1, or -1"),
            ('"epochs": "3"', "epochs must be an integer"),
            ('"learning_rate": 0', "learning_rate must be above 0"),
            ('"compile": "True"', "compile must be True or False"),
            ('"compile": 1', "compile must be True or False"),
            ('"precision": "fp8"', "precision must be one of"),
        )
    },
}


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_a_bad_configuration_is_refused_with_its_place(place: Path, text: str):
    (place / "c.json").write_text(text)
    line = refusal(place, "train.py", "--CONFIG", "c.json")
    assert CONFIGURATIONS[text] in line
    assert "c.json" in line or "--POOLING" in line or "DIM_H" in line


def test_a_configuration_is_checked_even_where_a_flag_has_precedence(place: Path):
    (place / "c.json").write_text('{"model": {"name": "T", "dropout": 2}, "training": {}}')
    assert "dropout must be" in refusal(place, "train.py", "--CONFIG", "c.json", "--DROPOUT", "0.1")


def test_a_file_s_name_breaks_no_line(place: Path):
    (place / "a\nb\x1b.json").write_text("{}")
    assert "a b\\x1b.json is no configuration" in refusal(place, "train.py", "--CONFIG", "a\nb\x1b.json")
