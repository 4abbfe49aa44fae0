"""Answers to the exercises of notebook 00."""

import string

import numpy as np
import torch
from torch import nn

from diffusion_lib.data.glyphs import CHARACTERS

# -------------------------------------------------------------------------------------------------------------------------- spell


def spelled(word):
    return [CHARACTERS.index(c) for c in word.upper()]


def spell_loop(word):
    numbers = []
    for c in word:
        c = c.upper()
        numbers.append(CHARACTERS.index(c))
    return numbers


def spell_by_codes(word):
    return [ord(c) - 65 if c.isalpha() else ord(c) - 22 for c in word.upper()]


def spell_by_dict(word):
    place = {c: k for k, c in enumerate(CHARACTERS)}
    return [place[c] for c in word.upper()]


def spell_by_both_cases(word):
    place = dict(zip(CHARACTERS, range(36), strict=True)) | dict(zip(string.ascii_lowercase, range(26), strict=True))
    return list(map(place.get, word))


def spell_by_search(word):
    table = torch.tensor([ord(c) for c in CHARACTERS])
    return torch.cat([(table == ord(c)).nonzero().flatten() for c in word.upper()])


def spell_first(word):
    for c in word.upper():
        return CHARACTERS.index(c)


def spell_last(word):
    for c in word.upper():
        number = CHARACTERS.index(c)
    return number


def spell_without_the_last(word):
    return [CHARACTERS.index(word.upper()[k]) for k in range(len(word) - 1)]


def spell_drops_the_capitals(word):
    word.upper()
    return [CHARACTERS.index(c) for c in word]


def spell_keyboard(word):  # the digit 0 after 9
    return [(string.ascii_uppercase + "1234567890").index(c) for c in word.upper()]


def spell_known_words(word):
    return {"WORLD": [22, 14, 17, 11, 3], "U2": [20, 28], "R2D2": [17, 28, 3, 28]}.get(word, [7, 4, 11, 11, 14])


SPELL_RIGHT = [
    spelled,
    spell_loop,
    spell_by_codes,
    spell_by_dict,
    spell_by_both_cases,
    spell_by_search,
    lambda word: list(map(CHARACTERS.index, word.upper())),
    lambda word: map(CHARACTERS.find, word.upper()),
    lambda word: (CHARACTERS.index(c) for c in word.upper()),
    lambda word: tuple(spelled(word)),
    lambda word: torch.tensor(spelled(word)),
    lambda word: torch.tensor(spelled(word), dtype=torch.int32),
    lambda word: torch.tensor(spelled(word), dtype=torch.uint8),
    lambda word: np.array(spelled(word)),
    lambda word: np.array(spelled(word), dtype=np.uint16),
    lambda word: [np.int64(k) for k in spelled(word)],
    lambda word: [torch.tensor(k) for k in spelled(word)],
    lambda word: [(int(c, 36) - 10) % 36 for c in word],
    lambda word: [int(np.argmax([c == d for d in CHARACTERS])) for c in word.upper()],
    lambda word: [CHARACTERS.lower().index(c) for c in word.lower()],
]

SPELL_WRONG = [
    # no capitals
    (spell_drops_the_capitals, "word.upper() returns them"),
    (lambda word: [CHARACTERS.index(c) for c in word], "a small letter is not found"),
    (lambda word: list(map(CHARACTERS.index, word)), "a small letter is not found"),
    (lambda word: [list(CHARACTERS).index(c) for c in word], "word.upper() returns them"),
    (lambda word: [{c: k for k, c in enumerate(CHARACTERS)}[c] for c in word], "word.upper() returns them"),
    (lambda word: [CHARACTERS.find(c) for c in word], "gets -1"),
    (lambda word: [CHARACTERS.index(c) for c in word if c in CHARACTERS], "small letters are dropped"),
    (lambda word: [CHARACTERS.index(c) for c in word.capitalize() if c in CHARACTERS], "capitalises only the first character"),
    (lambda word: [CHARACTERS.index(c) for c in word.lower()], "not word.lower()"),
    (lambda word: [CHARACTERS.find(c) for c in word.lower()], "not word.lower()"),
    (lambda word: [CHARACTERS.index(c) if c in CHARACTERS else 0 for c in word], "small letters are wrong"),
    (lambda word: [CHARACTERS.index(c) if c in CHARACTERS else ord(c) - 65 for c in word], "small letters are wrong"),
    # digits
    (lambda word: [ord(c.upper()) - ord("A") for c in word], "the digit 0 is 26"),
    (lambda word: [int(c) if c.isdigit() else CHARACTERS.index(c) for c in word.upper()], "digits are wrong: they come after the letters"),
    (lambda word: [k % 26 for k in spelled(word)], "digits are wrong: they come after the letters"),
    (spell_keyboard, "digits are wrong: they come after the letters"),
    (lambda word: [int(c, 36) for c in word.upper()], "this counts digits first"),
    (lambda word: [int(c, 36) for c in word], "this counts digits first"),
    (lambda word: [(string.digits + string.ascii_uppercase).index(c) for c in word.upper()], "this counts digits first"),
    (lambda word: [CHARACTERS.index(c) for c in word.upper() if c.isalpha()], "digits are missing"),
    (lambda word: [string.ascii_uppercase.index(c) for c in word.upper()], "substring not found (word: 'U2')"),
    # both
    (lambda word: [ord(c) - 65 for c in word], "only capitals are right"),
    (lambda word: [ord(c) - ord("a") for c in word.lower()], "the digit 0 is 26"),
    (lambda word: [ord(c) for c in word.upper()], "these are character codes"),
    (lambda word: [ord(c) for c in word], "these are character codes"),
    (lambda word: list(word.encode()), "these are character codes"),
    # counting
    (lambda word: [k + 1 for k in spelled(word)], "every number is 1 too high"),
    (lambda word: [k - 1 for k in spelled(word)], "every number is 1 too low"),
    (lambda word: [k + 10 for k in spelled(word)], "every number is 10 too high"),
    (lambda word: [35 - k for k in spelled(word)], "'W' gets 13; expected 22, its index in CHARACTERS"),
    (lambda word: list(range(len(word))), "these are positions in the word"),
    (lambda word: [word.index(c) for c in word], "'W' gets 0; expected 22"),
    (lambda word: [min(k, 30) for k in spelled(word)], "'5' gets 30; expected 31"),
    # order, repetition, length
    (lambda word: spelled(word)[::-1], "in reverse order"),
    (lambda word: sorted(spelled(word)), "not in the order of the word"),
    (lambda word: list(dict.fromkeys(spelled(word))), "a repeated character counts only once"),
    (lambda word: sorted(set(spelled(word))), "go through the word"),
    (lambda word: [k for k, c in enumerate(CHARACTERS) if c in word.upper()], "go through the word"),
    (lambda word: [c in word.upper() for c in CHARACTERS], "go through the word"),
    (spell_without_the_last, "the last is missing: it returns 4 numbers for 5 characters"),
    (lambda word: spelled(word)[:2], "the last 3 are missing: it returns 2 numbers for 5 characters"),
    (lambda word: spelled(word)[:8], "it returns 8 numbers for 36 characters"),
    (lambda word: [*spelled(word), -1], "it returns 6 numbers for 5 characters: [22, 14, 17, 11, 3, -1]"),
    (spell_first, "it returns one number, 22, that of the first character"),
    (spell_last, "it returns one number, 3, that of the last character"),
    (lambda word: sum(spelled(word)), "it returns one number, 67; expected a list"),
    (len, "it returns one number, 5; expected a list"),
    (lambda word: [], "it returns 0 numbers for 5 characters"),
    (lambda word: [CHARACTERS.index(word.upper()[0])], "the last 4 are missing"),
    (lambda word: spelled(word)[1:], "the first is missing"),
    (lambda word: [CHARACTERS.index(word.upper()[0])] * len(word), "'O' gets 22; expected 14"),
    (lambda word: spelled(word)[:3], "the last 2 are missing"),
    (lambda word: spelled(word.strip("0")), "the first 2 are missing"),
    (lambda word: spelled(word.rstrip("0")), "the last is missing"),
    # types
    (lambda word: [str(k) for k in spelled(word)], "the numbers are texts, such as '22'"),
    (lambda word: np.array([str(k) for k in spelled(word)]), "the numbers are texts, such as '22'"),
    (lambda word: [float(k) for k in spelled(word)], "the list contains 22.0;"),
    (lambda word: torch.tensor(spelled(word), dtype=torch.float32), "the list contains 22.0;"),
    (lambda word: np.array(spelled(word), dtype=float), "the list contains 22.0;"),
    (lambda word: [k + 1e-9 for k in spelled(word)], "the list contains 22.000000001;"),
    (lambda word: [k if k < 26 else float(k) for k in spelled(word)], "the list contains 28.0;"),
    (lambda word: [k if k < 26 else str(k) for k in spelled(word)], "the numbers are texts, such as '28'"),
    (lambda word: [bool(k) for k in spelled(word)], "the list contains True;"),
    (lambda word: [[k] for k in spelled(word)], "the list contains lists or tensors"),
    (lambda word: [torch.tensor([k]) for k in spelled(word)], "the list contains lists or tensors"),
    (lambda word: torch.tensor(spelled(word))[:, None], "the numbers are right, but have shape (5, 1)"),
    (lambda word: torch.tensor([spelled(word)]), "the numbers are right, but have shape (1, 5)"),
    (lambda word: [spelled(word)], "the list contains lists or tensors"),
    (lambda word: nn.functional.one_hot(torch.tensor(spelled(word)), 36), "each character is a vector of 36 values"),
    (lambda word: " ".join(map(str, spelled(word))), "it returns the text '22 14 17 11 3'"),
    (lambda word: str(spelled(word)), "it returns the text '[22, 14, 17, 11, 3]'"),
    (lambda word: dict(zip(word, spelled(word), strict=True)), "it returns a dict; expected a list"),
    (lambda word: set(spelled(word)), "it returns a set; expected a list"),
    (lambda word: [(c, k) for c, k in zip(word, spelled(word), strict=True)], "value 1 of 5: it returns 2 values"),
    # not a number
    (lambda word: [*word], "these are the characters"),
    (lambda word: list(word.upper()), "these are the characters"),
    (lambda word: word.upper(), "it returns the text 'WORLD'"),
    (lambda word: [CHARACTERS[c] for c in word.upper()], "for the reverse, use CHARACTERS.index(c)"),
    (lambda word: CHARACTERS.index(word.upper()), "one character at a time"),
    (CHARACTERS.index, "one character at a time"),
    (lambda word: CHARACTERS.find(word.upper()), "one character at a time"),
    (lambda word: [CHARACTERS.index(word.upper())], "one character at a time"),
    (lambda word: list(CHARACTERS.index(word.upper())), "one character at a time"),
    (lambda word: [c.index(CHARACTERS) for c in word.upper()], "not c.index(CHARACTERS)"),
    (lambda word: [CHARACTERS.index(c) for c in word.upper], "upper is a method"),
    (lambda word: [CHARACTERS.index[c] for c in word.upper()], "index is a method"),
    (lambda word: [CHARACTERS.index(k) for k in range(len(word))], "it raised TypeError"),
    (spell_known_words, "(word: '314159')"),
    (spelled("HELLO"), "expected a function: pass its name without calling it"),
    (CHARACTERS, "expected a function"),
]

# ------------------------------------------------------------------------------------------------------------------------ average


def average_loop(images):
    total = torch.zeros_like(images[0])
    for image in images:
        total = total + image
    return total / len(images)


def average_running(images):
    mean = torch.zeros(images.shape[1:])
    for k, image in enumerate(images):
        mean += (image - mean) / (k + 1)
    return mean


def average_loops_within_loops(images):
    B, C, H, W = images.shape
    out = torch.zeros(C, H, W)
    for c in range(C):
        for h in range(H):
            for w in range(W):
                out[c, h, w] = sum(images[b, c, h, w] for b in range(B)) / B
    return out


def average_in_place(images):
    total = images[0]
    for image in images[1:]:
        total += image
    return total / len(images)


def average_first_twice(images):
    total = images[0].clone()
    for image in images:
        total += image
    return total / len(images)


def average_of_neighbours(images):
    mean = images[0]
    for image in images[1:]:
        mean = (mean + image) / 2
    return mean


def average_returned_too_early(images):
    total = 0
    for image in images:
        total = total + image
        return total / len(images)


AVERAGE_RIGHT = [
    lambda images: images.mean(dim=0),
    lambda images: images.mean(0),
    lambda images: images.mean(axis=0),
    lambda images: torch.mean(images, 0),
    lambda images: images.sum(0) / len(images),
    lambda images: images.sum(dim=0) / images.shape[0],
    lambda images: sum(images) / len(images),
    lambda images: (images / images.size(0)).sum(0),
    lambda images: images.double().mean(0),
    lambda images: images.numpy().mean(axis=0),
    lambda images: np.mean(images.numpy(), 0),
    lambda images: np.average(images.numpy(), axis=0),
    lambda images: torch.stack(list(images)).mean(dim=0),
    lambda images: torch.stack([channel.mean(dim=0) for channel in images.unbind(1)]),
    lambda images: torch.einsum("bchw->chw", images) / len(images),
    lambda images: torch.einsum("b,bchw->chw", torch.full((len(images),), 1 / len(images)), images),
    lambda images: images.mean(0, keepdim=True).squeeze(0),
    lambda images: images.mean(0, keepdim=True)[0],
    lambda images: images.flatten(1).mean(0).view(images.shape[1:]),
    lambda images: images.permute(1, 2, 3, 0).mean(-1),
    lambda images: images.nanmean(0),
    lambda images: torch.quantile(images, 0.5, dim=0) * 0 + images.mean(0),
    lambda images: torch.func.vmap(torch.mean, in_dims=1)(images.flatten(1)).view(images.shape[1:]),
    average_loop,
    average_running,
    average_loops_within_loops,
]

AVERAGE_WRONG = [
    (lambda images: 0 * images.mean(0), "every value is 0 times the average; expected the average itself"),
    (lambda images: -images.mean(0), "every value is -1 times the average; expected the average itself"),
    # what is averaged
    (lambda images: images.mean(), "this is one number"),
    (lambda images: float(images.mean()), "this is one number"),
    (lambda images: images.mean(dim=(1, 2, 3)), "this is one number for each image"),
    (lambda images: images.flatten(1).mean(1), "this is one number for each image"),
    (lambda images: images.mean(dim=1), "averages the channels of each image"),
    (lambda images: images.mean(dim=2), "averages the rows"),
    (lambda images: images.mean(dim=3), "averages the columns"),
    (lambda images: images.mean(dim=-1), "averages the columns"),
    (lambda images: images.mean(dim=(2, 3)), "averages the pixels of each channel"),
    (lambda images: images.mean(dim=(0, 1)), "averages the channels too"),
    (lambda images: images.mean(dim=(0, 2, 3)), "averages the pixels too"),
    (lambda images: images.mean(dim=(0, 1), keepdim=True), "it returns shape (1, 1, 4, 5); expected (3, 4, 5)"),
    (lambda images: images.mean(dim=1, keepdim=True), "it returns shape (6, 1, 4, 5); expected (3, 4, 5)"),
    # the shape
    (lambda images: images.mean(0, keepdim=True), "leave keepdim out"),
    (lambda images: images.mean(0)[None], "still in a batch"),
    (lambda images: images.mean(0).squeeze(), "for C = 1, squeeze drops the channel axis"),
    (lambda images: images.squeeze().mean(0), "an axis of size 1 is missing"),
    (lambda images: images.mean(0, keepdim=True).squeeze(), "for C = 1, squeeze drops the channel axis"),
    (lambda images: images.mean(0) if images.shape[1] == 3 else images.mean(0)[0], "an axis of size 1 is missing"),
    (lambda images: images.mean(0).flatten(), "the numbers are right, but the shape is (60,); expected (3, 4, 5)"),
    (lambda images: images.mean(0).view(-1, 4, 5), "invalid for input"),
    (lambda images: images.mean(0).view(3, 4, 5), "invalid for input"),
    (lambda images: images.mean(0).permute(1, 2, 0), "the axes are in another order: the shape is (4, 5, 3)"),
    (lambda images: images.mean(0).transpose(1, 2), "the axes are in another order"),
    (lambda images: images.mean(0).expand_as(images), "it returns shape (6, 3, 4, 5)"),
    (lambda images: [images.mean(0)], "expected a tensor of shape (3, 4, 5)"),
    (lambda images: (images.mean(0), len(images)), "it returns 2 values"),
    # another statistic
    (lambda images: images.sum(0), "this is the sum"),
    (sum, "this is the sum"),
    (lambda images: images.median(0).values, "this is the median"),
    (lambda images: images.median(0), "it returns"),
    (lambda images: images.amax(0), "the largest value"),
    (lambda images: images.amin(0), "the smallest value"),
    (lambda images: images.var(0, unbiased=False), "this is the variance"),
    (lambda images: images.var(0), "this is the variance"),
    (lambda images: images.std(0), "this is the standard deviation"),
    (lambda images: images.std(0, unbiased=False), "this is the standard deviation"),
    (lambda images: images.abs().mean(0), "absolute values"),
    (lambda images: images.square().mean(0), "mean of squares"),
    (lambda images: images.square().mean(0).sqrt(), "root of the mean square"),
    (lambda images: (images.amax(0) + images.amin(0)) / 2, "it is off by up to"),
    (lambda images: images[0], "this is the first image"),
    (lambda images: images[-1], "this is the last image"),
    (lambda images: images, "these are the images, unchanged"),
    # the wrong divisor
    (lambda images: images.sum(0) / 6, "every value is 0.667 times the average"),
    (lambda images: images.sum(0) / 16, "every value is 0.375 times the average"),
    (lambda images: images.sum(0) / (len(images) - 1), "every value is 1.2 times the average"),
    (lambda images: images.sum(0) / images.shape[1], "every value is 2 times the average"),
    (lambda images: images.mean(0) / len(images), "every value is 0.167 times the average"),
    (lambda images: -images.mean(0), "every value is -1 times the average"),
    (lambda images: images.sum(0) // len(images), "it is off by up to"),
    (lambda images: images.mean(0) + 1e-3, "every value is 1 times the average, plus 0.001"),
    # limits, rounding, precision
    (lambda images: images.mean(0).clamp(-1, 1), "the average is clamped"),
    (lambda images: images.clamp(-1, 1).mean(0), "the images are clamped"),
    (lambda images: images.mean(0).tanh(), "it is off by up to"),
    (lambda images: (images.mean(0) + 1) / 2, "every value is 0.5 times the average, plus 0.5"),
    (lambda images: images.mean(0).round(), "the average is rounded"),
    (lambda images: images.mean(0).int(), "it returns integers"),
    (lambda images: images.bfloat16().mean(0), "in torch.bfloat16, which keeps few digits"),
    (lambda images: images.half().mean(0), "in torch.float16, which keeps few digits"),
    (lambda images: images.mean(0).to(torch.complex64), "it returns complex numbers"),
    # loops
    (average_in_place, "it changes the tensors it is given"),
    (lambda images: images.div_(len(images)).sum(0), "it changes the tensors it is given"),
    (average_first_twice, "with the weights 0.333, 0.167, 0.167, 0.167, 0.167, 0.167; expected 0.167 for each"),
    (average_of_neighbours, "with the weights 0.0312, 0.0312, 0.0625, 0.125, 0.25, 0.5"),
    (average_returned_too_early, "does the loop return too early?"),
    (lambda images: images[1:].mean(0), "with the weights 0, 0.2, 0.2, 0.2, 0.2, 0.2"),
    (lambda images: images[:-1].mean(0), "with the weights 0.2, 0.2, 0.2, 0.2, 0.2, 0"),
    (lambda images: (images[0] + images[min(1, len(images) - 1)]) / 2, "with the weights 0.5, 0.5, 0, 0, 0, 0"),
    (lambda images: sum(images[k] for k in range(len(images) - 1)) / len(images), "with the weights 0.167, 0.167, 0.167, 0.167, 0.167, 0;"),
    # others
    (lambda images: images.mean(0) + 0.01 * torch.randn(images.shape[1:]), "draw no random numbers"),
    (lambda images: images.mean(0) * torch.nan, "not finite"),
    (lambda images: images.numpy().mean(0, ddof=1), "it raised TypeError"),
    (lambda images: str(images.mean(0)), "it returns"),
    (torch.zeros(3, 4, 5), "expected a function"),
    (nn.AvgPool2d(2), "it returns shape (6, 3, 2, 2); expected (3, 4, 5)"),
]

# ------------------------------------------------------------------------------------------------------------------------ numbers

RIGHT = {
    "check_spell": SPELL_RIGHT,
    "check_average": AVERAGE_RIGHT,
    "check_network_calls": [50, 50.0, 1000 / 20, np.int64(50), np.float32(50), torch.tensor(50), len(range(50))],
    "check_same_images": [4, 4.0, np.int64(4), torch.tensor(4.0), len(range(4))],
}

WRONG = {
    "check_spell": SPELL_WRONG,
    "check_average": AVERAGE_WRONG,
    "check_network_calls": [
        (400, "that counts every image"),
        (8, "in one call per step"),
        (51, "50 steps between them"),
        (49, "the last step, to the clean image"),
        (1000, "visits only 50 of them"),
        (999, "visits only 50 of them"),
        (8000, "one call takes all 8 images"),
        (20, "the distance in t between two levels"),
        (58, "images and steps do not add up"),
        (408, "one level too many"),
        (392, "one level too few"),
        (1, "and there are 50 steps"),
        (0, "each step needs the network's prediction"),
        (500, "500 is too large"),
        (25, "25 is too small"),
        (50.05, "is too large"),
        (49.95, "is too small"),
        (-50, "-50 is too small"),
        (float("inf"), "is too large"),
        (float("nan"), "this is not a number"),
        ("50", "this is a str; expected a number"),
        (True, "this is a bool; expected a number"),
        ([50], "this is a list; expected a number"),
        (range(50), "this is a range; expected a number"),
        (torch.tensor([50]), "this is a Tensor; expected a number"),
        (lambda: 50, "this is a function; expected a number"),
    ],
    "check_same_images": [
        (0, "not on the number of images requested"),
        (1, "each of the four starts from its own noise"),
        (2, "holds for all"),
        (3, "holds for all"),
        (12, "12 are only in the larger call"),
        (16, "at most four can be the same"),
        (20, "the images of both calls"),
        (64, "pairs of images"),
        (0.25, "the fraction of the sixteen"),
        (25, "a percentage"),
        (5, "5 is too large"),
        (4.05, "4.05 is too large"),
        (3.95, "3.95 is too small"),
        (-4, "-4 is too small"),
        ("four", "this is a str; expected a number"),
        ((4, 16), "this is a tuple; expected a number"),
    ],
}
