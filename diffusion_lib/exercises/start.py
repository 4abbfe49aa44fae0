"""Exercises of notebook 00."""

from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.data.glyphs import CHARACTERS
from diffusion_lib.exercises.checking import Exercise, Mistake, Question

# -------------------------------------------------------------------------------------------------------------------------- spell


def _spell(word):
    return [CHARACTERS.index(c) for c in word.upper()]


def _is_integer(k: Any) -> bool:
    if isinstance(k, Tensor):
        return k.ndim == 0 and not (k.is_floating_point() or k.is_complex() or k.dtype == torch.bool)
    return isinstance(k, int) and not isinstance(k, bool)


def _integers(answer: Any) -> Any:
    """Integers of any type in a list or a row as a list of ints; anything else unchanged."""
    if isinstance(answer, Tensor):
        answer = list(answer.unbind()) if answer.ndim == 1 else answer
    return [int(k) if _is_integer(k) else k for k in answer] if isinstance(answer, list | tuple) else answer


def _about_spelling(got: Any, expected: list[int], word: str) -> str | None:
    if isinstance(got, str):
        return f"it returns the text {got[:40]!r}; expected a list of integers"
    if _is_integer(got):
        place = {expected[-1]: ", that of the last character", expected[0]: ", that of the first character"}.get(int(got), "")
        return f"it returns one number, {int(got)}{place}; expected a list, one number per character"
    if isinstance(got, Tensor) and got.shape == (len(word), len(CHARACTERS)) and got.argmax(1).tolist() == expected:
        return f"each character is a vector of {len(CHARACTERS)} values; expected the index of its 1, an integer"
    if isinstance(got, Tensor) and got.ndim == 2 and got.flatten().tolist() == expected:
        return f"the numbers are right, but have shape {tuple(got.shape)}; expected a plain list"
    got = _integers(got)
    if not isinstance(got, list | tuple):
        return None if isinstance(got, Tensor) else f"it returns {_type(got)}; expected a list of integers"
    strange = [k for k in got if not _is_integer(k)]
    return _about_strange(strange[0], expected) if strange else _about_numbers(list(got), expected, word)


def _type(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _about_strange(entry: Any, expected: list[int]) -> str | None:
    """Describes an entry that is not an integer."""
    if isinstance(entry, str):
        if entry.isdecimal():
            return f"the numbers are texts, such as {entry!r}; expected integers, such as {int(entry)}"
        return f"the list contains texts, such as {entry[:40]!r}; expected the index of each character in CHARACTERS"
    if isinstance(entry, list | tuple | Tensor) and len(torch.as_tensor(entry).shape):
        return f"the list contains lists or tensors; expected plain integers: {expected}"
    value = entry.item() if isinstance(entry, Tensor) else entry
    if isinstance(value, bool | float):
        return f"the list contains {value}; expected integers (int)"
    return None


def _about_numbers(got: list[int], expected: list[int], word: str) -> str | None:
    kinds = [_kind_of(c) for c in word]
    if len(got) != len(word):
        for lost in sorted(set(kinds)):
            if got and got == [k for k, kind in zip(expected, kinds, strict=True) if kind != lost]:
                return f"{lost} are missing; expected {len(word)} numbers, one per character"
        if len(got) < len(word) and sorted(got) == sorted(set(expected)):
            return f"a repeated character counts only once; expected {len(word)} numbers, one per character"
        fewer = len(word) - len(got)
        for place, part in (("last", expected[: len(got)]), ("first", expected[fewer:])):
            if got and fewer > 0 and got == part:
                missing = f"the {place} is missing" if fewer == 1 else f"the {place} {fewer} are missing"
                return f"{missing}: it returns {_counted(len(got), 'number')} for {_counted(len(word), 'character')}"
        return f"it returns {_counted(len(got), 'number')} for {_counted(len(word), 'character')}: {got}"
    if got == expected[::-1]:
        return "the numbers are right, but in reverse order"
    if sorted(got) == sorted(expected):
        return "the numbers are right, but not in the order of the word"
    shifts = {ours - theirs for ours, theirs in zip(got, expected, strict=True)}
    if len(shifts) == 1 and len(word) > 1 and "capitals" in kinds:
        (by,) = shifts
        return f"every number is {abs(by)} too {'high' if by > 0 else 'low'}: A is 0, and the digit 0 is 26"
    right, wrong = ({kind for k, theirs, kind in zip(got, expected, kinds, strict=True) if (k == theirs) == same} for same in (True, False))
    if wrong == {"digits"} and right and not right & wrong:
        return "letters are right, but digits are wrong: they come after the letters, so the digit 0 is 26 (see CHARACTERS)"
    if wrong == {"small letters"} and right and not right & wrong:
        return "small letters are wrong: each has the number of its capital (word.upper())"
    ours, theirs, c = next(each for each in zip(got, expected, word, strict=True) if each[0] != each[1])
    return f"{c!r} gets {ours}; expected {theirs}, its index in CHARACTERS"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _kind_of(c: str) -> str:
    return "digits" if c.isdigit() else "small letters" if c.islower() else "capitals"


_SMALL = "CHARACTERS has capitals only, and word.upper() returns them"
_ONE_BY_ONE = "CHARACTERS.index and .find look up one character at a time: go through the word with a loop"
_A_METHOD = "index is a method: call it, as CHARACTERS.index(c)"

check_spell = Exercise(
    reference=_spell,
    # first capitals alone, without repetition; then digits alone; one character; all characters; 0 at either end
    inputs=lambda random: [
        (word,) for word in ("WORLD", "U2", "R2D2", "314159", "Q", "Hello", "jackdaws", CHARACTERS[::-1], "Vexing0726bYte", "007", "k90")
    ],
    look=_integers,
    mistakes=(
        Mistake(lambda word: [CHARACTERS.index(c) for c in word], f"a small letter is not found: {_SMALL}"),
        Mistake(lambda word: [list(CHARACTERS).index(c) for c in word], f"a small letter is not found: {_SMALL}"),
        Mistake(lambda word: [{c: k for k, c in enumerate(CHARACTERS)}[c] for c in word], f"a small letter is not found: {_SMALL}"),
        Mistake(lambda word: [CHARACTERS.find(c) for c in word], f"a small letter gets -1, which is not a class: {_SMALL}"),
        Mistake(lambda word: [CHARACTERS.index(c) for c in word if c in CHARACTERS], f"small letters are dropped: {_SMALL}"),
        Mistake(
            lambda word: [CHARACTERS.index(c) for c in word.capitalize() if c in CHARACTERS],
            "word.capitalize() capitalises only the first character, and the rest is dropped: use word.upper()",
        ),
        Mistake(
            lambda word: [CHARACTERS.index(c) for c in word.lower()], "CHARACTERS has capitals only: use word.upper(), not word.lower()"
        ),
        Mistake(
            lambda word: [CHARACTERS.find(c) for c in word.lower()], "CHARACTERS has capitals only: use word.upper(), not word.lower()"
        ),
        Mistake(lambda word: CHARACTERS.index(word.upper()), _ONE_BY_ONE),
        Mistake(CHARACTERS.index, _ONE_BY_ONE),
        Mistake(lambda word: CHARACTERS.find(word.upper()), _ONE_BY_ONE),
        Mistake(CHARACTERS.find, _ONE_BY_ONE),
        Mistake(lambda word: [CHARACTERS.index(word.upper())], _ONE_BY_ONE),
        Mistake(lambda word: list(CHARACTERS.index(word.upper())), _ONE_BY_ONE),  # type: ignore[call-overload]
        Mistake(
            lambda word: [c.index(CHARACTERS) for c in word], "every look-up fails: write CHARACTERS.index(c), not c.index(CHARACTERS)"
        ),
        Mistake(lambda word: [CHARACTERS.index(c) for c in word.upper], "upper is a method: call it, as word.upper()"),
        Mistake(lambda word: [CHARACTERS.index[c] for c in word.upper()], _A_METHOD),  # type: ignore[index]
        Mistake(
            lambda word: [CHARACTERS[c] for c in word.upper()],
            "CHARACTERS[k] is the character with number k; for the reverse, use CHARACTERS.index(c)",
        ),
        Mistake(
            lambda word: [CHARACTERS[c] for c in word],
            "CHARACTERS[k] is the character with number k; for the reverse, use CHARACTERS.index(c)",
        ),
        Mistake(
            lambda word: [ord(c.upper()) - ord("A") for c in word],
            "letters are right; digits come after them: the digit 0 is 26 (see CHARACTERS)",
        ),
        Mistake(
            lambda word: [ord(c) - ord("A") for c in word],
            "only capitals are right: small letters need word.upper(), and digits come after the letters, so the digit 0 is 26",
        ),
        Mistake(
            lambda word: [int(c, 36) for c in word.upper()],
            "this counts digits first; in CHARACTERS letters come first: A is 0, and the digit 0 is 26",
        ),
        Mistake(lambda word: [ord(c) for c in word.upper()], "these are character codes (ord); expected indices in CHARACTERS"),
        Mistake(lambda word: [ord(c) for c in word], "these are character codes (ord); expected indices in CHARACTERS"),
        Mistake(lambda word: [k + 1 for k in _spell(word)], "every number is 1 too high: A is 0, and the digit 0 is 26"),
        Mistake(lambda word: list(word.upper()), "these are the characters; expected the index of each in CHARACTERS"),
        Mistake(lambda word: [*word], "these are the characters; expected the index of each in CHARACTERS"),
        Mistake(lambda word: list(range(len(word))), "these are positions in the word; expected indices in CHARACTERS"),
        Mistake(
            lambda word: [k for k, c in enumerate(CHARACTERS) if c in word.upper()],
            "this goes through CHARACTERS; go through the word, to keep its order and its repeated characters",
        ),
        Mistake(
            lambda word: [c in word.upper() for c in CHARACTERS],
            "this tests each of the CHARACTERS for being in the word; go through the word",
        ),
    ),
    diagnose=_about_spelling,
)


# ------------------------------------------------------------------------------------------------------------------------ average


def _average(images):
    return images.mean(dim=0)


def _batches(random: torch.Generator) -> list[tuple]:
    """Values well beyond -1 and 1: a clamp would show."""
    shapes = ((6, 3, 4, 5), (4, 1, 5, 3), (1, 3, 2, 4), (9, 2, 7, 6))
    return [(1 + 3 * torch.randn(shape, generator=random),) for shape in shapes]


def _about_average(got: Any, expected: Tensor, images: Tensor) -> str | None:
    got = torch.as_tensor(got)

    def same(ours: Tensor, theirs: Tensor) -> bool:
        return ours.shape == theirs.shape and torch.allclose(ours.double(), theirs.double(), rtol=1e-4, atol=1e-5)

    shapes = f"the shape is {tuple(got.shape)}; expected {tuple(expected.shape)}"
    if got.numel() == expected.numel() and same(got.flatten(), expected.flatten()) and got.shape != expected.shape:
        if got.shape == (1, *expected.shape):
            return f"the numbers are right, but still in a batch of one (keepdim): {shapes}"
        if got.squeeze().shape == expected.squeeze().shape and got.ndim < expected.ndim:
            return f"the numbers are right, but an axis of size 1 is missing (squeeze drops it): {shapes}"
        return f"the numbers are right, but {shapes}"
    if got.ndim == 3 and any(same(got, expected.permute(order)) for order in permutations(range(3)) if order != (0, 1, 2)):
        return f"the numbers are right, but the axes are in another order: {shapes}, (C, H, W)"
    if got.shape != expected.shape or not got.is_floating_point() or not got.isfinite().all() or _coarse(got):
        return None
    for correction in (0, 1) if len(images) > 1 else (0,):
        variance = images.var(dim=0, correction=correction)
        for name, statistic in {"variance": variance, "standard deviation": variance.sqrt()}.items():
            if same(got, statistic):
                return f"this is the {name} over the images; expected their mean"
    return _about_weights(got.double().flatten(), images.double().flatten(1).T) or _about_range(got.double(), expected.double())


def _coarse(x: Tensor) -> bool:
    return x.dtype in (torch.float16, torch.bfloat16)


def _about_weights(got: Tensor, images: Tensor) -> str | None:
    """Describes a weighted sum of the images. got: (CHW,). images: (CHW, B)."""
    weights = torch.linalg.lstsq(images, got[:, None]).solution.flatten()
    if not torch.allclose(images @ weights, got, rtol=1e-4, atol=1e-5):
        return None
    B = len(weights)
    if torch.allclose(weights, weights[:1], rtol=1e-4, atol=1e-5):
        if weights[0] < 1e-5:
            return f"every value is {B * weights[0].item() + 0.0:.3g} times the average; expected the average itself"
        return f"every value is {B * weights[0].item():.3g} times the average: divide the sum by the number of images, here {B}"
    shown = ", ".join(f"{w:.3g}" for w in (weights.round(decimals=4) + 0.0).tolist())  # + 0.0: no -0
    return f"this is a sum of the images with the weights {shown}; expected {1 / B:.3g} for each"


def _about_range(got: Tensor, expected: Tensor) -> str | None:
    """Describes an average that is shifted or scaled."""
    columns = torch.stack([expected.flatten(), torch.ones(expected.numel(), dtype=torch.float64)], dim=1)
    scale, shift = torch.linalg.lstsq(columns, got.flatten()[:, None]).solution.flatten()
    if not torch.allclose(scale * expected + shift, got, rtol=1e-4, atol=1e-5):
        return None
    return f"every value is {scale.item():.4g} times the average, plus {shift.item():.4g}; expected the average itself"


check_average = Exercise(
    reference=_average,
    inputs=_batches,
    mistakes=(
        Mistake(
            lambda images: images.mean(),
            "this is one number, the average grey level; expected an image: average over the images only (dim=0)",
        ),
        Mistake(
            lambda images: images.mean(dim=(1, 2, 3)),
            "this is one number for each image, its average grey level; expected one image: average over dim=0",
        ),
        Mistake(lambda images: images.mean(dim=1), "this averages the channels of each image; the images are along dim=0"),
        Mistake(lambda images: images.mean(dim=2), "this averages the rows of each image; the images are along dim=0"),
        Mistake(lambda images: images.mean(dim=-1), "this averages the columns of each image; the images are along dim=0"),
        Mistake(lambda images: images.mean(dim=(2, 3)), "this averages the pixels of each channel; the images are along dim=0"),
        Mistake(lambda images: images.mean(dim=(0, 1)), "this averages the channels too; expected (C, H, W): average over dim=0 only"),
        Mistake(lambda images: images.mean(dim=(0, 2, 3)), "this averages the pixels too; expected (C, H, W): average over dim=0 only"),
        Mistake(
            lambda images: images.mean(dim=0, keepdim=True),
            "the numbers are right, but still in a batch of one; expected (C, H, W): leave keepdim out",
        ),
        Mistake(
            lambda images: images.mean(dim=0).squeeze(),
            "this is right for C > 1; for C = 1, squeeze drops the channel axis: expected (1, H, W)",
        ),
        Mistake(lambda images: images.sum(dim=0), "this is the sum; divide it by the number of images"),
        Mistake(lambda images: images.median(dim=0).values, "this is the median; expected the mean"),
        Mistake(lambda images: images.amax(dim=0), "this is the largest value at each pixel; expected the mean"),
        Mistake(lambda images: images.amin(dim=0), "this is the smallest value at each pixel; expected the mean"),
        Mistake(lambda images: images[0], "this is the first image; expected the average of all"),
        Mistake(
            lambda images: images[0] / len(images),
            "this is the first image divided by the number of images; add up all images first (does the loop return too early?)",
        ),
        Mistake(lambda images: images[-1], "this is the last image; expected the average of all"),
        Mistake(lambda images: images, "these are the images, unchanged; expected their average, one image"),
        Mistake(lambda images: images.mean(dim=0).clamp(-1, 1), "the average is clamped to [-1, 1]; leave the clamp out"),
        Mistake(lambda images: images.clamp(-1, 1).mean(dim=0), "the images are clamped to [-1, 1]; leave the clamp out"),
        Mistake(lambda images: images.abs().mean(dim=0), "this is the mean of absolute values; expected the mean of the values"),
        Mistake(lambda images: images.square().mean(dim=0), "this is the mean of squares; expected the mean of the values"),
        Mistake(lambda images: images.square().mean(dim=0).sqrt(), "this is the root of the mean square; expected the mean"),
        Mistake(lambda images: images.mean(dim=0).round(), "the average is rounded; leave it unrounded"),
    ),
    praise="this is the best prediction when the input is nothing but noise",
    diagnose=_about_average,
)


# ------------------------------------------------------------------------------------------------------------------------ numbers

check_same_images = Question(
    answer=4,
    tolerance=1e-6,
    mistakes=(
        Mistake(0, "image k depends only on the seed and on k, not on the number of images requested"),
        Mistake(1, "each of the four starts from its own noise; the sixteen start from the same noise and twelve more"),
        Mistake(2, "each image depends only on the seed and on its number, so what holds for one of the four holds for all"),
        Mistake(3, "each image depends only on the seed and on its number, so what holds for one of the four holds for all"),
        Mistake(12, "the first call makes only four images, so at most four can be the same; 12 are only in the larger call"),
        Mistake(16, "the first call makes only four images, so at most four can be the same"),
        Mistake(20, "that counts the images of both calls; how many of the first four are among the sixteen?"),
        Mistake(64, "that counts pairs of images; how many of the first four are among the sixteen?"),
        Mistake(0.25, "that is the fraction of the sixteen; the exercise asks for a number of images"),
        Mistake(25, "that is a percentage; the exercise asks for a number of images"),
    ),
    praise="image k depends only on the seed and on k",
)

check_network_calls = Question(
    answer=50,
    tolerance=1e-6,
    mistakes=(
        Mistake(400, "that counts every image; one call takes all 8 at once"),
        Mistake(8, "all images go through the network together, in one call per step"),
        Mistake(51, "there are 51 levels from 1000 to 0, with 50 steps between them; each step needs one call"),
        Mistake(49, "the last step, to the clean image, needs a call too"),
        Mistake(1000, "the model knows 1000 noise levels, but steps=50 visits only 50 of them"),
        Mistake(999, "the model knows 1000 noise levels, but steps=50 visits only 50 of them"),
        Mistake(8000, "the model knows 1000 noise levels, but steps=50 visits 50 of them, and one call takes all 8 images"),
        Mistake(20, "that is the distance in t between two levels; the exercise asks for the number of calls"),
        Mistake(58, "images and steps do not add up: one call takes all 8 images one step further"),
        Mistake(408, "that counts every image, and one level too many; one call takes all 8 images one step further"),
        Mistake(392, "that counts every image, and one level too few; one call takes all images one step further"),
        Mistake(1, "one call takes the images only one step further, and there are 50 steps"),
        Mistake(0, "each step needs the network's prediction of the noise"),
    ),
    praise="one call per step, for all images at once",
)
