"""A trained model in Python: equal to the scripts, shared and loaded; damaged and foreign folders are refused."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml

from models import MODELS, build
from pipeline import from_pretrained, load_experiment
from pipeline.data.dataset import load_prepared
from pipeline.data.documents import Split
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from pipeline.experiments import tracker as tracking
from pipeline.experiments.config import new_config
from pipeline.experiments.load import Experiment
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.generation.trained_model import TrainedModel
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record, write_record
from tests.helpers import call, text

TEXTS = ["The old KING found a river (in the town)!", "a cat saw the house .", "a dog left [UNK] river ."]


@pytest.fixture(scope="module")
def nvae(trained: Path) -> TrainedModel:
    return load_experiment(trained / "outputs" / "nvib" / "nvib", data_dir=trained / "data")


@pytest.fixture(scope="module")
def shared(nvae: TrainedModel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "small-nvae"
    nvae.save_pretrained(folder)
    return folder


@pytest.fixture
def scripts(trained: Path, tmp_path: Path, monkeypatch) -> Callable[..., Path]:
    """Return a function that runs a script on a copy of the experiment and returns the experiment's folder."""

    def no_tracker(*_: object) -> None:
        raise RuntimeError("not in this test")

    monkeypatch.setattr(tracking, "_start", no_tracker)
    shutil.copytree(trained / "outputs", tmp_path / "outputs")

    def run(script: str, *arguments: object) -> Path:
        places = ("--OUTPUT_DIR", tmp_path / "outputs", "--DATA_DIR", trained / "data")
        call(script, "--EXPERIMENT_NAME", "nvib", *places, *arguments)
        return tmp_path / "outputs" / "nvib" / "nvib"

    return run


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# The same results as the scripts.


@pytest.mark.parametrize(
    ("flags", "arguments"),
    [
        ((), {}),
        (("--DECODING", "sample", "--TOP_P", 0.9), {"decoding": "sample", "top_p": 0.9}),
        (
            ("--SAMPLING_DISTRIBUTION", "uniform", "--MIN_LENGTH", 8, "--MAX_LENGTH", 9),
            {"sampling_distribution": "uniform", "min_length": 8, "max_length": 9},
        ),
        (
            ("--NEAR", TEXTS[1], "--LATENT_TEMPERATURE", 2, "--KAPPA", 3),
            {"near": TEXTS[1], "latent_temperature": 2, "kappa": 3},
        ),
        (
            ("--MIX", *TEXTS[:2], "--WEIGHTS", 1, 2, "--LATENT_TEMPERATURE", 0.5, "--DECODING", "beam", "--BEAMS", 2),
            {"mix": TEXTS[:2], "weights": [1, 2], "latent_temperature": 0.5, "decoding": "beam", "beams": 2},
        ),
        (("--VECTORS", 12, "--DECODING", "sample"), {"vectors": 12, "decoding": "sample"}),
    ],
)
def test_generated_texts_are_those_of_the_script(nvae: TrainedModel, scripts, flags: tuple, arguments: dict):
    written = scripts("sample.py", "--NUMBER_SAMPLES", 6, "--SEED", 1, *flags) / "samples.txt"
    texts = nvae.generate(6, seed=1, **arguments)
    assert texts == written.read_text().splitlines()
    assert len(set(texts)) > 1
    assert texts != nvae.generate(6, seed=2, **arguments)


def test_reconstructions_are_those_of_the_script(nvae: TrainedModel, scripts):
    rows = lines(scripts("reconstruction.py") / "reconstruction_validation.jsonl")
    texts = nvae.reconstruct([row["source"] for row in rows])
    assert texts == [row["reconstruction"] for row in rows]
    assert len(set(texts)) > 1


def test_interpolations_are_those_of_the_script(nvae: TrainedModel, scripts):
    rows = lines(scripts("interpolation_evaluation.py", "--NUMBER_PAIRS", 5) / "interpolations.jsonl")
    for row in rows:
        assert nvae.interpolate(row["source"], row["target"], steps=5) == list(row["outputs"].values())
    assert any(len(set(row["outputs"].values())) > 1 for row in rows)


def test_an_iterator_of_texts_is_read_once(nvae: TrainedModel):
    assert nvae.reconstruct(text for text in TEXTS) == nvae.reconstruct(TEXTS)


def test_reconstruction_decodes_the_encoding(nvae: TrainedModel):
    encoding = nvae.encode(TEXTS)
    assert encoding.vectors.tolist() == [len(ids) for ids in nvae.tokenize(TEXTS)]  # the prior component replaces [CLS]
    assert (encoding.posterior.alpha[~encoding.posterior.key_padding_mask] > 0).all()
    assert nvae.decode(encoding) == nvae.reconstruct(TEXTS)
    assert not torch.is_grad_enabled() or not encoding.latent.z.requires_grad


def test_texts_are_cleaned_as_the_data_was(nvae: TrainedModel):
    ids = nvae.tokenize(TEXTS)
    shown = nvae.tokenizer.decode_batch(ids)
    assert shown[0] == "the old king found a river in the town"
    assert shown[2] == "a dog left [UNK] river."


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda model: model.encode("one text"), "must be a list of texts"),
        (lambda model: model.encode([]), "there is no text to encode"),
        (lambda model: model.interpolate("a", "b", steps=1), "steps must be an integer of at least 2"),
        (lambda model: model.generate(0), "n must be at least 1 and at most 10000000, got 0"),
        (lambda model: model.generate(2, seed=-1), "seed must be at least 0 and at most 4294967295, got -1"),
        (lambda model: model.generate(2, decoding="argmax"), "decoding must be one of greedy, sample, beam"),
        (lambda model: model.generate(2, sampling_distribution="even"), "_distribution must be one of data, uniform"),
        (lambda model: model.generate(2, decoding="sample", top_p=1.5), "top_p must be at most 1 and above 0"),
        (lambda model: model.generate(2, min_length=9, max_length=8), "no length is left to draw"),
        (lambda model: model.generate(2, max_length=0.5), "max_length must be an integer, got 0.5"),
        (lambda model: model.generate(2, beams=3), "beams means nothing for decoding greedy"),
        (lambda model: model.generate(2, near="a cat", mix=["a", "b"]), "leave one of them out"),
        (lambda model: model.generate(2, mix="a cat"), "mix must be a list of one or more"),
        (lambda model: model.generate(2, mix=["a cat", "a cat"]), "mix contains 'a cat' twice"),
        (lambda model: model.generate(2, near="?!"), "nothing is left of the sentence"),
        (lambda model: model.generate(2, min_length=400), "--MIN_LENGTH 400 is beyond all training sentences"),
        (lambda model: model.generate(2, max_length=1), "--MAX_LENGTH 1 is beyond all training sentences"),
        (lambda model: model.encode(["a cat", None]), "text 1 is no text but NoneType"),
        (lambda model: model.interpolate(None, "a cat"), "text 0 is no text but NoneType"),
        (lambda model: model.interpolate("a cat", "a dog", steps=2.5), "steps must be an integer of at least 2"),
        (lambda model: model.encode(["a cat", " "]), "nothing is left of the sentence"),
        (lambda model: model.encode(["caf\udce9 town"]), r"'caf\\udce9 town' holds bytes that are not UTF-8"),
        (lambda model: model.generate(2, near="caf\udce9 town"), "near must be a sentence in UTF-8"),
    ],
)
def test_bad_arguments_are_refused(nvae: TrainedModel, ask: Callable, message: str):
    with pytest.raises(UserError, match=message):
        ask(nvae)


def test_unsupported_operations_are_user_errors(trained: Path):
    vanilla = load_experiment(trained / "outputs" / "nvib" / "vanilla", data_dir=trained / "data")
    with pytest.raises(UserError, match="T has no prior to sample from"):
        vanilla.generate(2)
    assert len(vanilla.reconstruct(TEXTS)) == 3


def test_no_experiment_is_one_line(trained: Path, tmp_path: Path):
    with pytest.raises(UserError, match="no experiment 'none'"):
        load_experiment(tmp_path / "none", data_dir=trained / "data")
    with pytest.raises(UserError, match="no prepared dataset 'tiny'"):
        load_experiment(trained / "outputs" / "nvib" / "nvib", data_dir=tmp_path)


# Sharing and loading.


def test_a_shared_model_gives_the_same_texts_without_its_data(nvae: TrainedModel, shared: Path):
    assert sorted(path.name for path in shared.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    fetched = from_pretrained(shared)
    assert fetched.generate(5, seed=3) == nvae.generate(5, seed=3)
    assert fetched.reconstruct(TEXTS) == nvae.reconstruct(TEXTS)
    assert fetched.interpolate(*TEXTS[:2]) == nvae.interpolate(*TEXTS[:2])
    assert fetched.figures == nvae.figures


def test_a_shared_model_can_be_shared_again(shared: Path, tmp_path: Path):
    on = tmp_path / "small-nvae"
    from_pretrained(shared).save_pretrained(on)
    for name in ("README.md", "tokenizer.json"):
        assert (on / name).read_bytes() == (shared / name).read_bytes()
    assert from_pretrained(on).generate(5, seed=3) == from_pretrained(shared).generate(5, seed=3)


def test_labels_travel_with_the_model(tmp_path: Path):
    (tmp_path / "own.csv").write_text(
        "stars,review\n" + "".join(f"{1 + 4 * (n % 4 == 0)},{line}\n" for n, line in enumerate(text(60).splitlines()))
    )
    source = TextSource(str(tmp_path / "own.csv"), Split(0.1, 0.1, 0), text_column="review", label_column="stars")
    prepare(source, "own", tmp_path, PreparationSettings("wordpiece", 200, "none", more_than=2, fewer_than=60))
    data = load_prepared(tmp_path, "own")
    settings = MODELS["NVIB"](vocabulary_size=data.tokenizer.vocabulary_size, dim_h=16)
    config = new_config(settings, TrainingSettings(), "own", data.identity)
    experiment = Experiment(ExperimentFiles(tmp_path), config, build(settings).eval(), data, torch.device("cpu"))
    own = TrainedModel(experiment, {})
    own.save_pretrained(tmp_path / "shared")
    fetched = from_pretrained(tmp_path / "shared")
    for label in (None, "1", "5"):
        assert fetched.generate(3, seed=1, label=label) == own.generate(3, seed=1, label=label)
        assert fetched.tokenize(TEXTS, label) == own.tokenize(TEXTS, label)
    assert fetched.tokenize(TEXTS) == fetched.tokenize(TEXTS, "1") != fetched.tokenize(TEXTS, "5")
    for ask in (lambda: fetched.generate(1, label="7"), lambda: fetched.reconstruct(TEXTS, label="7")):
        with pytest.raises(
            UserError, match=r"the data has no label '7'; name one of these .*: '1' \(\d+\), '5' \(\d+\)"
        ):
            ask()
    with pytest.raises(UserError, match="a label is a text, and 5 is none"):
        fetched.encode(TEXTS, label=json.loads("5"))


@pytest.mark.slow
def test_a_label_without_a_training_sentence_travels_and_is_refused(tmp_path: Path):
    lines = text(60).splitlines()
    (tmp_path / "own.csv").write_text(
        "kind,review\n" + "".join(f"{'ugly' if n == 7 else 'good'},{line}\n" for n, line in enumerate(lines))
    )
    for seed in range(50):
        source = TextSource(str(tmp_path / "own.csv"), Split(0.1, 0.1, seed), text_column="review", label_column="kind")
        prepare(source, "own", tmp_path, PreparationSettings("bpe", 300, "none", more_than=2, fewer_than=60))
        data = load_prepared(tmp_path, "own")
        if data.statistics["labels_without_training"]:
            break
    assert data.statistics["labels_without_training"] == ["ugly"]
    settings = MODELS["NVIB"](vocabulary_size=data.tokenizer.vocabulary_size, dim_h=16)
    config = new_config(settings, TrainingSettings(), "own", data.identity)
    experiment = Experiment(ExperimentFiles(tmp_path), config, build(settings).eval(), data, torch.device("cpu"))
    own = TrainedModel(experiment, {})
    own.save_pretrained(tmp_path / "shared")
    for model in (own, from_pretrained(tmp_path / "shared")):
        assert len(model.generate(2, seed=1)) == 2
        with pytest.raises(UserError, match=r"no training sentence has label 'ugly'; .*: 'good' \(\d+\)$"):
            model.generate(1, label="ugly")


def test_the_model_card_holds_the_figures(nvae: TrainedModel, shared: Path):
    _, front, body = (shared / "README.md").read_text().split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["library_name"] == "nvib-suite"
    assert "NVIB" in metadata["tags"]
    huggingface_hub.ModelCard(f"---\n{front}---\n{body}")  # parses it like the hub
    assert f"| validation perplexity | {nvae.figures['validation/perplexity']:.2f} |" in body
    assert f"{nvae.config['model']['dim_h']}" in body
    assert "`tiny`" in body
    assert nvae.config["data"]["fingerprint"] in body


def test_figures_on_the_hub_are_those_of_the_summary(nvae: TrainedModel, tmp_path: Path):
    nvae = TrainedModel(nvae.experiment, {**nvae.figures, "test/reconstruction_bleu": 61.25})
    nvae.save_pretrained(tmp_path / "scored")
    front = (tmp_path / "scored" / "README.md").read_text().split("---\n")[1]
    result = yaml.safe_load(front)["model-index"][0]["results"][0]
    assert result["dataset"]["split"] == "test"
    assert result["metrics"] == [{"type": "bleu", "value": 61.25, "name": "reconstruction BLEU"}]


def test_saving_replaces_a_shared_model_and_nothing_else(nvae: TrainedModel, tmp_path: Path):
    with pytest.raises(UserError, match="is the folder that you are in"):
        nvae.save_pretrained(".")
    nvae.save_pretrained(tmp_path / "model")
    nvae.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="contains something other"):
        nvae.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "thesis.tex").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="contains something other"):
        nvae.save_pretrained(tmp_path / "file")


def test_saving_leaves_nothing_when_it_fails(nvae: TrainedModel, tmp_path: Path, monkeypatch):
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.generation.pretrained.write_text", no_room)
    with pytest.raises(OSError, match="No space"):
        nvae.save_pretrained(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_name_is_fetched_from_the_hub(nvae: TrainedModel, shared: Path, monkeypatch):
    asked = []

    def download(name: str, file: str) -> str:
        asked.append((name, file))
        return str(shared / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert from_pretrained("someone/small-nvae").generate(2, seed=1) == nvae.generate(2, seed=1)
    assert asked == [("someone/small-nvae", name) for name in ("config.json", "model.safetensors", "tokenizer.json")]


def test_a_hub_out_of_reach_is_one_line():
    with pytest.raises(UserError, match="did not deliver it") as caught:  # HF_HUB_OFFLINE is set
        from_pretrained("someone/small-nvae")
    assert "\n" not in str(caught.value)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def holding(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def bit(name: str) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return flip


def saying(**changes: object) -> Callable[[Path], None]:
    """Change the configuration and keep its checksum valid, as a deliberate change would."""

    def change(folder: Path) -> None:
        config = read_record(folder / "config.json", "")
        write_record(folder / "config.json", {**config, **changes})

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("config.json"), "it has no config.json"),
        (without("model.safetensors"), "it has no model.safetensors"),
        (without("tokenizer.json"), "it has no tokenizer.json"),
        (cut("config.json"), "config.json cannot be read"),
        (bit("config.json"), "config.json"),
        (cut("model.safetensors"), "model.safetensors is damaged"),
        (bit("model.safetensors"), "model.safetensors is damaged"),
        (bit("tokenizer.json"), "tokenizer.json is damaged"),
        (holding("config.json", b'{"architectures": ["BertModel"], "hidden_size": 768}'), "config.json is damaged"),
        (holding("model.safetensors", pickle.dumps(Hostile())), "model.safetensors is damaged"),
        (holding("config.json", pickle.dumps(Hostile())), "config.json cannot be read"),
        (saying(model={"name": "GPT"}), "does not hold the settings of a known model"),
        (saying(model={"name": "T", "vocabulary_size": "many"}), "vocabulary_size must be an integer, got 'many'"),
        (saying(model={"name": "T", "vocabulary_size": 2}), "its tokenizer has more tokens than its model"),
        (saying(model={"name": "T", "vocabulary_size": 300, "dim_h": 16}), "does not fit the model"),
        (saying(length_distribution={}), "its lengths or their counts are below 1"),
        (saying(length_distribution={"5": [1]}), "no model that can be built"),
        (saying(data={"name": "x", "settings": {"clean": "shell"}}), "or its cleaning is unknown"),
        (saying(labels={"1": 2}), "its labels differ from those of its tokenizer"),
        (saying(sha256=None), "not the configuration of a shared model"),
    ],
)
def test_a_damaged_or_foreign_folder_is_one_line(shared: Path, tmp_path: Path, monkeypatch, damage, message: str):
    folder = tmp_path / "fetched"
    shutil.copytree(shared, folder)
    damage(folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        from_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pwned").exists(), "something was unpickled"


@pytest.mark.parametrize("name", ["", "nothing", "a/b/c", "../x", "a b/c", "https://x/y", "/missing"])
def test_an_invalid_name_is_not_requested_from_the_hub(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a checkout may lie in a folder named x
    with pytest.raises(UserError, match="neither a folder nor a model's name"):
        from_pretrained(name)


def test_an_experiment_s_folder_is_not_a_shared_model(trained: Path):
    with pytest.raises(UserError, match="load an experiment with load_experiment"):
        from_pretrained(trained / "outputs" / "nvib" / "nvib")
