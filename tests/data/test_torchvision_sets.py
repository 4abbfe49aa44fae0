"""Torchvision's datasets: reading their files, and rejecting damaged or missing ones."""

import gzip
import hashlib
import pickle

import numpy as np
import pytest
import torch
from helpers import SHARED
from tiny_mnist import IMAGES, LABELS, assert_whole, mnist_files

import diffusion_lib as dl


def test_reads_mnist():
    if not SHARED.is_dir():
        pytest.skip("../shared/data, with the files of MNIST, is not here")
    mnist = dl.load_dataset("mnist", train=False, root=SHARED)
    assert (mnist.images.shape, mnist.num_classes) == ((10_000, 1, 28, 28), 10)
    assert (mnist.images.min(), mnist.images.max()) == (-1, 1)
    # the first of the test set, as everyone knows them
    assert mnist.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert mnist.class_names[3] == "3 - three"
    assert len(dl.load_dataset("mnist", train=False, n=7, root=SHARED)) == 7


def test_reads_cifar10_in_colour_and_upright(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    # CIFAR-10's rows are 1024 red values, 1024 green, 1024 blue
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), np.uint8)
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    (folder / "batch").write_bytes(pickle.dumps(dict(data=pixels.reshape(2, -1), labels=[6, 9])))
    (folder / "meta").write_bytes(pickle.dumps(dict(label_names=[f"class {i}" for i in range(10)])))
    md5 = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in ("batch", "meta")}
    monkeypatch.setattr(CIFAR10, "train_list", [["batch", md5["batch"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [])
    monkeypatch.setattr(CIFAR10, "meta", dict(filename="meta", key="label_names", md5=md5["meta"]))
    cifar = dl.load_dataset("cifar10", root=tmp_path)
    assert torch.equal(dl.to_uint8(cifar.images), torch.from_numpy(pixels))
    assert (cifar.labels.tolist(), cifar.num_classes) == ([6, 9], 10)


def test_returns_the_first_n_images_of_train_and_test_set(mnist_host):
    with mnist_host():
        whole = dl.load_dataset("mnist", train=False)
    for n in (3, 100):
        first = dl.load_dataset("mnist", train=False, n=n)
        assert len(first) == min(n, 4)
        assert torch.equal(first.images, whole.images[:n])
        assert torch.equal(first.labels, whole.labels[:n])
        assert first.class_names == whole.class_names


@pytest.mark.parametrize("part", ["train", "t10k"])
@pytest.mark.parametrize("damage", [b"", b"half", b"\x00" * 5000, "truncated"], ids=["empty", "short", "zeros", "truncated"])
def test_rejects_damaged_files_and_downloads_them_again_once_removed(tmp_path, mnist_host, damage, part):
    with mnist_host():
        dl.load_dataset("mnist")
        file = tmp_path / "cache" / "MNIST" / "raw" / f"{part}-images-idx3-ubyte"
        file.write_bytes(file.read_bytes()[:2000] if damage == "truncated" else damage)
        with pytest.raises(
            ValueError, match=rf"files of mnist in .*{tmp_path.name}.* are damaged \(.+\); expected intact files: delete them"
        ):
            dl.load_dataset("mnist", train=part == "train")
        file.unlink()
        assert_whole(dl.load_dataset("mnist", train=part == "train"))  # downloaded again


def test_rejects_fewer_labels_than_images(tmp_path, mnist_host):
    with mnist_host():
        dl.load_dataset("mnist")
    (tmp_path / "other").mkdir()
    mnist_files(tmp_path / "other", IMAGES, LABELS[:3])
    for file in (tmp_path / "other").rglob("train-labels*"):
        content = gzip.decompress(file.read_bytes())
        (tmp_path / "cache" / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=r"the files of mnist in .+ are damaged \(4 images and 3 labels\); expected intact files"):
        dl.load_dataset("mnist")


def test_rejects_files_that_vanish_after_the_download(tmp_path, mnist_host, monkeypatch):
    monkeypatch.setattr("diffusion_lib.data.torchvision_sets._from_files", lambda *arguments, **options: None)
    with mnist_host(), pytest.raises(FileNotFoundError, match=r"mnist was downloaded to .+ but is missing; expected a folder"):
        dl.load_dataset("mnist")
