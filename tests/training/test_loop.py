"""Training: the loop's arithmetic, the random draws of each step, skipped steps, and rejected arguments."""

import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import CONFIG, as_if_sharded, broken, noise, run, tiny_dataset, tiny_denoiser, tiny_unet, weights
from torch.optim.optimizer import register_optimizer_step_pre_hook

import diffusion_lib as dl
from diffusion_lib.training import checkpoints
from diffusion_lib.training.batches import batch_indices
from diffusion_lib.training.loop import EMA, learning_rate, make_optimizer
from diffusion_lib.training.run import Skips

# ---------------------------------------------------------------------------------------------------------------------- the loop


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
def test_twenty_steps_lower_the_loss(dataset, prediction):
    denoiser = tiny_denoiser(prediction, zero=True)
    t = torch.arange(24) % 20 + 1
    eps = noise(24, 1, 8, 8, dtype=torch.float32)

    def loss(denoiser):
        with torch.no_grad():
            return denoiser.loss(dataset.images, dataset.labels, t, eps).mean().item()

    before = loss(denoiser)
    config = replace(CONFIG, steps=20, batch_size=24, lr=5e-3, ema_decay=0.9)
    *_, end = dl.train(denoiser, dataset, config)
    assert loss(denoiser.eval()) < 0.8 * before
    assert loss(end.ema) < 0.9 * before


def test_step_uses_the_gradient_of_the_mean_loss(dataset):
    # not of its square, as loss.backward(loss) would have it, nor of the sum
    denoiser = tiny_denoiser(num_classes=None)
    random = torch.Generator().manual_seed(CONFIG.seed * 1_000_003 + 1)
    images = dataset.images[batch_indices(24, 10, 1, CONFIG.seed)]
    t = torch.randint(1, 21, (10,), generator=random)
    eps = torch.randn(images.shape, generator=random)
    loss = denoiser.loss(images, t=t, eps=eps).mean()
    norm = torch.stack([g.square().sum() for g in torch.autograd.grad(loss, list(denoiser.parameters()))]).sum().sqrt()
    step = next(dl.train(denoiser, dataset, CONFIG))
    torch.testing.assert_close(step.loss, loss.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(step.grad_norm, norm, rtol=1e-4, atol=0)
    assert not step.loss.requires_grad


def test_yields_step_number_models_loss_and_learning_rate(dataset):
    denoiser = tiny_denoiser()
    steps = list(dl.train(denoiser, dataset, CONFIG))
    assert [s.step for s in steps] == list(range(1, 13))
    assert all(s.denoiser is denoiser for s in steps)
    assert denoiser.training
    assert not steps[0].ema.training
    assert not any(p.requires_grad for p in steps[0].ema.parameters())
    assert [s.lr for s in steps] == [learning_rate(k, CONFIG) for k in range(1, 13)]
    assert all(s.loss.shape == () and s.grad_norm > 0 for s in steps)


def test_gradients_are_clipped_to_grad_clip(dataset, tmp_path):
    config = replace(CONFIG, grad_clip=0.01, checkpoint_every=1)
    step = next(dl.train(tiny_denoiser(), dataset, config, tmp_path))
    assert step.grad_norm > 0.02  # the norm before clipping
    # Adam's first moment after one step is (1 - 0.9) times the gradient it was given
    moments = checkpoints.newest(tmp_path).content["moments"].values()
    norm = torch.stack([m["exp_avg"].square().sum() for m in moments]).sum().sqrt()
    assert norm.item() == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_optimizer_uses_the_yielded_learning_rate(dataset):
    # Adam's first update moves each parameter by the learning rate, whatever its gradient, where that is not tiny
    denoiser = tiny_denoiser()
    before = weights(denoiser)
    step = next(dl.train(denoiser, dataset, replace(CONFIG, weight_decay=0.0)))
    moved = torch.cat([(before[name] - value).abs().flatten() for name, value in weights(denoiser).items()])
    assert moved.median().item() == pytest.approx(step.lr, rel=0.01)


def test_training_preserves_the_global_random_state(dataset):
    denoiser = tiny_denoiser(dropout=0.2)
    before = torch.get_rng_state()
    run(denoiser, dataset, steps=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_run_depends_only_on_its_seed(dataset):
    torch.manual_seed(1)
    first = run(tiny_denoiser(dropout=0.2), dataset)[2]
    torch.rand(5)
    assert run(tiny_denoiser(dropout=0.2), dataset)[2] == first
    assert run(tiny_denoiser(dropout=0.2), dataset, replace(CONFIG, seed=1))[2] != first


def test_noise_differs_between_steps_and_seeds(dataset):
    # one image and no movement: the loss differs only by t and eps
    still = replace(CONFIG, lr=1e-12, batch_size=1, weight_decay=0.0)
    one = tiny_dataset(1, num_classes=1)
    losses = [loss for seed in (0, 1) for loss in run(tiny_denoiser(num_classes=None), one, replace(still, seed=seed))[2]]
    assert len(set(losses)) == 24


def test_bfloat16_trains(dataset):
    losses = run(tiny_denoiser(), dataset, replace(CONFIG, precision="bfloat16"))[2]
    exact = run(tiny_denoiser(), dataset)[2]
    assert losses != exact
    assert losses == pytest.approx(exact, rel=0.1)


def test_float16_trains_with_a_scaled_loss(dataset, tmp_path):
    config = replace(CONFIG, precision="float16")
    losses = run(tiny_denoiser(), dataset, config, tmp_path)[2]
    assert losses == pytest.approx(run(tiny_denoiser(), dataset)[2], rel=0.1)
    assert checkpoints.newest(tmp_path).content["scaler"]["scale"] > 1


def test_float16_gradient_overflow_changes_only_the_scale(dataset, tmp_path):
    class Loud(dl.Denoiser):
        def loss(self, *args, **kwargs):
            return super().loss(*args, **kwargs) * 100

    tiny = tiny_denoiser()
    denoiser = Loud(tiny.network, tiny.schedule, "eps")
    before = weights(denoiser)
    steps = dl.train(denoiser, dataset, replace(CONFIG, precision="float16", checkpoint_every=1), tmp_path)
    step = next(steps)
    assert not step.grad_norm.isfinite()
    assert all(torch.equal(before[name], value) for name, value in weights(denoiser).items())
    assert checkpoints.newest(tmp_path) is None
    # halved until the gradient fits; what is clipped is the gradient itself, not the scaled one
    *_, step = steps
    assert step.grad_norm.isfinite()
    assert checkpoints.newest(tmp_path).content["scaler"]["scale"] < 2.0**16
    assert not torch.equal(before["network.stem.weight"], weights(denoiser)["network.stem.weight"])


# --------------------------------------------------------------------------------------------------------------------- its pieces


def test_ema_matches_its_formula_from_the_initial_weights(dataset):
    denoiser = tiny_denoiser()
    average = weights(denoiser)
    config = replace(CONFIG, steps=30, ema_decay=0.5)
    for k, (now, ema) in enumerate(zip(*run(denoiser, dataset, config)[:2], strict=True), start=1):
        d = min(0.5, (1 + k) / (10 + k))
        average = {name: d * average[name] + (1 - d) * now[name] for name in average}
        torch.testing.assert_close(ema, average, rtol=1e-5, atol=1e-6)
    # late enough for the decay that was asked for: at step 30 the short memory's would be 31 / 40
    assert d == 0.5


def test_ema_of_a_constant_denoiser_is_unchanged_and_follows_later_updates():
    denoiser = tiny_denoiser()
    ema = EMA(denoiser, 0.99)
    first = weights(denoiser)
    ema.update(denoiser, 1)
    torch.testing.assert_close(weights(ema.denoiser), first, rtol=0, atol=1e-7)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(1)
    torch.testing.assert_close(weights(ema.denoiser), first, rtol=0, atol=1e-7)
    ema.update(denoiser, 10_000)
    torch.testing.assert_close(weights(ema.denoiser), {k: v + 0.01 for k, v in first.items()}, rtol=0, atol=1e-6)


def test_learning_rate_has_linear_warmup_and_cosine_decay():
    config = dl.TrainConfig(steps=110, warmup_steps=10, lr=0.01)
    rates = [learning_rate(step, config) for step in range(1, 111)]
    assert rates[:10] == pytest.approx([0.001 * k for k in range(1, 11)])
    assert rates[10:] == pytest.approx([0.005 * (1 + math.cos(math.pi * k / 101)) for k in range(1, 101)])
    assert max(rates) == rates[9] == 0.01
    assert 0 < rates[-1] < 1e-5  # the last update still moves something
    assert learning_rate(1, replace(config, warmup_steps=0)) == pytest.approx(0.01, rel=1e-3)


def test_optimizer_uses_a_beta2_of_0_99(dataset, tmp_path):
    run(tiny_denoiser(), dataset, replace(CONFIG, checkpoint_every=1), tmp_path, steps=1)
    for moments in checkpoints.newest(tmp_path).content["moments"].values():
        # after one step (1 - 0.9) g and (1 - 0.99) g^2: by default the second would be (1 - 0.999) g^2
        gradient = moments["exp_avg"] / 0.1
        torch.testing.assert_close(moments["exp_avg_sq"], 0.01 * gradient**2, rtol=1e-4, atol=1e-12)


def test_weight_decay_applies_to_matrices_and_convolutions_only():
    denoiser = tiny_denoiser()
    decays, does_not = make_optimizer(denoiser, replace(CONFIG, weight_decay=0.3)).param_groups
    assert (decays["weight_decay"], does_not["weight_decay"]) == (0.3, 0.0)
    names = {id(p): name for name, p in denoiser.named_parameters()}
    with_decay, without = ({names[id(p)] for p in group["params"]} for group in (decays, does_not))
    assert with_decay | without == set(names.values())
    assert not with_decay & without
    assert "network.class_embedding.weight" in without
    assert without - {"network.class_embedding.weight"} == {
        n for n in names.values() if n.endswith("bias") or ".norm" in n or "head.0" in n
    }


def test_training_passes_labels_and_the_null_class_to_the_network(dataset):
    # the class embedding's rows that get a gradient are those given: row 0 is "no class"
    def rows(cond_drop_prob):
        denoiser = tiny_denoiser()
        before = denoiser.network.class_embedding.weight.clone()
        config = replace(CONFIG, steps=5, warmup_steps=0, cond_drop_prob=cond_drop_prob)
        for _ in dl.train(denoiser, dataset, config):
            pass
        return (denoiser.network.class_embedding.weight - before).abs().amax(dim=1) > 0

    assert rows(0.0).tolist() == [False, True, True, True]
    assert rows(0.5).tolist() == [True, True, True, True]


# ---------------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(steps=0), r"steps=0; expected 1 or more"),
        (dict(batch_size=-1), r"batch_size=-1; expected 1 or more"),
        (dict(checkpoint_every=0), r"checkpoint_every=0"),
        (dict(lr=0.0), r"lr=0.0; expected a number above 0"),
        (dict(lr=float("nan")), r"lr=nan"),
        (dict(lr=float("inf")), r"lr=inf; expected a finite number"),
        (dict(weight_decay=float("inf")), r"weight_decay=inf; expected a finite number"),
        (dict(grad_clip=0.0), r"grad_clip=0.0"),
        (dict(weight_decay=-0.1), r"weight_decay=-0.1; expected 0 or more"),
        (dict(warmup_steps=-1), r"warmup_steps=-1"),
        (dict(seed=2**32), r"seed=4294967296; expected less than 2\^32"),
        (dict(ema_decay=1.0), r"ema_decay=1.0; expected 0 or more and less than 1"),
        (dict(cond_drop_prob=1.0), r"cond_drop_prob=1.0"),
        (dict(precision="float31"), r"unknown precision 'float31'; expected one of 'auto', 'float32'.*Did you mean 'float32'"),
    ],
)
def test_rejects_config_values_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        dl.TrainConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(steps=10.5), "steps=10.5 is of type float; expected an integer"),
        (dict(seed="0"), "seed='0' is of type str; expected an integer"),
        (dict(lr="0.1"), "lr='0.1' is of type str; expected a number"),
        (dict(grad_clip=None), "grad_clip=None is of type NoneType; expected a number"),
        (dict(device=True), "device=True is of type bool; expected a string"),
    ],
)
def test_rejects_config_values_of_other_types(options, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        dl.TrainConfig(**options)


def test_accepts_numpy_numbers_in_config():
    config = dl.TrainConfig(steps=np.int64(5), lr=np.float32(0.5), grad_clip=2, seed=torch.tensor(3), precision=np.str_("float32"))
    assert dl.TrainConfig(device=torch.device("cpu"), steps=1e3) == dl.TrainConfig(device="cpu", steps=1000)
    values = [config.steps, config.lr, config.grad_clip, config.seed, config.precision]
    assert [(value, type(value)) for value in values] == [(5, int), (0.5, float), (2.0, float), (3, int), ("float32", str)]


def test_config_takes_torchs_own_names_of_device_and_precision():
    assert dl.TrainConfig(device=0).device == str(torch.device(0))
    assert dl.TrainConfig(precision=torch.bfloat16).precision == "bfloat16"
    for short, name in (("fp16", "float16"), ("bf16", "bfloat16"), ("FP32", "float32")):
        with pytest.raises(ValueError, match=rf"unknown precision '{short}'; .+ Did you mean '{name}'\?$"):
            dl.TrainConfig(precision=short)
    for device in ("meta", torch.device("meta")):
        with pytest.raises(ValueError, match="device='meta' stores no values and cannot compute; expected 'auto'"):
            dl.TrainConfig(device=device)


def test_accepts_the_largest_seed(dataset):
    config = replace(CONFIG, seed=2**32 - 1)
    assert next(dl.train(tiny_denoiser(), dataset, config)).loss.isfinite()


def other(images=None, labels=None):
    dataset = tiny_dataset()
    images, labels = dataset.images if images is None else images, dataset.labels if labels is None else labels
    return SimpleNamespace(images=images, labels=labels, class_names=dataset.class_names)


@pytest.mark.parametrize(
    ("dataset", "config", "message"),
    [
        (dl.ImageDataset(torch.zeros(0, 1, 8, 8), torch.zeros(0).long(), ()), CONFIG, r"images have shape \(0, 1, 8, 8\); expected one or"),
        (other(torch.zeros(24, 1, 0, 8)), CONFIG, r"images have shape \(24, 1, 0, 8\); expected one or more images of one or more"),
        (other(tiny_dataset().images.double()), CONFIG, r"images are torch.float64; expected torch.float32"),
        (other(labels=torch.full((24,), -2)), CONFIG, r"the dataset has label -2; expected 0\.\.2, or -1 for no class"),
        (
            other(tiny_dataset().images / 2 + 1),
            CONFIG,
            r"images range from 0.\d+ to 1.\d+; expected \[-1, 1\]: see diffusion_lib.to_float",
        ),
        (
            other(tiny_dataset().images.index_fill(0, torch.tensor([3]), torch.nan)),
            CONFIG,
            r"images range from nan to nan; expected \[-1, 1\]",
        ),
        (other(labels=torch.full((24,), 3)), CONFIG, r"the dataset has label 3; expected 0\.\.2, or -1 for no class"),
        (
            other(torch.zeros(24, 1, 12, 12)),
            CONFIG,
            r"images have shape \(1, 12, 12\); expected \(1, 8, 8\), the image shape of this denoiser",
        ),
        (tiny_dataset(), replace(CONFIG, warmup_steps=12), r"warmup_steps=12 with steps=12; expected fewer warm-up steps than steps"),
        (
            tiny_dataset(),
            replace(CONFIG, steps=1, warmup_steps=1),
            r"warmup_steps=1 with steps=1; expected fewer warm-up steps than steps",
        ),
        (other(tiny_dataset().images * 1.5), CONFIG, r"images range from -1.\d+ to 1.\d+; expected \[-1, 1\]"),
        (other((tiny_dataset().images - 1) / 1.5), CONFIG, r"images range from -1.\d+ to -?0.\d+; expected \[-1, 1\]"),
    ],
    ids=["empty", "no pixels", "dtype", "low label", "range", "nan", "label", "size", "warmup", "one step", "contrast", "dark"],
)
def test_mismatched_arguments_raise_immediately_and_write_nothing(tmp_path, dataset, config, message):
    with pytest.raises(ValueError, match=message):
        dl.train(tiny_denoiser(), dataset, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(labels=torch.zeros(3).long()), r"labels have shape \(3,\) and dtype torch.int64; expected torch.long \(24,\)"),
        (dict(labels=torch.zeros(24)), r"labels have shape \(24,\) and dtype torch.float32; expected torch.long \(24,\)"),
        (dict(labels=[0] * 24), r"labels is of type list; expected a tensor"),
        (dict(images=tiny_dataset().images[:, 0]), r"images have shape \(24, 8, 8\).*expected floats \(N, C, H, W\)"),
        (dict(images=tiny_dataset().images.numpy()), r"images is of type ndarray; expected a tensor"),
    ],
    ids=["too few labels", "float labels", "list", "no channels", "numpy"],
)
def test_rejects_images_and_labels_that_do_not_belong_together(options, message):
    data = SimpleNamespace(**dict(images=tiny_dataset().images, labels=tiny_dataset().labels) | options)
    with pytest.raises(ValueError, match=message):
        dl.train(tiny_denoiser(), data, CONFIG)


def test_rejects_what_is_no_dataset():
    with pytest.raises(ValueError, match=r"the dataset is a Tensor; expected an ImageDataset, or any object with \.images and \.labels"):
        dl.train(tiny_denoiser(), tiny_dataset().images, CONFIG)


def test_images_with_indivisible_sides_raise_immediately():
    denoiser = dl.Denoiser(tiny_denoiser().network, dl.linear_schedule(20))  # no image_shape yet: any size may come
    with pytest.raises(ValueError, match=r"images are 6x6; expected multiples of 4"):
        dl.train(denoiser, other(torch.zeros(24, 1, 6, 6)), CONFIG)
    assert denoiser.image_shape is None
    dl.train(denoiser, other(torch.zeros(24, 1, 12, 12)), CONFIG)
    assert denoiser.image_shape == (1, 12, 12)


def test_average_takes_over_running_statistics(dataset):
    class Normed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(1)

        def forward(self, xt, t, y=None):
            return self.norm(xt)

    for step in dl.train(dl.Denoiser(Normed(), dl.linear_schedule(20)), dataset, CONFIG):
        ours, theirs = (dict(model.named_buffers()) for model in (step.ema, step.denoiser))
        assert ours["network.norm.num_batches_tracked"] == step.step
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


# ------------------------------------------------------------------------------------------------- numbers that are not finite


@pytest.fixture
def optimizers():
    """The optimizers of which a step was asked, whoever made them."""
    asked = []
    handle = register_optimizer_step_pre_hook(lambda optimizer, *_: None if optimizer in asked else asked.append(optimizer))
    yield asked
    handle.remove()


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_step_with_nonfinite_loss_is_skipped_and_counted(dataset, tmp_path, optimizers, precision, value):
    denoiser = broken({4, 5, 9}, value)
    steps = dl.train(denoiser, dataset, replace(CONFIG, precision=precision, checkpoint_every=1), tmp_path)
    before, moments, counts = weights(denoiser), None, []
    for step in steps:
        now, skipped = weights(denoiser), step.step in {4, 5, 9}
        assert all(torch.equal(before[name], now[name]) for name in now if name != "schedule") == skipped
        state = {key: entry["exp_avg_sq"].clone() for key, entry in optimizers[0].state_dict()["state"].items()}
        if skipped:
            assert all(torch.equal(moments[key], state[key]) for key in state)
        assert step.loss.isfinite() != skipped
        before, moments = now, state
        # none is written in a row of skipped steps: a run that goes on from one would begin to count anew
        assert checkpoints.newest(tmp_path).content["step"] == {4: 3, 5: 3, 9: 8}.get(step.step, step.step)
        counts.append(int(step.skipped))
    assert counts == [0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert all(value.isfinite().all() for value in weights(step.ema).values())
    moments = checkpoints.newest(tmp_path).content["moments"].values()
    assert all(float(entry["step"]) == 9 and entry["exp_avg_sq"].isfinite().all() for entry in moments)


def test_skipped_step_preserves_running_statistics():
    class Normed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.calls, self.conv, self.norm = 0, torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1)

        def forward(self, xt, t, y=None):
            self.calls += 1
            return self.norm(self.conv(xt * math.inf if self.calls == 3 else xt))

    denoiser = dl.Denoiser(Normed(), dl.linear_schedule(20))
    states = [
        {**weights(step.denoiser), "ema": step.ema.network.norm.running_mean.clone(), "skipped": step.skipped}
        for step in dl.train(denoiser, tiny_dataset(), CONFIG)
    ]
    assert states[-1]["skipped"] == 1
    assert all(torch.equal(states[1][name], states[2][name]) for name in weights(denoiser))
    assert not torch.equal(states[2]["network.norm.running_mean"], states[3]["network.norm.running_mean"])
    assert all(value.isfinite().all() for state in states for value in state.values())


def test_checkpoint_due_during_skipped_steps_is_written_afterwards(dataset, tmp_path):
    written = []
    for _ in dl.train(broken({3, 4, 11, 12}), dataset, CONFIG, tmp_path):
        newest = checkpoints.newest(tmp_path)
        written.append(newest and newest.content["step"])
    assert written == [None] * 4 + [5, 6, 6, 6, 9, 9, 9, 12]  # at the end in any case: this state is what the run comes to


def test_step_with_nonfinite_gradient_is_skipped(dataset):
    class Cliff(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * math.inf

    denoiser = tiny_denoiser()
    before = weights(denoiser)
    hook = denoiser.network.head.register_forward_hook(lambda module, args, out: Cliff.apply(out))
    steps = dl.train(denoiser, dataset, CONFIG)
    step = next(steps)
    assert step.loss.isfinite()
    assert not step.grad_norm.isfinite()
    assert step.skipped == 1
    assert all(torch.equal(before[name], value) for name, value in weights(denoiser).items())
    hook.remove()
    step = next(steps)
    assert step.skipped == 1
    assert not torch.equal(before["network.stem.weight"], weights(denoiser)["network.stem.weight"])


def test_too_many_consecutive_skipped_steps_end_training_with_the_last_good_weights(dataset, tmp_path):
    denoiser = broken(range(5, 100))
    steps = dl.train(denoiser, dataset, replace(CONFIG, skip_limit=4), tmp_path)
    assert [next(steps).step for _ in range(4)] == [1, 2, 3, 4]
    good, checkpoint = weights(denoiser), checkpoints.newest(tmp_path).content["denoiser"]
    message = r"not finite in the 4 steps up to 8, which were skipped; the weights are still those of step 4. Expected finite values: look"
    assert [next(steps).step for _ in range(3)] == [5, 6, 7]
    with pytest.raises(FloatingPointError, match=message):
        next(steps)
    assert all(torch.equal(good[name], value) for name, value in weights(denoiser).items())
    assert all(torch.equal(checkpoint[name], value) for name, value in checkpoints.newest(tmp_path).content["denoiser"].items())
    assert checkpoints.newest(tmp_path).content["step"] == 3
    # to start it again, and again, does not bring it past these steps
    for _ in range(3):
        with pytest.raises(FloatingPointError, match=message):
            list(dl.train(broken(range(2, 100)), dataset, replace(CONFIG, skip_limit=4), tmp_path))


def test_run_with_every_step_skipped_raises(dataset):
    with pytest.raises(FloatingPointError, match="in the 12 steps up to 12, which were skipped; the weights are still those of step 0"):
        list(dl.train(broken(range(1, 13)), dataset, CONFIG))
    *_, step = dl.train(broken(range(1, 12)), dataset, CONFIG)
    assert step.skipped == 11


def test_skipped_steps_below_the_limit_do_not_end_training(dataset):
    denoiser = broken({2, 3, 4, 6, 7, 8, 10, 11, 12})
    *_, step = dl.train(denoiser, dataset, replace(CONFIG, skip_limit=4))
    assert (step.step, int(step.skipped), step.skipped.dtype) == (12, 9, torch.long)
    with pytest.raises(FloatingPointError, match="in the 3 steps up to 12"):  # the last steps count as well
        list(dl.train(broken({10, 11, 12}), dataset, replace(CONFIG, skip_limit=3)))
    denoiser = broken({3, 4, 5})  # the good step after them is not taken, or the weights would not be those that the message says
    steps = dl.train(denoiser, dataset, replace(CONFIG, skip_limit=3))
    good = [weights(next(steps).denoiser) for _ in range(2)][1]
    with pytest.raises(FloatingPointError, match="up to 5, which were skipped; the weights are still those of step 2"):
        list(steps)
    torch.testing.assert_close(weights(denoiser), good, rtol=0, atol=0)


@pytest.mark.parametrize(
    "images",
    [torch.zeros(24, 1, 8, 8), torch.full((24, 1, 8, 8), -1.0), torch.ones(1, 1, 8, 8)],
    ids=["grey", "black", "one image"],
)
def test_trains_on_constant_images_and_on_a_single_image(images):
    data = dl.ImageDataset(images, torch.zeros(len(images), dtype=torch.long), ("only",))
    *_, step = dl.train(tiny_denoiser(num_classes=1), data, CONFIG)
    assert step.loss.isfinite()
    assert step.skipped == 0
    assert dl.sample(step.ema, 2, steps=3, y=0).isfinite().all()


def test_trains_on_images_without_labels():
    unlabelled = other(labels=torch.full((24,), dl.NO_LABEL))
    assert next(dl.train(tiny_denoiser(), unlabelled, CONFIG)).loss.isfinite()


def test_rejects_sharded_weights(dataset):
    message = "^the denoiser's weights are sharded over processes; expected a new denoiser, which resumes from the checkpoint$"
    with pytest.raises(ValueError, match=message):
        dl.train(as_if_sharded(tiny_denoiser()), dataset, CONFIG)


@pytest.mark.parametrize(("has_bfloat16", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_auto_precision_is_the_fastest_of_the_requested_device(monkeypatch, dataset, has_bfloat16, precision):
    with monkeypatch.context() as machine:  # a GPU that is there as well, and would compute in float16, has no say in it
        machine.setattr("torch.cuda.is_available", lambda: True)
        machine.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: False)
        machine.setattr("torch.cpu.get_capabilities", lambda: dict(avx512_bf16=has_bfloat16), raising=False)
        steps = dl.train(tiny_denoiser(), dataset, replace(CONFIG, device="cpu", precision="auto"))
    chosen = [step.loss.item() for step in steps]
    assert chosen == run(tiny_denoiser(), dataset, replace(CONFIG, precision=precision))[2]
    assert chosen != run(tiny_denoiser(), dataset, replace(CONFIG, precision="float16"))[2]


def test_creates_the_checkpoint_folder_and_its_parents(tmp_path, dataset):
    folder = tmp_path / "runs" / "today"
    list(dl.train(tiny_denoiser(), dataset, CONFIG, folder))
    with pytest.raises(ValueError, match=re.escape(str(folder))):  # and named where another run finds it
        dl.train(tiny_denoiser(), dataset, replace(CONFIG, lr=0.5), folder)


def test_zero_loss_is_not_skipped(dataset):
    grey = replace(dataset, images=torch.zeros_like(dataset.images))
    right = dl.Denoiser(tiny_unet(zero=True), dl.cosine_schedule(20), "x0")  # a new network answers 0, which is right for these images
    steps = [(step.loss.item(), int(step.skipped)) for step in dl.train(right, grey, CONFIG)]
    assert steps == [(0.0, 0)] * CONFIG.steps


def test_too_many_consecutive_skips_raise_even_if_checked_after_a_good_step():
    skips, bad, good = Skips(3, torch.device("cpu")), torch.tensor(math.nan), torch.tensor(1.0)
    for loss in (good, bad, bad, good, bad):
        skips.add(loss, good)
    skips.check(5)
    for loss in (bad, bad, bad, good):
        skips.add(loss, good)
    with pytest.raises(FloatingPointError, match=r"not finite in 4 steps in a row before step 9, which were skipped\. Expected"):
        skips.check(9)


def test_rejects_empty_batch(denoiser):
    nothing = torch.zeros(0, 1, 8, 8)
    for ask in (lambda: denoiser(nothing, 5), lambda: denoiser.loss(nothing), lambda: dl.q_sample(denoiser.schedule, nothing, 5)):
        with pytest.raises(ValueError, match="is an empty batch; expected one or more"):
            ask()
