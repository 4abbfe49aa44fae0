"""Which sub-folders are taken for classes: parts of a dataset, wrapping folders, empty folders and what systems leave behind."""

import warnings

import pytest
from PIL import Image

import diffusion_lib as dl


def make(folder, *names):
    """A red picture for each name, a file that is no picture for other suffixes, and a folder for each name ending in /."""
    for name in names:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            Image.new("RGB", (8, 8), "red").save(path)
        elif not name.endswith("/"):
            path.write_bytes(b"not a picture")


def classes(folder):
    """The classes of the images in a folder, and what was said."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        dataset = dl.load_dataset(folder, size=8)
    return dataset.class_names, " ".join(str(warning.message) for warning in said).replace(str(folder), "TOP")


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"], "train"),
        (["Train/cat/1.png", "VALID/cat/1.png"], "Train"),
        (["training/1.png", "Validation/1.png"], "training"),
        (["train/1.png", "val/1.png", "test/1.png"], "train"),
        (["dev/1.png", "test/1.png"], "dev"),
        (["train2017/1.png", "val2017/1.png"], "train2017"),
        (["trainA/1.png", "trainB/1.png", "testA/1.png", "testB/1.png"], "trainA"),
        (["train_set/cat/1.png", "test_set/cat/1.png"], "train_set"),
        (["test-images/1.png", "training-images/1.png"], "training-images"),
        (["train/images/1.png", "valid/images/1.png", "train/labels/1.txt"], "train"),
        (["images/1.png", "masks/1.png"], "images"),
    ],
)
@pytest.mark.filterwarnings("ignore:folder")
def test_rejects_train_and_test_folders_and_names_the_folder_to_load(tmp_path, names, best):
    make(tmp_path, *names)
    with pytest.raises(
        ValueError, match=rf"look like parts of a dataset, not like classes; .* load one part, as in 'folder:{tmp_path}/{best}', or rename"
    ):
        dl.load_dataset(tmp_path)
    dl.load_dataset(tmp_path / best, channels=3)  # the remedy is one


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["cat/1.png", "dog/1.png", "test/cat/1.png"], "'test'"),
        (["cat/1.png", "dog/1.png", "test/1.png", "train/1.png"], "'test', 'train'"),
    ],
)
def test_rejects_train_and_test_folders_among_classes(tmp_path, names, parts):
    make(tmp_path, *names)
    with pytest.raises(ValueError, match=rf"{parts} look like parts of a dataset, not like classes; .*: move {parts} elsewhere"):
        dl.load_dataset(tmp_path)


def test_warns_that_a_folder_named_train_counts_as_a_class(tmp_path):
    make(tmp_path, "bus/1.png", "car/1.png", "train/1.png")
    assert classes(tmp_path) == (
        ("bus", "car", "train"),
        "folder:TOP: the folder 'train' counts as a class, like 'bus', 'car'; if it is not one, move it away",
    )


def test_names_that_contain_train_or_test_are_classes(tmp_path):
    make(tmp_path, "freight_train/1.png", "passenger_train/1.png", "trainer/1.png", "contest/1.png", "valley/1.png", "a/1.png", "b/1.png")
    names, said = classes(tmp_path)
    assert (len(names), said) == (7, "")


@pytest.mark.parametrize(
    ("names", "found", "loaded"),
    [
        (["pics/cat/1.png", "pics/dog/1.png"], ("cat", "dog"), "pics"),
        (["pics/cat/1.png", "pics/dog/1.png", "__MACOSX/pics/cat/1.png", "readme/"], ("cat", "dog"), "pics"),
        (["pics/pics/cat/1.png", "pics/pics/dog/1.png"], ("cat", "dog"), "pics/pics"),
        (["train/cat/1.png", "train/dog/1.png"], ("cat", "dog"), "train"),
        (["images/1.png", "images/2.png"], (), "images"),
        (["Train/1.png"], (), "Train"),
    ],
)
def test_a_single_wrapping_folder_is_opened(tmp_path, names, found, loaded):
    make(tmp_path, *names)
    names, said = classes(tmp_path)
    assert names == found
    assert f"which does not count as a class: it was loaded as 'folder:TOP/{loaded}'" in said


def test_rejects_train_and_test_folders_inside_a_wrapping_folder(tmp_path):
    make(tmp_path, "images/train/cat/1.png", "images/val/cat/1.png")
    with pytest.raises(ValueError, match=rf"load one part, as in 'folder:{tmp_path}/images/train'"):
        dl.load_dataset(tmp_path)


def test_a_single_folder_of_images_is_a_class(tmp_path):
    make(tmp_path, "cat/1.png", "cat/deep/2.png")
    assert classes(tmp_path) == (("cat",), "")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["amazon/cat/1.png", "amazon/dog/1.png", "dslr/cat/1.png", "dslr/dog/1.png"], "not the folders inside ('cat', 'dog')"),
        (["amazon/images/1.png", "dslr/images/1.png"], ""),
        (["amazon/cat/1.png", "dslr/dog/1.png"], ""),
    ],
)
def test_warns_that_upper_folders_are_the_classes_if_lower_names_repeat(tmp_path, names, said):
    make(tmp_path, *names)
    found, heard = classes(tmp_path)
    assert found == ("amazon", "dslr")
    assert said in heard
    assert bool(said) == bool(heard)


def test_warning_names_folders_without_images(tmp_path):
    make(tmp_path, "cat/1.png", "dog/", "eel/1.heic", ".cache/", "__MACOSX/", "@eaDir/")
    names, said = classes(tmp_path)
    assert names == ("cat",)
    assert "folders without images are not classes: 'dog', 'eel'" in said
    assert "1 .heic" in said


def test_ignores_files_of_operating_systems(tmp_path):
    make(
        tmp_path,
        "cat/1.png",
        "dog/1.png",
        "cat/Thumbs.db",
        "dog/desktop.ini",
        "dog/.DS_Store",
        "__MACOSX/cat/1.png",
        "@eaDir/1.png",
        "cat/2.png~",
    )
    assert classes(tmp_path) == (("cat", "dog"), "")


def test_rejects_images_beside_folders_with_their_names(tmp_path):
    make(tmp_path, "cover.png", "cat/1.png", "dog/1.png")
    with pytest.raises(
        ValueError, match=rf"both beside and inside .*: move 'cover\.png' elsewhere, or load one .* 'folder:{tmp_path}/cat'"
    ):
        dl.load_dataset(tmp_path)
