"""Settings are declared once: their metadata is required, and the dataclasses check their values with it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from models import MODELS
from models.declaration import Setting, SettingError, check_settings, declare, declared
from models.sampling import SamplingSettings
from pipeline.experiments.training_settings import TrainingSettings


@dataclass(frozen=True)
class Example:
    """Settings of every type."""

    count: int = field(default=3, metadata=declare("a count", low=1, high=10))
    share: float = field(default=0.5, metadata=declare("a share", low=0, below=1))
    steps: int = field(default=-1, metadata=declare("a number of steps", low=1, no_limit=True))
    switch: bool = field(default=False, metadata=declare("a switch"))
    kind: str = field(default="a", metadata=declare("a kind", choices=("a", "b")))
    folder: str | None = field(default=None, metadata=declare("a name", form="name"))
    texts: Sequence[str] | None = field(default=None, metadata=declare("texts", form="sentence", distinct=True))
    weights: Sequence[float] | None = field(default=None, metadata=declare("weights", low=0))


def setting(name: str) -> Setting:
    return next(each for each in declared(Example) if each.name == name)


def test_a_field_without_metadata_is_an_error():
    @dataclass(frozen=True)
    class Forgotten:
        width: int = 3

    with pytest.raises(TypeError, match=r"Forgotten.width must be declared: field\(metadata=declare\(\.\.\.\)\)"):
        declared(Forgotten)


def test_a_field_of_a_type_that_no_flag_has_is_an_error():
    @dataclass(frozen=True)
    class Odd:
        widths: dict[str, int] = field(default_factory=dict, metadata=declare("widths"))

    with pytest.raises(TypeError, match=r"Odd\.widths must be int, float, bool, str or several of them"):
        declared(Odd)


@pytest.mark.parametrize("kind", [*MODELS.values(), TrainingSettings, SamplingSettings])
def test_every_setting_is_declared_and_its_default_is_within_its_range(kind: type):
    names = [each.name for each in declared(kind)]
    assert names == [each.name for each in dataclasses.fields(kind)]
    for each in declared(kind):
        assert each.help
        if each.default is not dataclasses.MISSING:
            assert each.checked(each.default) == each.default


@pytest.mark.parametrize(
    ("name", "value", "checked"),
    [
        ("count", 10, 10),
        ("share", 0, 0.0),
        ("steps", -1, -1),
        ("switch", True, True),
        ("kind", "b", "b"),
        ("folder", None, None),
        ("folder", "nvib-2", "nvib-2"),
        ("texts", ["a  cat", " a dog\n"], ("a  cat", " a dog\n")),
        ("weights", [1, 2.5], (1.0, 2.5)),
    ],
)
def test_a_value_within_its_range_comes_back_in_the_field_s_type(name: str, value: object, checked: object):
    found = setting(name).checked(value)
    assert found == checked
    assert type(found) is type(checked)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", 0, "count must be at least 1 and at most 10, got 0"),
        ("count", 2.0, "count must be an integer, got 2.0"),
        ("count", True, "count must be an integer, got True"),
        ("count", "3", "count must be an integer, got '3'"),
        ("count", None, "count must be an integer, got None"),
        ("share", 1.0, "share must be at least 0 and below 1, got 1.0"),
        ("share", float("nan"), "share must be at least 0 and below 1, got nan"),
        ("share", 1e-40, "share must be at least 1e-30 in size"),
        ("share", 10**400, "share must be at least 0 and below 1, got 1000"),
        ("steps", 0, "steps must be at least 1, or -1 for no limit, got 0"),
        ("steps", 2**40, "steps must be at most 2147483647 in size"),
        ("switch", 1, "switch must be True or False, got 1"),
        ("kind", ["a"], r"kind must be one of a, b, got \['a'\]"),
        ("folder", "../x", "folder must be 1 to 100 letters"),
        ("texts", "one text", "texts must be a list of one or more, got 'one text'"),
        ("texts", [], "texts must be a list of one or more"),
        ("texts", 5, "texts must be a list of one or more, got 5"),
        ("texts", ["a", "\n"], "texts must be a sentence"),
        ("texts", ["a", "b", "a"], "texts contains 'a' twice"),
        ("weights", [1, -1], "weights must be at least 0, got -1"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_its_name(name: str, value: object, message: str):
    with pytest.raises(SettingError, match=message):
        setting(name).checked(value)
    with pytest.raises(ValueError, match=message):
        check_settings(Example(**{name: value}))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MODELS["T"](vocabulary_size=9, dropout=1.0), "dropout must be at least 0 and below 1, got 1.0"),
        (lambda: MODELS["NVIB"](vocabulary_size=9, kappa=0), "kappa must be at least 1 and at most 1000, got 0"),
        (lambda: MODELS["VTP"](vocabulary_size=9, pooling="min"), "pooling must be one of mean, max, got 'min'"),
        (lambda: MODELS["LM"](vocabulary_size=0), "vocabulary_size must be at least 1, got 0"),
        (lambda: TrainingSettings(max_steps=0), "max_steps must be at least 1, or -1 for no limit, got 0"),
        (lambda: TrainingSettings(start_from="../x"), "start_from must be 1 to 100 letters"),
        (lambda: SamplingSettings(top_p=1.5), "top_p must be at most 1 and above 0, got 1.5"),
    ],
)
def test_the_dataclasses_check_their_values(build, message: str):
    with pytest.raises(ValueError, match=message):
        build()


def test_an_error_names_settings_as_its_reader_knows_them():
    error = SettingError("{min_length} {low} is above {max_length}", low="{9}")
    assert str(error) == "min_length {9} is above max_length"
    assert error.named(lambda name: f"--{name.upper()}") == "--MIN_LENGTH {9} is above --MAX_LENGTH"


# Sampling.


@pytest.mark.parametrize(
    ("given", "count", "scale"),
    [
        ({}, 200, 1.0),
        ({"number_samples": 7}, 7, 1.0),
        ({"near": "a"}, 200, 1.0),
        ({"near": "a", "latent_temperature": 0}, 1, 0.0),
        ({"near": "a", "latent_temperature": 0, "decoding": "sample"}, 200, 0.0),
        ({"mix": ["a", "b"]}, 1, 0.0),
        ({"mix": ["a", "b"], "latent_temperature": 0.5}, 200, 0.5),
        ({"latent_temperature": 0}, 200, 0.0),
    ],
)
def test_sampling_draws_many_sentences_unless_all_would_be_equal(given: dict, count: int, scale: float):
    settings = SamplingSettings(**given)
    assert (settings.count, settings.noise_scale) == (count, scale)


def test_settings_that_are_not_given_are_resolved_and_can_be_replaced():
    settings = SamplingSettings()
    resolved = (settings.distribution, settings.beam_width, settings.beam_length_penalty)
    assert resolved == ("data", 5, 1.0)
    assert dataclasses.replace(settings, seed=3) == SamplingSettings(seed=3)
    beams = SamplingSettings(decoding="beam", beams=2, length_penalty=0)
    assert (beams.beam_width, beams.beam_length_penalty) == (2, 0.0)
    assert SamplingSettings(mix=["a", "b"], weights=[1, 2]).weights == (1.0, 2.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_length": 9, "max_length": 8}, "min_length 9 is above max_length 8"),
        ({"near": "a", "mix": ["a", "b"]}, "near draws around one sentence and mix mixes several"),
        ({"mix": ["a"]}, "mix mixes two sentences or more, got one; draw around one with near"),
        ({"mix": ["a", "b"], "weights": [1]}, "weights has 1 for the 2 sentences of mix"),
        ({"mix": ["a", "b"], "weights": [0, 0]}, "weights are all 0"),
        ({"weights": [1]}, "weights are those of the sentences of mix"),
        ({"near": "a", "vectors": 3}, "vectors is for the prior and means nothing for near"),
        ({"vectors": 3, "sampling_distribution": "data"}, "sampling_distribution means nothing for vectors"),
        ({"mix": ["a", "b"], "kappa": 3}, "kappa means nothing where latent_temperature is 0"),
        ({"temperature": 0.5}, "temperature means nothing for decoding greedy"),
        ({"decoding": "sample", "beams": 3}, "beams means nothing for decoding sample; .* take decoding beam"),
    ],
)
def test_sampling_settings_that_contradict_each_other_are_refused(given: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SamplingSettings(**given)
