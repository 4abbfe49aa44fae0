"""The dataset of a single photograph."""

import torch

import diffusion_lib as dl


def test_photo_is_one_colour_image_without_classes():
    photo = dl.load_dataset("photo")
    assert photo.images.shape == (1, 3, 64, 64)
    assert (photo.labels.tolist(), photo.num_classes) == ([-1], None)
    assert photo.images.amin() < -0.8 < 0.8 < photo.images.amax()
    small = dl.load_dataset("photo", size=16).images
    torch.testing.assert_close(small, torch.nn.functional.avg_pool2d(photo.images, 4), rtol=0, atol=0.35)
    assert len(dl.load_dataset("photo", n=5, train=False)) == 1, "there is no other"
