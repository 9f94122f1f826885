"""Files written whole or not at all, and read with errors that name them."""

import csv
import fcntl
import hashlib
import io
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from pipeline.runtime.errors import UnfinishedError, UserError, one_line
from pipeline.runtime.signals import received

CHECKSUM = "checksum"
CHECKSUMS = "checksums.json"
# Beyond this total a file's size alone is recorded: hashing a large corpus before every step would take minutes.
HASHED_BYTES = 2**30


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`. On success it replaces `path` atomically, on an error it is removed.

    The temporary file is flushed to disk before the rename. A reader, or a machine that lost power, finds the old
    content or the new content, never a part.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Some writers choose their format by the suffix.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        temporary.chmod(0o644)  # some writers leave a file that only its owner can read
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, plan: Any = None) -> Iterator[Path]:
    """Yield a new folder. On success it replaces `path`, on an error it is removed.

    The work happens in a hidden folder beside `path`, under a lock that ends with its process. Leftovers of a killed
    process are removed. An old folder that nothing had replaced yet is put back.

    Args:
        path: folder to replace.
        plan: JSON value that determines the new folder's content. With a plan, a partial folder survives a killed or
            interrupted process, a full disk and `UnfinishedError`, and is yielded again to a caller with the same plan.

    Raises:
        UserError: another process is writing the folder.
    """
    path = Path(path)
    hidden, retired = _hidden(path), _retired(path)
    hidden.mkdir(parents=True, exist_ok=True)
    with open(hidden / "lock", "w") as lock:
        try:
            # Not flock: children of a killed process may outlive it and would keep that lock.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(lock.fileno()), os.stat(lock.name)):
                raise FileNotFoundError  # its holder removed it when it ended just now
        except (BlockingIOError, FileNotFoundError):
            raise UserError(f"another process is writing {path}; wait until it ends, or stop it") from None
        kept = False
        try:
            if path.exists():
                shutil.rmtree(retired, ignore_errors=True)
            elif retired.exists():
                os.replace(retired, path)
            temporary = _partial(hidden, plan)
            yield temporary
            if path.exists():
                os.replace(path, retired)
            os.replace(temporary, path)
        except BaseException as error:
            resumable = isinstance(error, (KeyboardInterrupt, OSError, UnfinishedError)) or received() is not None
            kept = plan is not None and resumable
            raise
        finally:
            if retired.exists() and not path.exists():
                os.replace(retired, path)
            if not kept:
                shutil.rmtree(hidden, ignore_errors=True)


def _partial(hidden: Path, plan: Any) -> Path:
    """Return the partial folder of the same plan, or a new empty one."""
    record, begun = hidden / "plan.json", sorted(hidden.glob("new-*"))
    try:
        if plan is not None and len(begun) == 1 and _json(record.read_text(encoding="utf-8")) == plan:
            return begun[0]
    except (OSError, ValueError):
        pass
    record.unlink(missing_ok=True)  # a folder that is removed in part belongs to no plan
    for folder in begun:
        shutil.rmtree(folder)
    write_json(record, plan)
    temporary = Path(tempfile.mkdtemp(prefix="new-", dir=hidden))
    os.chmod(temporary, 0o755)  # mkdtemp makes it accessible to its owner only
    return temporary


def put_back(path: Path) -> None:
    """Restore the old folder if `replacing_folder` was killed after it moved that one away."""
    if _retired(path).exists() and not path.exists():
        os.replace(_retired(path), path)


def remove_folder(path: Path) -> None:
    """Remove a folder atomically: a process killed at any time leaves no part under its name."""
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
    """Format one JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ",") -> None:
    """Write a CSV table with a header, whole or not at all."""
    write_text(path, "".join(_csv_line(row, delimiter) + "\n" for row in itertools.chain([header], rows)))


def _csv_line(row: Sequence[Any], delimiter: str) -> str:
    r"""Format one record; a field with `\n` or `\r`, which the csv module knows from its line end, is quoted."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerow(row)
    return text.getvalue().removesuffix("\r\n")


def read_json(path: Path, remedy: str, distinct: bool = False) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        remedy: end of a message, which says what to do.
        distinct: True if no object may have a key twice. Otherwise the last value counts.

    Raises:
        UserError: the file is absent or damaged. The message names it and ends with `remedy`.
    """
    try:
        return _json(Path(path).read_text(encoding="utf-8"), _once if distinct else None)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}); {remedy}") from None


def read_jsonl(path: Path, remedy: str) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line. It raises what `read_json` raises."""
    rows: list[dict[str, Any]] = []
    try:
        with open(path, encoding="utf-8", newline="\n") as file:  # only "\n" ends a line
            for number, line in enumerate(file, start=1):
                row = _json(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is not a JSON object")
                rows.append(row)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}); {remedy}") from None
    return rows


def write_record(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON object with its own checksum, whole or not at all."""
    write_json(path, {**values, CHECKSUM: _checksum(values)})


def read_record(path: Path, remedy: str) -> dict[str, Any]:
    """Read an object that `write_record` wrote.

    Raises:
        UserError: the file is absent, damaged or was edited. The message names it and ends with `remedy`.
    """
    values = read_json(path, remedy)
    if not isinstance(values, dict) or values.pop(CHECKSUM, None) != _checksum(values):
        raise UserError(f"{path} is damaged or was edited by hand: its checksum does not match; {remedy}")
    return values


def write_records(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, each with a checksum of its content and place, whole or not at all."""
    rows = list(rows)
    write_jsonl(path, ({**row, CHECKSUM: _checksum([n, len(rows), row])} for n, row in enumerate(rows)))


def read_records(path: Path, remedy: str) -> list[dict[str, Any]]:
    """Read the rows that `write_records` wrote, all of them. It raises what `read_record` raises."""
    rows = read_jsonl(path, remedy)
    if not rows:
        raise UserError(f"{path} is damaged: it is empty; {remedy}")
    for number, row in enumerate(rows):
        if row.pop(CHECKSUM, None) != _checksum([number, len(rows), row]):
            raise UserError(f"{path} is damaged at line {number + 1}, or lines are missing; {remedy}")
    return rows


def write_checksums(folder: Path) -> None:
    """Record size and SHA-256 of every file below a folder, smallest first; after `HASHED_BYTES` sizes alone."""
    paths = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: (path.stat().st_size, path))
    files, read = {}, 0
    for path in paths:
        read += path.stat().st_size
        files[str(path.relative_to(folder))] = _measured(path, hashed=read <= HASHED_BYTES)
    write_record(folder / CHECKSUMS, {"files": files})


def check_files(folder: Path, remedy: str) -> None:
    """Compare every file below a folder with its recorded checksum.

    Raises:
        UserError: a file is absent or has changed. The message names it and ends with `remedy`.
    """
    for name, recorded in read_record(folder / CHECKSUMS, remedy)["files"].items():
        path = folder / name
        try:
            same = _measured(path, hashed="sha256" in recorded) == recorded
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); {remedy}") from None
        if not same:
            raise UserError(f"{path} is damaged or was edited by hand: its checksum does not match; {remedy}")


def _measured(path: Path, hashed: bool) -> dict[str, int | str]:
    size = path.stat().st_size
    if not hashed:
        return {"size": size}
    with open(path, "rb") as file:
        return {"size": size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _checksum(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _json(text: str, pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None) -> Any:
    """Parse JSON without NaN and infinities; `pairs` makes an object of its keys and values."""
    return json.loads(text, parse_constant=_refuse, object_pairs_hook=pairs)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object whose keys occur once each."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"an object has the key {key[:60]!r} twice; write it once")
        found[key] = value
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not valid JSON")
