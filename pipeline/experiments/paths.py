"""Paths of an experiment's files, `outputs/<PROJECT_NAME>/<EXPERIMENT_NAME>/`, and a project's experiments."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.runtime.errors import UserError
from pipeline.runtime.locks import claim, leave_to_rank_0
from pipeline.runtime.processes import is_first

PRIOR = "prior"  # folder of a learned prior within that of its experiment


@dataclass(frozen=True)
class ExperimentFiles:
    """Paths of an experiment's files.

    Args:
        folder: the experiment's folder.
    """

    folder: Path

    @classmethod
    def of(cls, output_dir: Path, project: str, experiment: str) -> "ExperimentFiles":
        """Return the paths of an experiment of a project."""
        return cls(Path(output_dir) / project / experiment)

    def claim(self) -> None:
        """Lock the experiment for writing until this process ends. Of several processes, rank 0 holds the lock.

        Raises:
            UserError: another process writes the experiment.
        """
        lock = self.folder.parent / f".{self.folder.name}.lock"
        if not is_first():
            leave_to_rank_0(lock)
            return
        claim(lock, f"experiment {self.folder.name!r}")

    @property
    def prior(self) -> "ExperimentFiles":
        """Files of the language model that is the experiment's learned prior, in a folder of their own."""
        return ExperimentFiles(self.folder / PRIOR)

    @property
    def of_prior(self) -> bool:
        """True if these are the files of a learned prior."""
        return self.folder.name == PRIOR and (self.folder.parent / "config.json").exists()

    @property
    def name(self) -> str:
        """Name of the experiment; that of a learned prior is of both."""
        return f"{self.folder.parent.name}-{PRIOR}" if self.of_prior else self.folder.name

    @property
    def project(self) -> str:
        """Name of the experiment's project."""
        return (self.folder.parent.parent if self.of_prior else self.folder.parent).name

    def remove(self) -> None:
        """Remove the experiment atomically, so that no leftover is ever taken for part of a new one."""
        folder = self.folder.resolve()  # the target of a link, which stays
        if folder.exists():
            removed = folder.with_name(f".{folder.name}.removed")
            shutil.rmtree(removed, ignore_errors=True)
            folder.rename(removed)
            if self.folder.is_symlink():
                folder.mkdir()
            shutil.rmtree(removed, ignore_errors=True)

    def result(self, name: str, reading: str | None = None) -> Path:
        """Return the path of a file that an evaluation writes; another reading has a file of its own.

        Args:
            name: name of the file, such as `reconstruction_test.jsonl`.
            reading: reading that replaces the experiment's own, or None.
        """
        path = self.folder / name
        return path if reading is None else path.with_stem(f"{path.stem}_{reading}")

    @property
    def config(self) -> Path:
        """Settings of model and training, identity of the data, versions."""
        return self.folder / "config.json"

    @property
    def metrics(self) -> Path:
        """Metrics of every epoch, one line each."""
        return self.folder / "metrics.jsonl"

    @property
    def control(self) -> Path:
        """Rate, target and prices of a controlled run, one line for each look at validation sentences."""
        return self.folder / "control.jsonl"

    @property
    def histograms(self) -> Path:
        """Counts and edges of the latent's quantities, one line an epoch."""
        return self.folder / "histograms.jsonl"

    @property
    def summary(self) -> Path:
        """All final metrics, flat."""
        return self.folder / "summary.json"

    @property
    def failure(self) -> Path:
        """Reason why training ended early, if it did."""
        return self.folder / "failure.json"

    @property
    def latest(self) -> Path:
        """Checkpoint from which an interrupted run resumes."""
        return self.folder / "latest.safetensors"

    @property
    def latest_shards(self) -> Path:
        """The same checkpoint of a sharded model: a folder with one part for each process."""
        return self.folder / "latest"

    @property
    def begun(self) -> bool:
        """True if a checkpoint exists from which training can resume."""
        return self.latest.exists() or self.latest_shards.exists()

    @property
    def best(self) -> Path:
        """Weights with the lowest validation loss. Every evaluation reads these."""
        return self.folder / "best.safetensors"

    @property
    def samples(self) -> Path:
        """Generated sentences."""
        return self.folder / "samples.jsonl"

    @property
    def samples_without_copies(self) -> Path:
        """Generated sentences that are no copies of training texts; beside it the same as text, `.txt`."""
        return self.folder / "samples_without_copies.jsonl"

    @property
    def quality(self) -> Path:
        """Quality of the samples; beside it the same as a page, `.html`."""
        return self.folder / "quality.json"

    @property
    def of_quality(self) -> list[Path]:
        """Files that describe or hold a part of the samples, and outlive them."""
        files = (self.quality, self.samples_without_copies)
        return [path for file in files for path in (file, file.with_suffix(".html"), file.with_suffix(".txt"))]

    @property
    def wandb(self) -> Path:
        """Folder of wandb's own files."""
        return self.folder / "wandb"


def names_in(project: Path) -> list[str]:
    """Return the names of the experiments in a project's folder, sorted."""
    folders = (path.parent.name for path in project.glob("*/config.json"))
    return sorted(name for name in folders if not name.startswith("."))  # a hidden one is being removed


def experiment_names(output_dir: Path, project: str) -> list[str]:
    """Return the names of a project's experiments, sorted.

    Raises:
        UserError: the project has no experiment.
    """
    names = names_in(Path(output_dir) / project)
    if not names:
        raise UserError(
            f"{Path(output_dir) / project} holds no experiments; train one with train.py --PROJECT_NAME {project}"
        )
    return names
