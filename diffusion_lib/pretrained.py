"""The weights that ship with the package. README.md tells the commands that made them."""

from pathlib import Path

from diffusion_lib.denoiser import Denoiser
from diffusion_lib.errors import unknown_name
from diffusion_lib.measure.classifier import Classifier

WEIGHTS = Path(__file__).parent / "weights"


def load_pretrained(name: str) -> Denoiser:
    """The trained denoiser called `name`, of 28x28 images, in eval mode, on the CPU.

    "glyphs": the letters and digits of `diffusion_lib.data.glyphs.CHARACTERS`, by a `UNet` of 48 channels; "mnist": handwritten
    digits, 0..9, by the default one of 32: both class-conditional. "glyphs-1", "glyphs-10", "glyphs-1000", "glyphs-20000": small
    unconditional ones, of so many images: the first ones of `load_dataset("glyphs")`, for the last those of
    `load_dataset("glyphs", seed=1)`.
    """
    return Denoiser.from_pretrained(_folder("denoiser", name))


def load_classifier(name: str) -> Classifier:
    """The classifier trained on the dataset `name` ("glyphs", "mnist"), in eval mode: what quality is measured with. Images in [-1, 1]."""
    return Classifier.from_pretrained(_folder("classifier", name))


def _folder(kind: str, name: str) -> Path:
    known = sorted(path.name for path in (WEIGHTS / kind).iterdir() if path.is_dir())
    if name not in known:
        raise unknown_name(f"pretrained {kind}", name, known)
    return WEIGHTS / kind / name
