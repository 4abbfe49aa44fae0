"""The postcards: what they show is what their attributes and captions say, and the held-out combinations occur in none."""

import re
from types import SimpleNamespace

import postcards_quality
import pytest
import torch

import diffusion_lib as dl
from diffusion_lib.data import captions, postcards
from diffusion_lib.data.postcards import ATTRIBUTES, COLOURS, SCENES, THINGS, TIMES, load_postcards
from diffusion_lib.measure import attribute_accuracy


@pytest.fixture(scope="module")
def cards():
    return dl.load_dataset("postcards", n=3000)


def meaning(cards, k):
    return {name: names[cards.attributes[name][k]] for name, names in cards.attribute_names.items()}


def test_are_colour_pictures_in_the_data_range(cards):
    assert (cards.images.shape, cards.images.dtype) == ((3000, 3, 32, 32), torch.float32)
    assert cards.images.min() >= -1
    assert cards.images.max() <= 1
    assert cards.images.std() > 0.3
    # in colour: the channels differ
    assert (cards.images[:, 0] - cards.images[:, 2]).abs().mean() > 0.1


def test_picture_k_depends_on_seed_and_k_alone(cards):
    few = dl.load_dataset("postcards", n=300)  # more than are drawn at a time
    assert torch.equal(few.images, cards.images[:300])
    assert few.captions == cards.captions[:300]
    assert all(torch.equal(few.attributes[name], values[:300]) for name, values in cards.attributes.items())


def test_sets_share_no_picture():
    sets = [
        load_postcards(train=train, seed=seed, n=200, held_out=out) for train in (True, False) for seed in (0, 1) for out in (True, False)
    ]
    assert len(torch.cat([each.images.flatten(1) for each in sets]).unique(dim=0)) == 1600


def test_a_larger_picture_shows_the_same_scene():
    small, large = (dl.load_dataset("postcards", n=64, size=size) for size in (32, 64))
    assert large.images.shape == (64, 3, 64, 64)
    assert large.captions == small.captions
    shrunk = torch.nn.functional.avg_pool2d(large.images, 2)
    assert (shrunk - small.images).abs().mean() < 0.03


@pytest.mark.parametrize("size", [8, (32, 48)])
def test_refuses_sizes_that_it_cannot_draw(size):
    with pytest.raises(ValueError, match=r"size=.*; expected"):
        dl.load_dataset("postcards", n=2, size=size)


def test_refuses_mirror_images_whose_captions_would_be_wrong():
    with pytest.raises(ValueError, match="says what is left"):
        dl.load_dataset("postcards", n=4, flip=True)


def test_labels_are_the_scenes(cards):
    for k in range(50):
        scene = meaning(cards, k)
        assert SCENES[cards.labels[k]].split()[0] == scene["ground"]
        assert SCENES[cards.labels[k]].split()[-1] == scene["time"]


def test_every_value_of_every_attribute_occurs(cards):
    for name, names in ATTRIBUTES.items():
        assert set(cards.attributes[name].tolist()) == set(range(len(names))), name


def test_has_thousands_of_meanings(cards):
    assert len(torch.stack([*cards.attributes.values()], dim=1).unique(dim=0)) > 2000


def combinations(cards):
    """The triples (thing, colour, time) in the pictures."""
    found = set()
    for prefix in ("", "second_"):
        there = cards.attributes[f"{prefix}thing"] > 0
        columns = (cards.attributes[f"{prefix}thing"] - 1, cards.attributes[f"{prefix}colour"] - 1, cards.attributes["time"])
        found |= set(zip(*(column[there].tolist() for column in columns), strict=True))
    return found


def test_a_third_of_the_combinations_is_held_out():
    cards = [load_postcards(n=6000, train=train) for train in (True, False)]
    unseen = load_postcards(n=6000, held_out=True)
    every = {(thing, colour, time) for thing in range(len(THINGS)) for colour in range(len(COLOURS)) for time in range(len(TIMES))}
    seen, held_out = combinations(cards[0]) | combinations(cards[1]), combinations(unseen)
    assert seen | held_out == every
    assert not seen & held_out
    assert len(held_out) == len(every) // 3
    # every thing is seen in every colour, and at every time
    assert len({(thing, colour) for thing, colour, _ in seen}) == len(THINGS) * len(COLOURS)
    assert len({(thing, time) for thing, _, time in seen}) == len(THINGS) * len(TIMES)
    for thing, colour, time in every:
        assert bool(postcards.is_held_out(*map(torch.tensor, (thing, colour, time)))) == ((thing, colour, time) in held_out)


def test_boats_stay_at_sea_and_rainbows_out_of_the_night(cards):
    for k in range(len(cards)):
        of = meaning(cards, k)
        assert "boat" not in (of["thing"], of["second_thing"]) or of["ground"] == "sea"
        assert of["weather"] != "rainbow" or of["time"] != "night"
        assert of["light"] == "none" or (of["light"] == "moon") == (of["time"] == "night")
        assert (of["thing"] == "none") == (of["colour"] == "none") == (of["place"] == "none") == (of["size"] == "none")
        assert of["second_thing"] == "none" or of["place"] == "left"


def test_captions_say_what_is_true(cards):
    for k, caption in enumerate(cards.captions):
        of = meaning(cards, k)
        words = caption.split()
        things, colours = ([word for word in words if word in names] for names in (THINGS, COLOURS))
        things_there = [of[name] for name in ("thing", "second_thing") if of[name] != "none"]
        assert sorted(things) == sorted(things_there)
        for colour, thing in re.findall(rf"({'|'.join(COLOURS)}) ({'|'.join(THINGS)})", caption):
            assert (thing, colour) in ((of["thing"], of["colour"]), (of["second_thing"], of["second_colour"]))
        assert len(colours) in (0, *[len(things)] * 2) or "white winter" in caption or "green hills" in caption
        for sign, name, value in (
            *(("dawn", "time", "dawn"), ("sunrise", "time", "dawn"), ("noon", "time", "day"), ("evening", "time", "sunset")),
            *(
                ("rain", "weather", "rain"),
                ("rainbow", "weather", "rainbow"),
                ("snows", "weather", "snowfall"),
                ("cloudy", "weather", "clouds"),
            ),
            *(("beach", "ground", "sea"), ("dunes", "ground", "desert"), ("winter", "ground", "snow")),
            *(("with mountains", "mountains", "there"), ("without mountains", "mountains", "none"), ("with the moon", "light", "moon")),
        ):
            assert sign not in (caption if " " in sign else words) or of[name] == value, (caption, of)
        if "left of" in caption or "right of" in caption:
            first, second = ("thing", "second_thing") if "left of" in caption else ("second_thing", "thing")
            assert things == [of[first], of[second]]


def test_complete_captions_tell_every_meaning_apart(cards):
    u = torch.full((len(cards), captions.NUMBERS), 0.3)  # one phrasing for all
    texts = captions.captions_of(cards.attributes, ATTRIBUTES, u, complete=True)
    of = list(zip(*(cards.attributes[name].tolist() for name in ATTRIBUTES), strict=True))
    assert len(set(texts)) == len(set(of)) == len(set(zip(texts, of, strict=True)))


def test_vocabulary_holds_exactly_the_words_of_the_captions():
    words = captions.vocabulary(ATTRIBUTES)
    assert 40 <= len(words) <= 80
    cards = load_postcards(n=20_000)
    assert {word for caption in cards.captions for word in caption.split()} == set(words)


def test_two_things_that_are_absent_share_one_without(cards):
    absent = (cards.attributes["light"] == 0) & (cards.attributes["mountains"] == 0)
    both = [caption for caption, is_absent in zip(cards.captions, absent.tolist(), strict=True) if is_absent and " or " in caption]
    assert both
    assert all(caption.endswith(("without the sun or mountains", "without the moon or mountains")) for caption in both)
    assert not [caption for caption in cards.captions if caption.count("without") > 1]


def test_several_phrasings_of_one_meaning():
    one = {name: values[:1].expand(200) for name, values in load_postcards(n=1).attributes.items()}
    assert len(set(captions.captions_of(one, ATTRIBUTES, captions.random_numbers(200, 0), complete=True))) > 10


def test_classifier_reads_every_attribute_of_held_out_pictures():
    classifier = dl.load_classifier("postcards")
    for held_out in (False, True):
        cards = load_postcards(n=2000, train=False, held_out=held_out)
        for name, estimate in attribute_accuracy(classifier, cards.images, cards.attributes).items():
            assert estimate.value >= (0.99 if name != "all" else 0.95), (name, held_out)


def test_benchmark_tells_real_postcards_from_those_of_an_untrained_model():
    torch.manual_seed(0)
    network = dl.UNet(3, 16, words=captions.vocabulary(ATTRIBUTES))
    model = dl.Denoiser(network, dl.cosine_schedule(), "v", image_shape=(3, 32, 32)).eval()
    options = SimpleNamespace(n=200, steps=2, scale=1.0, seed=0, batch_size=100, device="cpu", precision="float32")
    for held_out in (False, True):
        found = postcards_quality.measure(model, held_out, options)
        assert found["real"]["all"]["value"] > 0.95
        assert found["samples"]["all"]["value"] < 0.05
        assert found["samples"]["frechet_distance"]["low"] > found["real"]["frechet_distance"]["high"]


def test_takes_the_largest_seed():
    assert len(dl.load_dataset("postcards", n=2, seed=2**62)) == 2
