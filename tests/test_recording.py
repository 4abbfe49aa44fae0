"""Recording a chain: the same steps as from a list of all, with memory for few, and clear words about what is no chain."""

import gc
import sys
import weakref
from itertools import islice, pairwise

import pytest
import torch
from helpers import Curved, noise

import diffusion_lib as dl
from diffusion_lib import recording
from diffusion_lib.recording import Recording, Thinning, record
from diffusion_lib.sampling import Step, timestep_subset

XT = noise(2, 1, 2, 2)


def chain(steps=6, T=50):
    return dl.ddim_steps(Curved(dl.cosine_schedule(T)), XT, steps=steps)


def evenly(steps, frames):
    """The numbers of the steps that are wanted, of a chain whose length is known."""
    last = steps - 1
    return sorted({round(i * last / max(1, frames - 1)) for i in range(frames)} | {last})


def thinned(ts, frames):
    """The numbers of what is chosen of a walk over timesteps, and the most that was held."""
    thinning, most = Thinning(frames), 0
    for t in ts:
        thinning.add(t, None)
        most = max(most, len(thinning._held))
    return [number for number, _, _ in thinning.chosen()], most


@pytest.mark.parametrize("frames", [1, 2, 6, 18, 26, 50])
@pytest.mark.parametrize(("T", "steps"), [(1000, 1000), (1000, 50), (1000, 20), (1000, 999), (1000, 317), (1000, 1), (50, 49), (4000, 250)])
def test_chooses_the_same_steps_as_if_the_length_were_known(T, steps, frames):
    chosen, most = thinned(timestep_subset(T, steps)[1:], frames)
    assert chosen == evenly(steps, frames)
    assert most <= max(2, 1.5 * frames)


@pytest.mark.parametrize(
    "ts",
    [
        range(1, 1001),  # an encoding
        [1000 - k * k // 250 for k in range(1, 500)],  # steps that grow
        [t for top in range(250, 0, -10) for _ in range(4) for t in range(top - 1, top - 11, -1)],  # back and forth, as in inpainting
        [round(1000 * 0.99**k) for k in range(600)],  # ever smaller steps, and many at one timestep
        [7] * 1000,
    ],
)
def test_uneven_walks_are_thinned_within_bounds(ts):
    chosen, most = thinned(ts, 26)
    assert most <= 2 * 26
    assert 13 <= len(chosen) <= 26
    assert chosen[-1] == len(ts) - 1
    gaps = [b - a for a, b in pairwise(chosen)]
    assert max(gaps) <= 4 * len(ts) / 26


@pytest.mark.parametrize("steps", [40, 100, 500])
def test_chain_that_is_left_early_still_has_its_frames(steps):
    chosen, most = thinned(range(999, 999 - steps, -1), 26)
    assert len(chosen) >= 20
    assert most <= 40


class Counted(Curved):
    """Holds weak references to what it has answered."""

    def __init__(self, schedule):
        super().__init__(schedule)
        self.alive, self.most = [], 0

    def __call__(self, xt, t, y=None):
        prediction = super().__call__(xt, t, y)
        self.alive = [each for each in self.alive if each() is not None] + [weakref.ref(prediction.eps), weakref.ref(xt)]
        self.most = max(self.most, len(self.alive))
        return prediction


def test_record_lets_go_of_what_has_passed():
    denoiser = Counted(dl.cosine_schedule(200))
    gc.collect()
    assert record(dl.ddpm_steps(denoiser, XT), 26).steps == 200
    assert denoiser.most <= 8


def test_recorded_frames_are_copies_without_gradients():
    images = noise(5, 8, 1, 2, 2)
    shown, weight = images[:, :2], torch.ones(1, requires_grad=True)

    def steps():
        xt = torch.zeros(2, 1, 2, 2)
        for t in range(4, -1, -1):
            xt.copy_(shown[t])  # the same memory in every step
            yield Step(t, xt, shown[t] * weight, shown[t])

    film = record(steps())
    assert torch.equal(film.xt, shown.flip(0).float())
    assert torch.equal(film.x0_hat, shown.flip(0))
    assert not film.x0_hat.requires_grad
    assert film.xt.untyped_storage().nbytes() == film.xt.nbytes


def test_list_of_steps_is_thinned_evenly_in_any_direction():
    steps = [Step(t, XT, XT, XT) for t in range(1, 201)]
    assert [number - 1 for number in record(steps, 26).step] == evenly(200, 26)


def test_takes_numpys_and_torchs_numbers():
    steps = [step._replace(t=torch.tensor(step.t)) for step in chain()]
    assert record(steps, torch.tensor(3)).t == record(chain(), 3).t


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (iter(()), r"the chain has no steps left; expected the steps of a sampler, such as ddim_steps\(…\): a generator runs only once"),
        ([], "the chain has no steps left"),
        (XT, r"the chain is a Tensor; expected the steps of a sampler, .*widgets.scrub shows recorded frames"),
        (XT.numpy(), "the chain is a ndarray"),
        (Curved(dl.cosine_schedule(50)), "the chain is a Curved; expected the steps of a sampler"),
        ("ddim", "the chain is a str"),
        ({"DDIM": []}, "the chain is a dict"),
        ([XT], "the chain yields a Tensor; expected the steps of a sampler, .* each with t, xt and x0_hat"),
        (Recording([0], XT[None], XT[None], [1], 1), "the chain is a Recording already"),
        (
            [Step(1, XT, XT, XT), Step(0, XT[:1], XT, XT)],
            r"xt of the chain is \(1, 1, 2, 2\) at t = 0; expected \(2, 1, 2, 2\), the same in",
        ),
        ([Step(1.5, XT, XT, XT)], r"t=1.5; expected an integer"),
    ],
)
def test_rejects_what_is_no_chain(steps, message):
    with pytest.raises(ValueError, match=message):
        record(steps)


def test_chain_that_was_walked_before_has_no_steps_left():
    walked = chain()
    record(walked)
    with pytest.raises(ValueError, match=r"no steps left.* make a new one"):
        record(walked)


class TurnsNan(Curved):
    def __call__(self, xt, t, y=None):
        prediction = super().__call__(xt, t, y)
        return prediction._replace(eps=prediction.eps * float("nan"), x0=prediction.x0 * float("nan")) if t <= 25 else prediction


def test_says_where_a_chain_turns_nan():
    with pytest.raises(
        ValueError, match=r"x0?t?_?h?a?t? of the chain is not finite \(NaN or infinity\) at t = 16, step 4; expected finite numbers"
    ):
        record(dl.ddim_steps(TurnsNan(dl.cosine_schedule(50)), XT, steps=6, clip=False))


@pytest.mark.parametrize("frames", [0, -1, 2.5, None, "5", True])
def test_rejects_numbers_of_frames(frames):
    with pytest.raises(ValueError, match=r"frames=.*; expected an integer, 1 or more"):
        record(chain(), frames)


def test_long_chain_shows_its_progress(monkeypatch, capsys):
    record(chain())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(recording, "SHOW_PROGRESS_AFTER", 0)
    record(islice(chain(), 3))
    assert capsys.readouterr().err == "", "no terminal: a notebook would store it"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    record(islice(chain(), 3))
    assert "recording the chain" in capsys.readouterr().err
