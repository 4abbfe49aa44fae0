"""The protocol that samplers, plots and widgets speak, and the denoisers of this package.

    denoiser(xt, t, y=None) -> Prediction        xt (B, C, H, W); t int or LongTensor (B,), 1..T; y LongTensor (B,) or None
    denoiser.schedule -> Schedule
    denoiser.image_shape -> (C, H, W), or None where it is not known

A trained network is one (`Denoiser`), and so are the exact optimum of a finite dataset (`IdealDenoiser`) and a denoiser pushed
harder towards its class (`Guided`).
"""

from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lib import pretrained_files
from diffusion_lib.devices import is_spread, moved
from diffusion_lib.errors import unknown_name
from diffusion_lib.process import (
    at,
    check_images,
    check_t,
    eps_from_v,
    eps_from_x0,
    q_sample,
    randn_like,
    v_from,
    x0_from_eps,
    x0_from_v,
)
from diffusion_lib.schedules import Schedule
from diffusion_lib.unet import NO_LABEL, UNet, check_labels

PREDICTIONS = ("eps", "x0", "v")


class Prediction(NamedTuple):
    """What a denoiser believes about xt. The two agree: xt = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps."""

    x0: Tensor  # (B, C, H, W) estimate of the clean image, not clipped
    eps: Tensor  # (B, C, H, W) estimate of the noise in it


class DenoiserProtocol(Protocol):
    """What a sampler asks for."""

    schedule: Schedule
    image_shape: tuple[int, int, int] | None

    def __call__(self, xt: Tensor, t: int | Tensor, y: Tensor | None = None) -> Prediction: ...


class Denoiser(nn.Module):
    """A network, the schedule it is trained for, and the quantity it predicts: the three that make no sense apart.

    network: network(xt, t, y=None) -> (B, C, H, W), such as a `UNet`. prediction: "eps" (Ho et al. 2020), "x0" or
    "v" (Salimans & Ho 2022). image_shape: (C, H, W) of the images it is for; `train` fills it in from the dataset.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        prediction: str = "eps",
        image_shape: tuple[int, int, int] | None = None,
    ):
        super().__init__()
        if prediction not in PREDICTIONS:
            raise unknown_name("prediction", prediction, PREDICTIONS)
        self.network, self.schedule, self.prediction = network, schedule, prediction
        self.image_shape = None if image_shape is None else tuple(image_shape)

    @property
    def num_classes(self) -> int | None:
        """How many classes y can name; None for a network without."""
        return getattr(self.network, "num_classes", None)

    def forward(self, xt: Tensor, t: int | Tensor, y: Tensor | None = None) -> Prediction:
        """What the network believes about xt: (B, C, H, W); t int or LongTensor (B,), 1..T; y LongTensor (B,) or None."""
        answer = self._network_answer(xt, t, y)
        if self.prediction == "eps":
            return Prediction(x0_from_eps(self.schedule, xt, t, answer), answer)
        if self.prediction == "x0":
            return Prediction(answer, eps_from_x0(self.schedule, xt, t, answer))
        return Prediction(x0_from_v(self.schedule, xt, t, answer), eps_from_v(self.schedule, xt, t, answer))

    def loss(
        self,
        x0: Tensor,
        y: Tensor | None = None,
        t: Tensor | None = None,
        eps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Each image's squared error in the predicted quantity, averaged over its pixels: (B,).

        x0: (B, C, H, W) in [-1, 1]. y: LongTensor (B,) or None. t: LongTensor (B,), drawn uniformly from 1..T if left out.
        eps: (B, C, H, W), drawn from N(0, I) if left out. For "eps" this is L_simple: Ho et al. 2020, equation 14.
        """
        check_images(x0=x0)
        if t is None:
            t = random_timesteps(self.schedule.T, len(x0), generator)
        eps = randn_like(x0, generator) if eps is None else eps
        xt = q_sample(self.schedule, x0, t, eps)
        answer = self._network_answer(xt, t, y)
        if self.prediction == "eps":
            target = eps
        elif self.prediction == "x0":
            target = x0
        else:
            target = v_from(self.schedule, x0, eps, t)
        # L_simple = E_{t, x0, eps} || eps - eps_hat(xt, t) ||^2, as a mean over pixels              Ho et al. 2020, equation 14
        return F.mse_loss(answer, target, reduction="none").mean(dim=(1, 2, 3))

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes weights (safetensors), schedule and config (JSON) into `directory`, for `from_pretrained`.

        Raises `ValueError` for a network other than a `UNet`, and for weights that are spread over processes.
        """
        if not isinstance(self.network, UNet):
            raise ValueError(f"the network is a {type(self.network).__name__}; expected a UNet, whose config can be stored")
        if any(map(is_spread, self.parameters())):
            raise ValueError(
                "the weights are spread over processes; expected whole ones: load those of a checkpoint into a new denoiser, "
                "denoiser.load_state_dict(diffusion_lib.training.checkpoints.newest(folder).content['ema'])"
            )
        config = dict(prediction=self.prediction, image_shape=self.image_shape, schedule=self.schedule.name, network=self.network.config)
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        pretrained_files.write(directory, config, tensors | {"schedule.alpha_bar": self.schedule.alpha_bar})

    @classmethod
    def from_pretrained(cls, directory_or_hub_id: str | Path) -> "Denoiser":
        """The denoiser that `save_pretrained` wrote into a folder, or into a repository "owner/name" of the Hugging Face hub.

        Returned in eval mode, on the CPU. Raises `FileNotFoundError` if there is no such model and `ValueError` if it is damaged.
        """
        config, tensors = pretrained_files.read(directory_or_hub_id)
        with pretrained_files.blame(directory_or_hub_id):
            pretrained_files.expect_keys(config, {"prediction", "image_shape", "schedule", "network"})
            schedule = Schedule(tensors.pop("schedule.alpha_bar"), str(config["schedule"]))
            if strange := [name for name in tensors if not name.startswith("network.")]:
                raise ValueError(f"it holds a tensor {strange[0]!r}; expected names that begin with 'network.', and 'schedule.alpha_bar'")
            weights = {name.removeprefix("network."): value for name, value in tensors.items()}
            network = pretrained_files.built(lambda: UNet(**config["network"]), weights)
            if config["image_shape"] is not None:
                network.check_image_shape(config["image_shape"])
            denoiser = cls(network, schedule, config["prediction"], config["image_shape"])
        return denoiser.eval()

    def _network_answer(self, xt: Tensor, t: int | Tensor, y: Tensor | None) -> Tensor:
        """The bare network's answer, in xt's dtype also under autocast, after checking what it is given."""
        check_images(xt=xt)
        t = moved(check_t(t, self.schedule.T, len(xt)), xt.device).expand(len(xt))
        if y is not None:
            check_labels(y, self.num_classes, len(xt))
            y = moved(y, xt.device)
        parameter = next(self.network.parameters(), xt)
        for what in ("device", "dtype"):
            if getattr(xt, what) != getattr(parameter, what):
                raise ValueError(
                    f"images have {what} {getattr(xt, what)} but the network {getattr(parameter, what)}; expected the same: "
                    "move one of them with .to(…)"
                )
        return self.network(xt, t, y).to(xt.dtype)


class IdealDenoiser:
    """The exact posterior mean over a finite set of images: what a network would answer that had learnt it by heart.

    x0_dataset: (N, C, H, W) in [-1, 1], or an `ImageDataset`, whose labels are then used where y is given.
    """

    def __init__(self, x0_dataset, schedule: Schedule):
        images = x0_dataset if isinstance(x0_dataset, Tensor) else x0_dataset.images
        check_images(x0_dataset=images)
        self.schedule = schedule
        self.images = images
        labels = getattr(x0_dataset, "labels", None)
        self.labels = None if labels is None or (labels == NO_LABEL).all() else labels
        self.image_shape = tuple(images.shape[1:])

    def weights(self, xt: Tensor, t: int | Tensor, y: Tensor | None = None) -> Tensor:
        """The probability that xt came from each image of the dataset: float64 (B, N), rows summing to 1."""
        check_images(xt=xt)
        if xt.shape[1:] != self.image_shape:
            raise ValueError(f"images have shape {tuple(xt.shape[1:])}; expected {self.image_shape}, that of the dataset")
        x = self.images.to(xt.device, torch.float64).flatten(1)  # (N, D)
        alpha_bar = at(self.schedule.alpha_bar, t, xt.double(), lowest=1).flatten(1)  # (B or 1, 1)
        # log q(xt | x0 = x_i) = -|xt - sqrt(alpha_bar_t) x_i|^2 / (2 (1 - alpha_bar_t)) + const; |xt|^2 is const too
        overlap = alpha_bar.sqrt() * (xt.double().flatten(1) @ x.T) - alpha_bar / 2 * x.square().sum(dim=1)
        log_likelihood = overlap / (1 - alpha_bar)
        if y is not None:
            log_likelihood = log_likelihood.masked_fill(~self._is_of_class(y, xt), -torch.inf)
        return torch.softmax(log_likelihood, dim=1)

    def __call__(self, xt: Tensor, t: int | Tensor, y: Tensor | None = None) -> Prediction:
        # E[x0 | xt] = sum_i p(x_i | xt) x_i
        mean = self.weights(xt, t, y) @ self.images.to(xt.device, torch.float64).flatten(1)
        x0 = mean.unflatten(1, self.image_shape).to(xt.dtype)
        return Prediction(x0, eps_from_x0(self.schedule, xt, t, x0))

    def _is_of_class(self, y: Tensor, xt: Tensor) -> Tensor:
        """Which image has which label asked for: bool (B, N)."""
        if self.labels is None:
            raise ValueError("y was given to an IdealDenoiser without labels; expected y=None, or build it from an ImageDataset")
        check_labels(y, int(self.labels.max()) + 1, len(xt))
        matches = (self.labels.to(y.device) == y[:, None]) | (y[:, None] == NO_LABEL)
        missing = y[~matches.any(dim=1)]
        if len(missing):
            raise ValueError(f"y={missing[0].item()}: no image of the dataset has that label; expected one of those it holds")
        return matches.to(xt.device)


class Guided:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598): a denoiser wrapped around a class-conditional denoiser.

    scale: 0 ignores the class, 1 is the plain conditional answer, more pushes further towards the class. (The paper's w is
    scale - 1.)
    """

    def __init__(self, denoiser: DenoiserProtocol, scale: float):
        self.denoiser, self.scale = denoiser, scale

    @property
    def schedule(self) -> Schedule:
        """The wrapped denoiser's."""
        return self.denoiser.schedule

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """The wrapped denoiser's."""
        return self.denoiser.image_shape

    def __call__(self, xt: Tensor, t: int | Tensor, y: Tensor | None = None) -> Prediction:
        if y is None:
            raise ValueError("guidance needs the class to guide to; expected y, a LongTensor of one class for each image")
        told, untold = self.denoiser(xt, t, y), self.denoiser(xt, t, None)
        # eps = eps(xt) + scale (eps(xt, y) - eps(xt))                                     Ho & Salimans 2022, equation 6, w = scale - 1
        eps = untold.eps + self.scale * (told.eps - untold.eps)
        return Prediction(x0_from_eps(self.schedule, xt, t, eps), eps)


def random_timesteps(T: int, n: int, generator: torch.Generator | None = None) -> Tensor:
    """n timesteps, each of 1..T equally likely: LongTensor (n,) on the generator's device, else the CPU."""
    device = "cpu" if generator is None else generator.device
    return torch.randint(1, T + 1, (n,), generator=generator, device=device)
