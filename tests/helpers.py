"""Tiny prepared data, and scripts run as processes."""

import os
import subprocess
import sys
from pathlib import Path

from pipeline.corpora import Split
from pipeline.prepared import PreparationSettings, prepare

ROOT = Path(__file__).parent.parent
WORDS = [
    "the",
    "a",
    "old",
    "young",
    "king",
    "queen",
    "cat",
    "dog",
    "house",
    "river",
    "town",
    "saw",
    "found",
    "left",
    "took",
    "made",
    "and",
    "then",
    "with",
    "under",
]


def text(count: int, seed: int = 0) -> str:
    """So many short sentences, a document a line."""
    import random

    draw = random.Random(seed)
    return "".join(" ".join(draw.choices(WORDS, k=draw.randint(6, 14))) + " .\n" for _ in range(count))


def prepare_tiny(data_dir: Path, name: str = "tiny", count: int = 300) -> None:
    """Prepare a tiny dataset in this process."""
    source = data_dir / f"{name}.txt"
    data_dir.mkdir(parents=True, exist_ok=True)
    source.write_text(text(count))
    settings = PreparationSettings("wordpiece", 200, "paper", more_than=5, fewer_than=50)
    prepare(str(source), name, data_dir, settings, Split(0.1, 0.1, 0))


def run(script: str, *arguments: object, expect: int = 0) -> subprocess.CompletedProcess:
    """Run a script as a user would; checks its exit status."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "", "HF_HUB_OFFLINE": "1"}
    environment.pop("WANDB_API_KEY", None)
    finished = subprocess.run(
        [sys.executable, ROOT / script, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == expect, f"{script} {arguments}: {finished.stdout}\n{finished.stderr}"
    return finished


def one_line_of_error(finished: subprocess.CompletedProcess) -> str:
    """The one line that a refused command leaves on stderr."""
    lines = finished.stderr.strip().splitlines()
    assert len(lines) == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    return lines[0]
