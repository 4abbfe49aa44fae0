"""Builds the widgets' page code: each widget's module in one file, since nothing is there to import from on a page or in Colab.

    python tools/bundle_widgets.py        writes NAME.js in diffusion_lib/widgets for each source/NAME.js there that is a widget

The sources are ES modules that import from one another; a widget is one with `export default`. In what is built, each of the others is
a function that is called once and returns its exports, so that a name which a source forgot to import is missing there, too. After a
change run this and commit both; with ANYWIDGET_HMR=1 in Jupyter's environment, widgets on screen are then drawn anew.
"""

import re
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "diffusion_lib" / "widgets"
SOURCES = TARGET / "source"
HEADER = "// Built from source/{name}.js by tools/bundle_widgets.py. Change the source, and build again.\n"
IMPORT = re.compile(r'^import \{ ([\w, ]+) \} from "\./(\w+)\.js";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:const|function) (\w+))", re.MULTILINE)
LEFT_OVER = re.compile(r"^(?:import\b|export (?!default \{)).*$", re.MULTILINE)


def dependencies(name: str, sources: dict[str, str], above: tuple[str, ...] = ()) -> list[str]:
    """The modules that a module needs, each after those that it needs itself.

    Raises `ValueError` for one that is not there, and for modules that import one another in a circle.
    """
    if name in above:
        raise ValueError(f"{' -> '.join([*above, name])}: these import one another in a circle; expected none. Move what they share")
    found: list[str] = []
    for _, other in IMPORT.findall(sources[name]):
        if other not in sources:
            raise ValueError(f"{name}.js imports ./{other}.js; expected one of {sorted(sources)}")
        found += [*dependencies(other, sources, (*above, name)), other]
    return list(dict.fromkeys(found))


def statements(name: str, source: str) -> str:
    """A module's text with its imports taken from the functions' results, and without `export`.

    Raises `ValueError` for an import or export that is written in another way.
    """
    text = EXPORT.sub("", IMPORT.sub(r"const { \1 } = $\2;", source))
    left_over = LEFT_OVER.search(text)
    if left_over is not None:
        raise ValueError(
            f'{name}.js: {left_over[0]!r}; expected `import {{ a, b }} from "./other.js";` in one line, '
            "or `export` before `const` or `function`"
        )
    return text


def bundle(name: str, sources: dict[str, str]) -> str:
    """A widget's module and all that it needs as one module."""
    parts = []
    for other in dependencies(name, sources):
        exports = ", ".join(EXPORT.findall(sources[other]))
        parts.append(f"const ${other} = (() => {{\n{statements(other, sources[other])}\nreturn {{ {exports} }};\n}})();\n")
    return HEADER.format(name=name) + compact("\n".join([*parts, statements(name, sources[name])]))


def compact(text: str) -> str:
    """The lines without indentation, and without those that are empty or a comment: every notebook stores this code once a widget.

    Raises `ValueError` for a text in backquotes over several lines, whose indentation would count.
    """
    lines = [line.strip() for line in text.splitlines()]
    if torn := [line for line in lines if line.count("`") % 2]:
        raise ValueError(f"{torn[0]!r}: expected texts in backquotes that end in the line in which they begin")
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("//"))


def bundles() -> dict[Path, str]:
    """What every built file should hold."""
    sources = {path.stem: path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.js"))}
    return {TARGET / f"{name}.js": bundle(name, sources) for name, text in sources.items() if "\nexport default {" in text}


if __name__ == "__main__":
    for path, text in bundles().items():
        path.write_text(text, encoding="utf-8", newline="\n")
        print(path.relative_to(TARGET.parent.parent))
