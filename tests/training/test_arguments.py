"""What is no argument of `train` is refused at the call, with what to write instead."""

import copy
from types import SimpleNamespace

import pytest
import torch
from helpers import CONFIG, run, tiny_dataset, tiny_denoiser, tiny_unet, weights
from torch.utils.data import DataLoader, TensorDataset

import diffusion_lib as dl

DATA = tiny_dataset()
PAIRS = TensorDataset(DATA.images, DATA.labels)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DATA.images, r"is a Tensor; expected an ImageDataset.*: for a tensor, use ImageDataset\.without_classes\(images\)"),
        (DATA.images.numpy(), r"is a ndarray; expected an ImageDataset.*without_classes\(torch\.as_tensor\(images\)\)"),
        (list(DATA.images), r"is a list; expected an ImageDataset.*without_classes\(torch\.stack\(images\)\)"),
        (DataLoader(DATA), r"is a DataLoader; expected an ImageDataset.*: pass the loader's \.dataset"),
        (DataLoader(PAIRS), r"is a DataLoader; expected an ImageDataset.*: for pairs \(image, label\), use images, labels = zip\(\*data\)"),
        (PAIRS, r"is a TensorDataset; expected an ImageDataset.*ImageDataset\(torch\.stack\(images\), torch\.tensor\(labels\)"),
        ("glyphs", r"is a str; expected an ImageDataset.*: load_dataset\('glyphs'\)"),
        (dict(images=1), r"is a dict; expected an ImageDataset, or any object with \.images and \.labels$"),
        (None, r"is a NoneType; expected an ImageDataset"),
        (dl.ImageDataset, r"is the class ImageDataset itself; expected an ImageDataset"),
    ],
    ids=["tensor", "numpy", "list", "loader", "loader of pairs", "torch's", "name", "dict", "None", "class"],
)
def test_rejects_other_objects_as_dataset_and_shows_how_to_make_one(data, message):
    with pytest.raises(ValueError, match=f"^the dataset {message}"):
        dl.train(tiny_denoiser(), data, CONFIG)


def test_remedy_in_the_error_for_pairs_makes_a_dataset():
    images, labels = zip(*PAIRS, strict=True)
    made = dl.ImageDataset(torch.stack(images), torch.tensor(labels), ("a", "b", "c"))
    assert torch.equal(made.images, DATA.images)
    assert torch.equal(made.labels, DATA.labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(config=dict(steps=3)), r"config is a dict; expected a TrainConfig: TrainConfig\(\*\*config\)"),
        (dict(config=None), r"config is a NoneType; expected a TrainConfig: TrainConfig\(\) holds the defaults"),
        (dict(config=dl.TrainConfig), r"config is the class TrainConfig itself; expected a TrainConfig"),
        (dict(denoiser=tiny_unet()), r"denoiser is a UNet; expected a Denoiser: make one with Denoiser\(network, schedule, prediction\)"),
        (dict(denoiser=dl.Guided(tiny_denoiser(), 2.0)), r"denoiser is a Guided; expected a Denoiser: train the denoiser inside it"),
        (dict(denoiser="glyphs"), r"denoiser is a str; expected a Denoiser$"),
        (dict(checkpoint_dir=True), r"checkpoint_dir=True; expected the path of a folder, or None"),
        (dict(checkpoint_dir=""), r"checkpoint_dir=''; expected the path of a folder, or None"),
        (dict(accelerator="gpu"), r"accelerator='gpu'; expected an accelerate\.Accelerator, or None: set the device in TrainConfig"),
    ],
)
def test_rejects_arguments_of_the_wrong_type(arguments, message):
    given = dict(denoiser=tiny_denoiser(), dataset=DATA, config=CONFIG) | arguments
    with pytest.raises(TypeError, match=f"^{message}"):
        dl.train(**given)


@pytest.mark.parametrize("name", ["notes.txt", "notes.txt/checkpoints", "notes.txt/run/checkpoints"])
def test_rejects_a_file_in_place_of_the_checkpoint_folder(tmp_path, name):
    (tmp_path / "notes.txt").write_text("keep")
    for kind in (str, lambda path: path):
        with pytest.raises(NotADirectoryError, match=r"checkpoint_dir='.+', but .+notes\.txt is a file; expected a folder"):
            dl.train(tiny_denoiser(), DATA, CONFIG, kind(tmp_path / name))
    assert (tmp_path / "notes.txt").read_text() == "keep"


def test_checkpoint_folder_may_begin_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    run(tiny_denoiser(), DATA, CONFIG, "~/run", steps=3)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step-00000003.pt"]


@pytest.mark.parametrize("kind", ["float64", "float16", "bfloat16"])
def test_rejects_weights_and_images_of_other_float_types(kind):
    dtype = getattr(torch, kind)
    with pytest.raises(ValueError, match=rf"weights are torch\.{kind}; expected torch\.float32: use denoiser\.float\(\)"):
        dl.train(tiny_denoiser().to(dtype), DATA, CONFIG)
    images = SimpleNamespace(images=DATA.images.to(dtype), labels=DATA.labels)
    with pytest.raises(ValueError, match=rf"images are torch\.{kind}; expected torch\.float32: use images\.float\(\)"):
        dl.train(tiny_denoiser(), images, CONFIG)


def test_rejects_pixels_of_0_to_255():
    pixels = SimpleNamespace(images=dl.to_uint8(DATA.images), labels=DATA.labels)
    with pytest.raises(ValueError, match=r"dtype torch\.uint8; expected floats \(N, C, H, W\): see to_float"):
        dl.train(tiny_denoiser(), pixels, CONFIG)


def test_error_names_the_images_that_contain_nan():
    images = DATA.images.index_fill(0, torch.tensor([3, 20]), torch.nan)
    with pytest.raises(ValueError, match=r"2 of 24 contain NaN or infinity, the first is image 3: leave them out"):
        dl.train(tiny_denoiser(), dl.ImageDataset(images, DATA.labels, DATA.class_names), CONFIG)


def test_rejects_weights_that_cannot_be_trained():
    *_, step = dl.train(tiny_denoiser(), DATA, CONFIG)
    with pytest.raises(
        ValueError, match=r"no weights with requires_grad; expected trainable weights: to train.+copy\.deepcopy\(step\.ema\)"
    ):
        dl.train(step.ema, DATA, CONFIG)
    again = copy.deepcopy(step.ema).requires_grad_()
    assert next(dl.train(again, DATA, CONFIG)).loss.isfinite()
    empty = tiny_denoiser().to("meta")
    with pytest.raises(ValueError, match=r"weights are on 'meta', which stores no values; expected weights on a device"):
        dl.train(empty, DATA, CONFIG)


def test_trains_under_no_grad():
    expected = run(tiny_denoiser(), DATA, steps=2)[2]
    with torch.no_grad():
        assert run(tiny_denoiser(), DATA, steps=2)[2] == expected
    with torch.inference_mode(), pytest.raises(ValueError, match=r"called in torch\.inference_mode; expected a call outside"):
        dl.train(tiny_denoiser(), DATA, CONFIG)


def test_gradients_of_the_datasets_images_are_untouched(tmp_path):
    images = DATA.images.clone().requires_grad_()
    run(tiny_denoiser(), dl.ImageDataset(images, DATA.labels, DATA.class_names), CONFIG, tmp_path, steps=2)
    assert images.grad is None


@pytest.mark.parametrize("default", ["float64", "float16", "bfloat16", "meta"])
def test_session_defaults_do_not_change_trained_weights(tmp_path, default):
    denoisers, expected = [tiny_denoiser(), tiny_denoiser(seed=1)], run(tiny_denoiser(), DATA)
    try:
        torch.set_default_device("meta") if default == "meta" else torch.set_default_dtype(getattr(torch, default))
        first = run(denoisers[0], DATA, CONFIG, tmp_path, steps=3)
        rest = run(denoisers[1], DATA, CONFIG, tmp_path)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert first[2] + rest[2] == expected[2]
    torch.testing.assert_close(rest[1][-1], expected[1][-1], rtol=0, atol=0)


# ------------------------------------------------------------------------------------------------------ within torch's wrappers


def compiled(module):
    return torch.compile(module, backend="eager")


def in_place(network):
    network.compile(backend="eager")
    return network


@pytest.fixture
def traces_nothing():
    """A compiled network computes as it would without: its name and its place are what is tested, and to trace it takes ten seconds."""
    with torch.compiler.set_stance("force_eager"):
        yield


WRAPPERS = {"compiled": compiled, "compiled in place": in_place, "data parallel": torch.nn.DataParallel}


def within(wrap, seed=0):
    denoiser = tiny_denoiser(seed=seed)
    denoiser.network = WRAPPERS[wrap](denoiser.network)
    return denoiser


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_wrapped_network_trains_like_the_plain_one_and_resumes_it(tmp_path, traces_nothing, wrap):
    whole = run(tiny_denoiser(), DATA)
    first = run(within(wrap), DATA, CONFIG, tmp_path, steps=3)  # and goes on without the wrapper, and then with it
    middle = run(tiny_denoiser(seed=1), DATA, CONFIG, tmp_path, steps=3)
    last = run(within(wrap, seed=2), DATA, CONFIG, tmp_path)
    assert [*first[2], *middle[2], *last[2]] == pytest.approx(whole[2], rel=1e-5)
    ema = dl.load_checkpoint(tmp_path)
    torch.testing.assert_close(weights(ema), whole[1][-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_wrapped_network_is_saved_without_its_wrapper(tmp_path, traces_nothing, wrap):
    denoiser = within(wrap)
    step = next(dl.train(denoiser, DATA, CONFIG))
    for name, each in (("trained", step.denoiser), ("average", step.ema)):
        each.save_pretrained(tmp_path / name)
        again = dl.Denoiser.from_pretrained(tmp_path / name)
        assert type(again.network) is dl.UNet
        xt = DATA.images[:2]
        with torch.no_grad():
            torch.testing.assert_close(again(xt, 5), each.eval()(xt, 5), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wrap", [compiled, torch.nn.DataParallel])
def test_wrapped_denoiser_trains_with_a_warning_that_names_the_wrapper(wrap):
    denoiser = tiny_denoiser()
    with pytest.warns(UserWarning, match=r"wrapped in a (OptimizedModule|DataParallel), which training ignores; wrap denoiser\.network"):
        steps = dl.train(wrap(denoiser), DATA, CONFIG)
    step = next(steps)
    assert step.denoiser is denoiser
    assert step.loss.item() == run(tiny_denoiser(), DATA, steps=1)[2][0]
