"""Files written whole or not at all, and read with an error that names them."""

import csv
import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from pipeline.runtime.errors import UnfinishedError, UserError
from pipeline.runtime.signals import received

CHECKSUM = "checksum"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes `path`'s place at once.

    The temporary file is flushed to disk before the rename, so that a reader, or a machine that lost
    power, finds the old content or the new and never a part. On an error it is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, because some writers choose their format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        temporary.chmod(0o644)  # some writers leave a file that its owner alone can read
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, plan: Any = None) -> Iterator[Path]:
    """Yield a new folder; on success it takes `path`'s place, on an error it is removed.

    All of it happens in a hidden folder beside `path`, under a lock that dies with its process. What a killed
    process left there is removed; an old folder that nothing had replaced yet is put back.

    Args:
        path: of the folder.
        plan: what the new folder is made of, as JSON has it. Where there is one, what a killed or interrupted process,
            a full disk or `UnfinishedError` left is kept, and yielded again to whoever comes with the same plan.

    Raises:
        UserError: another process is at it.
    """
    path = Path(path)
    hidden, retired = _hidden(path), _retired(path)
    hidden.mkdir(parents=True, exist_ok=True)
    with open(hidden / "lock", "w") as lock:
        try:
            # lockf and not flock: the children of a killed process may live on, and inherit the other.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(lock.fileno()), os.stat(lock.name)):
                raise FileNotFoundError  # its holder, who ended just now, removed it
        except (BlockingIOError, FileNotFoundError):
            raise UserError(f"another process is writing {path}; wait until it has ended, or stop it") from None
        kept = False
        try:
            if path.exists():
                shutil.rmtree(retired, ignore_errors=True)
            elif retired.exists():
                os.replace(retired, path)
            temporary = _begun(hidden, plan)
            yield temporary
            if path.exists():
                os.replace(path, retired)
            os.replace(temporary, path)
        except BaseException as error:
            lasting = isinstance(error, (KeyboardInterrupt, OSError, UnfinishedError)) or received() is not None
            kept = plan is not None and lasting
            raise
        finally:
            if retired.exists() and not path.exists():
                os.replace(retired, path)
            if not kept:
                shutil.rmtree(hidden, ignore_errors=True)


def _begun(hidden: Path, plan: Any) -> Path:
    """The folder that someone began by the same plan, or an empty one."""
    record, begun = hidden / "plan.json", sorted(hidden.glob("new-*"))
    try:
        if plan is not None and len(begun) == 1 and _json(record.read_text(encoding="utf-8")) == plan:
            return begun[0]
    except (OSError, ValueError):
        pass
    for folder in begun:
        shutil.rmtree(folder)
    write_json(record, plan)
    temporary = Path(tempfile.mkdtemp(prefix="new-", dir=hidden))
    os.chmod(temporary, 0o755)  # mkdtemp's folder is the owner's alone
    return temporary


def put_back(path: Path) -> None:
    """Put an old folder back that `replacing_folder` had moved when its process was killed, before the new one came."""
    if _retired(path).exists() and not path.exists():
        os.replace(_retired(path), path)


def remove_folder(path: Path) -> None:
    """Remove a folder so that, whenever this process is killed, no part of it is left under its name."""
    if path.exists():
        gone = path.with_name(f".{path.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(path, gone)
        shutil.rmtree(gone)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _retired(path: Path) -> Path:
    return _hidden(path) / "old"


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, whole or not at all."""
    write_text(path, as_jsonl(rows))


def as_jsonl(rows: Iterable[dict[str, Any]]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ",") -> None:
    """Write a table with a header, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_json(path: Path, remedy: str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: it is absent or damaged; the message names it and ends with `remedy`.
    """
    try:
        return _json(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not there; {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({_one_line(error)}); {remedy}") from None


def write_record(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON object with its own checksum, whole or not at all."""
    write_json(path, {**values, CHECKSUM: _checksum(values)})


def read_record(path: Path, remedy: str) -> dict[str, Any]:
    """Read what `write_record` wrote.

    Raises:
        UserError: it is absent, damaged, or was changed since; the message names it and ends with `remedy`.
    """
    values = read_json(path, remedy)
    if not isinstance(values, dict) or values.pop(CHECKSUM, None) != _checksum(values):
        raise UserError(f"{path} is damaged, or was changed by hand: it does not fit its checksum; {remedy}")
    return values


def write_records(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, each with a checksum of itself and its place, whole or not at all."""
    rows = list(rows)
    write_jsonl(path, ({**row, CHECKSUM: _checksum([n, len(rows), row])} for n, row in enumerate(rows)))


def read_records(path: Path, remedy: str) -> list[dict[str, Any]]:
    """Read what `write_records` wrote, of which no line is missing; raises as `read_record` does."""
    rows = read_jsonl(path, remedy)
    if not rows:
        raise UserError(f"{path} is damaged: it is empty; {remedy}")
    for number, row in enumerate(rows):
        if row.pop(CHECKSUM, None) != _checksum([number, len(rows), row]):
            raise UserError(f"{path} is damaged at line {number + 1}, or lines are missing; {remedy}")
    return rows


def _checksum(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_jsonl(path: Path, remedy: str) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line; raises as `read_json` does."""
    rows = []
    try:
        with open(path, encoding="utf-8", newline="\n") as file:  # a line ends there alone
            for number, line in enumerate(file, start=1):
                rows.append(_json(line))
                if not isinstance(rows[-1], dict):
                    raise ValueError(f"line {number} is no JSON object")
    except FileNotFoundError:
        raise UserError(f"{path} is not there; {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({_one_line(error)}); {remedy}") from None
    return rows


def _json(text: str) -> Any:
    """JSON as this project writes it: without NaN and infinities."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
