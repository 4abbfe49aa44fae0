"""The last room of notebook 06: one small program, and pictures of it with one line changed.

`PROGRAM` is what the notebook shows. `sabotaged` changes one of its suspect lines and runs it; `patient` does so without saying
which. Nothing is stored: every picture comes from training and sampling.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lib.data import load_dataset
from diffusion_lib.data.glyphs import CHARACTERS
from diffusion_lib.errors import check_name
from diffusion_lib.exercises.checking import Mistake, Question, Verdict

PROGRAM = '''\
def cosine(T):
    """alpha_bar_t for t = 0 to T."""
    angle = (torch.arange(T + 1) / T + 0.008) / 1.008 * torch.pi / 2
    return (angle.cos() / angle[0].cos()) ** 2


def train(network, images, labels, steps=400, T=1000):
    """`network` learns to predict x0."""
    alpha_bar = cosine(T)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(steps):
        i = torch.randint(len(images), (64,))
        x0, y = images[i], labels[i]  # suspect 1
        t = torch.randint(1, T + 1, (64,))
        eps = torch.randn_like(x0)
        alpha_bar_t = alpha_bar[t].view(-1, 1, 1, 1)
        xt = alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t).sqrt() * eps  # suspect 2
        loss = (network(xt, t, y) - x0).square().mean()  # suspect 3
        optimizer.zero_grad()  # suspect 4
        loss.backward()
        optimizer.step()


@torch.no_grad()
def sample(network, y, steps=20, T=1000):
    """DDIM: one image for each class in `y`."""
    alpha_bar = cosine(T)
    xt = torch.randn(len(y), 1, 28, 28)  # suspect 5
    levels = [T * (steps - i) // steps for i in range(steps + 1)]  # suspect 6
    for t, s in pairwise(levels):
        alpha_bar_t, alpha_bar_s = alpha_bar[t], alpha_bar[s]
        x0_hat = network(xt, torch.full((len(y),), t), y).clamp(-1, 1)  # suspect 7
        eps_hat = (xt - alpha_bar_t.sqrt() * x0_hat) / (1 - alpha_bar_t).sqrt()  # suspect 8
        xt = alpha_bar_s.sqrt() * x0_hat + (1 - alpha_bar_s).sqrt() * eps_hat  # suspect 9
    return xt
'''

# what stands in a suspect line, and what takes its place
SABOTAGE = {
    1: ("labels[i]", "labels[:64]"),
    2: ("(1 - alpha_bar_t).sqrt() * eps", "(1 - alpha_bar_t) * eps"),
    3: ("- x0)", "- eps)"),
    4: ("optimizer.zero_grad()", "pass"),
    5: ("torch.randn(len(y), 1, 28, 28)", "torch.randn(1, 1, 28, 28).expand(len(y), -1, -1, -1)"),
    6: ("range(steps + 1)", "range(steps)"),
    7: ("clamp(-1, 1)", "clamp(0, 1)"),
    8: ("(1 - alpha_bar_t).sqrt()", "(1 - alpha_bar_t)"),
    9: ("(1 - alpha_bar_s).sqrt()", "(1 - alpha_bar_t).sqrt()"),
}
TRAINING = (1, 2, 3, 4)  # the others change the sampler only
PATIENTS = {"A": 7, "B": 1, "C": 9, "D": 5, "E": 6, "F": 4}
LETTERS = "MUSE"
EACH = 16  # images of each letter
FRAME = 2  # pixels at every edge that letters hardly reach
CLOSE_TO_HEALTHY = 0.05  # by so much, measurements differ by chance


class SmallNetwork(nn.Module):
    """Three linear layers, each but the last with t and y added: network(xt, t, y) for images of 28 x 28 pixels."""

    def __init__(self, width: int = 256):
        super().__init__()
        self.first, self.second = nn.Linear(28 * 28, width), nn.Linear(width, width)
        self.last = nn.Linear(width, 28 * 28)
        self.time, self.letter = nn.Linear(64, width), nn.Embedding(len(LETTERS), width)

    def forward(self, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        angles = t[:, None] * torch.exp(-torch.linspace(0, 9, 32))
        condition = self.time(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.letter(y)
        h = F.silu(self.first(xt.flatten(1)) + condition)
        h = F.silu(self.second(h) + condition)
        return self.last(h).view_as(xt)


@cache
def letters() -> tuple[Tensor, Tensor]:
    """Training images (n, 1, 28, 28) of the letters M, U, S and E, and which of the four each is: (n,), 0 to 3."""
    glyphs = load_dataset("glyphs", n=9000)
    matches = glyphs.labels == torch.tensor([[CHARACTERS.index(letter)] for letter in LETTERS])  # (4, n)
    chosen = matches.any(dim=0)
    return glyphs.images[chosen], matches[:, chosen].int().argmax(dim=0)


def run_program(train: Any, sample: Any) -> Tensor:
    """Trains a `SmallNetwork` and samples 16 images each of M, U, S and E: (64, 1, 28, 28). The same seeds each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SmallNetwork()
        train(network, *letters())
        return _sampled(sample, network)


def _sampled(sample: Any, network: nn.Module) -> Tensor:
    torch.manual_seed(1)
    return sample(network, torch.arange(len(LETTERS)).repeat_interleave(EACH))


def changed(line: int | None) -> str:
    """The program with the mistake in that suspect line; None: as it is."""
    if line is None:
        return PROGRAM
    right, wrong = SABOTAGE[line]
    old = next(each for each in PROGRAM.splitlines() if each.endswith(f"# suspect {line}"))
    return PROGRAM.replace(old, old.replace(right, wrong))


def _functions(source: str) -> dict[str, Any]:
    names: dict[str, Any] = dict(torch=torch, pairwise=pairwise)
    exec(source, names)
    return names


@cache
def _trained(line: int | None) -> nn.Module:
    torch.manual_seed(0)
    network = SmallNetwork()
    _functions(changed(line))["train"](network, *letters())
    return network


@cache
def sabotaged(line: int | None) -> Tensor:
    """The 64 images of the program with a mistake in that suspect line, 1 to 9; None: without any."""
    if line not in (None, *SABOTAGE):
        raise ValueError(f"line={line!r}; expected a suspect line, 1 to {len(SABOTAGE)}, or None")
    with torch.random.fork_rng(devices=[]):  # a changed sampler's network is the healthy one: training starts from the same seed
        return _sampled(_functions(changed(line))["sample"], _trained(line if line in TRAINING else None))


def patient(name: str) -> Tensor:
    """The 64 images of patient "A" to "F": 16 each of M, U, S and E, from the program with one line changed."""
    check_name("patient", name, PATIENTS)
    return sabotaged(PATIENTS[name]).clone()


def innocent() -> tuple[int, ...]:
    """The suspect lines that no patient has a mistake in."""
    return tuple(line for line in SABOTAGE if line not in PATIENTS.values())


class Measured(NamedTuple):
    """What can be measured of 64 images without knowing the program."""

    mean: float  # of all pixels
    std: float  # of all pixels
    ground: float  # mean of the frame, where black is -1
    noise: float  # standard deviation of the frame
    largest: float  # absolute value
    variety: float  # standard deviation of a pixel over the images of one letter
    classes: float  # standard deviation of a pixel over the four letters' mean images


def measured(images: Tensor) -> Measured:
    """Measurements of what `patient` or `run_program` returns."""
    x = images.double().view(len(LETTERS), EACH, 28, 28)
    frame = torch.ones(28, 28, dtype=torch.bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    edge = x[..., frame]
    means = x.mean(dim=1)
    variety = x.var(dim=1, unbiased=False).mean().sqrt()
    values = x.mean(), x.std(), edge.mean(), edge.std(), x.abs().max(), variety, means.var(dim=0, unbiased=False).mean().sqrt()
    return Measured(*(value.item() for value in values))


# ---------------------------------------------------------------------------------------------------------------------- checks

# what a mistake in each line looks like
LOOKS = {
    1: "mixed-up labels (suspect 1) give well-drawn, varied letters of the wrong class",
    2: "a variance in place of its root (suspect 2) hardly shows: letters and measurements stay close to the healthy ones",
    3: "a loss against the noise (suspect 3) gives faint grey static without a trace of a letter",
    4: "gradients that pile up (suspect 4) give one smear for all four letters: variety 0, and no difference between classes",
    5: "a shared start (suspect 5) makes the images of one letter identical (variety exactly 0), but keeps them healthy "
    "and different from letter to letter",
    6: "levels that stop before 0 (suspect 6) leave a fine grain on healthy letters: noise about 0.1, values a little beyond 1",
    7: "a wrong clip (suspect 7) cuts off a range: clipped to [0, 1], no pixel is darker than mid-grey, and the ground is exactly 0",
    8: "a wrong eps_hat (suspect 8) spoils every estimate, but the last step returns x0_hat, clipped: specks of pure black and white, "
    "and no value beyond 1",
    9: "a wrong factor of eps_hat (suspect 9) never lets the noise go: static with a standard deviation near 1 and values far beyond 1",
}
# what is to be seen in a patient with a mistake in that line
SEEN = {
    1: "Here the ground is clean, variety is healthy, and the letters are not those of their columns",
    4: "Here all 64 images are the same smear, whichever letter was requested",
    5: "Here the letters are right and clean, but those of one letter do not differ at all",
    6: "Here the letters are right and varied, with grain on them: the noise is a little higher than in the healthy pictures, "
    "and the largest value is above 1",
    7: "Here the ground is smooth and mid-grey, and nothing is darker",
    9: "Here the ground stays black on average, but noise as strong as the strokes lies on everything, up to 5 times the range",
}
# where two lines look much alike: (the changed line, the one that was suspected) -> the measurement that decides
DECIDES = {
    (1, 4): "Both ignore the requested letter. Variety decides: here it is that of healthy pictures, not 0",
    (1, 5): "Variety decides: here it is that of healthy pictures, not 0",
    (4, 1): "Both ignore the requested letter. Variety decides: here it is 0",
    (4, 5): "In both, variety is 0. The difference between classes decides: here it is 0 as well",
    (5, 4): "In both, variety is 0. The difference between classes decides: here it is larger than in the healthy pictures",
    (6, 9): "Both leave noise. Its size decides: here it is about 0.1, not 1",
    (6, 8): "Both are rough. The largest value decides: here it is above 1",
    (6, 2): "Here the largest value is above 1, which no clipped estimate can be: noise was added after the last clip, or never removed",
    (9, 6): "Both leave noise. Its size decides: here it is about 1, as strong as at t = T; level 50 has only 0.09",
    (9, 8): "Both are full of specks. The largest value decides: here it is about 5, so the last step did not return a clipped x0_hat",
    (9, 3): "Here letters can still be made out, so the network has learnt them",
    (7, 3): "Both are grey. Here bright letters stand on a smooth ground, so the network has learnt them",
}
PRAISE = {
    1: "the labels are not those of the drawn images, so the network learns to ignore them",
    4: "without zero_grad the gradients of all steps add up",
    5: "all images start from one xT, and DDIM adds no noise of its own",
    6: "the chain ends at level 50, and its noise, of standard deviation 0.09, stays",
    7: "the estimate is clipped to the wrong range",
    9: "the step ends at s, but the noise keeps the size it has at t",
}


@dataclass(frozen=True)
class Suspect(Question):
    """A question whose answer is the number of a suspect line."""

    def __call__(self, attempt: Any) -> Verdict:
        verdict = super().__call__(attempt)
        unknown = verdict.passed is False and verdict.message.endswith(("is too large", "is too small"))
        return Verdict(False, f"{float(attempt):g} is not a suspect; expected 1 to {len(SABOTAGE)}") if unknown else verdict


def _suspect(name: str) -> Suspect:
    changed_line = PATIENTS[name]
    wrong = [line for line in SABOTAGE if line != changed_line]
    mistakes = (Mistake(float(line), f"{LOOKS[line]}. {DECIDES.get((changed_line, line), SEEN[changed_line])}") for line in wrong)
    return Suspect(float(changed_line), 0.0, tuple(mistakes), PRAISE[changed_line])


check_patient_a, check_patient_b, check_patient_c = map(_suspect, "ABC")
check_patient_d, check_patient_e, check_patient_f = map(_suspect, "DEF")
