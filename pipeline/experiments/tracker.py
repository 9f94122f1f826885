"""Where figures go: the experiment's own files first, and Weights & Biases beside them.

The local files hold everything. wandb cannot continue an offline run: of several offline parts with one
id, an upload leaves the last. So an offline run that goes on is written anew as a whole from the local
files, and its earlier part removed: there is always one offline run to upload, and it is complete.
"""

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.experiments.config import flat_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_jsonl, read_record, read_records, write_record, write_records

# wandb sends what is left at the end; without a connection it tries for ever.
FINISH_SECONDS = 60.0
START_SECONDS = 60.0
REMEDY = "remove the file, and run the step that wrote it again"


def check_login(entity: str | None) -> None:
    """Make sure that logging to an entity can work, before any work is done.

    Raises:
        UserError: an entity was given and nobody is logged in.
    """
    if entity is None:
        return
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise UserError(
            f"--WANDB_ENTITY {entity} was given, but nobody is logged in to Weights & Biases; "
            "run `wandb login`, or leave the flag out to log offline"
        )


def api() -> Any:
    """wandb's interface to runs that it holds.

    Raises:
        UserError: nobody is logged in.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    try:
        return wandb.Api()
    except Exception as error:
        raise UserError(
            f"wandb cannot be asked ({' '.join(str(error).split())[:200]}); run `wandb login` first, or leave "
            "--FROM_WANDB out"
        ) from None


class Tracker:
    """Takes an experiment's figures; `tracking` makes it.

    Args:
        files: the experiment's.
        run: of wandb, or None where wandb failed.
        offline: whether the run was written anew from the files, samples included.
    """

    def __init__(self, files: ExperimentFiles, run: Any | None, offline: bool) -> None:
        self.files = files
        self.run = run
        self.offline = offline

    def log_epoch(self, row: dict[str, float], histograms: dict[str, Any]) -> None:
        """Add an epoch's figures, and its histograms by name (`counts`, `edges`)."""
        # An epoch that is trained again after an interruption replaces what it wrote before.
        for path, new in ((self.files.metrics, row), (self.files.histograms, {"epoch": row["epoch"], **histograms})):
            earlier = read_records(path, REMEDY) if path.exists() else []
            write_records(path, [*(old for old in earlier if old["epoch"] < row["epoch"]), new])
        self._to_wandb(_log_epoch, row, histograms)

    def summarise(self, figures: dict[str, float | int | str | None]) -> None:
        """Merge figures into `summary.json` and the run's summary; one that is None is taken out."""
        merged = {name: value for name, value in (self._summary() | figures).items() if value is not None}
        write_record(self.files.summary, dict(sorted(merged.items())))
        self._to_wandb(lambda run: run.summary.update(figures))

    def forget(self) -> None:
        """Take out every figure: the weights that they are of are about to be replaced."""
        if self.files.summary.exists():
            try:
                names = list(self._summary())
            except UserError:  # it is damaged, which is no reason to stop a training
                names = []
            self.files.summary.unlink()
            self._to_wandb(lambda run: run.summary.update(dict.fromkeys(names)))

    def forget_samples(self) -> None:
        """Take out what was measured of samples that are no longer there."""
        of_samples = [
            name
            for name in self._summary()
            if name.startswith(("samples/", "quality/")) or "reverse_perplexity" in name
        ]
        if of_samples:
            self.summarise(dict.fromkeys(of_samples))

    def _summary(self) -> dict[str, Any]:
        return read_summary(self.files)

    def log_samples(self) -> None:
        """Show the samples that were written as a table of the run's page."""
        if not self.offline:
            self._to_wandb(_log_samples, self.files)

    def _to_wandb(self, action: Any, *arguments: Any) -> None:
        if self.run is None:
            return
        try:
            action(self.run, *arguments)
        except Exception as error:  # whatever the tracker's trouble is, it must not cost the run
            _warn(error)
            self.run = None


def read_summary(files: ExperimentFiles) -> dict[str, Any]:
    """The figures in an experiment's `summary.json`; none if there is no such file.

    Raises:
        UserError: it is damaged.
    """
    return read_record(files.summary, REMEDY) if files.summary.exists() else {}


@contextmanager
def tracking(
    files: ExperimentFiles, config: dict[str, Any], entity: str | None, active: bool = True
) -> Iterator[Tracker]:
    """Continue an experiment's wandb run, online with an entity and offline without.

    Args:
        files: the experiment's.
        config: its `config.json`.
        entity: wandb user or team, or None.
        active: whether this process has a run at all; of several only one does.
    """
    if not active:
        yield Tracker(files, run=None, offline=True)
        return
    earlier = sorted(files.wandb.glob("wandb/offline-run-*")) if entity is None else []
    run = None
    try:
        run = _start(files, config, entity)
        if entity is None:
            _replay(run, files)
    except Exception as error:
        _warn(error)
    tracker = Tracker(files, run, offline=entity is None)
    status = 1
    try:
        yield tracker
        status = 0
    finally:
        if tracker.run is not None:
            try:
                _finish(tracker.run, status)
                for folder in earlier:
                    shutil.rmtree(folder, ignore_errors=True)
            except Exception as error:
                _warn(error)


def upload(files: ExperimentFiles, config: dict[str, Any], entity: str) -> str:
    """Write an experiment's page anew from its files; the page's address.

    Raises:
        UserError: wandb fails.
    """
    try:
        run = _start(files, config, entity)
        _replay(run, files)
        address = run.url
        _finish(run, 0)
    except UserError:
        raise
    except Exception as error:  # of the network, of rights, of wandb itself
        raise UserError(
            f"wandb did not take the experiment ({_one_line(error)}); its files hold everything, so try again later"
        ) from None
    return address or f"{entity}/{files.folder.parent.name}"


def _start(files: ExperimentFiles, config: dict[str, Any], entity: str | None) -> Any:
    import wandb

    files.wandb.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        entity=entity,
        project=files.folder.parent.name,
        name=files.folder.name,
        id=config["wandb_id"],
        group=config["model"]["name"],
        config=flat_config(config),
        dir=files.wandb,
        mode="offline" if entity is None else "online",
        resume=None if entity is None else "allow",
        settings=wandb.Settings(
            silent=True, console="off", disable_git=True, save_code=False, init_timeout=START_SECONDS
        ),
    )
    run.define_metric("epoch")
    run.define_metric("*", step_metric="epoch")
    return run


def _finish(run: Any, status: int) -> None:
    """End a run; where wandb hangs, go on without it.

    Raises:
        TimeoutError: it had not ended after `FINISH_SECONDS`.
        Exception: whatever wandb raises.
    """
    failed: list[Exception] = []

    def finish() -> None:
        try:
            run.finish(exit_code=status)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=finish, daemon=True)
    thread.start()
    thread.join(FINISH_SECONDS)
    if thread.is_alive():
        raise TimeoutError(f"it had not ended after {FINISH_SECONDS:.0f} s")
    if failed:
        raise failed[0]


def _replay(run: Any, files: ExperimentFiles) -> None:
    """Write what earlier parts of an offline run wrote."""
    histograms = (
        {row["epoch"]: row for row in read_records(files.histograms, REMEDY)} if files.histograms.exists() else {}
    )
    for row in read_records(files.metrics, REMEDY) if files.metrics.exists() else []:
        values = {name: value for name, value in histograms.get(row["epoch"], {}).items() if name != "epoch"}
        _log_epoch(run, row, values)
    if files.samples.exists():
        _log_samples(run, files)
    if files.summary.exists():
        run.summary.update(read_record(files.summary, REMEDY))


def _log_epoch(run: Any, row: dict[str, float], histograms: dict[str, Any]) -> None:
    import wandb

    shown = {
        f"histograms/{name}": wandb.Histogram(np_histogram=(values["counts"], values["edges"]))
        for name, values in histograms.items()
    }
    run.log({**row, **shown})


def _log_samples(run: Any, files: ExperimentFiles) -> None:
    import wandb

    rows = read_jsonl(files.samples, REMEDY)
    columns = list(rows[0])
    run.log({"tables/samples": wandb.Table(columns=columns, data=[[row[name] for name in columns] for row in rows])})


def _warn(error: Exception) -> None:
    print(
        f"warning: wandb failed ({_one_line(error)}); the run goes on, its files hold every figure, and upload.py can "
        "complete its page",
        file=sys.stderr,
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
