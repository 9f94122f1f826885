"""Fixtures and settings for all tests."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.zygote import read_at_import

# No test may reach the network, an account or its cache. The libraries read these variables when they are imported.
HUB = tempfile.TemporaryDirectory(prefix="hub-")
os.environ["HF_HOME"] = HUB.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ.pop("WANDB_API_KEY", None)
# Models this small gain nothing from a second thread, which another test would lack.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that no worker ends with a slow file while the others are idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True, scope="session")
def unsynced() -> Iterator[None]:
    """Do not wait for the disk: a process that is killed loses nothing by that, only a machine does."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Begin every test from the same random state."""
    # torch.manual_seed formats the stack at each call for a GPU that may follow, in the time of many a test.
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(0)


@pytest.fixture(autouse=True)
def unchanged_environment() -> Iterator[None]:
    """Check that no test leaves a variable with which later tests would start every script as a new Python."""
    before = read_at_import(os.environ)
    yield
    assert read_at_import(os.environ) == before, "the test or its script changed an environment variable"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prepared data and two small experiments of the project nvib, `nvib` and `vanilla`; read-only."""
    from tests.helpers import prepare_tiny, train_tiny

    folder = tmp_path_factory.mktemp("trained")
    prepare_tiny(folder / "data")
    train_tiny(folder, "nvib", "NVIB")
    train_tiny(folder, "vanilla", "T")
    return folder
