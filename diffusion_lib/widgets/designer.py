"""The schedule designer: a schedule with its parameters under sliders, and a trained model's estimates at its noise levels."""

from collections.abc import Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor

from diffusion_lib.checks import check_finite, whole
from diffusion_lib.denoiser import DenoiserProtocol
from diffusion_lib.errors import unknown_name
from diffusion_lib.pictures import draw
from diffusion_lib.process import q_sample
from diffusion_lib.schedules import Schedule, cosine_schedule, linear_schedule, sigmoid_schedule
from diffusion_lib.widgets.base import (
    FOLDER,
    SHOW_PROGRESS_AFTER,
    Sheet,
    Sheets,
    Whole,
    Widget,
    fingerprint,
    grid_size,
    in_range,
    warn_if_large,
)
from diffusion_lib.widgets.mix import NoisedImages, pictures, with_noise
from diffusion_lib.widgets.networks import placed, unwrapped
from diffusion_lib.widgets.stills import ALARMED, GAP, WIDTH, below, beside, fit, fixed, schedule_curves, still, text, to_width

LINEAR = ["linear", "linear, not scaled"]
# name of the trait, which is an index into the values; the kinds of schedule with this parameter; the values
PARAMETERS: list[tuple[str, list[str], list[Any]]] = [
    ("T", [*LINEAR, "cosine", "sigmoid"], [10, 20, 50, 100, 200, 500, 1000]),
    ("beta_start", LINEAR, [0.00001, 0.00003, 0.0001, 0.0003, 0.001]),
    ("beta_end", LINEAR, [0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05]),
    ("s", ["cosine"], [0.0, 0.004, 0.008, 0.016, 0.03, 0.06, 0.1, 0.2]),
    ("start", ["sigmoid"], [-6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0]),
    ("end", ["sigmoid"], [0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    ("tau", ["sigmoid"], [0.3, 0.5, 0.7, 1.0, 1.4, 2.0]),
]
PAPERS: dict[str, float] = dict(T=1000, beta_start=0.0001, beta_end=0.02, s=0.008, start=-3.0, end=3.0, tau=1.0)
KINDS = [*LINEAR, "cosine", "sigmoid"]
LEVELS = 40  # noise levels at which the model is evaluated
ALARM = 0.05  # the image's factor at T above which the alarm is on
ESTIMATES = ["estimate x0_hat from xt", "estimate x0_hat from pure noise at T"]


def _index(name: str) -> Whole:
    """The trait of a parameter, initially at the papers' value."""
    return Whole(_values(name).index(PAPERS[name])).tag(sync=True)


def _values(name: str) -> list:
    return next(values for other, _, values in PARAMETERS if other == name)


class DesignerWidget(Widget, NoisedImages, Sheets):
    """Made by `design_schedule`. `widget.schedule` is the `Schedule` as designed; the traits are indices into the values of PARAMETERS."""

    _esm = FOLDER / "designer.js"
    kind = traitlets.Enum(KINDS, "cosine").tag(sync=True)
    t_permille = Whole(500).tag(sync=True)  # the timestep in thousandths of T
    parameters = traitlets.List([list(parameter) for parameter in PARAMETERS]).tag(sync=True)
    T, beta_start, beta_end, s, start, end, tau = (_index(name) for name in PAPERS)
    levels = traitlets.Bytes().tag(sync=True)  # float64: sqrt(alpha_bar) at which the model was evaluated

    _index_in_range = in_range(*PAPERS, count=lambda widget, name: len(_values(name)), hint=lambda name: f", an index into {_values(name)}")

    @property
    def schedule(self) -> Schedule:
        """The schedule as designed."""
        values = {name: values[getattr(self, name)] for name, _, values in PARAMETERS}
        T, betas = values["T"], (values["beta_start"], values["beta_end"])
        if self.kind == "linear":
            return linear_schedule(T, *betas)
        if self.kind == "linear, not scaled":
            return Schedule.from_beta(torch.linspace(*betas, T, dtype=torch.float64, device="cpu"), self.kind)
        if self.kind == "cosine":
            return cosine_schedule(T, values["s"])
        return sigmoid_schedule(T, values["start"], values["end"], values["tau"])


def design_schedule(
    denoiser: DenoiserProtocol, x0: Any, *, kind: str = "cosine", T: int = 1000, columns: int = 4, title: str = ""
) -> DesignerWidget:
    """A schedule under sliders: its curves, an alarm if part of the image is left at T, images x0 (B, C, H, W) at t, and the denoiser's
    estimates of them. The denoiser was trained with a schedule of its own, so it is evaluated at its nearest noise level.

    kind: "linear", "linear, not scaled" (the same betas for every T, a common mistake), "cosine" or "sigmoid". T: one of the values in
    PARAMETERS. This makes 80 network calls. Raises `ValueError` before the first one if the pictures exceed what browsers draw.
    """
    from tqdm import tqdm

    T, columns = whole("T", T), whole("columns", columns)
    if T not in _values("T"):
        raise ValueError(f"T={T}; expected one of {', '.join(map(str, _values('T')))}")
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    denoiser = unwrapped(denoiser)
    x0, eps = with_noise(x0, None)
    traits = pictures(x0, eps, columns)
    x0, eps = (placed(each, denoiser) for each in (x0, eps))
    places = torch.linspace(0, 1, LEVELS, dtype=torch.float32, device="cpu") ** 1.5  # closer together where images are clean
    times = (places * (denoiser.schedule.T - 1)).round().long() + 1
    shape = grid_size(x0.shape, columns, padding=0)
    sheets = [Sheet(LEVELS, *shape) for _ in range(2)]  # of the estimates for xt, and for noise
    looked_at: dict[int, list[Tensor]] = {0: [], 1: []}  # for the fingerprint
    for i, t in enumerate(tqdm(times.tolist(), desc="evaluating the denoiser", delay=SHOW_PROGRESS_AFTER, leave=False, disable=None)):
        for k, xt in enumerate((q_sample(denoiser.schedule, x0, t, eps), eps)):
            with torch.no_grad():
                x0_hat = denoiser(xt, t).x0
            check_finite(x0_hat, f"the denoiser's estimates of x0 at t = {t}")
            sheets[k].put(i, draw(x0_hat, columns, padding=0).numpy())
            if i in (0, LEVELS // 2, LEVELS - 1):
                looked_at[k].append(x0_hat.cpu())
    widget = DesignerWidget(
        kind=kind,
        T=_values("T").index(T),
        levels=denoiser.schedule.alpha_bar[times].sqrt().numpy().tobytes(),
        title=title,
        sheets=[sheet.png(grey=x0.shape[1] == 1) for sheet in sheets],
        sheet_columns=sheets[0].columns,
        **traits,
    )
    warn_if_large("DesignerWidget", widget.sheets, "fewer or smaller images")
    data = fingerprint(*(torch.stack(each) for each in looked_at.values()))
    widget.summary = f"DesignerWidget({kind}, T = {T}; {len(x0)} images; data {data})"
    widget.still = _still(widget, x0.cpu(), eps.cpu(), columns, denoiser.schedule.alpha_bar[times].sqrt(), sheets)
    return widget


def _still(widget: DesignerWidget, x0: Tensor, eps: Tensor, columns: int, levels: Tensor, sheets: Sequence[Sheet]) -> bytes:
    """The widget as it opens: curves, alarm, parameters, xt, and the estimates at the noise levels nearest to those of t and T."""
    schedule = widget.schedule
    t = max(1, round(widget.t_permille / 1000 * schedule.T))
    chosen = [(name, values[getattr(widget, name)]) for name, kinds, values in PARAMETERS if widget.kind in kinds]

    def nearest_level(at: int) -> int:  # as angles: cos(phi) = sqrt(alpha_bar)
        return int((levels.acos() - schedule.alpha_bar[at].sqrt().acos()).abs().argmin())

    panels = {
        "xt": draw(q_sample(schedule, x0, t, eps), columns, padding=0).numpy(),
        ESTIMATES[0]: sheets[0].get(nearest_level(t)),
        ESTIMATES[1]: sheets[1].get(nearest_level(schedule.T)),
    }
    width = (WIDTH - 2 * GAP) // 3
    left = schedule.signal[-1].item()
    return still(
        widget.title,
        schedule_curves([schedule], [t], over_T=True),
        text(_alarm(left), bold=left > ALARM, colour=ALARMED if left > ALARM else "black"),
        text(f"schedule: {widget.kind}; " + ", ".join(f"{name} = {value:g}" for name, value in chosen)),
        beside(*(below(to_width(text(name, width), width), fit(picture, width)) for name, picture in panels.items())),
        text(f"t = {t} of {schedule.T}"),
    )


def _alarm(left: float) -> str:
    """The alarm's text, as in source/designer.js. left: the image's factor at T."""
    if left > ALARM:
        return f"⚠ {fixed(100 * left, 0)}% of the image is left at T, but a sampler starts from pure noise"
    return f"{fixed(100 * left, 3 if left < 0.001 else 1)}% of the image is left at T: as good as pure noise"
