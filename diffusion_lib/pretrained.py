"""The weights that ship with the package. README.md tells the commands that made them."""

from pathlib import Path

from diffusion_lib.classifier import Classifier
from diffusion_lib.denoiser import Denoiser
from diffusion_lib.errors import unknown_name

WEIGHTS = Path(__file__).parent / "weights"


def load_pretrained(name: str) -> Denoiser:
    """The trained denoiser called `name`, in eval mode, on the CPU. Both are class-conditional, 28x28, and the default `UNet`.

    "glyphs": the letters and digits of `diffusion_lib.glyphs.CHARACTERS`. "mnist": handwritten digits, 0..9.
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
