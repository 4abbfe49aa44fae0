"""An MNIST of four images, packed as on its mirrors."""

import gzip
import hashlib
import struct

import numpy as np
import torch

import diffusion_lib as dl

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
LABELS = np.array([3, 1, 4, 1], np.uint8)


def mnist_files(folder, images, labels):
    """The four files of an MNIST of a few images, packed as on its mirrors; names with their md5 sums."""
    resources = []
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()
            path = folder / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(data))
            resources.append((path.name, hashlib.md5(path.read_bytes()).hexdigest()))
    return resources


def assert_whole(mnist):
    assert torch.equal(dl.to_uint8(mnist.images)[:, 0], torch.from_numpy(IMAGES))
    assert mnist.labels.tolist() == [3, 1, 4, 1]
