"""What several tests share."""

import os

import pytest
import torch

# Nothing in a test may reach the network or an account.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ.pop("WANDB_API_KEY", None)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test begins from the same random state."""
    torch.manual_seed(0)
