"""Any usual form of an argument is taken, and what cannot be is refused by name: value, what was expected, what to do."""

import copy
import warnings

import numpy as np
import pytest
import torch

import diffusion_lib as dl
from diffusion_lib.data import glyphs

SCHEDULE = dl.cosine_schedule()
X = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
FLOATS = (torch.float16, torch.bfloat16, torch.float64)


@pytest.fixture(scope="module")
def denoiser():
    torch.manual_seed(0)
    made = dl.Denoiser(dl.UNet(1, 8, num_classes=3), SCHEDULE, "v", (1, 8, 8), ("cat", "dog", "owl"))
    torch.nn.init.normal_(made.network.head[2].weight, std=0.1)  # a new network answers 0
    return made.eval()


def last(chain):
    *_, step = chain
    return step.xt


# ------------------------------------------------------------------------------------------------------------------------ numbers

WHOLE = [np.int64, np.int32, np.uint8, torch.tensor, lambda k: torch.tensor(k, dtype=torch.int32), np.array]


@pytest.mark.parametrize("kind", WHOLE)
def test_accepts_integers_of_every_type(denoiser, kind):
    expected = dl.sample(denoiser, 2, steps=3, seed=5, first=1, batch_size=1, y=1)
    actual = dl.sample(denoiser, kind(2), steps=kind(3), seed=kind(5), first=kind(1), batch_size=kind(1), y=kind(1))
    assert torch.equal(actual, expected)
    assert dl.timestep_subset(kind(100), kind(7)) == dl.timestep_subset(100, 7)
    assert torch.equal(dl.make_schedule("cosine", kind(100)).signal, dl.make_schedule("cosine", 100).signal)
    unet = dl.UNet(kind(3), kind(8), channel_mults=(kind(1), kind(2)), attention_levels=(kind(0),), num_classes=kind(4))
    assert unet.config == dl.UNet(3, 8, attention_levels=(0,), num_classes=4).config
    assert {type(value) for value in unet.config.values()} == {int, list, float}, "a config is stored as JSON"
    assert dl.Denoiser(unet, SCHEDULE, "v", (kind(3), kind(8), kind(8))).image_shape == (3, 8, 8)


@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.tensor, np.array])
def test_accepts_numbers_of_every_type(denoiser, kind):
    expected = dl.sample(denoiser, 2, steps=3, eta=0.5)
    assert torch.equal(dl.sample(denoiser, 2, steps=3, eta=kind(0.5)), expected)
    assert dl.Guided(denoiser, kind(1.5)).scale == 1.5
    assert torch.equal(dl.cosine_schedule(10, kind(0.25)).signal, dl.cosine_schedule(10, 0.25).signal)


def test_table_from_a_list_keeps_all_digits():
    third = 1 / 3
    assert dl.Schedule.from_alpha_bar([1.0, third]).signal[1] == third**0.5
    assert dl.Schedule.from_beta(np.array([third])).signal[1] == (1 - third) ** 0.5
    assert dl.Schedule([1.0, third], [0.0, 0.5]).signal[1] == third


# ------------------------------------------------------------------------------------------------------------------------- labels

LABELS = [[1, 2], (1, 2), range(1, 3), np.array([1, 2]), np.array([1, 2], np.uint8), torch.tensor([1, 2], dtype=torch.int32)]
LABELS += [["dog", "owl"], ("dog", "owl"), np.array(["dog", "owl"]), ["dog", 2], [np.int64(1), torch.tensor(2)]]
ONE_LABEL = [1, np.int64(1), torch.tensor(1), np.array(1), "dog"]
FOUR = dl.ImageDataset(X.repeat(2, 1, 1, 1), torch.tensor([0, 1, 2, 1]), ("cat", "dog", "owl"))
USES = {
    "sample": lambda d, y: dl.sample(d, 2, steps=2, y=y),
    "ddim_steps": lambda d, y: last(dl.ddim_steps(d, X, steps=2, y=y)),
    "ddpm_steps": lambda d, y: last(dl.ddpm_steps(d, X, steps=2, y=y, generator=torch.Generator().manual_seed(0))),
    "ddim_encode_steps": lambda d, y: last(dl.ddim_encode_steps(d, X.clamp(-1, 1), steps=2, y=y)),
    "a call": lambda d, y: d(X, 500, y).x0,
    "loss": lambda d, y: d.loss(X, y, t=torch.tensor([5, 600]), eps=X),
    "guidance": lambda d, y: dl.Guided(d, 2.0)(X, 500, y).x0,
    "sample with guidance": lambda d, y: dl.sample(dl.Guided(d, 2.0), 2, steps=2, y=y),
    "ideal": lambda d, y: dl.IdealDenoiser(FOUR, SCHEDULE)(X, 500, y).x0,
}


@pytest.mark.parametrize("use", USES)
def test_accepts_labels_in_every_usual_form(denoiser, use):
    for forms, long in ((LABELS, torch.tensor([1, 2])), (ONE_LABEL, torch.tensor([1, 1]))):
        expected = USES[use](denoiser, long)
        for form in forms:
            assert torch.equal(USES[use](denoiser, form), expected), form


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 2, 0], r"^y has 3 entries for 2 images; expected one per image, or one class for all$"),
        ([], r"^y has 0 entries for 2 images; expected one per image"),
        (1.5, r"^y has dtype torch.float32; expected integers"),
        (torch.eye(3)[:2], r"^y has dtype torch.float32; expected integers"),
        (True, r"^y has dtype torch.bool; expected integers"),
        ([[1], [2]], r"^y has shape \(2, 1\) for 2 images; expected one class for all, or one per image: \(2,\)$"),
        ([1, None], r"^y=\[1, None\]; expected one class for all 2 images, or a list of 2 integers"),
        ({1, 2}, r"^y=\{1, 2\}; expected one class for all 2 images"),
        ("dgo", r"^unknown class 'dgo'; expected one of 'cat', 'dog', 'owl'. Did you mean 'dog'\?$"),
        (["dog", "Owl"], r"^unknown class 'Owl'; expected one of .* Did you mean 'owl'\?$"),
        (3, r"^y=3 is out of range; expected classes 0..2, or -1 for no class$"),
    ],
)
def test_rejects_other_labels_by_name(denoiser, use, y, message):
    with pytest.raises(ValueError, match=message):
        USES[use](denoiser, y)


def test_rejects_a_class_name_for_a_model_without_class_names():
    nameless = dl.Denoiser(dl.UNet(1, 8, num_classes=3), SCHEDULE, "v", (1, 8, 8))
    with pytest.raises(ValueError, match=r"^y='dog' is a name, but this denoiser has no class names; expected integers"):
        dl.sample(nameless, 2, y="dog")


def test_shipped_models_know_their_classes_by_name():
    for name, characters in (("glyphs", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"), ("mnist", "0123456789")):
        model = dl.load_pretrained(name)
        assert model.class_names == tuple(characters)
        k = characters.index("7")
        assert torch.equal(dl.sample(model, 1, steps=2, y="7"), dl.sample(model, 1, steps=2, y=k))


def test_class_names_are_stored_with_the_model(denoiser, tmp_path):
    denoiser.save_pretrained(tmp_path)
    assert dl.Denoiser.from_pretrained(tmp_path).class_names == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("abc", r"class_names='abc'; expected a list or tuple of names"),
        (("a", "b"), r"2 class_names for a network of 3 classes; expected one per class, or none"),
        (("a", "b", "a"), r"class_names holds 'a' twice; expected distinct names"),
        ((1, 2, 3), r"class_names=\(1, 2, 3\); expected a list or tuple of names"),
    ],
)
def test_rejects_class_names_that_do_not_fit(names, message):
    with pytest.raises(ValueError, match=message):
        dl.Denoiser(dl.UNet(1, 8, num_classes=3), SCHEDULE, "v", class_names=names)


def test_class_names_are_optional():
    assert dl.Denoiser(dl.UNet(1, 8), SCHEDULE, class_names=None).class_names == ()


# ----------------------------------------------------------------------------------------------------------------- wrong arguments

NETWORK = dl.UNet(1, 8)
WRONG = [
    (lambda d: dl.sample(d, 2.0), r"^n=2.0; expected an integer, 1 or more$"),
    (lambda d: dl.sample(d, "2"), r"^n='2'; expected an integer"),
    (lambda d: dl.sample(d, np.array([2, 3])), r"^n=array\(\[2, 3\]\); expected an integer"),
    (lambda d: dl.sample(d, 1, steps=10.0), r"^steps=10.0; expected an integer, 1..1000 for a schedule of T=1000$"),
    (lambda d: dl.sample(d, 1, seed=-1), r"^seed=-1; expected an integer, 0 or more$"),
    (lambda d: dl.sample(d, 1, seed="a"), r"^seed='a'; expected an integer"),
    (lambda d: dl.sample(d, 1, first=-3), r"^first=-3; expected an integer, 0 or more$"),
    (lambda d: dl.sample(d, 1, batch_size=2.5), r"^batch_size=2.5; expected an integer, 1 or more$"),
    (lambda d: dl.sample(d, 1, sampler=5), r"^unknown sampler 5; expected one of 'ddim', 'ddpm'.$"),
    (lambda d: dl.sample(d, 1, shape=(8, 8)), r"^image_shape=\(8, 8\); expected \(C, H, W\)"),
    (lambda d: dl.sample(d, 1, eta="a"), r"^eta='a'; expected 0 \(deterministic\) to 1"),
    (lambda d: dl.sample(d, 1, eta=None), r"^eta=None; expected 0 \(deterministic\) to 1"),
    (lambda d: dl.sample(d, 1, sampler="ddpm", variance=["small"]), r"^unknown variance \['small'\]; expected one of"),
    (lambda d: dl.sample("glyphs", 1), r"^the denoiser is 'glyphs'; expected a denoiser.*load_pretrained\('glyphs'\)$"),
    (lambda d: dl.sample(d.network, 1), r"^the denoiser is of type UNet; expected a denoiser.*diffusion_lib.Denoiser\(network, schedule"),
    (lambda d: dl.sample(torch.nn.DataParallel(d), 1), r"^the denoiser is of type DataParallel; expected a denoiser.*, \.module$"),
    (lambda d: dl.ddim_steps(torch.nn.DataParallel(d), X), r"^the denoiser is of type DataParallel; expected a denoiser"),
    (lambda d: dl.ddpm_steps(None, X), r"^the denoiser is None; expected a denoiser"),
    (lambda d: dl.ddim_encode_steps(d.network, X), r"^the denoiser is of type UNet; expected a denoiser"),
    (lambda d: dl.ddim_encode_steps(d, X, iterations=1.5), r"^iterations=1.5; expected an integer"),
    (lambda d: dl.ddim_steps(d, X, generator=0), r"^generator is 0; expected torch.Generator\(\).manual_seed\(seed\)"),
    (lambda d: dl.q_sample(SCHEDULE, X, 5, generator=[0, 1]), r"^generator is of type list; expected torch.Generator"),
    (lambda d: dl.Guided(d, "2"), r"^scale='2'; expected a finite number$"),
    (lambda d: dl.Guided(2.0, d), r"^the denoiser is 2.0; expected a denoiser"),
    (lambda d: d(X, [1, 2]), r"^t is of type list; expected an int or a LongTensor of shape \(2,\): see torch.as_tensor$"),
    (lambda d: d(X.numpy(), 5), r"^xt is of type ndarray; expected a tensor of shape \(B, C, H, W\): see torch.as_tensor"),
    (lambda d: d(X.double(), 5), r"^images have dtype torch.float64 but the network torch.float32; expected the same"),
    (lambda d: d.loss(FOUR), r"^x0 is of type ImageDataset; expected a tensor.*such as its .images$"),
    (lambda d: NETWORK(X, 5), r"^t: int; expected a tensor, as in network\(xt, torch.tensor\(\[t\]\)\)$"),
    (lambda d: NETWORK(X.double(), torch.tensor([1, 2])), r"^images have dtype torch.float64 but the network torch.float32"),
    (lambda d: d.network(X, torch.tensor([1, 2]), [0, 1]), r"^y is of type list; expected a LongTensor of shape \(2,\)"),
    (lambda d: dl.Denoiser(NETWORK, SCHEDULE, ["v"]), r"^unknown prediction \['v'\]; expected one of"),
    (lambda d: dl.Denoiser(NETWORK, "cosine"), r"^the schedule is 'cosine'; expected a Schedule: diffusion_lib.make_schedule\('cosine'\)$"),
    (lambda d: dl.Denoiser(NETWORK, dl.cosine_schedule), r"^the schedule is of type function; expected a Schedule"),
    (lambda d: dl.Denoiser(dl.UNet, SCHEDULE), r"^the network is of type type; expected a torch.nn.Module such as diffusion_lib.UNet\(\)$"),
    (lambda d: dl.IdealDenoiser(X, "cosine"), r"^the schedule is 'cosine'; expected a Schedule"),
    (lambda d: dl.q_sample("cosine", X, 5), r"^the schedule is 'cosine'; expected a Schedule"),
    (lambda d: dl.q_posterior(X, SCHEDULE, X, 5), r"^the schedule is of type Tensor; expected a Schedule"),
    (lambda d: dl.v_from(None, X, X, 5), r"^the schedule is None; expected a Schedule"),
    (lambda d: dl.x0_from_eps("cosine", X, 5, X), r"^the schedule is 'cosine'; expected a Schedule"),
    (lambda d: dl.Schedule.from_beta(torch.full((2, 2), 0.1)), r"^beta has shape \(2, 2\); expected \(T,\): one entry per t = 1..T$"),
    (lambda d: dl.Schedule.from_beta("linear"), r"^beta is 'linear'; expected a tensor or a list of numbers"),
    (lambda d: dl.Schedule.from_beta([]), r"^beta has shape \(0,\); expected \(T,\)"),
    (lambda d: dl.Schedule.from_alpha_bar(torch.tensor([1, 0.5 + 1j])), r"^alpha_bar has dtype torch.complex64; expected real numbers"),
    (lambda d: dl.make_schedule(["cosine"]), r"^unknown schedule \['cosine'\]; expected one of"),
    (lambda d: dl.make_schedule("cosine", 10**12), r"^T=1000000000000; expected an integer, 2..1000000$"),
    (lambda d: dl.linear_schedule(10, "a"), r"^beta_start='a'; expected a finite number$"),
    (lambda d: dl.UNet(channel_mults=2), r"^channel_mults=2; expected a list or tuple of integers, such as \(1, 2\)$"),
    (lambda d: dl.UNet(channel_mults="12"), r"^channel_mults='12'; expected a list or tuple"),
    (lambda d: dl.UNet(3.0), r"^in_channels=3.0; expected an integer, 1 or more$"),
    (lambda d: dl.UNet(dropout="a"), r"^dropout='a'; expected a probability"),
    (lambda d: dl.sample_generators("a", range(3)), r"^seed='a'; expected an integer"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_error_names_the_wrong_argument(denoiser, call, message):
    with pytest.raises(ValueError, match=message):
        call(denoiser)


def test_error_for_other_libraries_options_names_ours(denoiser):
    for options, remedy in (
        (dict(generator=torch.Generator()), "seed="),
        (dict(num_inference_steps=5), "steps="),
        (dict(guidance_scale=3.0), r"Guided\(denoiser, scale\)"),
        (dict(xT=X), r"ddim_steps\(denoiser, xT\)"),
    ):
        with pytest.raises(ValueError, match=rf"^sample takes no {next(iter(options))}; expected .*{remedy}"):
            dl.sample(denoiser, 2, steps=2, **options)


# ---------------------------------------------------------------------------------------------------------------- seeds, NaN, bars


def test_seed_none_gives_new_samples_at_each_call(denoiser):
    first, second = (dl.sample(denoiser, 2, steps=2, y=1, seed=None) for _ in range(2))
    assert not torch.equal(first, second)


def test_non_finite_sample_raises(denoiser):
    broken = copy.deepcopy(denoiser)
    next(broken.parameters()).data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"samples contain NaN or infinity in 2 of 2.*weights may be"):
        dl.sample(broken, 2, steps=2)


def test_progress_bar_counts_the_networks_calls(denoiser, capsys):
    dl.sample(denoiser, 5, steps=4, batch_size=2, progress=True)
    assert "12/12" in capsys.readouterr().err
    dl.sample(denoiser, 5, steps=4, batch_size=2)
    assert capsys.readouterr().err == ""


# --------------------------------------------------------------------------------------------------------------------- float types


@pytest.mark.parametrize("dtype", FLOATS)
def test_float_type_of_a_model_changes_samples_by_rounding_only(denoiser, dtype):
    other = copy.deepcopy(denoiser).to(dtype)
    tolerance = {torch.float16: 0.02, torch.bfloat16: 0.1, torch.float64: 1e-4}[dtype]
    for options in (dict(), dict(eta=0.5), dict(sampler="ddpm"), dict(sampler="ddpm", variance="large")):
        expected, actual = (dl.sample(each, 2, steps=5, y=1, **options) for each in (denoiser, other))
        assert actual.dtype == dtype
        torch.testing.assert_close(actual.float(), expected, rtol=0, atol=tolerance)


@pytest.fixture
def default_dtype():
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@pytest.mark.parametrize("dtype", FLOATS)
def test_session_default_dtype_does_not_change_samples(denoiser, dtype, default_dtype):
    options = dict(steps=3, y=1, eta=0.5)
    expected = dl.sample(denoiser, 2, **options)
    tables = [torch.stack([schedule.signal, schedule.noise]) for schedule in map(dl.make_schedule, ("linear", "cosine", "sigmoid"))]
    default_dtype(dtype)
    torch.testing.assert_close(dl.sample(denoiser, 2, **options), expected)
    for table, schedule in zip(tables, map(dl.make_schedule, ("linear", "cosine", "sigmoid")), strict=True):
        assert torch.equal(table, torch.stack([schedule.signal, schedule.noise]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_session_defaults_do_not_change_datasets(dtype, default_dtype):
    def load():
        glyphs._glyphs.cache_clear()
        glyphs._masters.cache_clear()
        return [dl.load_dataset("glyphs", n=30), dl.load_dataset("photo", size=16)]

    expected = load()
    default_dtype(dtype)
    with torch.device("meta"):
        for ours, theirs in zip(load(), expected, strict=True):
            assert (ours.images.dtype, ours.images.device.type) == (torch.float32, "cpu")
            assert torch.equal(ours.images, theirs.images)
            assert torch.equal(ours.labels, theirs.labels)


def test_ideal_denoiser_rejects_non_finite_images():
    with pytest.raises(ValueError, match=r"x0_dataset contain NaN or infinity in 1 of 2, first in image 1"):
        dl.IdealDenoiser(torch.stack([X[0], X[1] / 0]), SCHEDULE)


def test_ideal_denoiser_processes_a_large_set_in_chunks(monkeypatch):
    whole = dl.IdealDenoiser(FOUR, SCHEDULE)
    expected = whole(X, 500, [1, 2]).x0
    monkeypatch.setattr(dl.IdealDenoiser, "PART", 3)
    torch.testing.assert_close(whole(X, 500, [1, 2]).x0, expected)


def test_sampling_uses_the_models_device_not_the_sessions(denoiser):
    expected = dl.sample(denoiser, 2, steps=3, y=[1, 2])
    with torch.device("meta"):  # stands for a GPU: whatever is made there has no values
        actual = dl.sample(denoiser, 2, steps=3, y=[1, 2])
        assert denoiser.loss(X, y=1, generator=torch.Generator("cpu").manual_seed(0)).isfinite().all()
        assert dl.q_sample(dl.make_schedule("sigmoid"), X, 5).isfinite().all()
        assert dl.IdealDenoiser(X, SCHEDULE)(X, 5).x0.isfinite().all()
    assert torch.equal(actual, expected)


def test_usual_arguments_give_no_warnings(denoiser):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dl.sample(denoiser, np.int64(2), steps=torch.tensor(2), y=np.array([1, 2]))


@pytest.mark.parametrize("finished", [True, False])
def test_training_stores_the_names_of_the_datasets_classes(tmp_path, finished):
    dataset = dl.ImageDataset(X.repeat(2, 1, 1, 1).clamp(-1, 1), torch.tensor([0, 1, 1, 0]), ("cat", "dog"))
    for conditional in (True, False):
        denoiser = dl.Denoiser(dl.UNet(1, 8, num_classes=2 if conditional else None), SCHEDULE, "v")
        config = dl.TrainConfig(steps=2, warmup_steps=0, batch_size=2, checkpoint_every=1)
        folder = tmp_path / str(conditional)
        for step in dl.train(denoiser, dataset, config, folder / "checkpoints"):
            last_step = step
            if not finished:
                break
        last_step.ema.save_pretrained(folder / "model")
        for loaded in (dl.Denoiser.from_pretrained(folder / "model"), dl.load_checkpoint(folder)):
            assert loaded.class_names == (("cat", "dog") if conditional else ())
