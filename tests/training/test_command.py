"""`python -m diffusion_lib.training`: every option takes effect, and its messages are correct."""

import copy
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import tiny_dataset, weights

import diffusion_lib as dl
from diffusion_lib.training import TrainConfig, TrainStep, checkpoints
from diffusion_lib.training import __main__ as training
from diffusion_lib.training.__main__ import main


def command(tmp_path, *arguments):
    line = [sys.executable, "-W", "error::RuntimeWarning", "-m", "diffusion_lib.training", "--out", str(tmp_path / "model"), *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONIOENCODING": "utf-8"}, check=False)


TINY = (
    *("--images", "32", "--steps", "4", "--warmup-steps", "1", "--batch-size", "8", "--base-channels", "8", "--T", "20"),
    *("--device", "cpu", "--precision", "float32", "--checkpoint-every", "2"),
)


def test_command_trains_and_saves_a_model(tmp_path):
    done = command(tmp_path, *TINY, "--prediction", "x0", "--schedule", "linear", "--norm-groups", "2")
    assert done.returncode == 0, done.stderr
    assert "from_pretrained" in done.stdout
    denoiser = dl.Denoiser.from_pretrained(tmp_path / "model")
    assert (denoiser.prediction, denoiser.schedule.name, denoiser.schedule.T) == ("x0", "linear", 20)
    assert (denoiser.num_classes, denoiser.image_shape) == (36, (1, 28, 28))
    assert (denoiser.network.config["base_channels"], denoiser.network.config["norm_groups"]) == (8, 2)
    # what is saved is the average, which a checkpoint of the last step holds too
    ema = checkpoints.newest(tmp_path / "model" / "checkpoints").content["ema"]
    torch.testing.assert_close(weights(denoiser), dict(ema), rtol=0, atol=0)
    assert dl.sample(denoiser, 2, steps=2, y=3).shape == (2, 1, 28, 28)


def test_rerunning_the_command_keeps_the_finished_model(tmp_path, capsys):
    main(["--out", str(tmp_path), *TINY])
    first = weights(dl.Denoiser.from_pretrained(tmp_path))
    main(["--out", str(tmp_path), *TINY])
    torch.testing.assert_close(weights(dl.Denoiser.from_pretrained(tmp_path)), first, rtol=0, atol=0)


def test_command_saves_a_run_finished_on_another_processor(tmp_path):
    main(["--out", str(tmp_path), *TINY])
    newest = checkpoints.newest(tmp_path / "checkpoints")
    content = copy.deepcopy(newest.content)  # which is mapped from the file that is written anew
    content["run"]["signal"][5] *= 1 + 1e-15
    torch.save(content, newest.path)
    (tmp_path / "config.json").unlink()
    main(["--out", str(tmp_path), *TINY])
    assert dl.Denoiser.from_pretrained(tmp_path).image_shape == (1, 28, 28)


def test_finished_run_continues_to_more_steps(tmp_path, capsys):
    main(["--out", str(tmp_path), *TINY])
    first = weights(dl.Denoiser.from_pretrained(tmp_path))
    main(["--out", str(tmp_path), *TINY])
    assert f"the run in {tmp_path} has already made its 4 steps: a larger --steps continues it\n" in capsys.readouterr().out
    with pytest.warns(UserWarning, match=r"has made its 4 steps and continues to 7: its learning rate rises again"):
        main(["--out", str(tmp_path), *TINY, "--steps", "7"])
    assert not torch.equal(weights(dl.Denoiser.from_pretrained(tmp_path))["network.stem.weight"], first["network.stem.weight"])
    assert [line.split(",")[0] for line in (tmp_path / "log.csv").read_text().split()] == ["step", *"1234567"]
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), *TINY])  # and not back
    assert "belongs to a run with steps=7, this one has 4 (the learning rate is planned for all of them" in capsys.readouterr().err


def test_run_starts_from_a_model_and_resumes(tmp_path, capsys):
    main(["--out", str(tmp_path / "a"), *TINY, "--prediction", "x0", "--schedule", "linear"])
    model = dl.Denoiser.from_pretrained(tmp_path / "a")
    still = ["--lr", "1e-12", "--weight-decay", "0", "--images", "16"]  # what it starts from is what it ends with
    plain = [word for word in TINY if word not in ("--base-channels", "8", "--T", "20", "--batch-size")] + ["--batch-size", "8"]
    main(["--out", str(tmp_path / "b"), *plain, *still, "--init-from", str(tmp_path / "a")])
    again = dl.Denoiser.from_pretrained(tmp_path / "b")
    assert (again.prediction, again.schedule.name, again.network.config) == ("x0", "linear", model.network.config)
    torch.testing.assert_close(weights(again), weights(model), rtol=0, atol=1e-6)
    assert "resuming after" not in capsys.readouterr().out
    main(["--out", str(tmp_path / "b"), *plain, *still, "--init-from", str(tmp_path / "a")])
    assert "resuming after step-00000004.pt: --init-from only matters at the first step" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--init-from", "glyhps"],
            r"glyhps is not a folder; expected .+: diffusion_lib\.load_pretrained\('glyphs'\) loads the shipped denoiser",
        ),
        (
            ["--init-from", "glyphs", "--prediction", "x0"],
            r"--prediction x0 with --init-from, whose model has v; expected the model's: leave",
        ),
        (["--init-from", "glyphs", "--base-channels", "64"], r"--base-channels 64 with --init-from, whose model has 48; expected the"),
        (["--init-from", "glyphs", "--unconditional"], r"--unconditional True with --init-from, whose model has False; expected"),
        (["--init-from", "{out}"], r"--init-from and --out are both .+; expected a different folder for the new run"),
        (["--sample-every", "-1"], r"--sample-every -1; expected a number of steps, or 0 for no pictures"),
    ],
)
def test_rejects_contradictory_options(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as ended:
        main(["--out", str(tmp_path), "--images", "8", *(option.format(out=tmp_path) for option in options)])
    assert ended.value.code == 1
    assert re.match(rf"python -m diffusion_lib.training: {message}", capsys.readouterr().err)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("device", ["cuda:99", "mps:9", "xpu:9", "meta"])
def test_missing_device_is_reported_in_one_line(tmp_path, capsys, device):
    with pytest.raises(SystemExit) as ended:
        main(["--out", str(tmp_path / "model"), "--device", device])
    assert ended.value.code == 1
    said = rf"python -m diffusion_lib.training: device='{device}' .*; expected 'auto', .+ 'cpu': --device auto on the command"
    assert re.fullmatch(said + " line\n", capsys.readouterr().err)
    assert not (tmp_path / "model").exists()


def test_out_may_begin_with_a_tilde(begun, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with pytest.raises(Begun):
        main(["--out=~/model"])
    assert begun["train"][3] == tmp_path / "model" / "checkpoints"


def test_command_draws_pictures(tmp_path):
    main(["--out", str(tmp_path), *TINY, "--sample-every", "3"])
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["step-000003.png", "step-000004.png"]


def test_command_reports_missing_tensorboard_before_training(begun, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--tensorboard"])
    assert "--tensorboard needs the package tensorboard" in capsys.readouterr().err
    assert "dataset" not in begun


class Begun(Exception):  # noqa: N818 - not an error
    """Raised where training would begin."""


@pytest.fixture
def begun(monkeypatch):
    """What dataset and training were asked for, by a command that goes no further."""
    found = {}

    def load_dataset(*names, **options):
        found["dataset"] = (*names, options)
        return tiny_dataset()

    def train(*arguments):
        found["train"] = arguments
        raise Begun

    monkeypatch.setattr(training, "load_dataset", load_dataset)
    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(training, "launched", lambda *options: found.update(launched=options))
    return found


def test_command_uses_the_defaults_without_options(begun):
    with pytest.raises(Begun):
        main(["--out", "model"])
    assert begun["dataset"] == ("glyphs", dict(n=None, size=None, seed=0, root=None))
    denoiser, dataset, config, directory, accelerator = begun["train"]
    assert (config, directory, accelerator) == (TrainConfig(), Path("model/checkpoints"), None)
    assert len(dataset) == len(tiny_dataset())
    assert denoiser.network.config == dl.UNet(num_classes=3).config
    assert (denoiser.schedule.name, denoiser.schedule.T, denoiser.prediction) == ("cosine", 1000, "v")
    assert begun["launched"] == ("auto", "auto")


def test_every_option_takes_effect(begun):
    asked = dict(steps=7, batch_size=3, lr=0.5, weight_decay=0.25, warmup_steps=2, grad_clip=2.0, ema_decay=0.5, cond_drop_prob=0.75)
    asked |= dict(timesteps="logit_normal", checkpoint_every=4, skip_limit=5, seed=6, device="cpu", precision="bfloat16")
    assert asked.keys() == TrainConfig.__dataclass_fields__.keys()
    options = dict(out="model", dataset="photo", root="files", images=9, dataset_seed=8, size=16, schedule="linear", T=50)
    options |= dict(prediction="x0", base_channels=6, norm_groups=2) | asked
    line = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with pytest.raises(Begun):
        main([*line, "--unconditional"])
    assert begun["dataset"] == ("photo", dict(n=9, size=16, seed=8, root=Path("files")))
    denoiser, _, config, _, _ = begun["train"]
    assert config == TrainConfig(**asked)
    assert denoiser.network.config == dl.UNet(base_channels=6, norm_groups=2).config
    assert (denoiser.schedule.name, denoiser.schedule.T, denoiser.prediction) == ("linear", 50, "x0")
    assert begun["launched"] == ("cpu", "bfloat16")


def test_initial_weights_depend_only_on_the_seed(begun):
    states = []
    for seed in (0, 0, 1):
        torch.rand(1)
        with pytest.raises(Begun):
            main(["--out", "model", "--seed", str(seed)])
        states.append(begun["train"][0].network.stem.weight)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "the following arguments are required: --out"),
        (["--out", "model", "--schedule", "cosin"], "argument --schedule: invalid choice: 'cosin'"),
        (["--out", "model", "--prediction", "noise"], "argument --prediction: invalid choice: 'noise'"),
        (["--out", "model", "--T", "1.5"], "argument --T: invalid int value: '1.5'"),
        (["--out", "model", "--unconditional", "yes"], "unrecognized arguments: yes"),
        (["--out", "model", "--precision", "bf16"], "unknown precision 'bf16'; expected one of 'auto', 'float32', 'bfloat16', 'float16'"),
        (["--out", "model", "--steps", "0"], "steps=0; expected 1 or more"),
    ],
)
def test_rejects_invalid_options(begun, capsys, line, message):
    with pytest.raises(SystemExit):
        main(line)
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("usage: python -m diffusion_lib.training [-h] --out OUT")
    assert begun == {}


def test_help_lists_every_option_and_its_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f" {main.__doc__} " in said
    defaults = {name: option.default for name, option in TrainConfig.__dataclass_fields__.items()}
    defaults |= dict(T=1000, base_channels=32, norm_groups=4)
    words = {f"--{name.replace('_', '-')}": f"default: {default}" for name, default in defaults.items()}
    words |= {
        "--out": "folder for the model; checkpoints go to OUT/checkpoints, and a run resumes from them",
        "--dataset": "glyphs, postcards, photo, mnist, fashion_mnist, cifar10 or folder:PATH; default: glyphs",
        "--root": "folder for torchvision's datasets; default: the cache folder",
        "--images": "number of images to train on; default: all",
        "--dataset-seed": "seed of glyphs and postcards: another seed gives other images; default: 0",
        "--size": "height and width of photo and folder images, such as 32, or HEIGHTxWIDTH: 32x48; of postcards, one number",
    }
    for flag, meaning in words.items():
        assert re.search(rf" {flag} {flag[2:].upper().replace('-', '_')} {re.escape(meaning)} (--|$)", f"{said} "), flag
    for line in (
        "--schedule {linear,cosine,sigmoid,straight} default: cosine --T",
        "--prediction {eps,x0,v,flow} default: v --base-channels",
        "--unconditional do not give the network the classes or captions --traceback show a traceback when something goes wrong --compile",
        "--compile compile the network first: pays off in long runs on a GPU --steps",
    ):
        assert line in said


class Bar:
    """In the place of tqdm's progress bar: keeps what it is given."""

    def __init__(self, **options):
        self.options, self.n, self.given, self.closed = options, 0, [], False

    def update(self, n):
        self.n += n

    def set_postfix(self, **numbers):
        self.given.append(numbers)

    def close(self):
        self.closed = True


@pytest.fixture
def run_to_the_end(monkeypatch, tmp_path):
    """Runs the command with training replaced by steps of these numbers, losses and skips; returns its bar and what was trained."""

    def go(taken, accelerator=None, look_every=0.0):
        bars = []
        monkeypatch.setattr("tqdm.tqdm", lambda **options: bars.append(Bar(**options)) or bars[0])
        monkeypatch.setattr(training, "launched", lambda *options: accelerator)
        monkeypatch.setattr(training, "LOOK_EVERY", look_every)
        monkeypatch.setattr(training, "load_dataset", lambda *names, **options: tiny_dataset())

        def train(*arguments):
            trained.extend(arguments)
            for number, loss, skipped in taken:
                yield TrainStep(number, torch.tensor(loss), torch.tensor(1.0), 0.012, None, None, torch.tensor(skipped))

        trained = []
        monkeypatch.setattr(training, "train", train)
        main(["--out", str(tmp_path / "model"), "--steps", "300", "--device", "cpu", "--precision", "float32"])
        return bars[0], trained

    return go


@pytest.mark.parametrize(
    ("arguments", "cuda", "process", "mode"),
    [
        ([], True, None, None),
        (["--compile"], True, None, "reduce-overhead"),
        (["--compile"], False, None, "default"),
        (["--compile", "--device", "cpu"], True, None, "default"),
        (["--compile"], True, SimpleNamespace(is_main_process=False), "default"),  # which may add gradients up
    ],
)
def test_compiles_the_network_on_request_and_with_cuda_graphs_on_one_gpu(monkeypatch, tmp_path, arguments, cuda, process, mode):
    compiled = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: compiled.append((type(module), options)))
    monkeypatch.setattr(training, "launched", lambda *options: process)
    monkeypatch.setattr(training, "load_dataset", lambda *names, **options: tiny_dataset())

    def begin(*arguments):
        raise Begun

    monkeypatch.setattr(training, "train", begin)
    with pytest.raises(Begun):
        main(["--out", str(tmp_path), *arguments])
    assert compiled == ([] if mode is None else [(dl.UNet, dict(mode=mode, dynamic=False))])


def other_process():
    ended = []
    return SimpleNamespace(is_main_process=False, end_training=lambda: ended.append(True), ended=ended)


def test_progress_bar_shows_running_mean_loss_and_number_of_skipped_steps(run_to_the_end, capsys, tmp_path):
    process = other_process()
    losses = [4.0, math.nan, 1.0, *[2.5] * 97, 102.5, 103.5]
    taken = [(101 + k, loss, int(k > 0)) for k, loss in enumerate(losses)]  # a run that was resumed after step 100
    bar, (_, _, config, _, accelerator) = run_to_the_end(taken, process)
    # each finite loss moves the mean by its share of them, at the end by a hundredth
    lr, means = "1.2e-02", ["4.0000", "4.0000", "2.5000", "2.5000", "3.5000", "4.5000"]
    shown = [dict(loss=mean, lr=lr, **({"skipped": 1} if number else {})) for number, mean in enumerate(means)]
    assert ([*bar.given[:4], *bar.given[-2:]], bar.n, bar.closed) == (shown, 202, True)
    assert bar.initial == 100
    assert bar.options == dict(total=300, unit="step", smoothing=0.05, disable=True)
    # and of several processes, all but the first say and write nothing
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "model").exists()
    assert process.ended == [True]
    assert accelerator is process
    assert (config.device, config.precision) == ("auto", "auto")  # they are the accelerator's


def test_running_mean_includes_losses_between_updates(run_to_the_end):
    taken = [(k + 1, loss, 0) for k, loss in enumerate([4.0, 2.0, math.nan, *[3.0] * 296, 3.0])]
    bar, _ = run_to_the_end(taken, other_process(), look_every=1e6)
    # the first one at once, the last one with all between
    assert ([given["loss"] for given in bar.given], bar.n) == (["4.0000", "3.0000"], 300)


def test_missing_last_checkpoint_is_not_saved_as_trained_model(run_to_the_end, tmp_path, capsys):
    def refused():
        with pytest.raises(SystemExit) as ended:
            run_to_the_end([(300, 1.0, 0)])
        assert ended.value.code == 1
        return capsys.readouterr().err

    folder = tmp_path / "model"
    message = f"the last checkpoint in {folder} cannot be read back: check the disk, then start again\n"
    assert refused() == f"python -m diffusion_lib.training: {message}"
    ema = dl.Denoiser(dl.UNet(num_classes=3), dl.cosine_schedule(1000), "v")
    config = TrainConfig(steps=300, device="cpu", precision="float32")
    older = {name: kind() for name, kind in checkpoints.CONTENT.items()} | dict(step=299, ema=ema.state_dict())
    checkpoints.write(folder / "checkpoints", older)
    assert message in refused()
    assert not (folder / "config.json").exists()
    checkpoints.write(folder / "checkpoints", older | dict(step=300))
    assert refused().endswith("belongs to another run; expected a folder that no other run writes to\n")
    ours = older | dict(step=300, run=checkpoints.identity(config, ema, tiny_dataset()))
    checkpoints.write(folder / "checkpoints", ours)
    run_to_the_end([(300, 1.0, 0)])
    assert dl.Denoiser.from_pretrained(folder).image_shape == tiny_dataset().image_shape
    found = "glyphs: 24 images of 1x8x8 in 3 classes: 8 a, 8 b, 8 c\n"
    assert capsys.readouterr().out == f"{found}saved to {folder}: load it with diffusion_lib.Denoiser.from_pretrained({str(folder)!r})\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "glyph"], r"unknown dataset 'glyph'; expected one of 'glyphs', .+ Did you mean 'glyphs'\?"),
        (["--steps", "50"], "warmup_steps=100 with steps=50; expected fewer warm-up steps than steps"),
        (["--dataset", "folder:nowhere"], r"nowhere is not a folder; expected one with images, as in 'folder:my_pictures'"),
        (["--device", "gpu"], r"device='gpu'; expected 'auto', 'cpu', .+"),
        (["--base-channels", "9"], r".+expected.+"),
    ],
)
def test_errors_are_reported_in_one_line(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        main(["--out", str(tmp_path), "--images", "8", "--batch-size", "2", *arguments])
    assert ended.value.code == 1
    assert re.fullmatch(rf"python -m diffusion_lib.training: {message}\n", capsys.readouterr().err)
    with pytest.raises((ValueError, OSError)):
        main(["--out", str(tmp_path), "--images", "8", "--batch-size", "2", *arguments, "--traceback"])


@pytest.mark.parametrize(("checkpoint", "message"), [("step-00000007.pt", "after step-00000007.pt"), ("other", "at the first step")])
def test_interrupt_prints_where_the_same_command_resumes(begun, tmp_path, capsys, monkeypatch, checkpoint, message):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / checkpoint).touch()

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["--out", str(tmp_path)])
    assert ended.value.code == 130
    assert capsys.readouterr().err == f"\nstopped: the same command resumes {message}\n"


@pytest.mark.parametrize(
    "options",
    [
        ["--init-from", "glyph"],
        ["--steps", "5", "--warmup-steps", "5"],
        ["--base-channels", "10"],
        ["--norm-groups", "0"],
        ["--T", "0"],
        ["--out", "taken"],
        ["--out", "taken/model"],
        ["--init-from", "glyphs", "--size", "32"],
        ["--init-from", "glyphs", "--channels", "3"],
    ],
)
def test_wrong_options_are_reported_before_images_load(begun, capsys, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    with pytest.raises(SystemExit) as ended:
        main(["--out", "model", *options])
    assert ended.value.code == 1
    assert "expected" in capsys.readouterr().err
    assert "dataset" not in begun


@pytest.mark.parametrize(
    "fail",
    [
        lambda *arguments: torch.empty(2**50, device="cpu"),
        lambda *arguments: torch.empty((2**62, 2**62), device="cpu"),
        lambda *arguments: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")),
    ],
)
def test_running_out_of_memory_is_reported_in_one_line(begun, capsys, tmp_path, monkeypatch, fail):
    monkeypatch.setattr(training, "train", lambda *arguments: fail() or list(fail()))
    with pytest.raises(SystemExit) as ended:
        main(["--out", str(tmp_path), "--batch-size", "5000000"])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert re.fullmatch(r"python -m \S+: out of memory \(.+\); expected a run that fits: a --batch-size below 5000000 .+\n", said)


def test_other_runtime_errors_keep_their_traceback(begun, tmp_path, monkeypatch):
    def train(*arguments):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(RuntimeError, match="multiplied"):
        main(["--out", str(tmp_path)])


@pytest.mark.parametrize("place", ["", " ", "$NOT_SET_ANYWHERE/x", "${NOT_SET_ANYWHERE}"])
def test_rejects_out_with_an_unset_variable(begun, capsys, place):
    with pytest.raises(SystemExit):
        main(["--out", place])
    assert re.search(r"argument --out: path=.*(is empty|NOT_SET_ANYWHERE\}? is not set); expected a path", capsys.readouterr().err)
    assert begun == {}


def test_failed_run_saves_no_model(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dl.Denoiser, "loss", lambda self, x0, y, t, eps: self(x0, t, y).eps.flatten(1).mean(1) * math.nan)
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), *TINY])
    assert "loss or gradient was not finite in the 4 steps up to 4" in capsys.readouterr().err
    assert not (tmp_path / "config.json").exists()
