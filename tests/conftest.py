"""What several tests share."""

import os
from pathlib import Path

import pytest
import torch

# Nothing in a test may reach the network or an account.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ.pop("WANDB_API_KEY", None)
# Models this small gain nothing from a second thread, which would be another test's. As every script that is started.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test begins from the same random state."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with prepared data and two small experiments of the project nvib, `nvib` and `vanilla`; to be read."""
    from tests.helpers import prepare_tiny, train_tiny

    folder = tmp_path_factory.mktemp("trained")
    prepare_tiny(folder / "data")
    train_tiny(folder, "nvib", "NVIB")
    train_tiny(folder, "vanilla", "T")
    return folder
