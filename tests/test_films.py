"""Chains and grids on disk: the pixels that `image_grid` draws, frame by frame."""

import numpy as np
import pytest
import torch
from helpers import Curved, noise
from PIL import Image

import diffusion_lib as dl
from diffusion_lib.plots import image_grid, save_frames, save_gif, save_grid
from diffusion_lib.recording import record

XT = noise(3, 1, 8, 6, dtype=torch.float32)
FRAMES = noise(4, 2, 1, 8, 6, seed=1, dtype=torch.float32)


def chain(steps=6, xT=XT, T=50):
    return dl.ddim_steps(Curved(dl.cosine_schedule(T)), xT, steps=steps)


def frames_of(path):
    """Each frame as uint8 (H, W, 3), the durations in ms, and whether it goes on for ever."""
    with Image.open(path) as film:
        pictures, durations = [], []
        for i in range(film.n_frames):
            film.seek(i)
            pictures.append(np.array(film.convert("RGB")))
            durations.append(round(film.info["duration"]))
        return pictures, durations, film.info["loop"] == 0


def drawn(images, columns=8, scale=1):
    return image_grid(images, columns).numpy().repeat(scale, axis=0).repeat(scale, axis=1)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".apng", ".webp", ".GIF"])
@pytest.mark.parametrize("what", ["xt", "x0_hat"])
def test_saves_a_chain_as_a_moving_picture(tmp_path, suffix, what):
    path = save_gif(tmp_path / "new" / f"chain{suffix}", chain(), what=what, fps=20, scale=3, columns=2)
    pictures, durations, loops = frames_of(path)
    expected = [drawn(getattr(step, what), 2, 3) for step in chain()]
    assert len(pictures) == 6
    assert all(np.array_equal(a, b) for a, b in zip(pictures, expected, strict=True))  # grey: none of 256 levels is lost
    assert durations == [50] * 6
    assert loops


def test_colours_are_exact_but_for_gif(tmp_path):
    frames = noise(3, 2, 3, 8, 6).clamp(-1, 1)
    for suffix, most in ((".png", 0), (".webp", 0), (".gif", 40)):
        pictures, _, _ = frames_of(save_gif(tmp_path / f"film{suffix}", frames))
        difference = [abs(a.astype(int) - drawn(b)) for a, b in zip(pictures, frames, strict=True)]
        assert max(each.max() for each in difference) <= most


@pytest.mark.parametrize("form", [lambda: FRAMES, FRAMES.numpy, lambda: list(FRAMES), lambda: FRAMES.clone().requires_grad_()])
def test_saves_frames_of_anything(tmp_path, form):
    pictures, _, _ = frames_of(save_gif(tmp_path / "film.png", form()))
    assert all(np.array_equal(a, drawn(b)) for a, b in zip(pictures, FRAMES, strict=True))


def test_shows_as_many_steps_as_are_asked_for(tmp_path):
    for film in (chain(40), list(chain(40)), record(chain(40), 40)):
        pictures, _, _ = frames_of(save_gif(tmp_path / "film.png", film, frames=10))
        expected = record(chain(40), 10).xt
        assert all(np.array_equal(a, drawn(b)) for a, b in zip(pictures, expected, strict=True))
    assert len(frames_of(save_gif(tmp_path / "film.png", chain(40), frames=None))[0]) == 40
    assert len(frames_of(save_gif(tmp_path / "film.png", chain(40)))[0]) == 40


def test_saves_each_frame_as_it_comes(tmp_path):
    folder = tmp_path / "new" / "frames"
    walked = chain()
    seen = []

    def watched():
        for step in walked:
            yield step
            seen.append(len(list(folder.glob("*.png"))))

    paths = save_frames(folder, watched(), scale=2)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert [path.name for path in paths] == [f"{i:04d}.png" for i in range(6)]
    for path, step in zip(paths, chain(), strict=True):
        assert np.array_equal(np.array(Image.open(path).convert("RGB")), drawn(step.xt, scale=2))
    with pytest.raises(ValueError, match="already holds numbered pictures; expected a new or empty folder"):
        save_frames(folder, chain())


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tiff", "jpg"])
def test_saves_a_grid(tmp_path, suffix):
    path = save_grid(tmp_path / f"grid.{suffix}", XT, columns=2, scale=2)
    saved = np.array(Image.open(path).convert("RGB")).astype(int)
    assert saved.shape == drawn(XT, 2, 2).shape
    assert suffix == "jpg" or np.array_equal(saved, drawn(XT, 2, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: save_gif(FRAMES, d / "a.gif"), r"path is a Tensor; expected a path, as in save_gif\(path, film\)"),
        (lambda d: save_grid(XT, d / "a.png"), r"path is a Tensor; expected a path, as in save_grid\(path, images\)"),
        (lambda d: save_gif(d / "a.mp4", FRAMES), r"ends in '.mp4'; expected one of .gif, .png, .apng, .webp"),
        (lambda d: save_gif(d / "a", FRAMES), "ends in ''; expected one of"),
        (lambda d: save_gif(d / "a.gif", iter(())), "the chain has no steps left"),
        (lambda d: save_gif(d / "a.gif", FRAMES[0]), r"film has shape \(2, 1, 8, 6\); expected frames \(F, B, C, H, W\): film\[:, None\]"),
        (lambda d: save_gif(d / "a.gif", FRAMES * float("nan")), r"film is not finite \(NaN or infinity\) at frame 0"),
        (lambda d: save_gif(d / "a.gif", dl.to_uint8(FRAMES)), "film has dtype torch.uint8"),
        (lambda d: save_gif(d / "a.gif", chain(), what="x0"), "unknown what 'x0'; expected one of 'xt', 'x0_hat'"),
        (lambda d: save_gif(d / "a.gif", chain(), fps=0), "fps=0; expected frames per second, above 0 and at most 50"),
        (lambda d: save_gif(d / "a.gif", chain(), scale=1.5), "scale=1.5; expected an integer, 1 or more"),
        (lambda d: save_gif(d / "a.gif", chain(), frames=0), "frames=0; expected an integer, 1 or more"),
        (lambda d: save_gif(d / "a.gif", chain(), scale=3000), "the picture would be 30000x66000 pixels; expected at most 16383 a side"),
        (lambda d: save_gif(d / "a.gif", {"DDIM": chain()}), "the chain is a dict"),
        (lambda d: save_gif(d / "a.gif", [torch.zeros(1, 4, 2, 2)] * 2), "film has 4 channels"),
        (lambda d: save_frames(d / "a.gif", FRAMES * float("nan")), "film is not finite"),
        (lambda d: save_frames(__file__, FRAMES), "is a file; expected a folder"),
    ],
)
def test_rejects_what_cannot_be_written_and_leaves_no_file(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
    assert list(tmp_path.rglob("*.*")) == []


@pytest.mark.parametrize("save", [save_gif, save_frames, save_grid])
def test_rejects_a_path_that_is_empty(save):
    with pytest.raises(ValueError, match=r"path='' is empty; expected a path"):
        save("", FRAMES if save is not save_grid else FRAMES[0])
