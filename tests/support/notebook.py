"""Executes the cells of a notebook in a kernel, in a process of its own: the client of kernels raises warnings.

As a script it reads a list of cells from its standard input, and prints the outputs of each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys


def execute_cells(cells, folder, **environ):
    """Return the outputs of each cell. The files of the kernel are in ``folder``."""
    names = ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    folders = {name: str(folder / name.lower()) for name in names}
    process = subprocess.run(
        [sys.executable, "-m", "tests.support.notebook"], input=json.dumps(cells), capture_output=True, text=True,
        timeout=110, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **folders, **environ},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def main():
    import nbclient
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in json.load(sys.stdin)])
    nbclient.NotebookClient(notebook, allow_errors=True, kernel_name="python3").execute()
    json.dump([cell.outputs for cell in notebook.cells], sys.stdout)


if __name__ == "__main__":
    main()
