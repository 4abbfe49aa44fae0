"""Exercises of notebook 00."""

import torch

from diffusion_lib.data.glyphs import CHARACTERS
from diffusion_lib.exercises.checking import Exercise, Mistake, Question


def _spell(word):
    return [CHARACTERS.index(c) for c in word.upper()]


check_spell = Exercise(
    reference=_spell,
    inputs=lambda random: [("U2",), ("R2D2",), ("Hello",)],
    look=lambda numbers: [int(k) for k in numbers],
    mistakes=(
        Mistake(
            lambda word: [ord(c.upper()) - ord("A") for c in word],
            "letters are right; a digit has a number of its own, after the letters: see CHARACTERS",
        ),
        Mistake(
            lambda word: [CHARACTERS.index(c) for c in word],
            "a small letter was not found among the CHARACTERS: the model only knows capitals (word.upper())",
        ),
        Mistake(
            lambda word: [int(c, 36) for c in word.upper()],
            "this counts digits first; here letters come first: A is 0, and the digit 0 is 26",
        ),
        Mistake(
            lambda word: [CHARACTERS.find(c) for c in word],
            "a small letter is not found, and -1 means 'not told' to the model: it only knows capitals (word.upper())",
        ),
        Mistake(
            lambda word: [CHARACTERS.index(c) for c in word if c in CHARACTERS],
            "small letters get lost: the model only knows capitals (word.upper())",
        ),
        Mistake(lambda word: [ord(c) for c in word.upper()], "these are the characters' codes; the model counts from 0: see CHARACTERS"),
        Mistake(lambda word: [k + 1 for k in _spell(word)], "every number is one too high: A is 0"),
    ),
)


def _average(images):
    return images.mean(dim=0)


check_average = Exercise(
    reference=_average,
    inputs=lambda random: [(torch.randn(6, 3, 4, 5, generator=random),) for _ in range(2)],
    mistakes=(
        Mistake(
            lambda images: images.mean(), "this is one number, the average grey; asked for is an image: average over the images (dim=0)"
        ),
        Mistake(lambda images: images.mean(dim=(1, 2, 3)), "this is each image's own grey; asked for is one image: average over dim=0"),
        Mistake(lambda images: images.mean(dim=1), "this averages the channels of each image; the images are counted by dim=0"),
        Mistake(lambda images: images.sum(dim=0), "this is the sum; divided by the number of images it is the average"),
        Mistake(lambda images: images.median(dim=0).values, "this is the median; the average is the mean"),
    ),
    praise="what the model believes in when it has seen only noise",
)

check_same_images = Question(
    answer=4,
    tolerance=0.1,
    mistakes=(
        Mistake(0, "image k depends on the seed and on k alone, not on how many are asked for"),
        Mistake(1, "each of the four has a noise of its own, and so has each of the sixteen"),
        Mistake(16, "the first call makes only four images, so no more than four can be the same"),
    ),
    praise="image k depends on the seed and on k alone",
)

check_network_calls = Question(
    answer=50,
    tolerance=0.1,
    mistakes=(
        Mistake(800, "that counts every image; the network takes all 16 at once"),
        Mistake(100, "told and untold images go through the network together, in one call"),
        Mistake(16, "the images go through the network together; it is called once for each step"),
        Mistake(51, "with the clean end there are 51 levels, but nobody asks about the finished image"),
        Mistake(49, "the step to the clean image needs an answer of the network, too"),
        Mistake(1000, "the model knows 1000 noise levels, but steps=50 visits only that many"),
        Mistake(1, "one call only takes one step"),
    ),
    praise="one call a step, for all images at once",
)
