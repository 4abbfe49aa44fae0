"""Conversion to and from the data range, the in-memory dataset, and objects that can stand in for it."""

from types import SimpleNamespace

import pytest
import torch
from helpers import tiny_dataset
from hypothesis import given
from hypothesis import strategies as st

import diffusion_lib as dl
from diffusion_lib.data import image_shape_of, num_classes_of


def test_to_uint8_is_the_inverse_of_to_float():
    pixels = torch.arange(256, dtype=torch.uint8)
    images = dl.to_float(pixels)
    assert (images.dtype, images.min(), images.max()) == (torch.float32, -1, 1)
    torch.testing.assert_close(images, torch.arange(256) / 255 * 2 - 1, rtol=0, atol=1e-6)
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(dl.to_uint8(images.to(dtype)), pixels)


@given(st.floats(-10, 10, width=32))
def test_to_uint8_clips_without_wrapping_or_rescaling(value):
    # noise cast to uint8 without clipping wraps around: -1.01 would be white
    expected = round((min(1.0, max(-1.0, value)) + 1) * 127.5)
    assert abs(dl.to_uint8(torch.tensor([value])).item() - expected) <= 1
    # and the brightness of one pixel does not depend on the others
    together = dl.to_uint8(torch.tensor([value, -0.5, 0.25]))
    assert together.tolist() == [dl.to_uint8(torch.tensor([v])).item() for v in (value, -0.5, 0.25)]


def test_rejects_pixels_of_the_wrong_type():
    with pytest.raises(ValueError, match=r"pixels have dtype torch.float32; expected torch.uint8 in 0\.\.255"):
        dl.to_float(torch.zeros(3))
    with pytest.raises(ValueError, match=r"images have dtype torch.uint8; expected floats in \[-1, 1\]"):
        dl.to_uint8(torch.zeros(3, dtype=torch.uint8))


def test_dataset_returns_images_and_labels():
    dataset = tiny_dataset()
    assert (len(dataset), dataset.image_shape, dataset.num_classes, dataset.class_names) == (24, (1, 8, 8), 3, ("a", "b", "c"))
    image, label = dataset[4]
    assert image.shape == (1, 8, 8)
    assert label == 1
    images, labels = dataset[torch.tensor([4, 0])]
    assert torch.equal(images[0], image)
    assert labels.tolist() == [1, 0]
    assert len(dataset[2:5][0]) == 3


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2).long(), r"dtype torch.uint8; expected floats .*see to_float"),
        (torch.zeros(2, 4, 4), torch.zeros(2).long(), r"images have shape \(2, 4, 4\)"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(3).long(), r"labels have shape \(3,\) .*expected torch.long \(2,\)"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(2), r"dtype torch.float32; expected torch.long"),
    ],
)
def test_rejects_mismatched_images_and_labels(images, labels, message):
    with pytest.raises(ValueError, match=message):
        dl.ImageDataset(images, labels, ("a",))


def test_dataset_without_classes_has_no_label():
    images = torch.zeros(3, 1, 4, 5)
    dataset = dl.ImageDataset.without_classes(images)
    assert dataset.images is images
    assert (dataset.labels.tolist(), dataset.num_classes, dataset.image_shape) == ([dl.NO_LABEL] * 3, None, (1, 4, 5))


@pytest.mark.parametrize(
    ("labels", "attributes", "num_classes"),
    [
        ([0, 4, 2], {}, 5),
        ([-1, -1, -1], {}, None),
        ([-1, 0, -1], {}, 1),
        ([], {}, None),
        ([0, 1, 0], dict(class_names=["a", "b", "c"]), 3),
        ([0, 1, 0], dict(class_names=()), None),
        ([0, 1, 0], dict(num_classes=7, class_names=["a", "b"]), 7),
        ([0, 1, 0], dict(num_classes=None), None),
    ],
)
def test_shape_and_classes_of_any_object_with_images_and_labels(labels, attributes, num_classes):
    dataset = SimpleNamespace(images=torch.zeros(len(labels), 3, 4, 5), labels=torch.tensor(labels, dtype=torch.long), **attributes)
    assert image_shape_of(dataset) == (3, 4, 5)
    assert num_classes_of(dataset) == num_classes


def test_shape_and_classes_come_from_the_datasets_own_attributes():
    for dataset in (tiny_dataset(), dl.ImageDataset(torch.zeros(2, 1, 4, 4), torch.arange(2), ())):
        assert image_shape_of(dataset) == dataset.image_shape
        assert num_classes_of(dataset) == dataset.num_classes
