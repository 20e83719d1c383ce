"""The notebook, run from top to bottom in a kernel of its own, on a tiny model."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbclient import NotebookClient

from daemon.client import FarenseClient
from jobs.paths import REPOSITORY, Workspace
from jobs.state import FINISHED_WELL, read_state

NOTEBOOK = REPOSITORY / "notebooks" / "train_v2_optimized.ipynb"


def texts(notebook: nbformat.NotebookNode) -> str:
    """Return all that the cells printed or showed as text."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found.append(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
            found.append(output.get("data", {}).get("text/markdown", ""))
    return "\n".join(found)


def pictures(notebook: nbformat.NotebookNode) -> list[str]:
    return [
        output["data"]["image/png"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


@pytest.mark.timeout(170)
def test_it_runs_from_top_to_bottom(documented: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARENSE_PLOTS", "on")  # it shows them
    with FarenseClient.connect(documented) as client:
        client.ensure_daemon()
        older = client.watch(client.enqueue(client.preset("v1")).id)
        assert older.state in FINISHED_WELL
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=150, kernel_name="python3").execute()
    said = texts(notebook)
    job_id, evaluation_id = re.findall(r"\b[0-9]{8}-[0-9]{6}-(?:eval_)?v2-[a-z]{4}\b", said)[:2]
    for found in (job_id, evaluation_id):
        assert read_state(documented.run(found)).state in FINISHED_WELL
    assert "ANÁLISE FINAL" in said
    assert f"EVALUATION of {job_id}" in said
    assert f"A  {older.id}" in said
    assert "DECISION" in said
    assert len(pictures(notebook)) >= 3

    # After the kernel was restarted it shows the same job, and starts no second night.
    again = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(again, timeout=150, kernel_name="python3").execute()
    assert f"EVALUATION of {job_id}" in texts(again)
    with FarenseClient.connect(documented) as client:
        assert sum(record.preset == "v2" for record in client.jobs(all=True)) == 2


def test_it_is_kept_without_output_and_names_its_kernel() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.display_name == "Python 3.11 (MLX)"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
