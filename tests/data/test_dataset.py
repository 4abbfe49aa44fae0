"""Conversion to and from the data range, the in-memory dataset, and objects that can stand in for it."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import tiny_dataset
from hypothesis import given
from hypothesis import strategies as st

import diffusion_lib as dl
from diffusion_lib.data import describe, image_shape_of, num_classes_of


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


def test_to_float_and_to_uint8_accept_arrays():
    pixels = np.arange(48, dtype=np.uint8).reshape(1, 3, 4, 4)
    images = dl.to_float(pixels)
    assert torch.equal(images, dl.to_float(torch.from_numpy(pixels)))
    assert torch.equal(dl.to_uint8(images.numpy()), torch.from_numpy(pixels))
    assert torch.equal(dl.to_uint8(images.double().numpy()[..., ::-1]), torch.from_numpy(pixels).flip(3))
    read_only = np.broadcast_to(np.uint8(255), (1, 1, 2, 2))
    assert torch.equal(dl.to_float(read_only), torch.ones(1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"pixels is of type str; expected a tensor or an array of numbers"):
        dl.to_float("pixels")
    with pytest.raises(ValueError, match=r"images is of type ndarray of object; expected a tensor or an array of numbers"):
        dl.to_uint8(np.array([None]))


def test_conversions_leave_their_input_unchanged():
    pixels = torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4)
    images = dl.to_float(pixels)
    before = images.clone()
    dl.to_uint8(images)
    assert torch.equal(images, before)
    assert torch.equal(pixels.flatten(), torch.arange(48, dtype=torch.uint8))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_to_uint8_warns_about_non_finite_values(value):
    images = torch.zeros(3, 1, 2, 2)
    images[1, 0, 0, 0] = value
    for kind in (images, images.half(), images.numpy()):
        with pytest.warns(UserWarning, match=r"contain NaN or infinity in 1 of 3, first in image 1.*NaN is shown as black"):
            dl.to_uint8(kind)


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


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1],
        (0, 1),
        np.array([0, 1]),
        np.array([0, 1], np.int32),
        np.array([0, 1], np.uint8),
        torch.tensor([0, 1], dtype=torch.int32),
        ["a", "b"],
        np.array(["a", "b"]),
        [np.int64(0), np.int64(1)],
    ],
)
@pytest.mark.parametrize("kind", [np.float32, np.float64, "tensor", "list"])
def test_dataset_accepts_arrays_lists_and_names(labels, kind):
    images = torch.rand(2, 3, 4, 5)
    given = images if kind == "tensor" else images.tolist() if kind == "list" else images.numpy().astype(kind)
    dataset = dl.ImageDataset(given, labels, ["a", "b"])
    assert torch.equal(dataset.images, images)
    assert (dataset.images.dtype, dataset.labels.dtype) == (torch.float32, torch.long)
    assert (dataset.labels.tolist(), dataset.class_names) == ([0, 1], ("a", "b"))


def test_dataset_keeps_a_tensors_precision():
    assert dl.ImageDataset(torch.zeros(1, 1, 2, 2).double(), [0]).images.dtype == torch.float64


@pytest.mark.parametrize("names", [None, (), []])
def test_class_names_may_be_omitted(names):
    dataset = dl.ImageDataset(torch.zeros(2, 1, 4, 4), [-1, -1], names)
    assert (dataset.class_names, dataset.num_classes) == ((), None)


@pytest.mark.parametrize("names", ["ab", {"a": 0, "b": 1}, {"a", "b"}, 2])
def test_rejects_class_names_without_an_order(names):
    with pytest.raises(ValueError, match=r"class_names=.*; expected a list or tuple of names, in the order of the labels"):
        dl.ImageDataset(torch.zeros(2, 1, 4, 4), [0, 1], names)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), [0, 1], r"shape \(2, 8, 8, 3\); expected \(N, C, H, W\), but these look like \(N, H, W, C\)"),
        (np.zeros((2, 3, 8, 8), np.uint8), [0, 1], r"dtype torch.uint8; expected floats \(N, C, H, W\): see to_float"),
        ("pictures", [0, 1], r"images is of type str; expected a tensor or an array of numbers"),
        (np.zeros((2, 3, 8, 8), np.float32), ["a", "c"], r"unknown class 'c'; expected one of 'a', 'b'"),
        (np.zeros((2, 3, 8, 8), np.float32), [0.0, 1.0], r"labels have shape \(2,\) and dtype torch.float64; expected torch.long"),
        (np.zeros((2, 3, 8, 8), np.float32), [True, False], r"labels have shape \(2,\) and dtype torch.bool; expected torch.long"),
        (np.zeros((2, 3, 8, 8), np.float32), None, r"labels is of type NoneType; expected a tensor or an array of numbers"),
        (np.float32(3), [0, 1], r"images is of type float32; expected a tensor or an array of numbers"),
        (np.zeros((), np.float32), [0, 1], r"images have shape \(\d*,?\).*; expected floats \(N, C, H, W\)"),
    ],
)
def test_rejects_arrays_of_the_wrong_form(images, labels, message):
    with pytest.raises(ValueError, match=message):
        dl.ImageDataset(images, labels, ("a", "b"))


@pytest.mark.parametrize(
    ("labels", "names", "text"),
    [
        ([0, 1, 1, -1], ("cat", "dog"), "4 images of 3x4x5 in 2 classes: 1 cat, 2 dog; 1 without a class"),
        ([0], ("cat",), "1 image of 3x4x5 in 1 class: 1 cat"),
        ([-1, -1], (), "2 images of 3x4x5 without classes"),
        ([0, 0, 2], tuple("abcdefghijklm"), "3 images of 3x4x5 in 13 classes of 0 to 2: a, b, c, d, e, f, g, h, i, j, k, …, m"),
        ([], ("cat",), "0 images of 3x4x5 in 1 class: 0 cat"),
    ],
)
def test_describe_counts_images_per_class(labels, names, text):
    dataset = dl.ImageDataset(torch.zeros(len(labels), 3, 4, 5), torch.tensor(labels, dtype=torch.long), names)
    assert describe(dataset) == text
    assert repr(dataset) == f"ImageDataset: {text}"


def test_describe_accepts_any_object_with_images_and_labels():
    dataset = SimpleNamespace(images=torch.zeros(3, 1, 4, 4), labels=torch.tensor([0, 2, 2]))
    assert describe(dataset) == "3 images of 1x4x4 in 3 classes: 1 0, 0 1, 2 2"


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


@pytest.mark.parametrize("label", [2, 5, -2])
def test_rejects_labels_without_a_name(label):
    with pytest.raises(ValueError, match=rf"^labels contain {label}; expected 0..1, indices of class_names, or -1 for none$"):
        dl.ImageDataset(torch.zeros(2, 1, 8, 8), torch.tensor([0, label]), ("a", "b"))
