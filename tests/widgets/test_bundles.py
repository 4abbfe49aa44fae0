"""The widgets' JavaScript: the committed bundles match their sources, and each is self-contained."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("bundle_widgets", ROOT / "tools" / "bundle_widgets.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def test_built_files_match_their_sources():
    built = {path: path.read_text(encoding="utf-8") for path in tool.TARGET.glob("*.js")}
    assert built == tool.bundles(), "run python tools/bundle_widgets.py and commit what it writes"


def test_bundles_import_nothing_and_export_the_widget():
    for text in tool.bundles().values():
        assert re.findall(r"^(?:import|export).*", text, re.MULTILINE) == ["export default { render };"]


def test_every_source_is_in_some_bundle():
    for source in tool.SOURCES.glob("*.js"):
        last_function = re.findall(r"^(?:export )?(function \w+\(.*)$", source.read_text(encoding="utf-8"), re.MULTILINE)[-1]
        assert any(last_function in text for text in tool.bundles().values()), source.name


def run(code):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js on this machine")
    done = subprocess.run([node, "--input-type=module", "--eval", code], capture_output=True, text=True, check=False)
    return done.stdout.split(), done.stderr


SOURCES = {
    "deep": "export const two = 2;\nconst hidden = 40;\nexport function forty() {\n  return hidden;\n}\n",
    "middle": 'import { two } from "./deep.js";\n\nexport const four = two * 2;\n',
    "top": 'import { four } from "./middle.js";\nimport { two, forty } from "./deep.js";\n\n'
    "const hidden = 0;\nconsole.log(forty() + two, four + hidden);\n\nexport default { four };\n",
}


def test_private_names_of_modules_do_not_collide():
    bundle = tool.bundle("top", SOURCES)
    assert bundle.count("const two = 2") == 1, "deep.js is needed twice, and there once"
    assert run(bundle) == (["42", "4"], "")


def test_missing_import_also_fails_in_the_bundle():
    forgetful = SOURCES | {"top": SOURCES["top"].replace("two, forty", "forty")}
    output, error = run(tool.bundle("top", forgetful))
    assert output == []
    assert "ReferenceError: two is not defined" in error


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("deep", 'import { four } from "./middle.js";\n', "top -> middle -> deep -> middle: these import one another in a circle"),
        ("middle", 'import { x } from "./nowhere.js";\n', r"middle.js imports ./nowhere.js; expected one of \['deep', 'middle', 'top'\]"),
        ("middle", 'import * as deep from "./deep.js";\n', r"middle.js: 'import \* as deep from .*expected `import \{ a, b \}"),
        ("middle", "export class Four {}\n", r"middle.js: 'export class Four \{\}'; expected"),
    ],
)
def test_rejects_modules_it_cannot_bundle(name, text, message):
    with pytest.raises(ValueError, match=message):
        tool.bundle("top", SOURCES | {name: text})


def test_bundles_hold_no_indentation_and_no_comment_lines():
    for path, text in tool.bundles().items():
        header, *lines = text.splitlines()
        assert header.startswith("// Built from"), path
        assert all(line == line.strip() and line and not line.startswith("//") for line in lines), path


def test_rejects_a_text_in_backquotes_over_several_lines():
    """Its indentation is part of it, and would be lost."""
    with pytest.raises(ValueError, match="expected texts in backquotes that end in the line in which they begin"):
        tool.compact("const text = `one\n  two`;")
