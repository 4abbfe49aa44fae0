"""Classifier-free guidance: predictions pushed further towards the class or the caption."""

from torch import Tensor

from diffusion_lib.checks import check_denoiser, number
from diffusion_lib.denoiser import DenoiserProtocol, Prediction
from diffusion_lib.schedules import Schedule


class Guided:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598): wraps a denoiser that takes classes or
    captions.

    scale: 0 is the unconditional prediction, 1 the conditional one; larger scales push further towards the condition. (The paper's w
    is scale - 1.)
    """

    def __init__(self, denoiser: DenoiserProtocol, scale: float):
        check_denoiser(denoiser)
        self.denoiser, self.scale = denoiser, number("scale", scale)

    @property
    def schedule(self) -> Schedule:
        """The wrapped denoiser's schedule."""
        return self.denoiser.schedule

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """The wrapped denoiser's image shape."""
        return self.denoiser.image_shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """The wrapped denoiser's class names."""
        return getattr(self.denoiser, "class_names", ())

    @property
    def words(self) -> tuple[str, ...] | None:
        """The wrapped denoiser's vocabulary."""
        return getattr(self.denoiser, "words", None)

    def __call__(self, xt: Tensor, t: int | Tensor, y: Tensor | None = None) -> Prediction:
        if y is None:
            raise ValueError("guidance needs a class or a caption; expected y, one per image")
        conditional, unconditional = self.denoiser(xt, t, y), self.denoiser(xt, t, None)

        # eps = eps(xt) + scale (eps(xt, y) - eps(xt))                                     Ho & Salimans 2022, equation 6, w = scale - 1
        def guide(without: Tensor, with_class: Tensor) -> Tensor:
            return without + self.scale * (with_class - without)

        # x0 is linear in eps and follows the same rule; computing it from eps would divide by signal, which is nearly 0 at T
        x0, eps = guide(unconditional.x0, conditional.x0), guide(unconditional.eps, conditional.eps)
        return conditional._replace(x0=x0, eps=eps)
