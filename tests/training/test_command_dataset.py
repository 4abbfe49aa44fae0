"""`python -m diffusion_lib.training`: the options of the dataset, and what is printed about it."""

import pytest
from PIL import Image

import diffusion_lib as dl
from diffusion_lib.training import __main__ as training
from diffusion_lib.training.__main__ import main


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """The dataset that a command with these options would train on, which goes no further."""

    class Begun(Exception):  # noqa: N818 - not an error
        pass

    def go(*options):
        found = []

        def train(denoiser, dataset, *others):
            found.append(dataset)
            raise Begun

        monkeypatch.setattr(training, "train", train)
        with pytest.raises(Begun):
            main(["--out", str(tmp_path / "model"), "--base-channels", "8", "--device", "cpu", "--precision", "float32", *options])
        return found[0]

    return go


@pytest.fixture
def pictures(tmp_path):
    for name, colour in (("cat/1", "red"), ("cat/2", "blue"), ("dog/1", "red")):
        path = tmp_path / "pictures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), colour).save(path)
    return tmp_path / "pictures"


def test_command_prints_the_number_of_images_per_class(trained, pictures, capsys):
    trained("--dataset", f"folder:{pictures}")
    assert f"folder:{pictures}: 3 images of 3x32x32 in 2 classes: 2 cat, 1 dog\n" in capsys.readouterr().out


def test_command_forwards_size_channels_and_flip(trained, pictures, capsys):
    dataset = trained("--dataset", f"folder:{pictures}", "--size", "16x32", "--channels", "1", "--flip", "--images", "2")
    assert dataset.images.shape == (4, 1, 16, 32)
    assert "4 images of 1x16x32 in 2 classes: 2 cat, 2 dog\n" in capsys.readouterr().out


def test_images_take_size_and_channels_from_the_initial_model(trained, pictures):
    assert trained("--init-from", "glyphs-1", "--base-channels", "16", "--dataset", f"folder:{pictures}").images.shape == (3, 1, 28, 28)


@pytest.mark.parametrize(("name", "said"), [("cat", "no classes"), (".", "2 classes")])
def test_initial_model_must_have_the_datasets_number_of_classes(pictures, tmp_path, capsys, name, said):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "model"), "--init-from", "glyphs", "--dataset", f"folder:{pictures / name}"])
    assert f" has {said}, the model of --init-from glyphs has 36; expected the same number" in capsys.readouterr().err


def test_command_skips_broken_files_when_asked(trained, pictures, capsys):
    (pictures / "cat" / "1.png").write_bytes(b"not a picture")
    with pytest.raises(SystemExit):
        main(["--out", str(pictures.parent / "model"), "--dataset", f"folder:{pictures}"])
    assert "1.png cannot be read as an image" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="skipped 1 of 3 files"):
        assert len(trained("--dataset", f"folder:{pictures}", "--skip-broken")) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "32.5"], "argument --size: size='32.5'; expected an integer, or HEIGHTxWIDTH, as in 32x48"),
        (["--size", "0"], "argument --size: size=0; expected an integer, 1..16384"),
        (["--channels", "4"], "argument --channels: invalid choice: 4 (choose from 1, 3)"),
        (["--size", "32"], "size=32 does not apply to the dataset 'glyphs'; it takes: train, n, seed"),
        (["--dataset", "folder:"], "'folder:' names no folder; expected 'folder:PATH'"),
    ],
)
def test_command_rejects_options_of_the_dataset(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), *options])
    assert message in capsys.readouterr().err.replace("'1', '3'", "1, 3")


def test_printed_line_is_the_datasets_description():
    assert dl.data.describe(dl.load_dataset("glyphs", n=3)) in repr(dl.load_dataset("glyphs", n=3))
