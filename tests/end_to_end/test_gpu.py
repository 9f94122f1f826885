"""Results of one GPU against those of the CPU; skipped without a GPU."""

import copy
import json
from pathlib import Path

import pytest
import torch

from models import MODELS, build
from models.decoding import generate
from pipeline.data.batches import collate
from tests.helpers import prepare_tiny, run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
SENTENCES = [[1, *range(5, 5 + n), 2] for n in (3, 7, 12, 1, 9, 4)]
START, END = 1, 2


def twins(name: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The same model on the CPU and on the GPU, in evaluation mode, which draws nothing."""
    torch.manual_seed(0)
    model = build(MODELS[name](vocabulary_size=40, dim_h=32, num_heads=2, num_layers=2)).eval()
    return model, copy.deepcopy(model).cuda()


def losses(model: torch.nn.Module, device: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    batch = collate(SENTENCES, 0).to(torch.device(device))
    encoding, tokens = model(batch.source, batch.key_padding_mask, batch.target_input)
    loss = tokens.mean + model.penalty(encoding, 1.0)
    loss.backward()
    return loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_loss_and_gradients_equal_those_of_the_cpu(name: str):
    on_cpu, on_gpu = twins(name)
    (a, gradients), (b, others) = losses(on_cpu, "cpu"), losses(on_gpu, "cuda")
    assert b.item() == pytest.approx(a.item(), rel=1e-5)
    assert gradients.keys() == others.keys()
    largest = max(gradient.norm() for gradient in gradients.values())
    for parameter, gradient in gradients.items():
        assert (gradient - others[parameter].cpu()).norm() <= 1e-4 * gradient.norm() + 1e-6 * largest, parameter


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_step_in_training_is_finite_in_bfloat16(name: str):
    _, model = twins(name)
    model.train()
    with torch.autocast("cuda", torch.bfloat16):
        loss, gradients = losses(model, "cuda")
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_the_bottleneck_computes_in_float32_under_autocast():
    _, model = twins("NVIB")
    batch = collate(SENTENCES, 0).to(torch.device("cuda"))
    with torch.inference_mode():
        exact = model.encode(batch.source, batch.key_padding_mask)
        with torch.autocast("cuda", torch.bfloat16):
            encoding = model.encode(batch.source, batch.key_padding_mask)
    for quantity in (encoding.kl_gaussian, encoding.kl_dirichlet, encoding.posterior.log_alpha):
        assert quantity.dtype == torch.float32
    assert torch.allclose(encoding.kl_gaussian, exact.kl_gaussian, rtol=0.02)


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"LM"}))
def test_generated_tokens_equal_those_of_the_cpu(name: str):
    said = []
    for model, device in zip(twins(name), ("cpu", "cuda"), strict=True):
        batch = collate(SENTENCES, 0).to(torch.device(device))
        with torch.inference_mode():
            latent = model.encode(batch.source, batch.key_padding_mask).latent
            said.append([list(ids) for ids in generate(model, latent, len(SENTENCES), START, END, 12)])
    assert said[0] == said[1]


def test_the_scripts_use_the_gpu(tmp_path: Path):
    """A whole training in bfloat16, whose model has the same figures on the GPU and on the CPU."""
    prepare_tiny(tmp_path / "data")
    at = ("--EXPERIMENT_NAME", "a", "--OUTPUT_DIR", tmp_path / "outputs", "--DATA_DIR", tmp_path / "data")
    settings = ("--MODEL", "NVIB", "--DATA", "tiny", "--DIM_H", 32, "--BATCH_SIZE", 16, "--MAX_STEPS", 30)
    assert "'precision': 'bf16'" in run("train.py", *at, *settings).stdout
    figures = {}
    for device in ("cpu", "auto"):
        for script in ("reconstruction.py", "sample.py", "interpolation_evaluation.py"):
            run(script, *at, "--DEVICE", device)
        figures[device] = json.loads((tmp_path / "outputs" / "nvib" / "a" / "summary.json").read_text())
    name = "validation/perplexity"
    assert figures["auto"][name] == pytest.approx(figures["cpu"][name], rel=1e-3)
