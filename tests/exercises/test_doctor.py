"""The doctor's manners: it never raises for a reader's program, and says what it was given wrong."""

import re
import time
from itertools import pairwise

import pytest
import torch

import diffusion_lib as dl
from diffusion_lib.exercises import doctor
from diffusion_lib.exercises.diagnosis import Finding, Report

S = dl.cosine_schedule()


def ddim(model, xT):
    yield from dl.ddim_steps(model, xT, steps=10)


def short_training(network, images):
    network(images[:8], torch.arange(1, 9)).mean().backward()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(schedule=S), "neither sampler nor training is given; expected one of them: doctor(sampler="),
        (dict(sampler=ddim, training=short_training, schedule=S), "both sampler and training are given"),
        (
            dict(sampler=[1], schedule=S),
            "sampler is of type list; expected a function sampler(model, xT): give its name",
        ),
        (dict(training=3, schedule=S), "training is of type int; expected a function training(network, images)"),
        (dict(sampler=ddim, schedule="cosine"), "diffusion_lib.make_schedule('cosine')"),
        (dict(sampler=ddim, schedule=S, predicts="epsilon"), "unknown prediction 'epsilon'; expected one of 'eps', 'x0', 'v', 'flow'."),
        (dict(sampler=ddim, schedule=dl.straight_schedule(), predicts="eps"), "whose signal[T] is 0; expected 'v', 'x0' or 'flow'"),
        (dict(training=short_training, schedule=dl.straight_schedule()), "whose signal[T] is 0; expected 'v', 'x0' or 'flow'"),
    ],
)
def test_rejects_arguments_of_its_own_that_do_not_fit(options, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        doctor(**options)


def raises_at_once(model, xT):
    raise RuntimeError("no such thing")


def wrong_arguments(model):
    return model


def takes_a_prediction_for_a_tensor(model, xT):
    return model(xT, S.T).sqrt()


def takes_a_tensor_for_a_prediction(model, xT):
    return model(xT, S.T).x0


def leaves(model, xT):
    raise SystemExit(2)


@pytest.mark.parametrize(
    ("program", "predicts", "name", "measured", "line"),
    [
        (raises_at_once, None, "stops with an error", "RuntimeError: no such thing", 'raise RuntimeError("no such thing")'),
        (wrong_arguments, None, "stops with an error", "TypeError", "the arguments that the program takes"),
        (takes_a_prediction_for_a_tensor, None, "stops with an error", "'Prediction'", "model(xT, S.T).sqrt()"),
        (takes_a_tensor_for_a_prediction, "eps", "stops with an error", "'x0'", "model(xT, S.T).x0"),
        (leaves, None, "ends Python", "SystemExit(2)", "raise SystemExit(2)"),
    ],
)
def test_reports_errors_of_a_program_with_their_line(program, predicts, name, measured, line):
    report = doctor(sampler=program, schedule=S, predicts=predicts)
    assert name in report.findings[0].name
    assert measured in report.findings[0].measured
    assert line in report.findings[0].line
    assert len(report.findings) == 1


def test_says_how_a_model_that_answers_with_tensors_is_asked_for():
    assert "doctor(..., predicts='eps')" in doctor(sampler=takes_a_prediction_for_a_tensor, schedule=S).findings[0].expected
    assert "leave predicts out" in doctor(sampler=takes_a_tensor_for_a_prediction, schedule=S, predicts="eps").findings[0].expected


def test_stops_a_sampler_that_does_not_end():
    def endless(model, xT):
        while True:
            xT = model(xT, 5).x0

    assert "does not end" in doctor(sampler=endless, schedule=dl.cosine_schedule(50)).findings[0].name


def test_stops_a_program_that_catches_every_exception():
    def training(network, images):
        while True:
            try:
                network(images[:4], torch.tensor([1, 2, 3, 4])).mean().backward()
            except Exception:
                continue

    assert isinstance(doctor(training=training, schedule=S), Report)


@pytest.mark.parametrize("result", [None, 3, "image", {}, [], (), torch.zeros(0), torch.zeros(8, 1, 16, 16).bool(), torch.zeros(2, 2)])
def test_reports_results_that_are_no_images(result):
    report = doctor(sampler=lambda model, xT: (model(xT, S.T), result)[1], schedule=S)
    assert not report.healthy
    assert repr(report)


@pytest.mark.parametrize("t", [-1, 0, 1001, 0.5, float("nan"), "now", None, torch.arange(8), torch.tensor(3), [5]])
def test_takes_any_t_without_raising(t):
    assert repr(doctor(sampler=lambda model, xT: model(xT, t).x0, schedule=S))
    assert repr(doctor(training=lambda network, images: network(images[:8], t).mean().backward(), schedule=S))


@pytest.mark.parametrize("shape", [(8, 3, 32, 32), (2, 5), (1,), (8, 1, 16, 15)])
def test_takes_images_of_any_shape_without_raising(shape):
    assert repr(doctor(sampler=lambda model, xT: model(torch.randn(shape), S.T).x0, schedule=S))
    assert repr(doctor(training=lambda network, images: network(torch.randn(shape), torch.ones(shape[0])).mean().backward(), schedule=S))


def test_names_programs_that_never_call_the_model():
    assert "never called" in doctor(sampler=lambda model, xT: xT, schedule=S).findings[0].name
    assert "never called" in doctor(training=lambda network, images: None, schedule=S).findings[0].name


def test_names_gradients_that_are_left_on():
    def sampler(model, xT):
        for t, s in pairwise(dl.timestep_subset(S.T, 10)):
            x0, eps = model(xT, t)[:2]
            xT = (S.signal[s] * x0 + S.noise[s] * eps).float()
        return xT

    report = doctor(sampler=sampler, schedule=S)
    assert [finding.name for finding in report.findings] == ["Gradients are left on"]
    with torch.no_grad():  # the reader's cell may have switched them off; the program has not
        assert not doctor(sampler=sampler, schedule=S)
        assert not torch.is_grad_enabled()


def test_names_a_schedule_that_leaves_the_image():
    short = dl.Schedule.from_beta(torch.linspace(1e-4, 0.02, 50))
    report = doctor(sampler=lambda m, x: dl.ddim_steps(m, x, steps=50), schedule=short)
    assert [(finding.name, finding.exhibit) for finding in report.findings] == [("The schedule leaves too much of the image", 8)]
    assert "0.776" in report.findings[0].measured


def test_names_guidance_that_is_reversed():
    def sampler(model, xT, scale=3.0):
        y = torch.zeros(len(xT), dtype=torch.long)
        for t, s in pairwise(dl.timestep_subset(S.T, 10)):
            with torch.no_grad():
                conditional, unconditional = model(xT, t, y).eps, model(xT, t).eps
            eps = conditional + scale * (unconditional - conditional)
            x0 = (xT - S.noise[t] * eps) / S.signal[t]
            xT = (S.signal[s] * x0 + S.noise[s] * eps).float()
        return xT

    report = doctor(sampler=sampler, schedule=S)
    assert [(finding.name, finding.exhibit) for finding in report.findings] == [("Guidance pushes away from the class", 5)]


def test_names_a_fixed_start():
    def sampler(model, xT):
        xt = torch.randn(xT.shape, generator=torch.Generator().manual_seed(0))
        yield from dl.ddim_steps(model, xt, steps=10)

    assert [finding.name for finding in doctor(sampler=sampler, schedule=S).findings] == ["Every call gives the same images"]


def test_leaves_the_random_numbers_of_a_notebook_alone():
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    doctor(sampler=lambda m, x: dl.ddpm_steps(m, x, steps=10), schedule=S)
    doctor(training=short_training, schedule=S)
    assert torch.equal(torch.randn(4), expected)


def test_report_reads_well():
    report = Report("sampler", ("this",), (Finding("A mistake", "1", "2", "x = 1", 4),), ("that",))
    assert not report
    assert repr(report).splitlines() == [
        "sampler: 1 mistake found",
        "",
        "passed",
        "  - this",
        "",
        "1. A mistake",
        "    measured: 1",
        "    expected: 2",
        "    look for: x = 1",
        "    see:      notebook 06, exhibit 4",
        "",
        "remarks",
        "  - that",
    ]
    assert Report("sampler")
    assert repr(Report("sampler")) == "sampler: no mistake found"


def test_takes_a_thousand_steps_in_seconds():
    began = time.process_time()
    assert doctor(sampler=dl.ddpm_steps, schedule=S).healthy
    assert time.process_time() - began < 15  # about 2 alone
