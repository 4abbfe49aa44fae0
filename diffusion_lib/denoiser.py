"""The protocol that samplers, plots and widgets use, and the denoisers of this package.

    denoiser(xt, t, y=None) -> Prediction        xt (B, C, H, W); t int or LongTensor (B,), 1..T;
                                                 y LongTensor (B,) of classes, (B, L) of words, or None
    denoiser.schedule -> Schedule
    denoiser.image_shape -> (C, H, W), or None if unknown

Three classes follow it: a trained network (`Denoiser`), the exact optimum for a finite dataset (`IdealDenoiser`), and a denoiser
with classifier-free guidance (`Guided`, in `guidance`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lib.checks import (
    NO_LABEL,
    as_class_names,
    as_image_shape,
    check_condition,
    check_finite,
    check_images,
    check_labels,
    check_like,
    check_network,
    check_schedule,
    check_t,
    labels_for,
)
from diffusion_lib.devices import to_device
from diffusion_lib.errors import check_name
from diffusion_lib.networks import config_of, from_config, plain_state, unwrapped
from diffusion_lib.process import TARGETS, at, noised, randn_like, solve, target_of
from diffusion_lib.saving import Saveable, expect_keys
from diffusion_lib.schedules import Schedule


class Prediction(NamedTuple):
    """A denoiser's estimates of the image and the noise in xt = signal_t x0 + noise_t eps."""

    x0: Tensor  # (B, C, H, W) estimate of the clean image, not clipped
    eps: Tensor  # (B, C, H, W) estimate of the noise in it
    # (B, C, H, W) from a network with a learnt variance: 0 is log beta_tilde, 1 is log beta, for any stride
    variance_mix: Tensor | None = None


class DenoiserProtocol(Protocol):
    """What a sampler needs."""

    @property
    def schedule(self) -> Schedule: ...

    @property
    def image_shape(self) -> tuple[int, int, int] | None: ...

    def __call__(self, xt: Tensor, t: int | Tensor, y: Tensor | None = None) -> Prediction: ...


class Denoiser(Saveable):
    """A network, the schedule it is trained for, and the quantity it predicts: none is useful without the others.

    network: network(xt, t, y=None) -> (B, C, H, W), such as a `UNet`. prediction: what it predicts, a key of `TARGETS`: "eps" (Ho et
    al. 2020), "x0", "v" (Salimans & Ho 2022) or "flow" (Lipman et al. 2022). image_shape: (C, H, W) of its images.
    class_names: the names of its classes, which y may then contain. `train` fills in both from the dataset.

    Raises `ValueError` for an unknown prediction, and for "eps" on a schedule with signal[T] = 0, where eps does not determine x0.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        prediction: str = "eps",
        image_shape: tuple[int, int, int] | None = None,
        class_names: Sequence[str] = (),
    ):
        super().__init__()
        check_network(network)
        check_schedule(schedule)
        check_name("prediction", prediction, TARGETS)
        if prediction == "eps" and schedule.signal[-1] == 0:
            raise ValueError(
                f"prediction='eps' with the schedule {schedule.name!r}, whose signal[T] is 0; expected 'v', 'x0' or 'flow': "
                "xT is pure noise, and eps does not determine x0"
            )
        self.network, self.schedule, self.prediction = network, schedule, prediction
        self.image_shape = None if image_shape is None else as_image_shape(image_shape)
        self.class_names = as_class_names(class_names, self.num_classes)

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None for an unconditional network."""
        return getattr(unwrapped(self.network), "num_classes", None)

    @property
    def words(self) -> tuple[str, ...] | None:
        """The vocabulary of a captioned network, whose y are captions; None for any other."""
        return getattr(unwrapped(self.network), "words", None)

    @property
    def is_conditional(self) -> bool:
        """Whether it takes y: classes or captions."""
        return self.num_classes is not None or self.words is not None

    def forward(self, xt: Tensor, t: int | Tensor, y: Tensor | None = None) -> Prediction:
        """The network's estimates of x0 and eps. xt: (B, C, H, W). t: int or LongTensor (B,), 1..T. y: LongTensor (B,) of classes
        or (B, L) of words, their names or texts, or None."""
        check_images(xt=xt)
        y = labels_for(self, y, len(xt))
        self._check(xt, t, y)
        return Prediction(*solve(self.schedule, self.prediction, xt, self._answer(xt, t, y), t))

    def loss(
        self,
        x0: Tensor,
        y: Tensor | None = None,
        t: Tensor | None = None,
        eps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The squared error of each image's prediction, averaged over pixels: (B,).

        x0: (B, C, H, W) in [-1, 1]. y: classes or words as in `forward`, or None. t: LongTensor (B,), drawn uniformly from 1..T if omitted.
        eps: (B, C, H, W), drawn from N(0, I) if omitted. For "eps" this is L_simple: Ho et al. 2020, equation 14.
        """
        check_images(**dict(x0=x0) if eps is None else dict(x0=x0, eps=eps))
        t = random_timesteps(self.schedule.T, len(x0), generator) if t is None else t
        eps = randn_like(x0, generator) if eps is None else eps
        y = labels_for(self, y, len(x0))
        self._check(x0, t, y)
        answer = self._answer(noised(self.schedule, x0, t, eps), t, y)
        target = target_of(self.schedule, self.prediction, x0, eps, t)
        # L_simple = E_{t, x0, eps} || eps - eps_hat(xt, t) ||^2, as a mean over pixels              Ho et al. 2020, equation 14
        return F.mse_loss(answer, target, reduction="none").mean(dim=(1, 2, 3))

    def to_files(self) -> tuple[dict, dict[str, Tensor]]:
        """Config and tensors for `save_pretrained`, including the schedule's tables."""
        config: dict[str, Any] = dict(prediction=self.prediction, image_shape=self.image_shape, schedule=self.schedule.name)
        if self.class_names:
            config["class_names"] = list(self.class_names)
        tensors = {f"network.{name}": value for name, value in plain_state(unwrapped(self.network)).items()}
        tables = {"schedule.signal": self.schedule.signal, "schedule.noise": self.schedule.noise}
        return config | dict(network=config_of(self.network)), tensors | tables

    @classmethod
    def from_files(cls, config: dict, tensors: dict[str, Tensor]) -> "Denoiser":
        """The denoiser that `to_files` described, in eval mode."""
        config = dict(class_names=()) | config
        expect_keys(config, {"prediction", "image_shape", "class_names", "schedule", "network"})
        if strange := [name for name in tensors if not name.startswith(("network.", "schedule."))]:
            raise ValueError(f"it holds a tensor {strange[0]!r}; expected only names that begin with 'network.', and the schedule's tables")
        schedule = Schedule(tensors["schedule.signal"], tensors["schedule.noise"], str(config["schedule"]))
        weights = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
        network: Any = from_config(config["network"], weights)
        if config["image_shape"] is not None and hasattr(network, "check_image_shape"):
            network.check_image_shape(config["image_shape"])
        return cls(network, schedule, config["prediction"], config["image_shape"], config["class_names"]).eval()

    def _check(self, x: Tensor, t: int | Tensor, y: Tensor | None) -> None:
        """Raises `ValueError` for input that this denoiser cannot take. The network does its own checks."""
        check_t(t, self.schedule.T, len(x))
        if y is not None:
            check_condition(y, self.num_classes, self.words, len(x))
        check_like(x, next(self.network.parameters(), x))

    def _answer(self, xt: Tensor, t: int | Tensor, y: Tensor | None) -> Tensor:
        """The network's output, in xt's dtype even under autocast."""
        t = to_device(t if isinstance(t, Tensor) else torch.tensor(t, device="cpu"), xt.device).expand(len(xt))
        answer = self.network(xt, t, None if y is None else to_device(y, xt.device)).to(xt.dtype)
        if answer.shape != xt.shape:
            raise ValueError(
                f"the network returns shape {tuple(answer.shape)}; expected {tuple(xt.shape)}, the shape of its input: one value of "
                f"{self.prediction!r} for each value of an image"
            )
        return answer


class IdealDenoiser:
    """The exact posterior mean over a finite set of images: the prediction of a network that has memorised the set.

    x0_dataset: (N, C, H, W) in [-1, 1], or a dataset with `.images` and `.labels`; the labels are used where y is given.
    """

    PART = 4096  # images converted to float64 at a time

    def __init__(self, x0_dataset, schedule: Schedule):
        images = getattr(x0_dataset, "images", x0_dataset)
        check_images(x0_dataset=images)
        check_finite(images, "x0_dataset")
        check_schedule(schedule)
        self.schedule = schedule
        self.images = images
        labels = getattr(x0_dataset, "labels", None)
        self.labels = None if labels is None or (labels == NO_LABEL).all() else labels
        self.class_names = tuple(getattr(x0_dataset, "class_names", None) or ())
        self.image_shape = tuple(images.shape[1:])

    def weights(self, xt: Tensor, t: int | Tensor, y: Tensor | None = None) -> Tensor:
        """The probability that xt came from each image of the dataset: float64 (B, N), rows summing to 1."""
        check_images(xt=xt)
        check_t(t, self.schedule.T, len(xt))
        if xt.shape[1:] != self.image_shape:
            raise ValueError(f"images have shape {tuple(xt.shape[1:])}; expected {self.image_shape}, as in the dataset")
        signal, noise = (at(table, t, xt.double()).flatten(1) for table in (self.schedule.signal, self.schedule.noise))  # (B or 1, 1)
        # log q(xt | x0 = x_i) = -|xt - signal_t x_i|^2 / (2 noise_t^2) + const; |xt|^2 is const too
        overlaps = [
            signal * (xt.double().flatten(1) @ x.T) - signal**2 / 2 * x.square().sum(dim=1)  # (B, part of N)
            for x in self._in_parts(xt.device)
        ]
        log_likelihood = torch.cat(overlaps, dim=1) / noise**2
        y = labels_for(self, y, len(xt))
        if y is not None:
            log_likelihood = log_likelihood.masked_fill(~self._is_of_class(y, xt), -torch.inf)
        return torch.softmax(log_likelihood, dim=1)

    def __call__(self, xt: Tensor, t: int | Tensor, y: Tensor | None = None) -> Prediction:
        # E[x0 | xt] = sum_i p(x_i | xt) x_i
        parts = zip(self.weights(xt, t, y).split(self.PART, dim=1), self._in_parts(xt.device), strict=True)
        mean: Any = sum(weights @ x for weights, x in parts)  # (B, D)
        x0 = mean.unflatten(1, self.image_shape).to(xt.dtype)
        return Prediction(*solve(self.schedule, "x0", xt, x0, t))

    def _in_parts(self, device: torch.device) -> Iterator[Tensor]:
        """The images in float64, a few thousand (n, D) at a time: all at once would take twice the dataset's memory."""
        for part in self.images.flatten(1).split(self.PART):
            yield part.to(device, torch.float64)

    def _is_of_class(self, y: Tensor, xt: Tensor) -> Tensor:
        """Which images have the requested label: bool (B, N)."""
        if self.labels is None:
            raise ValueError("y was given to an IdealDenoiser without labels; expected y=None, or build it from an ImageDataset")
        check_labels(y, int(self.labels.max()) + 1, len(xt))
        matches = (self.labels.to(y.device) == y[:, None]) | (y[:, None] == NO_LABEL)
        missing = y[~matches.any(dim=1)]
        if len(missing):
            raise ValueError(f"y={missing[0].item()}: no image in the dataset has this label; expected a label that occurs in it")
        return matches.to(xt.device)


def random_timesteps(T: int, n: int, generator: torch.Generator | None = None) -> Tensor:
    """n timesteps, uniform on 1..T: LongTensor (n,) on the generator's device, or on the CPU without a generator."""
    device = "cpu" if generator is None else generator.device
    return torch.randint(1, T + 1, (n,), generator=generator, device=device)


def logit_normal_timesteps(T: int, n: int, generator: torch.Generator | None = None) -> Tensor:
    """n timesteps, more of them in the middle of 1..T than at its ends, as `random_timesteps` returns them.

    At medium noise an image is decided, and a caption matters. Esser et al. 2024 (arXiv:2403.03206), section 3.1; location and scale
    are chosen for the schedules of this package.
    """
    device = "cpu" if generator is None else generator.device
    # t = floor(T sigmoid(z)) + 1,  z ~ N(0.3, 1.2^2): half of them above 0.57 T
    z = 0.3 + 1.2 * torch.randn(n, generator=generator, device=device, dtype=torch.float32)
    return (T * torch.sigmoid(z)).long().clamp(max=T - 1) + 1


TIMESTEPS = {"uniform": random_timesteps, "logit_normal": logit_normal_timesteps}
