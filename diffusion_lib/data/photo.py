"""One photograph, from a file that ships with matplotlib."""

from diffusion_lib.data.dataset import ImageDataset, to_float
from diffusion_lib.data.pictures import pixels_of


def load_photo(
    *, train: bool = True, n: int | None = None, size: int | tuple[int, int] | None = None, channels: int | None = None
) -> ImageDataset:
    """Grace Hopper in 1978, a photograph in the public domain: head and shoulders, RGB, 64x64 by default. It is the only image, and train
    makes no difference."""
    from matplotlib import get_data_path
    from PIL import Image, ImageOps

    height, width = size if isinstance(size, tuple) else (size or 64, size or 64)
    with Image.open(f"{get_data_path()}/sample_data/grace_hopper.jpg") as whole:
        photo = ImageOps.fit(whole.convert("RGB").crop((60, 20, 452, 412)), (width, height), Image.Resampling.LANCZOS)
    return ImageDataset.without_classes(to_float(pixels_of(photo, channels or 3)[None]))
