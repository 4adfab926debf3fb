"""The notebook runs from its first cell to its last."""

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
NOTEBOOK = Path("notebooks/inspect_representations.ipynb")


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own packages
def test_the_notebook_runs(run, monkeypatch):
    monkeypatch.setenv("RMAE_RUN", str(run))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()


def test_the_committed_outputs_are_whole_and_small():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    pictures = [out for cell in cells for out in cell.outputs if "image/png" in out.get("data", {})]
    assert len(pictures) >= 8
    assert not [
        out for cell in cells for out in cell.outputs if out.output_type in ("error", "stream") and "/" in str(out)
    ]
    assert NOTEBOOK.stat().st_size < 1_500_000
