"""Picture files: which formats are read, by suffix or content, and pictures of many pixels or several frames."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, features

import diffusion_lib as dl
from diffusion_lib.data.pictures import FORMATS, find_pictures, read_picture

SAVED_AS = {"PNG": "PNG", "JPEG": "JPEG", "WEBP": "WEBP", "BMP": "BMP", "GIF": "GIF", "TIFF": "TIFF", "PPM": "PPM", "TGA": "TGA"}
SAVED_AS |= {name: name for name, feature in (("AVIF", "avif"), ("JPEG2000", "jpg_2000")) if features.check(feature)}
SUFFIXES = [(name, suffix) for name in SAVED_AS for suffix in FORMATS[name]]


def content(kind, image=None):
    buffer = io.BytesIO()
    (image or Image.new("RGB", (8, 8), (200, 100, 50))).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "suffix"), SUFFIXES)
def test_reads_every_suffix_of_a_format(tmp_path, kind, suffix):
    (tmp_path / f"a{suffix.upper()}").write_bytes(content(kind))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = dl.load_dataset(tmp_path, size=8).images[0]
    torch.testing.assert_close(dl.to_uint8(image).float().mean(dim=(1, 2)), torch.tensor([200.0, 100, 50]), rtol=0, atol=4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("name", ["photo", "photo.JPG_large", "photo.dat", "photo.jpeg", "photo.txt"])
def test_reads_a_picture_with_any_file_name(tmp_path, kind, name):
    (tmp_path / name).write_bytes(content(kind))
    assert len(dl.load_dataset(tmp_path)) == 1


@pytest.mark.parametrize("name", ["photo.nef", "photo.dng", "slide.svs", "unknown.xyz"])
def test_does_not_mistake_an_embedded_preview_for_the_picture(tmp_path, name):
    (tmp_path / name).write_bytes(content("TIFF"))  # as cameras and microscopes write
    found = find_pictures(tmp_path)
    assert found.pictures == []
    assert f"1 {os.path.splitext(name)[1]} (" in found.what_was_left_out()


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO"])
def test_skips_formats_outside_the_closed_list(tmp_path, kind):
    for name in (f"a.{kind.lower()}", "b", "c.xyz"):
        (tmp_path / name).write_bytes(content(kind))
    found = find_pictures(tmp_path)
    assert found.pictures == []
    assert found.what_was_left_out().startswith(f"1 .{kind.lower()} (formats that are not supported: convert them to PNG or JPEG), 1 ")


@pytest.mark.parametrize("text", [b"", b"P", b"P1 is the first of our notes", b"BMW", b"BM", b"GIF", b"\xff\xd8\xff", b"II*\0", b"\0" * 30])
def test_skips_text_files_that_begin_like_pictures(tmp_path, text):
    (tmp_path / "notes.txt").write_bytes(text)
    assert find_pictures(tmp_path).what_was_left_out() == "1 .txt (not pictures)"


def test_reads_formats_registered_by_a_plugin(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(content("PNG"))
    assert find_pictures(tmp_path).pictures == []
    monkeypatch.setitem(Image.OPEN, "HEIF", Image.OPEN["PNG"])
    assert len(dl.load_dataset(tmp_path)) == 1


def test_warns_that_only_one_frame_of_an_animation_is_used(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for suffix in ("gif", "png", "webp", "tif"):
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "still.gif")
    with pytest.warns(UserWarning, match=r"4 of the files contain several images \(animations, pages\): the first one is used"):
        images = dl.load_dataset(tmp_path).images
    assert dl.to_uint8(images).float().mean(dim=(2, 3)).sub(torch.tensor([255.0, 0, 0])).abs().max() < 3


def test_second_picture_in_a_phones_file_is_not_an_animation(tmp_path):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dl.load_dataset(tmp_path, size=4).images[0, 0].min() > 0.9


@pytest.fixture
def low_limit(monkeypatch):
    """Pillow's usual limit at 10,000 pixels and ours at 40,000: the same rules for smaller files."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    monkeypatch.setattr("diffusion_lib.data.pictures.MOST_PIXELS", 40_000)


def noise(height, width):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_reads_pictures_beyond_pillows_limit(tmp_path, low_limit, kind):
    noise(150, 160).save(tmp_path / "phone.jpg", kind)
    assert len(dl.load_dataset(tmp_path)) == 1
    assert Image.MAX_IMAGE_PIXELS == 10_000


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_rejects_pictures_beyond_the_limit(tmp_path, low_limit, kind):
    noise(200, 210).save(tmp_path / "map.jpg", kind)
    with pytest.raises(
        ValueError, match=r"map\.jpg cannot be read as an image \(Image size \(42000 pixels\) exceeds limit of 40000 pixels"
    ):
        dl.load_dataset(tmp_path)
    assert Image.MAX_IMAGE_PIXELS == 10_000


def test_rejects_small_files_that_unpack_to_huge_pictures(tmp_path, low_limit, monkeypatch):
    monkeypatch.setattr("diffusion_lib.data.pictures.PIXELS_PER_BYTE", 100)
    Image.new("1", (190, 200)).save(tmp_path / "bomb.png")
    small = (tmp_path / "bomb.png").stat().st_size
    message = rf"bomb\.png .*\(Image size \(38,000 pixels\) exceeds limit of 10,000 pixels for a file of only {small} bytes\); .* remove it"
    with pytest.raises(ValueError, match=message):
        dl.load_dataset(tmp_path)


def test_respects_a_lifted_limit(tmp_path, low_limit, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    noise(200, 210).save(tmp_path / "map.png")
    assert len(dl.load_dataset(tmp_path)) == 1


def test_phone_photo_of_108_megapixels_takes_little_memory(tmp_path, monkeypatch):
    Image.radial_gradient("L").resize((12_000, 9_000)).save(tmp_path / "phone.jpg")
    decoded = []
    transpose = ImageOps.exif_transpose
    monkeypatch.setattr(ImageOps, "exif_transpose", lambda image, **options: decoded.append(image.size) or transpose(image, **options))
    image, _ = read_picture(tmp_path / "phone.jpg", 8, 8, 1)
    assert decoded == [(1500, 1125)]
    assert image[0, 3:5, 3:5].max() < image[0, :, 0].min()  # dark in the middle


@pytest.mark.parametrize("size", [16, 50])
def test_jpeg_decoded_at_a_fraction_is_nearly_the_same_image(tmp_path, size):
    from matplotlib import get_data_path

    path = Path(get_data_path(), "sample_data", "grace_hopper.jpg")
    with Image.open(path) as photo:
        whole = np.array(ImageOps.fit(photo, (size, size), Image.Resampling.LANCZOS))
    image, _ = read_picture(path, size, size, 3)
    assert (image.permute(1, 2, 0).int() - torch.from_numpy(whole).int()).abs().max() <= 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_reads_every_mode(tmp_path, mode, channels):
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr", "PA") else "a.png")
    image = Image.new("RGB", (20, 10), "white").convert({"PA": "P", "YCbCr": "RGB"}.get(mode, mode))
    image.save(path)
    pixels, _ = read_picture(path, 8, 8, channels)
    assert (pixels.shape, pixels.dtype) == ((channels, 8, 8), torch.uint8)
    assert pixels.min() >= 254


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_applies_every_exif_orientation(tmp_path, orientation, suffix):
    ramp = Image.fromarray(np.add.outer(np.arange(48) * 4, np.arange(32)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    ramp.save(tmp_path / f"a.{suffix}", exif=exif)
    ramp.info["exif"] = exif.tobytes()
    expected = ImageOps.fit(ImageOps.exif_transpose(ramp), (8, 12), Image.Resampling.LANCZOS)
    pixels, _ = read_picture(tmp_path / f"a.{suffix}", 12, 8, 1)
    assert (pixels[0].int() - torch.from_numpy(np.array(expected)).int()).abs().max() <= 3
