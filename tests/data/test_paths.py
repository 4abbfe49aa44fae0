"""A folder's path: what is expanded, and what is said of a path that leads to no folder."""

import os
import re

import pytest

import diffusion_lib as dl
from diffusion_lib.data.paths import existing_folder


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    (tmp_path / "pictures" / "train").mkdir(parents=True)
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    (tmp_path / "pictures.zip").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("PICS", str(tmp_path / "pictures"))
    monkeypatch.delenv("NOT_SET", raising=False)
    return tmp_path / "pictures"


@pytest.mark.parametrize("text", ["pictures", "~/pictures", "$PICS", "${PICS}", "$PICS/../pictures", "./pictures/"])
def test_expands_home_folder_and_variables(pictures, text):
    assert existing_folder(text).samefile(pictures)


def test_a_folder_may_be_named_like_a_variable(pictures):
    (pictures / "$PICS").mkdir()
    os.chdir(pictures)
    assert existing_folder("$PICS").samefile(pictures / "$PICS")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'folder:' names no folder; expected 'folder:PATH', .*: is a variable not set?"),
        ("  ", "'folder:' names no folder; expected 'folder:PATH'"),
        ("$NOT_SET", r"\$NOT_SET is not a folder; expected one with images: the variable \$NOT_SET is not set"),
        ("${NOT_SET}/cat", r"\$\{NOT_SET\}/cat is not a folder; .* the variable \$\{NOT_SET\} is not set"),
        ("pictrues", r"pictrues is not a folder; expected one .* Did you mean 'folder:pictures'\?"),
        ("PICTURES/Train", r"PICTURES/Train is not a folder; expected one .* Did you mean 'folder:pictures/train'\?"),
        ("pictures/tarin", r"pictures/tarin is not a folder; expected one .* Did you mean 'folder:pictures/train'\?"),
        ("picture/trian", r"picture/trian is not a folder; expected one .* Did you mean 'folder:pictures/train'\?"),
        ("'pictures'", r"'pictures' is not a folder; expected one .* Did you mean 'folder:pictures'\?"),
        (" pictures ", r" pictures  is not a folder; expected one .* Did you mean 'folder:pictures'\?"),
        ("~/pictrues", r"/pictrues is not a folder; expected one .* Did you mean 'folder:.*/pictures'\?"),
        ("zebra", r"zebra is not a folder; expected one with images, as in 'folder:my_pictures'$"),
        ("pictures/a.png", r"pictures/a\.png is a file; expected a folder, such as the one that contains it: 'folder:pictures'"),
        ("pictures.zip", r"pictures\.zip is an archive; expected a folder: unpack it and load the folder, for example 'folder:pictures'"),
        ("https://example.org/pictures", r"https://example\.org/pictures is an address; expected a folder on this machine"),
        ("x" * 5000, r"xxx is not a folder; expected one with images"),
        ("\0", r" is not a folder; expected one with images"),
    ],
)
def test_error_says_why_a_path_is_not_a_folder_and_suggests_one(pictures, text, message):
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        dl.load_dataset(f"folder:{text}")


@pytest.mark.skipif(os.name == "nt", reason="there it is one")
@pytest.mark.parametrize("text", ["C:\\Users\\me\\pictures", "d:/pictures", "\\\\server\\pictures"])
def test_error_recognises_paths_of_another_system(pictures, text):
    with pytest.raises(FileNotFoundError, match=rf"{re.escape(text)} is a Windows path, but this is another system; expected"):
        dl.load_dataset(f"folder:{text}")


def test_error_shows_the_target_of_a_broken_link(pictures):
    (pictures.parent / "link").symlink_to("gone")
    with pytest.raises(FileNotFoundError, match=r"link is a link to gone, which does not exist; expected a folder with images"):
        dl.load_dataset("folder:link")
