"""Captions: how they become numbers, how a network reads them, and what readers get wrong."""

import pytest
import torch
import torch.nn.functional as F

import diffusion_lib as dl
from diffusion_lib.training.batches import drop_labels
from diffusion_lib.unet import CrossAttention, with_coordinates
from diffusion_lib.words import MAX_WORDS, NO_WORD, as_words, split_words, vocabulary_of

WORDS = ("a", "blue", "by", "house", "of", "red", "sea", "the", "tree")


@pytest.fixture
def model():
    """A captioned denoiser whose last layers are not zero, so that it answers."""
    torch.manual_seed(0)
    network = dl.UNet(3, 16, words=WORDS)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return dl.Denoiser(network, dl.cosine_schedule(), "v", image_shape=(3, 16, 16)).eval()


@pytest.fixture
def xt():
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_captions_become_positions_in_the_vocabulary():
    assert as_words(["a red house", "the sea"], 2, WORDS).tolist() == [[1, 6, 4], [8, 7, NO_WORD]]
    assert as_words("A red house!", 2, WORDS).tolist() == [[1, 6, 4]] * 2
    assert as_words(["", None, "sea"], 3, WORDS).tolist() == [[NO_WORD], [NO_WORD], [7]]


def test_words_are_split_at_punctuation_and_lowered():
    assert split_words("A red house, by the SEA - at night.") == ["a", "red", "house", "by", "the", "sea", "at", "night"]
    assert vocabulary_of(["a red house", "a house"]) == ("a", "house", "red")


def test_unknown_word_names_the_nearest_known_ones():
    with pytest.raises(ValueError, match=r"unknown word 'hose' in 'a red hose'.*did you mean 'house'"):
        as_words("a red hose", 1, WORDS)
    with pytest.raises(ValueError, match=r"unknown word 'zzz'.*did you mean 'a', 'blue'"):
        as_words("zzz", 1, WORDS)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (3, "this model takes words, not classes"),
        ([1, 2], "this model takes words, not classes"),
        (["a", "red", "sea"], "3 captions for 2 images"),
        ("a " * (MAX_WORDS + 1), f"has {MAX_WORDS + 1} words"),
        (torch.tensor([1, 2]), "expected torch.long of shape"),
        (torch.tensor([[1.0], [2.0]]), "expected torch.long of shape"),
        (torch.tensor([[1], [10]]), r"y contains 10; expected words 1\.\.9"),
        (torch.tensor([[1], [-1]]), r"y contains -1; expected words 1\.\.9"),
    ],
)
def test_refuses_what_is_no_caption(model, xt, y, message):
    with pytest.raises(ValueError, match=message):
        model(xt, 500, y)


def test_sample_takes_captions(model):
    one = dl.sample(model, 2, steps=2, y="a red house by the sea")
    each = dl.sample(model, 2, steps=2, y=["a red house by the sea", "a blue tree"])
    assert torch.allclose(one[0], each[0], atol=1e-5)
    assert not torch.allclose(one[1], each[1], atol=1e-3)
    with pytest.raises(ValueError, match="unknown word 'see'"):
        dl.sample(model, 2, steps=2, y="a red house by the see")


def test_order_of_words_matters(model, xt):
    one, other = (model(xt, 500, y).x0 for y in ("a red house by a blue tree", "a blue house by a red tree"))
    assert (one - other).abs().max() > 1e-5  # rounding is 1e-7


def test_longer_captions_in_the_batch_change_nothing(model, xt):
    alone = model(xt[:1], 500, ["a red house"]).x0
    beside = model(xt, 500, ["a red house", "a blue house by the sea by the sea by the sea"]).x0[:1]
    assert torch.allclose(alone, beside, atol=1e-5)


def test_no_caption_is_an_empty_one(model, xt):
    without = model(xt, 500).x0
    assert torch.allclose(without, model(xt, 500, ["", ""]).x0, atol=1e-5)
    assert torch.allclose(without, model(xt, 500, torch.full((2, 5), NO_WORD)).x0, atol=1e-5)
    assert not torch.allclose(without, model(xt, 500, "a red house").x0, atol=1e-3)


def test_guidance_takes_captions(model, xt):
    y = ["a red house", "the sea"]
    guided = dl.Guided(model, 3.0)(xt, 500, y)
    with_caption, without = model(xt, 500, y), model(xt, 500)
    assert torch.allclose(guided.eps, without.eps + 3 * (with_caption.eps - without.eps), atol=1e-4)
    assert dl.Guided(model, 2.0).words == WORDS


def test_dropped_captions_have_no_words():
    y = as_words(["a red house", "the sea"] * 500, 1000, WORDS)
    dropped = drop_labels(y, 0.25, torch.Generator().manual_seed(0))
    gone = (dropped == NO_WORD).all(dim=1)
    assert 0.2 < gone.float().mean() < 0.3
    assert torch.equal(dropped[~gone], y[~gone])


def test_cross_attention_is_the_formula():
    torch.manual_seed(0)
    block = CrossAttention(64, 32)
    torch.nn.init.normal_(block.out.weight)
    h = torch.randn(2, 64, 4, 4)
    text = dl.UNet(3, 16, words=WORDS).text_encoder(as_words(["a red house", "sea"], 2, WORDS))
    _, _, v = block.queries_keys_values(h, text)
    weights = block.weights(h, text)
    assert weights.shape == (2, 2, 16, 4)
    assert torch.allclose(weights.sum(dim=-1), torch.ones(2, 2, 16))
    assert (weights[1, :, :, 2:] == 0).all()  # the second caption has one word, after the position that is always there
    a = (weights @ v).transpose(2, 3).reshape(h.shape)
    assert torch.allclose(block(h, text), h + F.conv2d(a, block.out.weight, block.out.bias), atol=1e-5)


def test_captioned_network_is_given_coordinates():
    h = with_coordinates(torch.zeros(2, 1, 3, 5))
    assert h.shape == (2, 3, 3, 5)
    torch.testing.assert_close(h[1, 1, 2], torch.tensor([-1, -0.5, 0, 0.5, 1]))  # from left to right
    torch.testing.assert_close(h[1, 2, :, 4], torch.tensor([-1.0, 0, 1]))  # from top to bottom
    assert dl.UNet(3, 16, words=WORDS).stem.in_channels == dl.UNet(3, 16).stem.in_channels + 2


def test_captioned_model_is_saved_with_its_vocabulary(model, xt, tmp_path):
    model.save_pretrained(tmp_path)
    again = dl.Denoiser.from_pretrained(tmp_path)
    assert again.words == WORDS
    assert torch.equal(again(xt, 500, "a red house").x0, model(xt, 500, "a red house").x0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(words="a red house"), "expected a list or tuple of words"),
        (dict(words=()), "words is empty"),
        (dict(words=("red house",)), "expected single words"),
        (dict(words=("Red",)), "in lower case"),
        (dict(words=("red", "red")), "'red' twice"),
        (dict(words=WORDS, num_classes=3), "expected one of them"),
        (dict(words=WORDS, attention_levels=()), "words without attention_levels"),
    ],
)
def test_refuses_impossible_vocabularies(options, message):
    with pytest.raises(ValueError, match=message):
        dl.UNet(3, 16, **options)


def captioned(n=8):
    captions = ("a red house", "the blue sea by the tree") * (n // 2)
    images = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return dl.ImageDataset(images, torch.full((n,), dl.NO_LABEL), captions=captions)


def test_training_uses_the_captions(model):
    config = dl.TrainConfig(steps=3, warmup_steps=1, batch_size=4, cond_drop_prob=0.0)
    before = model.network.text_encoder.word.weight.clone()
    for step in dl.train(model, captioned(), config):
        assert step.loss.isfinite()
    changed = (model.network.text_encoder.word.weight != before).any(dim=1)
    used = {0} | {WORDS.index(word) + 1 for word in split_words("a red house the blue sea by tree")}
    assert set(changed.nonzero().flatten().tolist()) == used


def test_resumed_captioned_run_ends_with_the_same_weights(tmp_path):
    def run(steps, directory):
        torch.manual_seed(0)
        model = dl.Denoiser(dl.UNet(3, 16, words=WORDS), dl.cosine_schedule(), "v")
        config = dl.TrainConfig(steps=6, warmup_steps=1, batch_size=4, checkpoint_every=2)
        for step in dl.train(model, captioned(), config, directory):
            if step.step == steps:
                break
        return model

    whole = run(6, tmp_path / "whole")
    run(4, tmp_path / "stopped")
    resumed = run(6, tmp_path / "stopped")
    for ours, theirs in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    loaded = dl.load_checkpoint(tmp_path / "stopped")
    assert loaded.words == WORDS


def test_captioned_training_needs_known_captions(model):
    config = dl.TrainConfig(steps=2, warmup_steps=0)
    plain = dl.ImageDataset.without_classes(captioned().images)
    with pytest.raises(ValueError, match="the dataset has none"):
        dl.train(model, plain, config)
    strange = dl.ImageDataset(captioned().images, captioned().labels, captions=("a green house",) * 8)
    with pytest.raises(ValueError, match="unknown word 'green'"):
        dl.train(model, strange, config)


def test_dataset_checks_captions_and_attributes():
    images, labels = captioned().images, captioned().labels
    with pytest.raises(ValueError, match="2 captions for 8 images"):
        dl.ImageDataset(images, labels, captions=("a", "b"))
    with pytest.raises(ValueError, match="expected a list or tuple of texts"):
        dl.ImageDataset(images, labels, captions="a red house")
    with pytest.raises(ValueError, match="the same keys"):
        dl.ImageDataset(images, labels, attributes=dict(size=[0] * 8))
    names = dict(size=("small", "large"))
    with pytest.raises(ValueError, match=r"attributes\['size'\] ranges from 0 to 2"):
        dl.ImageDataset(images, labels, attributes=dict(size=[0] * 7 + [2]), attribute_names=names)
    assert (
        dl.ImageDataset(images, labels, attributes=dict(size=["large"] * 8), attribute_names=names).attributes["size"].tolist() == [1] * 8
    )
