"""Feature networks for any images, and a model compared with a folder: what they notice, keep, and refuse."""

import runpy
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers import noise, tiny_dataset, tiny_denoiser
from PIL import Image
from torch import nn

import diffusion_lib as dl
from diffusion_lib.measure import Classifier, FeatureNetwork, features, frechet_distance, kernel_distance, train_features
from diffusion_lib.measure.own_images import compare, feature_network, split_in_halves
from diffusion_lib.measure.train_classifier import main
from diffusion_lib.words import vocabulary_of


def landscapes(n, seed=0, size=16):
    """Colour images of one kind: a sky, a ground and a sun, of random colours and places. uint8 (n, 3, size, size)."""
    random = torch.Generator().manual_seed(seed)
    sky, ground, sun = (
        torch.rand(3, n, 3, 1, 1, generator=random) * 0.5 + torch.tensor([0.4, 0.1, 0.5])[:, None, None, None, None]
    ).unbind()
    horizon, x, y = (torch.rand(3, n, 1, 1, 1, generator=random) * 0.5 + torch.tensor([0.4, 0.2, 0.0])[:, None, None, None, None]).unbind()
    rows, columns = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    images = torch.where(rows > horizon, ground, sky * (1 - rows / 2))
    images = torch.where((rows - y) ** 2 + (columns - x) ** 2 < 0.02, sun, images)
    return (images * 255).to(torch.uint8)


def unlabelled(n, seed=0):
    return dl.ImageDataset.without_classes(dl.to_float(landscapes(n, seed)))


@pytest.fixture(scope="module")
def network():
    """For landscapes."""
    return train_features(unlabelled(200))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of 48 landscapes, and a cache of its own."""
    monkeypatch.setenv("DIFFUSION_LIB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own").mkdir()
    for i, pixels in enumerate(landscapes(48)):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "own" / f"{i:02}.png")
    return tmp_path / "own"


def save_model(place, channels=3):
    dl.Denoiser(tiny_unet_of(channels), dl.linear_schedule(20), "eps", image_shape=(channels, 16, 16)).save_pretrained(place)
    return place


def tiny_unet_of(channels):
    torch.manual_seed(0)
    return dl.UNet(in_channels=channels, base_channels=8, channel_mults=(1,), blocks_per_level=1, attention_levels=(), norm_groups=4)


# ---------------------------------------------------------------------------------------------------------------- what they notice


def blurred(x):
    return F.avg_pool2d(F.pad(x, [1] * 4, mode="reflect"), 3, 1)


FAULTS = {
    "noise": lambda x: x + 0.1 * noise(*x.shape, dtype=torch.float32),
    "blur": blurred,
    "half the resolution": lambda x: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2),
    "few different images": lambda x: x[torch.arange(len(x)) % 10],
    "low contrast": lambda x: 0.8 * x,
    "noise only": lambda x: noise(*x.shape, dtype=torch.float32).clamp(-1, 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_random_features_detect_faults_in_images_without_classes(network, fault):
    real, other, third = (unlabelled(300, seed).images for seed in (1, 2, 3))
    good = frechet_distance(real, other, network=network, resamples=10)
    bad = frechet_distance(real, FAULTS[fault](third), network=network, resamples=10)
    assert bad.low > good.high


def test_a_worse_fault_is_a_larger_distance(network):
    real, other = unlabelled(150, 1), unlabelled(150, 2).images
    for distance in (frechet_distance, kernel_distance):
        values = [distance(real, other + s * noise(*other.shape, dtype=torch.float32), network=network).value for s in (0.0, 0.1, 0.3)]
        assert values == sorted(values)


def test_classifier_detects_missing_classes_better_than_random_features():
    real, other = dl.load_dataset("glyphs", n=360), dl.load_dataset("glyphs", train=False, n=720)
    few = other.images[other.labels < 10]
    more = {}
    for name, network in (("classifier", dl.load_classifier("glyphs")), ("random", train_features(real, num_features=64, steps=0))):
        target = features(network, real)
        good, bad = (frechet_distance(target, features(network, x[:200]), resamples=2).value for x in (other.images, few))
        more[name] = bad / good
    assert more["classifier"] > 2 * more["random"]


def test_unseen_images_of_the_same_kind_are_as_close_as_seen_ones(network):
    real, unseen, seen = unlabelled(200, 1), unlabelled(200, 2), unlabelled(200)
    distances = [frechet_distance(real, images, network=network, resamples=10) for images in (seen, unseen)]
    assert distances[0].low < distances[1].high
    assert distances[1].low < distances[0].high


# ---------------------------------------------------------------------------------------------------------------- feature networks


def test_dataset_without_classes_gives_a_normalised_random_network():
    data = unlabelled(100)
    network = train_features(data)
    assert type(network) is FeatureNetwork
    assert not network.training
    first = network.levels[0][:2]  # the first convolution and its batch norm: mean 0 and variance 1 on these images
    h = first(data.images)
    torch.testing.assert_close(h.mean(dim=(0, 2, 3)), torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(h.std(dim=(0, 2, 3)), torch.ones(16), atol=1e-2, rtol=0)


def test_dataset_with_classes_gives_a_trained_classifier():
    bars = tiny_dataset(n=60)
    network = train_features(bars, steps=30, progress=False)
    assert type(network) is Classifier
    assert not network.training
    assert (network.read(bars.images) == bars.labels).float().mean() > 0.9
    assert type(train_features(bars, steps=0)) is FeatureNetwork  # if asked for


def test_unlabelled_images_are_excluded_from_classifier_training():
    bars = tiny_dataset()
    labels = bars.labels.clone()
    labels[3] = dl.NO_LABEL
    assert type(train_features(dl.ImageDataset(bars.images, labels, bars.class_names))) is FeatureNetwork


def test_feature_network_is_reproducible_and_leaves_the_global_generator_unchanged():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b, c = (train_features(unlabelled(20), seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["to_features.weight"], c["to_features.weight"])


def test_network_is_saved_and_used_again(tmp_path):
    data = unlabelled(40)
    made, place = feature_network(data, tmp_path / "features")
    again, _ = feature_network(unlabelled(40, seed=7), tmp_path / "features")
    assert place == tmp_path / "features"
    assert torch.equal(features(made, data), features(again, data))
    with pytest.raises(ValueError, match=r"takes images of 3 channels, but the dataset's have 1; expected the same"):
        feature_network(tiny_dataset(), tmp_path / "features")


def test_saved_classifier_can_be_used_again(tmp_path):
    classifier = Classifier(1, 3, width=8).eval()
    classifier.save_pretrained(tmp_path)
    again, _ = feature_network(tiny_dataset(), tmp_path)
    assert type(again) is Classifier
    assert torch.equal(again(tiny_dataset().images), classifier(tiny_dataset().images))


def test_cached_network_belongs_to_its_images(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSION_LIB_CACHE", str(tmp_path))
    places = [feature_network(data)[1] for data in (unlabelled(40), unlabelled(40), unlabelled(40, seed=1))]
    assert places[0] == places[1] != places[2]
    assert all(place.is_relative_to(tmp_path) for place in places)


def test_train_features_rejects_unusable_datasets():
    with pytest.raises(ValueError, match=r"dataset is a Tensor; expected one with images and labels: see ImageDataset"):
        train_features(unlabelled(4).images)
    with pytest.raises(ValueError, match=r"1 images of 16x16; expected two or more"):
        train_features(unlabelled(1))
    with pytest.raises(ValueError, match=r"4 images of 4x4; expected two or more, of at least 8x8"):
        train_features(dl.ImageDataset.without_classes(torch.zeros(4, 3, 4, 4)))
    with pytest.raises(ValueError, match=r"steps=2.5; expected an integer"):
        train_features(tiny_dataset(), steps=2.5)
    with pytest.raises(ValueError, match=r"images have shape \(4, 3, 16, 16\) and dtype torch.uint8; expected floats"):
        train_features(SimpleNamespace(images=landscapes(4), labels=torch.zeros(4).long()))
    broken = unlabelled(4).images.clone()
    broken[2] = torch.nan
    with pytest.raises(ValueError, match=r"images contain NaN or infinity in 1 of 4, first in image 2"):
        train_features(dl.ImageDataset.without_classes(broken))


# ------------------------------------------------------------------------------------------- features of any images, by any network


def means(images):
    """A network: the mean and the deviation of each channel."""
    return torch.cat([images.mean(dim=(2, 3)), images.std(dim=(2, 3))], dim=1)


def test_images_may_be_a_tensor_a_dataset_or_batches():
    data = unlabelled(30)
    expected = features(means, data.images)
    assert expected.shape == (30, 6)
    assert expected.dtype == torch.float64
    loader = torch.utils.data.DataLoader(data, batch_size=7)
    for images in (data, (part for part in data.images.split(8)), list(data.images.split(8)), loader):
        torch.testing.assert_close(features(means, images), expected)
    other = unlabelled(30, 1)
    by_hand = frechet_distance(expected, features(means, other))
    assert frechet_distance(data, other.images, network=means).value == pytest.approx(by_hand.value)


def test_features_are_computed_in_batches_in_eval_mode_and_restore_the_mode(network):
    sizes = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.frozen = nn.Dropout(0.5), nn.BatchNorm1d(3).eval()

        def forward(self, images):
            sizes.append(len(images))
            return self.frozen(self.inner(images.mean(dim=(2, 3))))

    watching = Watching()
    images = unlabelled(10).images
    once, again = (features(watching, images.double(), batch_size=4) for _ in range(2))  # in float32, as its weights are
    assert torch.equal(once, again)
    assert sizes == [4, 4, 2] * 2
    assert watching.training
    assert watching.inner.training
    assert not watching.frozen.training


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (landscapes(4), r"images has dtype torch.uint8; expected floats in \[-1, 1\]: use diffusion_lib.to_float"),
        (landscapes(4).numpy(), r"images is of type ndarray; expected a tensor of shape \(B, C, H, W\)"),
        (torch.zeros(3, 16, 16), r"images has shape \(3, 16, 16\); expected \(B, C, H, W\)"),
        (torch.full((2, 3, 16, 16), torch.nan), r"images contain NaN or infinity"),
        (torch.zeros(4, 1, 16, 16), r"images have shape \(4, 1, 16, 16\) .*expected floats \(B, 3, H, W\)"),
        (torch.zeros(4, 3, 6, 6), r"images have shape \(4, 3, 6, 6\) .*H and W at least 8"),
        (iter([]), r"there are no images"),
        ("folder:own", r"images is of type str; expected a tensor"),
        (None, r"images is of type NoneType; expected a tensor"),
    ],
)
def test_features_rejects_other_images(network, images, message):
    with pytest.raises(ValueError, match=message):
        features(network, images)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda x: x, r"the network returns \(4, 3, 16, 16\) for 4 images; expected \(4, F\), one row per image"),
        (lambda x: x.mean(), r"the network returns \(\) for 4 images"),
        (lambda x: x[:2].flatten(1), r"the network returns \(2, 768\) for 4 images"),
        (lambda x: x.flatten(1).numpy(), r"the network returns ndarray for 4 images"),
        (lambda x: x.flatten(1).log(), r"the network returns features that are not finite for finite images"),
        ("glyphs", r"network is a str; expected a function from images \(B, C, H, W\) to features \(B, F\)"),
    ],
)
def test_features_rejects_networks_with_the_wrong_output(other, message):
    with pytest.raises(ValueError, match=message):
        features(other, unlabelled(4))


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_distances_reject_images_that_cannot_be_compared(distance):
    data = unlabelled(30)
    with pytest.raises(ValueError, match=r"real is a ImageDataset; expected features \(N, F\), or images and a network: network="):
        distance(data, data)
    with pytest.raises(ValueError, match=r"real features have shape \(30, 3, 16, 16\); .*or pass network=… with images"):
        distance(data.images, data.images)
    with pytest.raises(ValueError, match=r"fake images have shape \(3, 8, 8\), real ones \(3, 16, 16\); expected the same"):
        distance(data, data.images[..., ::2, ::2], network=means)
    with pytest.raises(ValueError, match=r"fake features have shape \(1, 6\)"):
        distance(data, data.images[:1], network=means)
    same = data.images[:1].expand(30, -1, -1, -1)
    with pytest.raises(ValueError, match=r"the 30 real features are all equal; expected features of different images"):
        distance(same, data, network=means)
    assert distance(data, same, network=means).value > 0  # what a model may do: a distance, and a large one
    with pytest.raises(ValueError, match=r"real features have dtype torch.int64; expected floats"):
        distance(torch.arange(60).reshape(30, 2), torch.arange(60).reshape(30, 2))


def test_no_more_images_than_features_warns():
    few = unlabelled(6)
    with pytest.warns(UserWarning, match=r"6 images and 6 features: this Fréchet distance is mostly bias"):
        frechet_distance(few, unlabelled(6, 1), network=means)


# ------------------------------------------------------------------------------------------------------------------- the command


def test_command_compares_a_model_with_a_folder_and_keeps_the_network(folder, tmp_path, capsys, monkeypatch):
    model = save_model(tmp_path / "mine")
    options = ["--dataset", f"folder:{folder}", "--model", str(model), "--sampling-steps", "2", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["measure", *options])
    runpy.run_module("diffusion_lib.measure", run_name="__main__")
    first = capsys.readouterr()
    (kept,) = (tmp_path / "cache" / "features").iterdir()
    assert first.out.startswith(f"features: 32 of a random network, normalised on the images, in {kept}\n24 images in each set")
    rows = {line[:20].strip(): line for line in first.out.splitlines()}
    assert {"samples", "other real images"} <= rows.keys()
    assert "The samples differ measurably from real images." in first.out
    assert "samples:" in first.err  # the bar
    assert first.err.count("note: 24 images and 32 features: this Fréchet distance is mostly bias") == 1
    written = (kept / "model.safetensors").stat().st_mtime_ns
    main(options)
    assert capsys.readouterr().out == first.out
    assert (kept / "model.safetensors").stat().st_mtime_ns == written


def test_samples_of_a_good_model_do_not_differ_measurably():
    first, second = split_in_halves(unlabelled(200))
    network = train_features(first)
    model = dl.IdealDenoiser(first.images, dl.cosine_schedule(50))
    model.num_classes, model.to = None, lambda device: model
    found = compare(model, network, first, second, steps=10)
    assert found.n == 100
    for of_samples, of_real in zip(found.samples, found.real, strict=True):
        assert of_samples.low < of_real.high


def test_samples_have_the_classes_of_the_images(monkeypatch):
    asked = []

    class Told(dl.Denoiser):
        def __call__(self, xt, t, y=None):
            asked.append(y)
            return super().__call__(xt, t, y)

    tiny = tiny_denoiser()
    bars = tiny_dataset(n=80)
    first, second = split_in_halves(bars)
    compare(Told(tiny.network, tiny.schedule, "eps", tiny.image_shape).eval(), train_features(bars, steps=2), first, second, steps=1)
    assert torch.equal(torch.cat(asked), second.labels)


def test_halves_share_no_image_and_hold_all_classes():
    bars = tiny_dataset(n=80)
    first, second = split_in_halves(bars)
    assert len(first) == len(second) == 40
    assert set(first.labels.tolist()) == set(second.labels.tolist()) == {0, 1, 2}
    assert len({image.numpy().tobytes() for half in (first, second) for image in half.images}) == 80


def test_command_measures_a_shipped_model_with_the_shipped_classifier(capsys):
    main(["--model", "glyphs-1", "--samples", "70", "--sampling-steps", "1", "--device", "cpu", "--images", "50"])
    assert capsys.readouterr().out.startswith("features: 64 of a classifier (shipped)\n70 images in each set")


def test_command_measures_a_grey_model_on_the_readable_files_of_a_folder(folder, tmp_path, capsys):
    (folder / "00.png").write_bytes(b"not a picture")
    model = save_model(tmp_path / "grey", channels=1)
    options = ["--dataset", f"folder:{folder}", "--model", str(model), "--sampling-steps", "1", "--device", "cpu"]
    with pytest.raises(SystemExit):
        main(options)
    assert "00.png cannot be read as an image" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="skipped 1 of 48 files"):
        main([*options, "--skip-broken"])
    assert "23 images in each set" in capsys.readouterr().out


def test_command_takes_height_and_width(folder, tmp_path, capsys):
    place = tmp_path / "wide"
    dl.Denoiser(tiny_unet_of(3), dl.linear_schedule(20), "eps", image_shape=(3, 8, 16)).save_pretrained(place)
    options = ["--dataset", f"folder:{folder}", "--model", str(place), "--sampling-steps", "1", "--device", "cpu"]
    main([*options, "--size", "8x16"])
    given = capsys.readouterr().out
    main(options)
    assert capsys.readouterr().out == given
    with pytest.raises(SystemExit):
        main([*options, "--size", "16x8"])
    assert "images of shape (3, 8, 16), but those of --dataset" in capsys.readouterr().err


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float16, torch.float64, "meta"], ids=str)
def test_session_defaults_do_not_change_features_and_distances(default):
    bars, unnamed = tiny_dataset(n=80), unlabelled(60)

    def measured():
        found = []
        for dataset, steps in ((bars, 3), (unnamed, None)):
            network = train_features(dataset, steps=steps, progress=False, num_features=4)
            first, second = split_in_halves(dataset)
            found += [each(first, second, network=network) for each in (frechet_distance, kernel_distance)]
        return found

    expected = measured()
    if default == "meta":
        with torch.device("meta"):
            assert measured() == expected
        return
    torch.set_default_dtype(default)
    try:
        assert measured() == expected
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("option", ["--out", "--features", "--root"])
@pytest.mark.parametrize("place", ["", "$NOT_SET_ANYWHERE/x"])
def test_command_rejects_paths_with_unset_variables(capsys, option, place):
    with pytest.raises(SystemExit):
        main([option, place])
    assert "is a variable not set" in (said := capsys.readouterr().err) or "$NOT_SET_ANYWHERE is not set" in said


def test_command_reports_running_out_of_memory(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("diffusion_lib.measure.train_classifier.train", lambda options, parser: torch.empty(2**50))
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--batch-size", "5000000"])
    said = capsys.readouterr().err
    assert "out of memory (" in said
    assert said.endswith("; expected a run that fits: a --batch-size below 5000000, or fewer --images\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "MODEL", "--out", "x"], "--out is for training a classifier: omit --model, or this"),
        (["--model", "MODEL", "--steps", "5"], "--steps is for training a classifier"),
        (["--out", "x", "--sampling-steps", "5"], "--sampling-steps is for measuring a model: add --model"),
        ([], "--out is missing; expected a folder for the classifier's weights, or --model to measure a model"),
        (["--model", "GREY", "--channels", "3"], "the model makes images of shape (1, 16, 16), but those of --dataset folder:"),
        (["--model", "MODEL", "--images", "20"], "20 images; expected 40 or more: one half is compared with the other"),
        (["--model", "MODEL", "--samples", "5"], "--samples=5; expected an integer, 20 or more"),
        (["--model", "no/such/model"], "no/such/model is not a folder; expected a folder written by save_pretrained, or a hub id"),
        (["--model", "MODEL", "--dataset", "folder:nowhere"], "nowhere is not a folder; expected one with images"),
        (["--model", "MODEL", "--sampling-steps", "0"], "steps=0; expected an integer, 1..20"),
    ],
)
def test_command_reports_errors_with_their_cause(folder, tmp_path, capsys, options, message):
    models = {"MODEL": 3, "GREY": 1}
    options = [str(save_model(tmp_path / each, models[each])) if each in models else each for each in options]
    with pytest.raises(SystemExit) as stopped:
        main(["--dataset", f"folder:{folder}", *options])
    assert stopped.value.code != 0
    assert message in capsys.readouterr().err


def test_captioned_model_is_compared_by_the_captions_of_the_reference(monkeypatch):
    cards = dl.load_dataset("postcards", n=80)
    torch.manual_seed(0)
    model = dl.Denoiser(dl.UNet(3, 8, words=vocabulary_of(cards.captions)), dl.cosine_schedule(20), "v", image_shape=(3, 32, 32)).eval()
    other, reference = split_in_halves(cards)
    assert len(set(reference.captions) | set(other.captions)) > 70
    for part in (other, reference):  # each image keeps what belongs to it
        for image, caption, thing in zip(part.images, part.captions, part.attributes["thing"], strict=True):
            (k,) = [k for k, each in enumerate(cards.images) if torch.equal(each, image)]
            assert (caption, thing) == (cards.captions[k], cards.attributes["thing"][k])
    asked = []

    def sampled(denoiser, n, *, y, **options):
        asked.extend(y)
        return torch.zeros(n, 3, 32, 32) + torch.randn(n, 3, 1, 1)

    monkeypatch.setattr("diffusion_lib.measure.own_images.sample", sampled)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fewer images than features
        compare(model, dl.load_classifier("postcards"), other, reference, steps=1)
    assert tuple(asked) == reference.captions
