"""Every notebook runs from top to bottom, is kept without outputs, and saves nothing that identifies."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import nbformat
import pydicom
import pytest
from nbclient import NotebookClient
from test_leaks import SECRETS, leaks

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def identifiers_of(folder: Path) -> set[str]:
    """Return names, ids, accession numbers and UIDs of real files, where they are long enough to tell."""
    found: set[str] = set()
    for path in folder.rglob("*.dcm"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            for keyword in (
                "PatientName",
                "PatientID",
                "AccessionNumber",
                "StudyInstanceUID",
                "SOPInstanceUID",
            ):
                found.add(str(dataset.get(keyword) or ""))
    return {value for value in found if len(value) >= 6}


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, config_home: Path
) -> tuple[str, Path]:
    """Run a notebook as JupyterLab does, and save it with its outputs and widgets."""
    path: Path = request.param
    work = tmp_path_factory.mktemp("notebook")
    (work / "tmp").mkdir()
    notebook = nbformat.read(path, as_version=4)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("TMPDIR", str(work / "tmp"))
        patch.setenv("IPYTHONDIR", str(work / "ipython"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(work / "runtime"))
        client = NotebookClient(notebook, timeout=240, kernel_name="python3", store_widget_state=True)
        client.execute(cwd=str(work))
    saved = work / path.name
    nbformat.write(notebook, saved)
    return saved.read_text(), work


each = pytest.mark.parametrize("run", NOTEBOOKS, indirect=True, ids=lambda path: path.stem)


def test_there_are_notebooks() -> None:
    assert "01_first_look.ipynb" in {path.name for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    notebook = json.loads(path.read_text())
    assert "widgets" not in notebook["metadata"]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@each
def test_the_saved_notebook_names_nobody(run: tuple[str, Path], wheel_dicom: Path) -> None:
    text, _ = run
    assert len(SECRETS) > 8
    assert leaks(text) == []
    known = identifiers_of(wheel_dicom)
    assert len(known) > 50
    assert sorted(value for value in known if value in text) == []


@each
def test_pictures_and_widgets_are_saved(run: tuple[str, Path]) -> None:
    notebook = json.loads(run[0])
    kinds = {
        kind for cell in notebook["cells"] for out in cell.get("outputs", ()) for kind in out.get("data", ())
    }
    assert {"image/png", "text/html", "application/vnd.jupyter.widget-view+json"} <= kinds
    assert notebook["metadata"]["widgets"]
    errors = [
        out for cell in notebook["cells"] for out in cell.get("outputs", ()) if out["output_type"] == "error"
    ]
    assert errors == []


@each
def test_nothing_is_left_in_tmpdir(run: tuple[str, Path]) -> None:
    left = [path for path in (run[1] / "tmp").rglob("*") if path.is_file()]
    assert [path for path in left if leaks(path.read_bytes())] == []
    assert not [path for path in left if "first-look" in str(path)]
