"""Tables that people bring along, CSV or Parquet: read within bounds, whoever wrote them.

What cannot be read is a ValueError whose text is the reason; who asks knows what the file is for,
and `reading_table` names it.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet

from indexer.errors import SoundalikeError
from indexer.progress import count

#: Names of the column that says which file a row is about, in this order.
KEYS = ("path", "file", "filename")
#: A larger file is refused: it is read as a whole.
MAX_BYTES = 1 << 30
#: What a CSV file may have between its values.
_DELIMITERS = ",;\t"
_MAX_HEADER_BYTES = 1 << 16
_PARQUET_MAGIC = b"PAR1"
#: Rows of a Parquet file that are unpacked before they are counted.
_PARQUET_ROWS = 1024
#: A whole number written as a float, be it alone or the start behind a clip's id.
_WHOLE = re.compile(r"(?P<number>(?:.+_)?\d+)\.0+", re.ASCII | re.DOTALL)
#: Where the system shows what a process has open: a pipe there waits for nobody.
_OPEN = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")


class Header(NamedTuple):
    """The first line of a CSV file: names of columns as they stand there, and the delimiter."""

    names: list[str]
    delimiter: str


@contextmanager
def reading_table(path: Path) -> Iterator[None]:
    """Name the file in whatever is wrong with it.

    Raises:
        SoundalikeError: In place of an OSError, or of a ValueError.
    """
    try:
        yield
    except OSError as error:
        raise SoundalikeError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SoundalikeError(f"cannot read {path}: {error}") from error


def read_content(path: Path) -> bytes:
    """Return the bytes of a file; text in UTF-16 is made UTF-8, and the mark before it left out.

    Raises:
        ValueError: If it is no file, larger than `MAX_BYTES`, or not what it begins as.
        OSError: If it cannot be read.
    """
    if path.is_file():
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _too_large(f"{size:,} bytes, at most {MAX_BYTES:,}")
    elif not str(path).startswith(_OPEN):
        raise ValueError("not a file" if path.exists() else "no such file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _too_large(f"more than {MAX_BYTES:,} bytes")
    if path.suffix.lower() == ".parquet" and not is_parquet(content):
        raise ValueError("it is called .parquet and does not begin as one does: it is damaged")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise ValueError("it begins as UTF-16, and is not; save the file as UTF-8") from error
    return content.removeprefix(codecs.BOM_UTF8)


def is_parquet(content: bytes) -> bool:
    """Whether a file is Parquet, by how it begins."""
    return content.startswith(_PARQUET_MAGIC)


def read_header(content: bytes) -> Header:
    """Return the names of the columns of a CSV file, and what stands between its values.

    Raises:
        ValueError: If it is empty, or no text, or a name is not UTF-8.
    """
    if is_parquet(content):
        raise ValueError("it is Parquet, and CSV is wanted")
    text = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode(
        content[:_MAX_HEADER_BYTES]
    )
    lines = text.lstrip("\r\n")
    if not lines.strip():
        raise ValueError("it is empty")
    first = lines.splitlines()[0]
    if "\0" in first:
        raise ValueError("it is no text: it begins with zero bytes; save it as CSV in UTF-8")
    delimiter = max(_DELIMITERS, key=first.count)
    names = next(csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter), [])
    for number, name in enumerate(names, 1):
        if re.search("[\udc80-\udcff]", name):  # bytes that could not be decoded
            raise ValueError(f"the name of column {number} is not UTF-8; save the file as UTF-8")
    return Header(names, delimiter)


def read_rows(content: bytes, errors: str = "strict") -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each line of a CSV file, and its cells by the names of their columns.

    Args:
        content: Of the file, from `read_content`.
        errors: What becomes of bytes that are not UTF-8, as Python calls it.

    Raises:
        ValueError: If it is not UTF-8, a cell is too long or a quote not closed, a line has more
            cells than the first, or two columns one name; names the line.
    """
    names, delimiter = read_header(content)
    names = [name.strip() for name in names]
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise ValueError(f"two columns {twice[0]!r}")
    try:
        decoded = content.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        raise ValueError(f"line {line} is not UTF-8; save the file as UTF-8") from error
    text = io.StringIO(decoded.lstrip("\r\n"), newline="")
    rows = csv.DictReader(
        text, names, delimiter=delimiter, skipinitialspace=True, restval="", strict=True
    )
    try:
        next(rows.reader, None)
        for row in rows:
            if any(cell.strip() for cell in row.get(None, ())):
                raise ValueError(
                    f"line {rows.line_num} has more than {count(len(names), 'cell')}; put a cell "
                    f"that holds {delimiter!r} into quotes"
                )
            yield rows.line_num, {name: cell for name, cell in row.items() if name}
    except csv.Error as error:
        raise ValueError(f"after line {rows.line_num}: {error}") from error


def whole_number(cell: str) -> str:
    """Return "91139" for "91139.0": pandas writes a column of whole numbers with gaps so."""
    found = _WHOLE.fullmatch(cell)
    return found["number"] if found else cell


def find_column(names: Sequence[str], wanted: Sequence[str] = KEYS) -> str | None:
    """Return the column with the first of the wanted names, in whatever case; None if none has."""
    folded = {name.strip().casefold(): name for name in reversed(names)}
    return next((folded[name] for name in wanted if name in folded), None)


def read_parquet(
    source: bytes | Path, columns: Sequence[str] | None = None, most_bytes: int | None = None
) -> pa.Table:
    """Read a Parquet file as far as the limit allows: a few encoded bytes may be gigabytes.

    Args:
        source: The file, or what is in it.
        columns: Those that are wanted; None for all.
        most_bytes: What it may be, unpacked; None for `MAX_BYTES`.

    Raises:
        ValueError: If it is larger.
        ArrowException: If it is not Parquet, or damaged.
    """
    most_bytes = most_bytes or MAX_BYTES
    file = pa.BufferReader(source) if isinstance(source, bytes) else source
    with pyarrow.parquet.ParquetFile(file) as file:
        given = [one for one in file.schema_arrow if columns is None or one.name in columns]
        schema = pa.schema(
            [(one.name, _plain(one.type)) for one in given], file.schema_arrow.metadata
        )
        batches, num_bytes = [], 0
        for batch in file.iter_batches(_PARQUET_ROWS, columns=[one.name for one in given]):
            batches.append(batch.cast(schema))
            num_bytes += batches[-1].nbytes
            if num_bytes > most_bytes:
                raise _too_large(f"more than {most_bytes:,} bytes unpacked")
        return pa.Table.from_batches(batches, schema)


def _too_large(what: str) -> ValueError:
    return ValueError(f"{what}; leave out rows and columns that are not needed")


def _plain(given: pa.DataType) -> pa.DataType:
    return given.value_type if pa.types.is_dictionary(given) else given
