"""The benchmark scripts time what they claim to time, and keep the results they have written."""

import itertools
import json
import re
from types import SimpleNamespace

import ablation
import common
import ddim_table
import peers
import postcards_network
import pytest
import side_by_side
import throughput
import time_to_quality
import torch
from helpers import SHARED
from torch import nn

import diffusion_lib as dl
from diffusion_lib.data.captions import vocabulary
from diffusion_lib.data.postcards import ATTRIBUTES


def test_side_by_side_alternates_and_excludes_the_warm_up():
    calls = []
    seconds = common.side_by_side({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert [len(seconds[name]) for name in "ab"] == [3, 3]


def test_ratio_is_the_median_of_the_rounds():
    # a slow round slows both: the ratio of the medians would be 3
    assert common.ratio([2.0, 20.0, 6.0], [1.0, 10.0, 2.0]) == 2.0


def test_writes_results_atomically(tmp_path):
    path = tmp_path / "results" / "x.json"
    common.write(path, {"rows": [1]})
    with pytest.raises(TypeError, match="not JSON serializable"):
        common.write(path, {"rows": [1, torch]})
    assert json.loads(path.read_text()) == {"rows": [1]}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_results_start_with_their_origin():
    origin = common.origin("/somewhere/throughput.py", "cpu")
    assert (origin["script"], origin["torch"], origin["machine"]) == ("benchmarks/throughput.py", torch.__version__, common.machine())
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", origin["date"])


@pytest.mark.parametrize("training", [False, True])
def test_convolutions_alone_match_those_of_the_network(training):
    network = dl.UNet(base_channels=8, attention_levels=())
    denoiser = dl.Denoiser(network, dl.cosine_schedule(), "v", peers.SHAPE)
    alone = throughput.flops(throughput.convolutions_alone(denoiser, 2, "cpu", "float32", "channels last", training))
    sizes = []
    hooks = [
        m.register_forward_hook(lambda m, args, out: sizes.append(m.weight.numel() * out[0, 0].numel() * len(out)))
        for m in network.modules()
        if isinstance(m, nn.Conv2d)
    ]
    network(torch.zeros(2, *peers.SHAPE), torch.ones(2, dtype=torch.long))
    for hook in hooks:
        hook.remove()
    # a multiplication and an addition each; backwards once for the inputs and once for the weights
    assert alone == 2 * sum(sizes) * (3 if training else 1)


def test_reverting_the_attention_changes_results_by_rounding_only():
    torch.manual_seed(0)
    network = dl.UNet()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, t = torch.randn(3, *peers.SHAPE), torch.tensor([1, 500, 1000])
    answers = []
    for _ in range(2):
        network.zero_grad()
        answer = network(x, t)
        answer.square().sum().backward()
        answers.append([answer.detach(), *(p.grad.clone() for p in network.parameters())])
        ablation.fuse_attention(network)
    assert sum(isinstance(module, ablation.FusedAttention) for module in network.modules()) == 3
    for ours, fused in zip(*answers, strict=True):
        assert torch.allclose(ours, fused, rtol=1e-3, atol=1e-4 * fused.abs().max().item())


def test_each_change_is_reverted_alone_and_compared(capsys):
    make = ablation.training.make_optimizer
    ablation.main(["--batch-size", "2", "--rounds", "1", "--precision", "float32"])
    lines = capsys.readouterr().out.splitlines()
    assert ablation.training.make_optimizer is make
    assert [line.split("  ")[2] for line in lines[1:]] == [
        "as it is",
        "pixels, not 2x2 patches",
        "norm groups of 4 channels, not of 8",
        "channels first",
        "fused attention",
        "AdamW parameter by parameter",
    ]
    assert all(float(re.search(r"takes +([\d.]+) times", line)[1]) > 0 for line in lines[1:])
    assert "1.00" in lines[1]


def test_training_step_flops_are_close_to_those_of_its_convolutions():
    ours = dl.Denoiser(dl.UNet(base_channels=8), dl.cosine_schedule(), "v", peers.SHAPE)
    step = throughput.training_step(ours, 4, "cpu", "float32")
    alone = throughput.convolutions_alone(ours, 4, "cpu", "float32", "channels last", True)
    # less, since nobody asks for the gradient of the images; more, since there are linear layers too
    assert 0.95 < throughput.flops(step) / throughput.flops(alone) < 1.2


def test_peers_get_timesteps_counted_from_zero():
    seen = []
    network = peers.CountedFromOne(lambda xt, t: seen.append(t.tolist()) or xt)
    network(torch.zeros(2, 1, 4, 4), torch.tensor([1, 1000]))
    assert seen == [[0, 999]]


def test_diffusers_peer_uses_its_own_schedule():
    from diffusers import DDPMScheduler

    denoiser = peers.diffusers_denoiser()
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod
    torch.testing.assert_close(denoiser.schedule.alpha_bar[1:].float(), theirs, rtol=1e-4, atol=1e-9)
    assert denoiser(torch.zeros(1, *peers.SHAPE), 500).eps.shape == (1, *peers.SHAPE)


def test_simple_postcards_have_one_thing_and_say_everything():
    cards = postcards_network.simple(dl.load_dataset("postcards", n=200), 0)
    assert 20 < len(cards) < 100
    assert (cards.attributes["weather"] == 0).all()
    assert (cards.attributes["thing"] > 0).all()
    assert (cards.attributes["second_thing"] == 0).all()
    for name in ("thing", "colour", "place", "mountains"):  # as their captions call them
        values = cards.attribute_names[name] if name != "mountains" else ("mountains", "mountains")
        for caption, value in zip(cards.captions, cards.attributes[name].tolist(), strict=True):
            assert values[value] in caption.split()


@pytest.mark.parametrize("name", postcards_network.VARIANTS)
def test_every_variant_of_the_captioned_network_can_learn(name):
    make, _ = postcards_network.VARIANTS[name]
    torch.manual_seed(0)
    network = make()
    answer = network(torch.randn(2, 3, 32, 32), torch.tensor([1, 500]), torch.tensor([[1, 2], [3, 0]]))
    assert answer.shape == (2, 3, 32, 32)
    assert not answer.any()  # a new network predicts 0, the finishing convolution too
    answer.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in network.parameters())


def test_search_goes_on_with_the_variants_that_its_results_lack(tmp_path, monkeypatch):
    learnt = []

    def learn(name, seconds, seed, cards, unseen):
        learnt.append((name, seed))
        return dict(variant=name, seed=seed, images=0, seconds=0, grain=0.0, right={})

    monkeypatch.setattr(postcards_network, "learn", learn)
    options = ["--images", "100", "--n", "4", "--out", str(tmp_path / "found.json")]
    postcards_network.main([*options, "--variants", "base"])
    postcards_network.main([*options, "--variants", "base", "48 channels", "--seeds", "0", "1"])
    assert learnt == [("base", 0), ("48 channels", 0), ("base", 1), ("48 channels", 1)]
    postcards_network.main([*options, "--variants", "base", "--seconds", "60"])  # others' results do not count
    assert learnt[-1] == ("base", 0)
    assert [row["variant"] for row in json.loads((tmp_path / "found.json").read_text())["rows"]] == ["base"]


def test_table_keeps_the_cells_that_it_has_unless_the_model_is_another(tmp_path, monkeypatch):
    model, out = (
        dl.Denoiser(dl.UNet(3, 8, words=vocabulary(ATTRIBUTES)), dl.cosine_schedule(), "v", image_shape=(3, 32, 32)),
        tmp_path / "out.json",
    )
    drawn, draw = [], dl.sample
    monkeypatch.setattr(dl, "sample", lambda *args, **options: drawn.append((options["steps"], options["first"])) or draw(*args, **options))

    def table(*options):
        drawn.clear()
        model.save_pretrained(tmp_path / "model")
        options = ["--rows", "eta=0", "large variance", "--n", "300", "--work", str(tmp_path / "work"), "--out", str(out), *options]
        ddim_table.main(["--model", str(tmp_path / "model"), *options])
        return drawn

    assert table("--steps", "1") == [(1, 0), (1, 250)] * 2
    assert table("--steps", "1", "2") == [(2, 0), (2, 250)] * 2
    results = json.loads(out.read_text())
    assert [(cell["row"], cell["steps"], cell["n"]) for cell in results["cells"]] == [
        (row, steps, 300) for steps in (1, 2) for row in ("eta=0", "large variance")
    ]
    one_step = [cell["grain"] for cell in results["cells"][:2]]
    assert one_step[0] == one_step[1]  # a single step adds no noise, whatever the variance
    assert results["cells"][2]["grain"] != results["cells"][3]["grain"]
    out.unlink()
    assert table("--steps", "1", "2") == []  # from the parts in the work folder
    assert json.loads(out.read_text())["cells"] == results["cells"]
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    assert table("--steps", "1") == [(1, 0), (1, 250)] * 2
    assert len(json.loads(out.read_text())["cells"]) == 2


def test_judge_tells_real_postcards_from_grey_and_from_grainy_ones():
    judge = ddim_table.Judge(300, 0)
    images, thing, colour, captions = ddim_table.of_one_thing(300, 0)
    assert captions == [f"a {ATTRIBUTES['colour'][c]} {ATTRIBUTES['thing'][k]}" for c, k in zip(colour, thing, strict=True)]
    assert judge.real["as_asked"]["value"] > 0.98
    assert judge.real["contrast"]["low"] < 1 < judge.real["contrast"]["high"]
    found = {
        "grey": judge.summary(judge.observe(judge.mean + 0.5 * (images - judge.mean), slice(0, 300))),
        "grainy": judge.summary(judge.observe(images + 0.1 * torch.randn(images.shape), slice(0, 300))),
        "of other captions": judge.summary(judge.observe(images.flip(0), slice(0, 300))),
    }
    assert found["grey"]["contrast"]["value"] == pytest.approx(0.5 * judge.real["contrast"]["value"], rel=1e-5)
    assert found["grainy"]["grain"]["low"] > 1.5 * judge.real["grain"]["high"]
    assert found["of other captions"]["as_asked"]["value"] < 0.2
    assert found["of other captions"]["frechet_distance"] == pytest.approx(judge.real["frechet_distance"], rel=0.05)
    for name in ("grey", "grainy"):
        assert found[name]["frechet_distance"]["low"] > judge.real["frechet_distance"]["high"]


def test_peers_take_colour_images():
    pytest.importorskip("denoising_diffusion_pytorch", reason="needs denoising-diffusion-pytorch, as pip install -e '.[benchmarks]' has it")
    for denoiser in throughput.denoisers((3, 32, 32)).values():
        assert denoiser.image_shape == (3, 32, 32)
        assert denoiser(torch.zeros(1, 3, 32, 32), 500).x0.shape == (1, 3, 32, 32)


@pytest.mark.parametrize("name", time_to_quality.PEERS)
def test_trained_peer_survives_saving_and_loading(tmp_path, name):
    pytest.importorskip(name.replace("-", "_"), reason=f"{name} is not installed: pip install -e '.[benchmarks]'")
    denoiser = time_to_quality.NEW[name]().eval()
    for parameter in denoiser.parameters():
        parameter.data.add_(0.01)
    time_to_quality.keep(tmp_path, name, 30, peers.Moment(30.5, 128, denoiser))
    seconds, images, again = time_to_quality.kept(tmp_path, name, 30)
    assert (seconds, images) == (30.5, 128)
    xt = torch.randn(2, *peers.SHAPE)
    assert torch.equal(denoiser(xt, 500).x0, again(xt, 500).x0)


def test_batches_contain_every_image_once_per_epoch():
    images = torch.arange(10).view(10, 1, 1, 1)
    batch = peers.batches(images, 5, seed=0)
    assert sorted(torch.cat([next(batch), next(batch)]).flatten().tolist()) == list(range(10))


def test_plans_the_steps_of_our_model_and_stops_at_its_time_limit(monkeypatch):
    images = torch.randn(100, *peers.SHAPE).clamp(-1, 1)
    dataset = dl.ImageDataset.without_classes(images)
    monkeypatch.setattr(time_to_quality, "new_denoiser", lambda seed: dl.Denoiser(dl.UNet(base_channels=8), dl.cosine_schedule(), "v"))
    # a clock that ticks once whenever it is read: for the start, for each of 30 trial steps, and for each step
    ticks = itertools.count()
    monkeypatch.setattr(time_to_quality, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    moment = time_to_quality.train_ours(dataset, budget=40.0, seed=0)
    assert moment.seconds == 40.0
    assert moment.images == 10 * 32
    assert not moment.denoiser.training
    # steps that take three times as long as in the trial
    ticks = itertools.chain(range(31), itertools.count(33, 3))
    moment = time_to_quality.train_ours(dataset, budget=40.0, seed=0)
    assert moment.seconds == 42.0
    assert moment.images == 4 * 32
    ticks = itertools.count()
    with pytest.raises(ValueError, match="a budget of 30 s; expected more: 30 trial steps alone took 30 s here"):
        time_to_quality.train_ours(dataset, budget=30.0, seed=0)


def test_skips_rows_that_are_already_measured(tmp_path, capsys, monkeypatch):
    if not SHARED.is_dir():
        pytest.skip("../shared/data, with the files of MNIST, is not here")
    trained = []

    def untrained(dataset, budget, seed, device):
        trained.append(budget)
        return peers.Moment(budget, 32, time_to_quality.new_denoiser(seed).eval())

    monkeypatch.setattr(time_to_quality, "train_ours", untrained)
    out = tmp_path / "time_to_quality.json"
    command = ["--root", str(SHARED), "--networks", "diffusion_lib", "--n", "100", "--steps", "2", "--out", str(out)]
    command = ["--models", str(tmp_path / "models"), *command]
    time_to_quality.main([*command, "--budgets", "1"])
    time_to_quality.main([*command, "--budgets", "1", "2"])
    assert trained == [1, 2]
    results = json.loads(out.read_text())
    assert [row["budget"] for row in results["rows"]] == [1, 2]
    # the rows are lost, the trained models are not
    rows = [row["frechet_distance"] for row in results["rows"]]
    out.unlink()
    time_to_quality.main([*command, "--budgets", "1", "2"])
    assert trained == [1, 2]
    assert [row["frechet_distance"] for row in json.loads(out.read_text())["rows"]] == rows[::-1]
    # of noise that an untrained network leaves, nothing passes for real
    assert all(row["frechet_distance"]["value"] > 20 * results["real"]["value"] for row in results["rows"])
    with pytest.raises(SystemExit):
        time_to_quality.main([*command[:-3], "3", "--out", str(out)])
    assert "holds results of other settings" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------- two checkouts


def test_each_round_times_both_checkouts_twice_in_alternating_order():
    order = []
    clock = itertools.count(1)

    def timer(name):
        def call():
            order.append(name)
            return side_by_side.Seconds(float(next(clock)), 1.0)

        return call

    taken = side_by_side.rounds_of(timer("other"), timer("this"), rounds=2)
    assert order == ["other", "this", "this", "other"] * 2
    assert taken == [((2.5, 1.0), (2.5, 1.0)), ((6.5, 1.0), (6.5, 1.0))]  # what slows down evenly slows both


def test_row_shows_medians_and_quartiles_of_the_ratios():
    times = [(1.0, 2.0), (2.0, 3.0), (3.0, 3.0), (40.0, 20.0), (5.0, 20.0)]
    taken = [(side_by_side.Seconds(a, 1.0), side_by_side.Seconds(b, 0.5)) for a, b in times]
    assert side_by_side.row("task", taken).split() == [
        *("task", "3000.0", "ms", "3000.0", "ms"),
        *("1.500", "[1.000,", "2.000]"),
        *("0.500", "[0.500,", "0.500]"),
    ]


def checkout(folder, code):
    """A folder with a package of that code, and a torch that is imported in no time."""
    (folder / "diffusion_lib").mkdir(parents=True)
    (folder / "torch.py").write_text("manual_seed = lambda seed: None")
    (folder / "diffusion_lib" / "__init__.py").write_text(code)
    return folder


FAKE = """
print("this is no answer")

class Denoiser:
    def __init__(self, *arguments):
        self.eval = lambda: self

UNet = lambda num_classes: None
cosine_schedule = lambda: None

def sample(denoiser, n):
    with open(__file__ + ".calls", "a") as file:
        print(n, denoiser.image_shape, file=file)
"""


def test_times_the_packages_of_both_checkouts(tmp_path, capsys):
    folders = [checkout(tmp_path / name, FAKE) for name in ("before", "after")]
    side_by_side.main(
        [str(folders[0]), "--this", str(folders[1]), "--rounds", "2", "--pairs", "1", "--tasks", "sample(model, 16)", "import"]
    )
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["other", "this"]
    assert [re.split("  +", row)[0] for row in rows] == ["sample(model, 16)", "import"]
    for folder in folders:  # two to warm up, and two in each round
        assert (folder / "diffusion_lib" / "__init__.py.calls").read_text() == "16 (1, 28, 28)\n" * 6
        assert sorted(path.name for path in folder.rglob("*")) == ["__init__.py", "__init__.py.calls", "diffusion_lib", "torch.py"]


def test_every_benchmark_task_runs_with_this_package():
    for task in side_by_side.TASKS.values():
        task.make()()


def test_rejects_folder_without_package_and_reports_failing_package(tmp_path, capfd):
    with pytest.raises(SystemExit):
        side_by_side.main([str(tmp_path)])
    assert f"{tmp_path} holds no diffusion_lib; expected the folder of a checkout" in capfd.readouterr().err
    broken = checkout(tmp_path / "broken", "raise RuntimeError('too new')")
    with pytest.raises(SystemExit, match=rf"the process with the package in {broken} ended with exit status 1 \(see above\)"):
        side_by_side.main([str(broken), "--tasks", "sample(model, 16)"])
    assert "too new" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        side_by_side.main([str(broken), "--rounds", "1", "--pairs", "1"])
    assert "expected two rounds or more in all" in capfd.readouterr().err
