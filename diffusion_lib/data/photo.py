"""One photograph, from a file that matplotlib ships."""

from diffusion_lib.data.dataset import ImageDataset, from_pictures


def load_photo(*, size: int | None = None, **options) -> ImageDataset:
    """Grace Hopper in 1978, a photograph in the public domain; head and shoulders, RGB, 64x64 or of another size."""
    from matplotlib import get_data_path
    from PIL import Image

    side = size or 64
    with Image.open(f"{get_data_path()}/sample_data/grace_hopper.jpg") as whole:
        photo = whole.convert("RGB").crop((60, 20, 452, 412)).resize((side, side), Image.Resampling.LANCZOS)
    return ImageDataset.without_classes(from_pictures([photo]))
