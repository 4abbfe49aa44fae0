"""Notebooks under pressure: each cell runs twice, the longest ones are interrupted, some run out of order, then all run again.

Nothing may fail, no file may be left behind, and the kernel's memory may not grow from one pass to the next. Only a cell that runs out
of order may raise, because a later section reuses the same short names; it must not break anything.
CI does this for the two quickest notebooks. To run all of them by hand:
`pytest tests/notebooks/test_pressure.py --notebooks 00 01 02 03 04 05 06 99`.

The interrupt is raised inside the kernel, by the cell's own code after half of the calls it makes, so it comes in the middle of the
work at any machine speed. An interrupt from outside may also hit ipykernel between a cell and its reply. The reply is then never sent,
whatever the notebook, and the client waits forever.
"""

import asyncio
import contextlib
import os
import random
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
WATCH = (Path(__file__).parent / "programs" / "watch.py").read_text(encoding="utf-8")  # to be run in the kernel
RESIDENT = "int(next(x for x in open('/proc/self/status') if x.startswith('VmRSS')).split()[1]) // 1024"  # MB
LEFT_BY_JUPYTER = {".ipython", ".cache", ".config", ".local"}  # in a home that has never seen them


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", metafunc.config.getoption("--notebooks"))


class Pressed:
    """A notebook in a kernel of its own, whose home and temporary folder are in `folder`."""

    def __init__(self, path, folder):
        self.notebook = nbformat.read(path, as_version=4)
        self.cells = [i for i, cell in enumerate(self.notebook.cells) if cell.cell_type == "code"]
        resources = {"metadata": {"path": str(folder / "work")}}
        self.client = NotebookClient(self.notebook, timeout=3600, kernel_name="python3", resources=resources)
        places = dict(HOME="home", TMPDIR="tmp", DIFFUSION_LIB_CACHE="cache", MPLCONFIGDIR="home/.cache")
        for place in ("work", *places.values()):
            (folder / place).mkdir(parents=True, exist_ok=True)
        self.environment = os.environ | {name: str(folder / place) for name, place in places.items()}
        self.calls = {}

    async def run(self, index):
        await self.client.async_execute_cell(self.notebook.cells[index], index)

    async def count(self, index):
        """Runs a cell and counts the calls that it makes."""
        await self.run_besides(f"{WATCH}\n_watch_the_next_cell()")
        await self.run(index)
        self.calls[index] = int(await self.run_besides("print(get_ipython().calls)"))

    async def interrupt(self, index):
        """Stops a cell in the middle of its work."""
        await self.run_besides(f"{WATCH}\n_watch_the_next_cell({self.calls[index] // 2})")
        try:
            await self.run(index)
        except CellExecutionError as error:
            assert error.ename == "KeyboardInterrupt", error  # noqa: PT017 - any other is a failure of the notebook
        # a live view ends at the interrupt without an error
        assert await self.run_besides("print(get_ipython().was_interrupted)") == "True\n"

    async def run_besides(self, code):
        """Runs code that is not the notebook's; returns what it printed."""
        cell = nbformat.v4.new_code_cell(code)
        self.notebook.cells.append(cell)
        await self.client.async_execute_cell(cell, len(self.notebook.cells) - 1)
        return "".join(output.text for output in self.notebook.cells.pop().outputs)

    async def memory(self):
        return int(await self.run_besides(f"import gc\ngc.collect()\nprint({RESIDENT})"))

    async def press(self):
        async with self.client.async_setup_kernel(env=self.environment):
            for index in self.cells:
                await self.run(index)
                await self.count(index)
            for index in sorted(self.calls, key=self.calls.get)[-2:]:
                await self.interrupt(index)
                await self.run(index)
            for index in random.Random(0).sample(self.cells, min(5, len(self.cells))):
                with contextlib.suppress(CellExecutionError):
                    await self.run(index)
            sizes = []
            for _ in range(2):
                for index in self.cells:
                    await self.run(index)
                sizes.append(await self.memory())
        return sizes


def test_notebook_survives_reruns_and_interrupts_and_leaves_no_files(name, tmp_path):
    (path,) = NOTEBOOKS.glob(f"{name}_*.ipynb")
    before, after = asyncio.run(Pressed(path, tmp_path).press())
    assert after < before + 200, f"the kernel grew from {before} to {after} MB"
    left = [file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()]
    assert [file for file in left if not (file.parts[0] == "home" and file.parts[1] in LEFT_BY_JUPYTER)] == []
