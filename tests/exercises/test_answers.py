"""Answers as students write them: a right one passes however it is written; a wrong one fails with a message that names the mistake.

Each module in `answers` has RIGHT, the answers that each check should accept, and WRONG, pairs of an answer that it should reject and a
fragment of the message.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from diffusion_lib import exercises


def _module(path):
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULES = [_module(path) for path in sorted((Path(__file__).parent / "answers").glob("*.py"))]
RIGHT = [(check, i, answer) for module in MODULES for check, answers in module.RIGHT.items() for i, answer in enumerate(answers)]
WRONG = [(check, i, *pair) for module in MODULES for check, pairs in module.WRONG.items() for i, pair in enumerate(pairs)]


@pytest.mark.parametrize(("check", "number", "answer"), RIGHT, ids=[f"{check}-{number}" for check, number, _ in RIGHT])
def test_accepts_right_answer(check, number, answer):
    verdict = getattr(exercises, check)(answer)
    assert verdict.passed, verdict


@pytest.mark.parametrize(("check", "number", "answer", "said"), WRONG, ids=[f"{check}-{number}" for check, number, *_ in WRONG])
def test_names_the_mistake_in_wrong_answer(check, number, answer, said):
    verdict = getattr(exercises, check)(answer)
    assert verdict.passed is False, verdict
    assert said in verdict.message


def test_every_check_has_answers_of_both_kinds():
    for kind in (RIGHT, WRONG):
        assert {check for check, *_ in kind} == set(exercises.__all__) - {"doctor"}
