"""CSV and TSV as people have them: whichever delimiter, encoding and byte order mark.

Every column is read as text, so that a key such as ``0042`` stays what it is; what is no key can be
given its type afterwards.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from voxelvault.errors import StorageError, UsageError

DELIMITERS = ",\t;|"
"""What may part the columns; the one that the header line has most of does."""


def file_text(path: Path) -> str:
    """Return the text of a file, whichever byte order mark it has.

    Raises
    ------
    UsageError, StorageError
        There is no such file, or it can't be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(error) from None
    coding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(coding)
    except UnicodeDecodeError:
        # Excel's "CSV" in Western Europe and the Americas.
        return data.decode("cp1252", "replace")


def unreadable(error: OSError) -> UsageError | StorageError:
    """Return what to raise where a file of labels doesn't open; its path may name somebody."""
    if isinstance(error, FileNotFoundError):
        return UsageError("there is no such file of labels; check its path and the folder that you are in")
    return StorageError("the file of labels can't be read; see whether it is a file, and who may read it")


def text_table(text: str) -> pa.Table:
    """Return every column of a CSV as text, empty fields as null.

    Raises
    ------
    UsageError
        There is no header, it names a column twice, or a row doesn't fit it.
    """
    text = text.lstrip("\r\n")
    line = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=line.count)
    names = [name.strip() for name in next(csv.reader(io.StringIO(line), delimiter=delimiter), [])]
    if not any(names) or delimiter not in line:
        raise UsageError("there is no header with several columns; the first line must name key and labels")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(f"{len(twice)} columns have a name that another has too; rename them in the header")
    options = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        strings_can_be_null=True,
        null_values=["", "NA", "N/A", "NaN", "nan", "null", "NULL"],
    )
    read = pa.csv.ReadOptions(column_names=names, skip_rows=1)
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    try:
        return pa.csv.read_csv(io.BytesIO(text.encode()), read, parse, options)
    except pa.ArrowInvalid:
        raise UsageError(
            "a row has more or fewer columns than the header; quote fields that hold the delimiter"
        ) from None


def typed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of text as whole numbers, numbers or truth values where all of it is."""
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(column)
    # A code such as 007 is no number.
    if pc.any(pc.match_substring_regex(text, r"^[+-]?0[0-9]")).as_py():
        return column
    for kind in (pa.int64(), pa.float64(), pa.bool_()):
        try:
            return pc.cast(text, kind)
        except pa.ArrowInvalid:
            continue
    return column


__all__ = ["file_text", "text_table", "typed", "unreadable"]
