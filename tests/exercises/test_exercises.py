"""The exercises' checks: right answers pass, each known mistake gets its own message, and no answer can stop a notebook."""

import math
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import diffusion_lib as dl
from diffusion_lib import exercises
from diffusion_lib.data.glyphs import CHARACTERS
from diffusion_lib.exercises import museum, museum_patients
from diffusion_lib.exercises.checking import Exercise, Mistake, Question, Verdict
from diffusion_lib.exercises.museum_patients import Suspect

CHECKS = {name: getattr(exercises, name) for name in exercises.__all__ if name != "doctor"}
FUNCTIONS = {name: check for name, check in CHECKS.items() if isinstance(check, Exercise)}
NUMBERS = {name: check for name, check in CHECKS.items() if isinstance(check, Question)}


def test_collects_every_exercise_and_question():
    assert len(FUNCTIONS) + len(NUMBERS) == len(CHECKS) >= 24


def test_collects_the_checks_of_every_module_and_nothing_else():
    modules = [import_module(f"{exercises.__name__}.{module.name}") for module in pkgutil.iter_modules(exercises.__path__)]
    defined = {name for module in modules for name, value in vars(module).items() if isinstance(value, Exercise | Question)}
    assert set(exercises.__all__) == defined | {"doctor"}
    assert dir(exercises) == exercises.__all__


@pytest.mark.parametrize("name", CHECKS)
def test_accepts_the_reference_solution(name):
    check = CHECKS[name]
    verdict = check(check.reference if name in FUNCTIONS else check.answer)
    assert verdict == Verdict(True, check.praise)


# equally right ways to write it
AS_RIGHT = {
    "check_exhibit_4": [
        lambda mean, variance, z, s: mean + variance.sqrt() * (torch.zeros_like(z) if s == 0 else z),
        lambda mean, variance, z, s: mean + (s > 0) * variance.sqrt() * z,
        lambda mean, variance, z, s: mean + variance**0.5 * (z if s else 0),
    ],
    "check_exhibit_12": [
        lambda network, optimizer, step: dict(
            network=network.state_dict(), optimizer=optimizer.state_dict(), step=step, random=torch.get_rng_state()
        ),
    ],
    "check_exhibit_13": [
        lambda x: ((x + 1) / 2).mul(255).add_(0.5).clamp_(0, 255).to(torch.uint8),
        lambda x: (x.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8),
        dl.to_uint8,
    ],
    "check_random_timesteps": [lambda T, n: (torch.rand(n) * T).long() + 1, lambda T, n: torch.multinomial(torch.ones(T), n, True) + 1],
}


@pytest.mark.parametrize("name", AS_RIGHT)
def test_accepts_equivalent_answers(name):
    for answer in AS_RIGHT[name]:
        assert CHECKS[name](answer).passed, CHECKS[name](answer)


def test_rejects_checkpoint_with_a_state_in_the_wrong_place():
    for answer in (
        lambda network, optimizer, step: dict(network=network.state_dict(), optimizer=network.state_dict(), step=step),
        lambda network, optimizer, step: dict(network=optimizer.state_dict(), optimizer=network.state_dict(), step=step),
        lambda network, optimizer, step: dict(network=network.state_dict(), optimizer=optimizer.state_dict(), step=step + 1),
    ):
        assert exercises.check_exhibit_12(answer).passed is False


@pytest.mark.parametrize("name", FUNCTIONS)
def test_reference_returns_finite_numbers(name):
    def numbers(value):
        if isinstance(value, torch.Tensor):
            return [value] if value.is_floating_point() else []
        return [each for part in value for each in numbers(part)] if isinstance(value, tuple | list) else []

    check = FUNCTIONS[name]
    for inputs in check.inputs(torch.Generator().manual_seed(0)):
        assert all(value.isfinite().all() for value in numbers(check.reference(*inputs)))


@pytest.mark.parametrize("name", CHECKS)
def test_known_mistake_gets_its_own_message(name):
    check = CHECKS[name]
    assert len(check.mistakes) >= 2
    said = []
    for mistake in check.mistakes:
        verdict = check(mistake.answer)
        assert verdict.passed is False
        fixed_text = mistake.message.split("{")[0]  # up to the first placeholder
        assert verdict.message.startswith(fixed_text)
        assert "{" not in verdict.message
        said.append(verdict.message)
    assert len(set(said)) >= 2


@pytest.mark.parametrize("name", CHECKS)
def test_stub_counts_as_not_attempted(name):
    def unwritten(*args):
        raise NotImplementedError

    stubs = [None, ...] + ([lambda *args: None, lambda *args: ..., unwritten] if name in FUNCTIONS else [])
    for stub in stubs:
        verdict = CHECKS[name](stub)
        assert verdict.passed is None
        assert verdict.message in ("", "it returns None")
    assert repr(CHECKS[name](None)) == "not attempted"


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "attempt",
    [lambda *args: 1 / 0, lambda: None, lambda *args: "text", lambda *args: torch.full((3, 2), math.nan), lambda *args: (1, 2, 3, 4), 7],
    ids=["raises", "takes no arguments", "text", "not finite", "four values", "not a function"],
)
def test_never_raises_whatever_the_answer_does(name, attempt):
    verdict = FUNCTIONS[name](attempt)
    assert verdict.passed is False
    assert verdict.message


@pytest.mark.parametrize("name", [name for name, check in NUMBERS.items() if not isinstance(check, Suspect)])  # lines have no size
def test_check_says_whether_a_wrong_number_is_too_large_or_too_small(name):
    answer = NUMBERS[name].answer
    assert NUMBERS[name](answer + 1234).message.endswith("is too large")
    assert NUMBERS[name](answer - 1234).message.endswith("is too small")
    assert NUMBERS[name]("many").message == "this is a str; expected a number"
    assert NUMBERS[name](torch.tensor(answer)).passed


DOUBLE = Exercise(
    reference=lambda x, factor: factor * x,
    inputs=lambda random: [(torch.randn(3, generator=random), 2.0), (torch.ones(2), 3.0)],
    mistakes=(Mistake(lambda x, factor: x, "{got} of variance {got_variance}, expected {expected}"),),
)


def test_message_states_the_error_and_the_arguments():
    def in_place(x, factor):
        x *= factor
        return x

    def only_the_first(x, factor):
        return 2 * x

    assert DOUBLE(lambda x, factor: x * factor) == Verdict(True)
    assert DOUBLE(lambda x, factor: (x * factor).double()).passed, "the reader chooses the dtype"
    assert DOUBLE(only_the_first).message == "it is off by up to 1 (x: a tensor of shape (2,), factor: 3)"
    assert DOUBLE(in_place).message.startswith("it changes the tensors it is given")
    assert DOUBLE(lambda x, factor: x[:2]).message.startswith("it returns shape (2,); expected (3,)")
    assert DOUBLE(lambda x, factor: x / 0).message.startswith("it returns numbers that are not finite")
    assert DOUBLE(lambda x, factor: x @ x[:1]).message.startswith("it raised RuntimeError: ")
    assert DOUBLE(5).message.startswith("this is an int; expected a function")


def test_rejects_random_answer_to_deterministic_exercise():
    answer = DOUBLE(lambda x, factor: x * factor + 1e-3 * torch.randn(len(x)))
    assert answer.message == "two calls with the same arguments give different answers: draw no random numbers of your own"


def test_keeps_the_random_state_of_the_notebook():
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    DOUBLE(lambda x, factor: (torch.manual_seed(5), x * factor)[1])
    exercises.check_random_timesteps(lambda T, n: torch.randint(1, T + 1, (n,)))
    assert torch.equal(torch.randn(3), expected)


def test_rejects_fixed_seed_in_random_answer():
    draw = Exercise(torch.rand, lambda random: [(500,), (700,)], (), look=lambda x: tuple(x.shape), draws=True)
    assert draw(torch.rand).passed
    assert "drawn afresh" in draw(lambda n: torch.rand(n, generator=torch.Generator().manual_seed(0))).message
    assert "drawn afresh" in draw(lambda n: (torch.manual_seed(0), torch.rand(n))[1]).message


def test_rejects_answer_that_changes_its_module():
    grown = Exercise(lambda model, x: model(x), lambda random: [(torch.nn.Linear(3, 3), torch.ones(1, 3))], ())

    def spoils(model, x):
        with torch.no_grad():
            model.weight.zero_()
        return model(x)

    assert grown(spoils).message == "it changes the Linear it is given; leave it unchanged"
    assert grown(lambda model, x: model.eval()(x)).message.startswith("it changes the Linear")
    assert grown(lambda model, x: model(x)).passed


@pytest.mark.parametrize(
    "made",
    [np.asarray, list, iter, tuple, torch.tensor, lambda values: (k for k in values)],
    ids=["array", "list", "iterator", "tuple", "tensor", "generator"],
)
def test_accepts_integers_in_any_sequence(made):
    counted = Exercise(lambda n: list(range(n)), lambda random: [(3,), (5,)], ())
    assert counted(lambda n: made(list(range(n)))).passed


@pytest.mark.parametrize("made", [float, str, bool, lambda k: k + 1e-9, lambda k: torch.tensor(float(k)), complex])
def test_rejects_other_types_instead_of_integers(made):
    counted = Exercise(lambda n: list(range(n)), lambda random: [(2,), (2,)], ())
    verdict = counted(lambda n: [made(k) for k in range(n)])
    assert verdict.passed is False
    assert verdict.message


def test_rejects_other_dtypes_instead_of_bytes():
    grey = Exercise(lambda x: x.to(torch.uint8), lambda random: [(torch.arange(4.0),), (torch.arange(8.0),)], ())
    assert grey(lambda x: x.byte()).passed
    assert grey(lambda x: x.int()).message.startswith("it returns integers (dtype torch.int32); expected uint8")
    assert grey(lambda x: x).message.startswith("it returns floats (dtype torch.float32); expected uint8")


def test_not_implemented_error_from_torch_is_not_a_stub():
    verdict = DOUBLE(lambda x, factor: torch.cdist(x[None].half(), x[None].half()))
    assert verdict.passed is False
    assert "not implemented for 'Half'" in verdict.message


def test_rejects_answer_that_changes_requires_grad_of_an_argument():
    assert DOUBLE(lambda x, factor: factor * x.requires_grad_()).message.startswith("it changes the tensors it is given")
    assert DOUBLE(lambda x, factor: factor * x.clone().requires_grad_()).passed


def test_accepts_module_as_function():
    negative = Exercise(lambda x: -x, lambda random: [(torch.ones(3),), (torch.ones(2),)], ())

    class Negative(torch.nn.Module):
        def forward(self, x):
            return -x

    assert negative(Negative()).passed


def test_answer_that_exits_counts_as_wrong():
    assert DOUBLE(lambda x, factor: exit()).message.startswith("it raised")


def test_answer_that_returns_none_for_some_arguments_is_not_a_stub():
    assert DOUBLE(lambda x, factor: 2 * x if factor == 2 else None).message.startswith("it returns None; expected a tensor of shape (2,)")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_differs_between_calls(name):
    """Otherwise an answer with a constant from the inputs written into it would pass."""
    calls = FUNCTIONS[name].inputs(torch.Generator().manual_seed(0))
    for values in zip(*calls, strict=True):
        if all(isinstance(value, torch.Tensor) for value in values):
            assert len({str(value.tolist()) if value.ndim == 0 else tuple(value.shape) for value in values}) > 1
        elif all(isinstance(value, int | float | str) for value in values):
            assert len(set(values)) > 1


def test_message_quotes_numbers_of_the_answer():
    same = Exercise(DOUBLE.reference, lambda random: [(torch.ones(4), 2.0)], DOUBLE.mistakes)
    assert same(lambda x, factor: x).message == "1 of variance 0.00, expected 2"


def test_message_quotes_the_variance_of_a_wrong_xt():
    message = exercises.check_noised(lambda x0, alpha_bar_t, eps: alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t) * eps).message
    # 0.7 + 0.3^2
    assert message.startswith("your xt has variance 0.79; expected 1.00: 1 - alpha_bar_t is the variance of the noise")


# -------------------------------------------------------------------------------------------------------------- in the notebooks

ALL_TEXTS = sorted((Path(__file__).parents[2] / "notebooks" / "text").glob("*.md"))
TEXTS = [path for path in ALL_TEXTS if "museum" not in path.stem and "glossary" not in path.stem]
MUSEUM = next(path for path in ALL_TEXTS if "museum" in path.stem)
CELL = re.compile(r"```\{code-cell\} ipython3\n((?:(?!```).)*?dl\.exercises\.(check_\w+)\((\w+)\))\n```", re.DOTALL)
SOLUTION = re.compile(r"<details><summary>Solution</summary>\n\n```python\n(.*?)```\n\n</details>", re.DOTALL)

LINE = re.compile(r"<details><summary>The line</summary>\n.*?```python\n(.*?)```\n\n</details>", re.DOTALL)


def exercises_of(text):
    """For each exercise (code of the cell, name of its check, name of the answer, the hints and solution below it)."""
    found = list(CELL.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [(*match.groups(), text[match.end() : end]) for match, end in zip(found, ends, strict=True)]


def run(code):
    names = dict(torch=torch, math=math, F=F, dl=dl, CHARACTERS=CHARACTERS)
    exec(code, names)
    return names


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_notebook_exercises_have_hints_and_passing_solutions(path):
    found = exercises_of(path.read_text(encoding="utf-8"))
    assert len(found) >= 4
    for cell, check, answer, below in found:
        assert CHECKS[check](run(cell.rpartition("\n")[0])[answer]).passed is None, f"{check}: the cell is not a stub"
        assert "<details><summary>A hint</summary>" in below.partition("Solution")[0]
        (solution,) = SOLUTION.findall(below)
        assert CHECKS[check](run(solution)[answer]).passed, check
        # the solution defines the name that the cell asks for
        assert cell.startswith(solution.partition("\n")[0]) or cell.startswith(f"{answer} = ...")


def exhibits():
    """For each exhibit of the museum (name of the check, name of the answer, the lines with the bug, the fixed lines)."""
    text = MUSEUM.read_text(encoding="utf-8")
    for exhibit in re.split(r"(?m)^### Exhibit ", text)[1:]:
        ((check, answer),) = re.findall(r"```\{code-cell\} ipython3\ndl\.exercises\.(check_\w+)\((\w+)\)\n```", exhibit)
        (lines,) = re.findall(rf"```\{{code-cell\}} ipython3\n(def {answer}\(.*?)```", exhibit, flags=re.DOTALL)
        (fixed,) = LINE.findall(exhibit)
        yield check, answer, lines, fixed


def patients():
    """(name of the check, code of its cell, name of the answer, line of the solution, code of the solution) of each patient."""
    (room,) = re.findall(r"(?ms)^## Room 5.*?(?=^## )", MUSEUM.read_text(encoding="utf-8"))
    for cell, check, answer, below in exercises_of(room):
        ((line, code),) = re.findall(
            r"<details><summary>Solution</summary>\n\nSuspect (\d)[^`]*```python\n(.*?)\n```",
            below.partition("**Patient")[0],
            flags=re.DOTALL,
        )
        yield check, cell, answer, int(line), code


def test_every_check_is_used_once_in_the_notebooks():
    asked = [check for path in TEXTS for _, check, _, _ in exercises_of(path.read_text(encoding="utf-8"))]
    assert sorted([*asked, *(check for check, *_ in exhibits()), *(check for check, *_ in patients())]) == sorted(CHECKS)


def test_every_exhibit_shows_its_mistake_and_its_fix_passes():
    assert [check for check, *_ in exhibits()] == [f"check_exhibit_{n}" for n in range(1, 16)]
    for check, answer, lines, fixed in exhibits():
        assert CHECKS[check](run(lines)[answer]) == Verdict(False, museum.AS_IT_STANDS), check
        assert CHECKS[check](run(fixed)[answer]).passed, check
        assert fixed.partition("\n")[0] == lines.partition("\n")[0]


def test_every_patient_is_a_stub_with_a_hint_and_a_solution_that_passes():
    text = MUSEUM.read_text(encoding="utf-8")
    assert [check for check, *_ in patients()] == [f"check_patient_{name}" for name in "abcdef"]
    for check, cell, answer, line, code in patients():
        assert cell.startswith(f"{answer} = ...\n")
        assert CHECKS[check](line).passed
        assert code.partition("  # ")[0] in museum_patients.changed(line), "the line as it is in the patient"
    assert text.count("<details><summary>A hint</summary>") == text.count("<details><summary>Solution</summary>") == 6


def test_notebook_shows_the_program_that_patients_are_made_of():
    assert f"```{{code-cell}} ipython3\n{museum_patients.PROGRAM}```\n" in MUSEUM.read_text(encoding="utf-8")
