"""The choice of device and precision."""

import os
import sys

import pytest
import torch

from pipeline.cli.parser import Parser, add_experiment_options
from pipeline.runtime import devices
from pipeline.runtime.devices import precision


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_device_cpu_hides_the_gpus_from_this_process_and_its_children(device: str, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(sys, "argv", ["script", "--EXPERIMENT_NAME", "a", "--DEVICE", device])
    parser = Parser("a script")
    add_experiment_options(parser)
    parser.parse_args()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ("" if device == "cpu" else "0")


@pytest.mark.parametrize("speedup", [0.7, 1.1, 1.3])
@pytest.mark.parametrize("able", [{}, {"avx512_bf16": True}, {"amx_bf16": True}])
def test_bfloat16_is_chosen_if_the_processor_multiplies_it_faster(able: dict[str, bool], speedup, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(devices, "bfloat16_speedup", lambda: speedup)
    assert precision("auto") == ("bf16" if able and speedup > 1.2 else "fp32")
    assert precision("fp32") == "fp32"
    assert precision("bf16") == "bf16"


def test_the_speed_of_bfloat16_is_measured():
    assert 0.01 < devices.bfloat16_speedup() < 100
