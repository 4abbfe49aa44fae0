"""The stored notebooks as other programs read them."""

from pathlib import Path

import nbformat
import pytest
from nbconvert import ScriptExporter

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_converts_to_a_python_script(path):
    script, resources = ScriptExporter().from_filename(str(path))
    assert resources["output_extension"] == ".py"
    assert "import diffusion_lib as dl" in script


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebook_omits_the_python_version(path):
    metadata = nbformat.read(path, as_version=4).metadata
    assert metadata.keys() - {"widgets"} == {"kernelspec", "language_info"}
    assert "version" not in metadata.language_info
    nbformat.validate(nbformat.read(path, as_version=4))
