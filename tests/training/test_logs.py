"""What the command writes down: each step once, also over interruptions, and the same pictures at every stage."""

import csv
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import CONFIG, as_if_sharded, tiny_dataset, tiny_denoiser
from PIL import Image

import diffusion_lib as dl
from diffusion_lib.training import TrainStep
from diffusion_lib.training.logs import Log, Row, TensorBoard, png, recorded, sheet


def numbers(path):
    with open(path, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def train(folder, stop=None, **options):
    """Trains to the end or to a step at which the process is taken to be killed; the steps that were taken."""
    steps = dl.train(tiny_denoiser(), tiny_dataset(), CONFIG, folder / "checkpoints")
    taken = []
    for step in recorded(steps, folder, CONFIG, **options):
        taken.append((step.step, step.loss.item(), step.grad_norm.item(), step.lr))
        if step.step == stop:
            break
    return taken


def test_log_holds_the_numbers_of_every_step(tmp_path):
    taken = train(tmp_path)
    rows = numbers(tmp_path / "log.csv")
    assert [tuple(row) for row in rows[:1]] == [("step", "loss", "grad_norm", "lr", "seconds")]
    assert [row["step"] for row in rows] == list(range(1, 13))
    for row, (_, loss, norm, lr) in zip(rows, taken, strict=True):
        assert [row["loss"], row["grad_norm"], row["lr"]] == pytest.approx([loss, norm, lr], rel=1e-5)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_resumed_run_continues_the_log_without_duplicates(tmp_path):
    whole = train(tmp_path / "whole")
    folder = tmp_path / "killed"
    train(folder, stop=8)  # the checkpoint is of step 6
    before = numbers(folder / "log.csv")[5]["seconds"]
    with open(folder / "log.csv", "a") as file:
        file.write("?,0,0,0,0\n9,0.5,")  # half a line, where a process was killed as it wrote
    train(folder)
    rows = numbers(folder / "log.csv")
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert [row["loss"] for row in rows] == pytest.approx([loss for _, loss, _, _ in whole], rel=1e-5)
    assert rows[5]["seconds"] == before
    assert rows[6]["seconds"] > before  # the time goes on, too
    content = (folder / "log.csv").read_bytes()
    assert train(folder) == []  # a run that is finished leaves it alone
    assert (folder / "log.csv").read_bytes() == content


def test_run_that_starts_anew_writes_a_new_log(tmp_path):
    train(tmp_path, stop=5)
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    train(tmp_path)
    assert [row["step"] for row in numbers(tmp_path / "log.csv")] == list(range(1, 13))


def test_rows_wait_for_the_device_and_are_written_around_checkpoints_and_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("diffusion_lib.training.logs.WRITE_EVERY", math.inf)
    seen = []
    steps = recorded(dl.train(tiny_denoiser(), tiny_dataset(), CONFIG), tmp_path, CONFIG)
    for step in steps:
        seen.append(len(numbers(tmp_path / "log.csv")))
        if step.step == 10:
            break
    assert seen == [1, 2, 3, 3, 5, 6, 6, 8, 9, 9]
    steps.close()  # as when the run is interrupted
    assert len(numbers(tmp_path / "log.csv")) == 10


def test_rows_before_an_error_are_written(tmp_path):
    def steps():
        for number in (1, 2):
            yield TrainStep(number, torch.tensor(math.nan), torch.tensor(math.inf), 0.5, None, None, torch.tensor(0))
        raise FloatingPointError("not finite")

    with pytest.raises(FloatingPointError):
        list(recorded(steps(), tmp_path, CONFIG))
    rows = numbers(tmp_path / "log.csv")
    assert len(rows) == 2
    assert math.isnan(rows[1]["loss"])
    assert rows[1]["grad_norm"] == math.inf


def test_log_file_with_other_contents_is_left_unchanged(tmp_path):
    (tmp_path / "log.csv").write_text("my notes\n")
    with pytest.raises(OSError, match=r"log\.csv begins with 'my notes'; expected 'step,loss,grad_norm,lr,seconds': move it away"):
        train(tmp_path)
    assert (tmp_path / "log.csv").read_text() == "my notes\n"


def test_full_disk_is_reported_with_the_name_of_the_log(tmp_path):
    log = Log(tmp_path)
    log.begin(0)

    def write(text):
        raise OSError(28, "No space left on device")

    log.file.close()
    log.file = SimpleNamespace(write=write)
    with pytest.raises(OSError, match=r"log\.csv could not be written \(No space left on device\); expected free space on the disk"):
        log.add([Row(1, 1.0, 1.0, 1.0, 1.0)])


def test_pictures_are_of_the_average_with_the_same_noise_each_time(tmp_path):
    losses = [loss for _, loss, _, _ in train(tmp_path, sample_every=5)]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [f"step-{n:06d}.png" for n in (5, 10, 12)]
    shown = np.array(Image.open(tmp_path / "samples" / "step-000012.png"))
    average = dl.load_checkpoint(tmp_path)
    expected = dl.sample(average, 36, steps=20, y=torch.arange(36) % 3)
    first, second = (dl.to_uint8(image)[0].numpy() for image in expected[:2])
    assert shown.shape == (6 * 10 + 2, 6 * 10 + 2, 3)
    np.testing.assert_array_equal(shown[2:10, 2:10, 0], first)
    np.testing.assert_array_equal(shown[2:10, 12:20, 0], second)
    # and to draw them changes nothing in training
    assert losses == [loss for _, loss, _, _ in train(tmp_path / "without")]


@pytest.mark.parametrize(("channels", "shape"), [(1, (3, 62, 62)), (3, (3, 62, 62)), (4, (4, 62, 62)), (2, (3, 122, 62))])
def test_picture_of_any_number_of_channels(channels, shape):
    def predict(xt, t, y=None):
        return dl.Prediction(0 * xt, xt)

    class Grey:
        schedule, image_shape, num_classes = dl.linear_schedule(20), (channels, 8, 8), None
        __call__ = staticmethod(predict)

    picture = sheet(Grey())
    assert tuple(picture.shape) == shape
    assert png(picture).startswith(b"\x89PNG")


def test_other_processes_write_nothing_and_draw_only_where_weights_are_sharded(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("diffusion_lib.training.logs.sheet", lambda denoiser, captions: drawn.append(denoiser))
    for ema in (tiny_denoiser(), as_if_sharded(tiny_denoiser())):
        step = TrainStep(12, torch.tensor(1.0), torch.tensor(1.0), 0.1, ema, ema, torch.tensor(0))
        assert list(recorded([step], tmp_path / "run", CONFIG, sample_every=1, writes=False)) == [step]
    assert drawn == [ema]
    assert not (tmp_path / "run").exists()


def test_missing_tensorboard_is_reported_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"--tensorboard needs the package tensorboard \(.+\); install it: python -m pip install"):
        TensorBoard(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_is_given_every_number_and_picture_once(tmp_path, monkeypatch):
    """A writer that records what it is given, in the place of TensorBoard's."""
    given = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            given.append(("opened", folder, purge_step))

        def add_scalar(self, name, value, step):
            given.append((name, value, step))

        def add_image(self, name, picture, step):
            given.append((name, tuple(picture.shape), step))

        def flush(self):
            pass

        def close(self):
            given.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter))
    train(tmp_path, stop=8, board=TensorBoard(tmp_path))
    given.clear()
    train(tmp_path, sample_every=10, board=TensorBoard(tmp_path))
    assert given[0] == ("opened", str(tmp_path / "tensorboard"), 7)
    rows = numbers(tmp_path / "log.csv")[6:]
    scalars = [(name, value, step) for name, value, step in given[1:-1] if name != "samples"]
    expected = [(name, row[name], row["step"]) for row in rows for name in ("loss", "grad_norm", "lr")]
    assert [(name, step) for name, _, step in scalars] == [(name, step) for name, _, step in expected]
    assert [value for _, value, _ in scalars] == pytest.approx([value for _, value, _ in expected], rel=1e-5)
    assert [each for each in given if each[0] == "samples"] == [("samples", (3, 62, 62), 10), ("samples", (3, 62, 62), 12)]
    assert given[-1] == "closed"


def test_tensorboard_reads_the_written_logs(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, stop=8, board=TensorBoard(tmp_path))
    train(tmp_path, board=TensorBoard(tmp_path))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 13))
