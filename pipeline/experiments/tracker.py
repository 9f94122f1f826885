"""Write figures to an experiment's files and to Weights & Biases (wandb).

The files hold every figure. wandb cannot continue an offline run: an upload of several offline parts with one id keeps
the last part alone. So each offline run is written anew as a whole from the files, and the earlier run is removed. One
complete offline run is left to upload.
"""

import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.experiments.config import flat_config
from pipeline.experiments.metrics import outdated_with_samples
from pipeline.experiments.paths import ExperimentFiles
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_jsonl, read_record, read_records, write_record, write_records
from pipeline.runtime.processes import is_first

# wandb is imported where it is used: it is heavy, and a run without it works.

# Limits in seconds. At its end a run sends the rest of its data, and retries for ever without a connection.
FINISH_SECONDS = 60.0
START_SECONDS = 60.0
FINISHED = "best_epoch"  # figure that training writes at its end
REMEDY = "remove the file, and run the step that wrote it again"


def check_login(entity: str | None) -> None:
    """Check before any work that this user can log to an entity.

    Args:
        entity: wandb user or team; None logs offline, which needs no login.

    Raises:
        UserError: an entity is given and nobody is logged in.
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
    """Connect to wandb to read runs.

    Returns:
        A `wandb.Api`.

    Raises:
        UserError: nobody is logged in.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    try:
        return wandb.Api()
    except Exception as error:
        raise UserError(
            f"wandb cannot be reached ({_one_line(error)}); run `wandb login` first, or leave --FROM_WANDB out"
        ) from None


class Tracker:
    """Writes an experiment's figures. `tracking` creates it.

    Args:
        files: files of the experiment.
        run: run of wandb, or None if wandb failed.
        offline: True if the run was written anew from the files, samples included.
    """

    def __init__(self, files: ExperimentFiles, run: Any | None, offline: bool) -> None:
        self.files = files
        self.run = run
        self.offline = offline

    def log_epoch(self, row: dict[str, float], histograms: dict[str, Any]) -> None:
        """Append an epoch to `metrics.jsonl` and `histograms.jsonl`.

        Args:
            row: figures of the epoch by key, `epoch` among them.
            histograms: `counts` and `edges` of each histogram by name.
        """
        # An epoch that is trained again after an interruption replaces its earlier rows.
        for path, new in ((self.files.metrics, row), (self.files.histograms, {"epoch": row["epoch"], **histograms})):
            earlier = read_records(path, REMEDY) if path.exists() else []
            write_records(path, [*(old for old in earlier if old["epoch"] < row["epoch"]), new])
        self._to_wandb(_log_epoch, row, histograms)

    def log_control(self, looks: Sequence[Mapping[str, float]]) -> None:
        """Write `control.jsonl`: what a controller saw and did, a line for each look; nothing without any."""
        if looks:
            write_records(self.files.control, [dict(look) for look in looks])

    def summarise(self, figures: Mapping[str, float | int | str | None], outdated: Iterable[str] = ()) -> None:
        """Merge figures into `summary.json` and into the summary of the run.

        Args:
            figures: new figures by name. A value of None removes the figure.
            outdated: names of earlier figures, which are removed unless they are given anew.
        """
        figures = {**dict.fromkeys(outdated), **figures}
        merged = {name: value for name, value in {**self._summary(), **figures}.items() if value is not None}
        write_record(self.files.summary, dict(sorted(merged.items())))
        self._to_wandb(lambda run: run.summary.update(figures))

    def forget(self) -> None:
        """Remove every figure, before the weights that they were measured on are replaced.

        With those of a learned prior go the figures of samples that the autoencoder drew from it.
        """
        if self.files.of_prior:
            forget_draws(ExperimentFiles(self.files.folder.parent))
        if self.files.summary.exists():
            try:
                names = list(self._summary())
            except UserError:  # a damaged file must not stop a training
                names = []
            self.files.summary.unlink()
            self._to_wandb(lambda run: run.summary.update(dict.fromkeys(names)))

    def reopen(self) -> None:
        """Remove the figure by which the report knows a finished training, before it goes on; it comes at the end."""
        try:
            finished = FINISHED in self._summary()
        except UserError:  # a damaged file must not stop a training
            return
        if finished:
            self.summarise({}, [FINISHED])

    def forget_samples(self) -> list[str]:
        """Remove the figures that were measured on samples, before other samples replace these; return their names."""
        outdated = [key for key in self._summary() if outdated_with_samples(key)]
        if outdated:
            self.summarise({}, outdated)
        return outdated

    def _summary(self) -> dict[str, Any]:
        return read_summary(self.files)

    def log_samples(self) -> None:
        """Log the samples in the experiment's files as a table of the run."""
        if not self.offline:
            self._to_wandb(_log_samples, self.files)

    def _to_wandb(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Call an action with the run in front of its arguments; after a failure wandb is left out."""
        if self.run is None:
            return
        try:
            action(self.run, *arguments)
        except Exception as error:  # no failure of wandb may end the run
            _warn(error)
            self.run = None


def forget_draws(files: ExperimentFiles) -> None:
    """Remove the figures of the samples of an autoencoder, where its learned prior drew them."""
    try:
        drawn = read_summary(files).get("samples/prior") == "learned"
    except UserError:  # a damaged file must not stop a training; the scripts that read figures refuse it
        return
    if drawn:
        Tracker(files, run=None, offline=True).forget_samples()
        print(f"the figures of the samples of {files.name} are removed: the prior that drew them is replaced")


def warn_if_outdated(files: ExperimentFiles, path: Path, figure: str, script: str) -> None:
    """Print a warning if texts were generated before the present weights: `forget` removed the figures of their script.

    Args:
        files: files of the experiment.
        path: the generated texts.
        figure: key of a figure that the script writes with them.
        script: its name.
    """
    if is_first() and figure not in read_summary(files):
        print(
            f"warning: {path} was not made with the present weights, or not by {script}, which has left no figures of "
            f"it; run {script} again",
            file=sys.stderr,
        )


def fingerprint(texts: Sequence[str]) -> str:
    """Identify texts, so that a figure measured on them is recognised: first 16 digits of their SHA-256."""
    return hashlib.sha256("\0".join(texts).encode(errors="surrogatepass")).hexdigest()[:16]


def check_samples(files: ExperimentFiles, rows: Sequence[Mapping[str, Any]]) -> None:
    """Say where samples are not those that the figures of `summary.json` are of, and remove these figures; for rank 0.

    An earlier version did not record the fingerprint of samples; then they count as the same.

    Args:
        files: files of the experiment.
        rows: the samples, rows of `samples.jsonl`.
    """
    warn_if_outdated(files, files.samples, "samples/count", "sample.py")
    texts = fingerprint([row["text"] for row in rows])
    if is_first() and read_summary(files).get("samples/fingerprint", texts) != texts:
        Tracker(files, run=None, offline=True).forget_samples()
        print(
            f"warning: {files.samples} has changed since sample.py wrote it; the figures of the samples as they were "
            "are removed",
            file=sys.stderr,
        )


def read_summary(files: ExperimentFiles) -> dict[str, Any]:
    """Read an experiment's `summary.json`; empty if there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    return read_record(files.summary, REMEDY) if files.summary.exists() else {}


@contextmanager
def tracking(
    files: ExperimentFiles, config: dict[str, Any], entity: str | None, active: bool = True
) -> Iterator[Tracker]:
    """Continue an experiment's wandb run: online if there is an entity, otherwise offline.

    Args:
        files: files of the experiment.
        config: its `config.json`.
        entity: wandb user or team, or None.
        active: True if this process has a run. Of several processes only rank 0 has one.

    Yields:
        The tracker, which works without wandb if that fails.
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
        earlier = []  # the run is not complete, and does not replace them
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
    """Write an experiment's wandb page anew from its files.

    Returns:
        Address of the page.

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
    except Exception as error:  # network, rights or wandb itself
        raise UserError(
            f"wandb did not take the experiment ({_one_line(error)}); its files hold everything, so try again later"
        ) from None
    return address or f"{entity}/{files.project}"


def _start(files: ExperimentFiles, config: dict[str, Any], entity: str | None) -> Any:
    """Start the experiment's wandb run, with every figure plotted over epochs."""
    import wandb

    files.wandb.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        entity=entity,
        project=files.project,
        name=files.name,
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
    """End a run in a thread, so that this process does not hang with wandb.

    Raises:
        TimeoutError: the run has not ended after `FINISH_SECONDS`.
        Exception: wandb raised it.
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
    """Log all that the experiment's files hold."""
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
    """Log figures and histograms of an epoch."""
    import wandb

    shown = {
        f"histograms/{name}": wandb.Histogram(np_histogram=(values["counts"], values["edges"]))
        for name, values in histograms.items()
    }
    run.log({**row, **shown})


def _log_samples(run: Any, files: ExperimentFiles) -> None:
    """Log `samples.jsonl` as a table."""
    import wandb

    rows = read_jsonl(files.samples, REMEDY)
    names = list(dict.fromkeys(name for row in rows for name in row))  # those of edited samples may differ
    if rows:
        table = wandb.Table(columns=[*names], data=[[row.get(name) for name in names] for row in rows])
        run.log({"tables/samples": table})


def _warn(error: Exception) -> None:
    print(
        f"warning: wandb failed ({_one_line(error)}); the run continues, its files hold every figure, and upload.py "
        "can complete its page",
        file=sys.stderr,
    )


def _one_line(error: Exception) -> str:
    """First 200 characters of an error's message, on one line."""
    return " ".join(str(error).split())[:200]
