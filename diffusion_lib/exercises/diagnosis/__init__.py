"""A doctor for diffusion code: runs a reader's own sampler or training loop on a known model and names its mistakes.

dl.exercises.doctor(sampler=my_sampler, schedule=schedule)
dl.exercises.doctor(training=my_training, schedule=schedule, predicts="eps")
"""

from collections.abc import Callable
from typing import Any

from diffusion_lib.checks import check_schedule
from diffusion_lib.errors import check_name
from diffusion_lib.exercises.diagnosis.report import Finding, Report
from diffusion_lib.exercises.diagnosis.sampler import examine_sampler
from diffusion_lib.exercises.diagnosis.training import examine_training
from diffusion_lib.process import TARGETS
from diffusion_lib.schedules import Schedule

__all__ = ["Finding", "Report", "doctor"]


def doctor(
    *,
    sampler: Callable[..., Any] | None = None,
    training: Callable[..., Any] | None = None,
    schedule: Schedule,
    predicts: str | None = None,
) -> Report:
    """Runs a sampler or a training loop on a known model, and reports its mistakes with the numbers that show them.

    sampler: called as sampler(model, xT), xT (8, 1, 16, 16) standard normal. It returns the images (8, 1, 16, 16), or yields or returns
    its states, of which the last counts (tensors, or steps with `.xt`). model(xt, t, y=None) answers with a `Prediction` or, where
    predicts is "eps", "x0", "v" or "flow", with that tensor, as a network of that kind; t in 1..T.
    training: called as training(network, images), images (512, 1, 16, 16) in [-1, 1]. It calls network(xt, t, y=None), t (B,) in 1..T,
    and may run for ever: the doctor stops it. It may return an averaged network or a checkpoint. predicts: what the network should
    learn, "eps" when left out.
    schedule: the one that the model was, or is to be, trained with.

    Whatever the program does, nothing is raised: an error of the program is a finding. Raises `ValueError` if neither or both programs
    are given, one is not callable, or schedule or predicts is unknown.
    """
    given = {name: program for name, program in (("sampler", sampler), ("training", training)) if program is not None}
    if len(given) != 1:
        raise ValueError(
            f"{'both sampler and training are' if given else 'neither sampler nor training is'} given; expected one of them: "
            "doctor(sampler=my_sampler, schedule=schedule) or doctor(training=my_training, schedule=schedule)"
        )
    ((name, program),) = given.items()
    if not callable(program) or isinstance(program, type):
        arguments = "(model, xT)" if name == "sampler" else "(network, images)"
        raise ValueError(
            f"{name} is of type {type(program).__name__}; expected a function {name}{arguments}: give its name, without calling it"
        )
    check_schedule(schedule)
    if predicts is not None:
        check_name("prediction", predicts, TARGETS)
    if (predicts or ("eps" if training else None)) == "eps" and schedule.signal[-1] == 0:
        raise ValueError(
            f"predicts='eps' with the schedule {schedule.name!r}, whose signal[T] is 0; expected 'v', 'x0' or 'flow': "
            "at t = T eps determines no x0"
        )
    return examine_sampler(program, schedule, predicts) if name == "sampler" else examine_training(program, schedule, predicts or "eps")
