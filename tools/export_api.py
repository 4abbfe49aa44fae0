"""Writes the API reference, from the docstrings: part of `make site`, see tools/export_site.py.

pdoc's pages ask no other host for anything: search is a script beside them, and formulas are left as they are written.
"""

import pkgutil
import warnings
from pathlib import Path

import pdoc
import pdoc.render
from address import ROOT

import diffusion_lib

TEMPLATES = ROOT / "site" / "api"
FIRST = "diffusion_lib.html"


def modules() -> list[str]:
    """The package and its modules, less the command and the checks of the exercises, which would give the answers away."""
    found = [module.name for module in pkgutil.walk_packages(diffusion_lib.__path__, "diffusion_lib.")]
    return ["diffusion_lib", *(name for name in found if not name.endswith(".__main__") and ".exercises." not in name)]


def write_api(folder: Path, series: str) -> None:
    """Writes the pages into `folder`, which lies in the site beside index.html. `series`: its title, a link on every page.

    Raises `UserWarning` for a name in an `__all__` that is not there.
    """
    for name in diffusion_lib.__all__:  # pdoc does not see what is imported only when it is asked for
        setattr(diffusion_lib, name, getattr(diffusion_lib, name))
    pdoc.render.configure(docformat="markdown", template_directory=TEMPLATES, footer_text=series)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found .* in .*__all__")
        # a module with the name of its only function, as in widgets/__init__.py, is found twice
        warnings.filterwarnings("ignore", message="The module specification .* has already been added")
        pdoc.pdoc(*modules(), output_directory=folder)
    for path in (path for path in folder.rglob("*") if path.is_file()):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(f"{ROOT}/", ""), encoding="utf-8")  # where the package lies on this machine
