"""Paths as a reader writes them."""

from pathlib import Path

import pytest
from helpers import tiny_denoiser

from diffusion_lib.files import as_path


def test_variables_are_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS", str(tmp_path))
    assert as_path("$RUNS/a") == as_path(Path("${RUNS}/a")) == tmp_path / "a"


def test_existing_folder_with_a_dollar_sign_is_not_expanded(tmp_path):
    (tmp_path / "$old").mkdir()
    assert as_path(tmp_path / "$old" / "a") == tmp_path / "$old" / "a"


@pytest.mark.parametrize(
    ("place", "kind", "message"),
    [
        ("", ValueError, r"directory='' is empty; expected a path"),
        (" ", ValueError, r"directory=' ' is empty; expected a path"),
        (None, TypeError, r"directory=None is of type NoneType; expected a path"),
        (b"model", TypeError, r"directory=b'model' is of type bytes; expected a path"),
        ("$NOT_SET_ANYWHERE/x", FileNotFoundError, r"but \$NOT_SET_ANYWHERE is not set; expected a path"),
        ("file", NotADirectoryError, r"directory='file', but file is a file; expected a folder"),
        ("file/model", NotADirectoryError, r"directory='file/model', but file is a file; expected a folder"),
    ],
)
def test_rejects_saving_a_model_where_no_folder_can_exist(tmp_path, monkeypatch, place, kind, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(kind, match=message):
        tiny_denoiser().save_pretrained(place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
