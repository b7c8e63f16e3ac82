"""Labels as others publish them, read into one table with a key that `with_labels` takes.

Known layouts: a wide CSV or TSV with a column of UIDs or patient ids; the RSNA 2019 haemorrhage
challenge (``ID_…_subtype`` rows); the three readers of CQ500; ``dataset.json`` of the Medical
Segmentation Decathlon and of MONAI.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from voxelvault.cohorts.key_names import SPELLINGS, canonical, plain
from voxelvault.cohorts.text_tables import file_text, text_table, typed
from voxelvault.errors import UsageError

if TYPE_CHECKING:
    import pandas
    import polars

PathLike = str | os.PathLike[str]

SUBTYPES = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
"""Columns of the RSNA 2019 challenge, in the order of its file."""

RSNA_ROW = r"^\s*(?P<image>.+)_(?P<subtype>[A-Za-z]+)\s*$"
"""An ID of its rows."""


@dataclass(frozen=True)
class LabelTable:
    """Labels and what they are about.

    Parameters
    ----------
    table : pyarrow.Table
        A row for each thing labelled: the key as text, then the labels.
    on : str
        Name of the key column: the key's own, or the file's header where that is an unusual one.
    layout : str
        What the file was: ``wide``, ``rsna-2019``, ``cq500`` or ``dataset.json``.
    """

    table: pa.Table
    on: str
    layout: str

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        labels = [name for name in self.table.column_names if name != self.on]
        more = f" and {len(labels) - 8} more" if len(labels) > 8 else ""
        return f"<LabelTable ({self.layout}): {len(self)} rows on {self.on}; {', '.join(labels[:8])}{more}>"

    def arrow(self) -> pa.Table:
        """Return the table as it is."""
        return self.table

    def df(self) -> pandas.DataFrame:
        """Return a pandas data frame."""
        found: pandas.DataFrame = self.table.to_pandas()
        return found

    def pl(self) -> polars.DataFrame:
        """Return a polars data frame; `MissingExtra` without polars."""
        try:
            import polars
        except ImportError:
            from voxelvault.errors import MissingExtra

            raise MissingExtra("polars is not installed; pip install polars, or use .df()") from None
        found = polars.from_arrow(self.table)
        assert isinstance(found, polars.DataFrame)  # noqa: S101 - a table never becomes a Series
        return found


def read_label_table(path: PathLike, *, on: str | None = None) -> LabelTable:
    r"""Read labels from a CSV, a TSV or a ``dataset.json``, whichever known layout it has.

    Parameters
    ----------
    path : path
        The file. Delimiter, byte order mark and case of the header don't matter.
    on : str, optional
        Header of the key column, where it isn't a spelling of a known key; or which one, where there are
        several.

    Returns
    -------
    LabelTable
        Give it to `with_labels` as it is. Where the key column has an unusual header, its `on=` says what
        that holds, such as StudyInstanceUID.

    Raises
    ------
    UsageError
        There is no header, no key column, or a row doesn't fit.
    StorageError
        There is no such file, or it can't be read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "labels.csv"
    >>> _ = file.write_text("series_uid;bleed\n1.2.3;1\n1.2.4;0\n")
    >>> read_label_table(file)
    <LabelTable (wide): 2 rows on SeriesInstanceUID; bleed>
    """
    text = file_text(Path(path).expanduser())
    if text.lstrip()[:1] in ("{", "["):
        from voxelvault.formats.data_lists import data_list

        return LabelTable(*data_list(text), "dataset.json")
    table = text_table(text)
    names = table.column_names
    if on is None and [name.strip().lower() for name in names] == ["id", "label"]:
        return LabelTable(rsna_wide(table), "SOPInstanceUID", "rsna-2019")
    if on is None and "name" in names and any(name.startswith("R1:") for name in names):
        return LabelTable(cq500_majority(table), "PatientID", "cq500")
    key, means = _key(names, on)
    return LabelTable(_wide(table, key, means), means, "wide")


def rsna_wide(table: pa.Table) -> pa.Table:
    """Turn rows of ``ID_<image>_<subtype>, 0 or 1`` into a row an image, keyed by SOPInstanceUID.

    A row that says the same twice, as the published file has some, counts once.

    Parameters
    ----------
    table : pyarrow.Table
        Columns ID and Label, both text.

    Returns
    -------
    pyarrow.Table
        SOPInstanceUID and an int8 column for each subtype; null where the file says nothing.

    Raises
    ------
    UsageError
        A row isn't of that form, or two rows contradict each other.
    """
    import numpy as np
    import pyarrow.compute as pc

    parts = pc.extract_regex(table.column(0).combine_chunks(), RSNA_ROW)
    bad = parts.null_count
    if bad:
        raise UsageError(f"{bad} rows have no ID like ID_<image>_<subtype>; is this stage_2_train.csv?")
    image = pc.struct_field(parts, "image").dictionary_encode()
    subtype = pc.struct_field(parts, "subtype").dictionary_encode()
    values = _zero_or_one(table.column(1))
    rows, columns = (np.asarray(part.indices) for part in (image, subtype))
    wide = np.full((len(image.dictionary), len(subtype.dictionary)), -1, np.int8)
    wide[rows, columns] = values
    if (wide[rows, columns] != values).any():
        raise UsageError("the same image and subtype stand there with 0 and with 1; settle these rows first")
    named = {name: number for number, name in enumerate(subtype.dictionary.to_pylist())}
    order = [name for name in SUBTYPES if name in named] + sorted(named.keys() - set(SUBTYPES))
    arrays = [pa.array(wide[:, named[name]], mask=wide[:, named[name]] < 0) for name in order]
    return pa.table([image.dictionary, *arrays], names=["SOPInstanceUID", *order])


def _zero_or_one(column: pa.ChunkedArray) -> Any:
    import numpy as np

    found = np.array(
        [{"0": 0, "1": 1, "0.0": 0, "1.0": 1}.get(item, -1) for item in column.to_pylist()], np.int8
    )
    if (found < 0).any():
        raise UsageError(f"{int((found < 0).sum())} labels are neither 0 nor 1; is this stage_2_train.csv?")
    return found


def cq500_majority(table: pa.Table) -> pa.Table:
    """Turn CQ500's readers (``R1:ICH``, ``R2:ICH``, ``R3:ICH``, …) into what most of them say.

    Parameters
    ----------
    table : pyarrow.Table
        Columns name, Category and a column for each reader and finding, all text.

    Returns
    -------
    pyarrow.Table
        PatientID (the file's `name`), Category and an int8 column a finding; null where nobody says.

    Raises
    ------
    UsageError
        A reading is no number.
    """
    import numpy as np

    findings = dict.fromkeys(name.split(":", 1)[1] for name in table.column_names if _reader(name))
    columns = {"PatientID": table.column("name")}
    if "Category" in table.column_names:
        columns["Category"] = table.column("Category")
    for finding in findings:
        readers = [name for name in table.column_names if _reader(name) and name.split(":", 1)[1] == finding]
        votes = np.array([_numbers(table.column(name)) for name in readers])
        said = (~np.isnan(votes)).sum(axis=0)
        most = np.nansum(votes, axis=0) * 2 > said
        columns[finding] = pa.array(most.astype(np.int8), mask=said == 0)
    return pa.table(columns)


def _reader(name: str) -> bool:
    reader, colon, finding = name.partition(":")
    return bool(colon and finding) and reader[:1] == "R" and reader[1:].isdigit()


def _numbers(column: pa.ChunkedArray) -> list[float]:
    try:
        return [float(item) if item else float("nan") for item in column.to_pylist()]
    except ValueError:
        raise UsageError("a reading is no number; is this CQ500's reads.csv?") from None


def _key(names: Sequence[str], on: str | None) -> tuple[str, str]:
    """Return the key column's header and the name that `with_labels` knows it by."""
    known = {name: found for name in names if (found := canonical(name))}
    if on is not None:
        for name in names:
            if name == on or plain(name) == plain(on) or known.get(name) == on:
                return name, known.get(name, name)
        raise UsageError("the file has no such key column; on= must be one of its headers")
    for key in SPELLINGS:
        for name, found in known.items():
            if found == key:
                return name, key
    raise UsageError(
        f"no key column was found; name one of the columns by on=, or use a header of {', '.join(SPELLINGS)}"
    )


def _wide(table: pa.Table, key: str, means: str) -> pa.Table:
    """Return key and labels; other keys are left out, since they would become labels that name people."""
    blank = table.column(key).null_count
    if blank:
        raise UsageError(f"{blank} rows have no key; remove them or fill them in")
    import pyarrow.compute as pc

    columns = {means: pc.utf8_trim_whitespace(table.column(key))}
    for name in table.column_names:
        if name and name != key and canonical(name) is None:
            columns[name] = typed(table.column(name))
    if len(columns) == 1:
        raise UsageError("the file has a key and no label; add a column")
    return pa.table(columns)


__all__ = ["LabelTable", "cq500_majority", "read_label_table", "rsna_wide"]
