"""The glossary: it explains every Greek letter, names the section that introduces each symbol, and every notebook links it."""

import re
from pathlib import Path

import pytest

TEXTS = sorted((Path(__file__).parents[2] / "notebooks" / "text").glob("*.md"))
GLOSSARY = next(path for path in TEXTS if "glossary" in path.stem)
SERIES = [path for path in TEXTS if path != GLOSSARY]
GREEK = re.compile(
    r"\\(alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|upsilon|phi|chi|psi|omega"
    r"|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega)(?![a-zA-Z])"
)
PLACE = re.compile(r"\[\d\d\]\(([\w-]+)\.ipynb\), (.+)")


def sections(path):
    """(heading, formulas) of each section, in order, less the opening cell and whatever is no formula."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    heading, found = None, []
    for part in re.split(r"(?m)^(?=##+ )", text)[1:]:
        heading = part.partition("\n")[0].lstrip("# ").strip()
        formulas = " ; ".join(a or b for a, b in re.findall(r"\$\$(.+?)\$\$|\$(.+?)\$", part, flags=re.DOTALL))
        found.append((heading, re.sub(r"\\(?:text|tag|operatorname|begin|end)\{.*?\}", " ", formulas)))
    return found


def pattern(symbol):
    """What finds a symbol such as `x_t`, `\\bar\\alpha_t` or `\\mathcal N(\\mu, V)` in formulas, and not as a part of another one."""
    if "(" in symbol:
        return re.escape(symbol.partition("(")[0])
    start = r"(?<![\\\w])" if symbol[0] != "\\" else r"(?<!\\bar)(?<!\\tilde)(?<!\\hat)(?<!\\hat )"
    return start + re.escape(symbol) + r"(?![a-zA-Z_])"


def first_appearance(symbol):
    return next(((path.stem, heading) for path in SERIES for heading, math in sections(path) if re.search(pattern(symbol), math)), None)


def rows():
    """(symbols, what it is, [(notebook, section), …]) of each row of the glossary."""
    for line in GLOSSARY.read_text(encoding="utf-8").splitlines():
        if line.startswith("| $"):
            symbols, _, what, _, places = (cell.strip() for cell in line.strip("|").split("|"))
            yield symbols, what, [PLACE.fullmatch(place).groups() for place in places.split("; ")]


ROWS = list(rows())


@pytest.mark.parametrize(("symbols", "what", "places"), ROWS, ids=[row[0] for row in ROWS])
def test_no_symbol_is_used_before_the_section_that_explains_it(symbols, what, places):
    found = [first_appearance(symbol) for symbol in re.findall(r"\$(.+?)\$", symbols)]
    assert found[0] == places[0]
    assert None not in found
    for notebook, section in places:
        (math,) = [math for path in SERIES if path.stem == notebook for heading, math in sections(path) if heading == section]
        assert re.search(pattern(re.findall(r"\$(.+?)\$", symbols)[0]), math), f"{section} does not speak of it"


def test_rows_follow_the_order_of_the_series():
    assert len(ROWS) >= 30
    order = {place: i for i, place in enumerate((path.stem, heading) for path in SERIES for heading, _ in sections(path))}
    numbers = [order[places[0]] for _, _, places in ROWS]
    assert numbers == sorted(numbers)


def test_every_greek_letter_is_explained():
    used = {letter for path in SERIES for _, math in sections(path) for letter in GREEK.findall(math)}
    explained = GREEK.findall(" ".join(symbols + what for symbols, what, _ in ROWS))
    assert len(used) > 10
    assert used - set(explained) == set()


@pytest.mark.parametrize("path", SERIES, ids=lambda path: path.stem)
def test_every_notebook_links_the_glossary(path):
    assert "(99_glossary.ipynb)" in path.read_text(encoding="utf-8").partition("```")[0], "in its first cell"


@pytest.mark.parametrize("path", SERIES, ids=lambda path: path.stem)
def test_equations_are_numbered_in_order(path):
    chapter, numbers = int(path.stem[:2]), re.findall(r"\\tag\{(.+?)\}", path.read_text(encoding="utf-8"))
    assert numbers == [f"{chapter}.{k}" for k in range(1, len(numbers) + 1)]
    if numbers:
        named = {number for other in TEXTS for number in re.findall(rf"\(({chapter}\.\d+)\)", other.read_text(encoding="utf-8"))}
        assert named <= set(numbers)
