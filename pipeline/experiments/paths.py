"""Paths of an experiment's files, `outputs/<PROJECT_NAME>/<EXPERIMENT_NAME>/`, and the experiments of a project."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.runtime.errors import UserError
from pipeline.runtime.locks import claim, leave_to_rank_0
from pipeline.runtime.processes import is_first


@dataclass(frozen=True)
class ExperimentFiles:
    """Where an experiment keeps what."""

    folder: Path

    @classmethod
    def of(cls, output_dir: Path, project: str, experiment: str) -> "ExperimentFiles":
        """The files of an experiment of a project."""
        return cls(Path(output_dir) / project / experiment)

    def claim(self) -> None:
        """Be the one process that writes this experiment, for as long as this process lives; the first of several.

        Raises:
            UserError: another process writes it.
        """
        lock = self.folder.parent / f".{self.folder.name}.lock"
        if not is_first():
            leave_to_rank_0(lock)
            return
        claim(lock, f"experiment {self.folder.name!r}")

    def remove(self) -> None:
        """Remove the experiment: from one moment to the next, so that no part of it is ever taken for a new one's."""
        folder = self.folder.resolve()  # of a link, what it leads to
        if folder.exists():
            removed = folder.with_name(f".{folder.name}.removed")
            shutil.rmtree(removed, ignore_errors=True)
            folder.rename(removed)
            if self.folder.is_symlink():
                folder.mkdir()
            shutil.rmtree(removed, ignore_errors=True)

    @property
    def config(self) -> Path:
        """Settings of model and training, the data's fingerprint, versions."""
        return self.folder / "config.json"

    @property
    def metrics(self) -> Path:
        """One line of figures an epoch."""
        return self.folder / "metrics.jsonl"

    @property
    def histograms(self) -> Path:
        """One line an epoch: counts and edges of the latent's quantities."""
        return self.folder / "histograms.jsonl"

    @property
    def summary(self) -> Path:
        """All final figures, flat."""
        return self.folder / "summary.json"

    @property
    def failure(self) -> Path:
        """Why training ended early, if it did."""
        return self.folder / "failure.json"

    @property
    def latest(self) -> Path:
        """The checkpoint that an interrupted run continues from."""
        return self.folder / "latest.safetensors"

    @property
    def latest_shards(self) -> Path:
        """The same where the processes of a run hold the model together, a part each: a folder."""
        return self.folder / "latest"

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to continue from."""
        return self.latest.exists() or self.latest_shards.exists()

    @property
    def best(self) -> Path:
        """The weights with the lowest validation loss: what evaluation takes."""
        return self.folder / "best.safetensors"

    @property
    def samples(self) -> Path:
        """Generated sentences."""
        return self.folder / "samples.jsonl"

    @property
    def wandb(self) -> Path:
        """wandb's own files."""
        return self.folder / "wandb"


def experiment_names(output_dir: Path, project: str) -> list[str]:
    """The experiments of a project, by name.

    Raises:
        UserError: it has none.
    """
    names = names_in(Path(output_dir) / project)
    if not names:
        raise UserError(
            f"{Path(output_dir) / project} holds no experiments; train one with train.py --PROJECT_NAME {project}"
        )
    return names


def names_in(project: Path) -> list[str]:
    """The names of the experiments in a project's folder."""
    folders = (path.parent.name for path in project.glob("*/config.json"))
    return sorted(name for name in folders if not name.startswith("."))  # such a one is being removed
