"""Captions as numbers: each word is its position in a model's vocabulary, counted from 1; 0 stands for no word."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from torch import Tensor

NO_WORD = 0  # fills up the rows of shorter captions; a row of nothing else is no caption
MAX_WORDS = 48  # the longest caption that a network takes


def split_words(caption: str) -> list[str]:
    """The caption's words in lower case, without punctuation."""
    return re.findall(r"[^\W\d_]+", caption.lower())


def as_words(y: Any, n: int, vocabulary: Sequence[str]) -> Tensor:
    """Captions as a LongTensor (n, L) of words, L being the length of the longest.

    y: one caption for all n images, or a list with one per image, as texts; or a LongTensor (n, L). "" and None in a list are no caption.
    Raises `ValueError` for an unknown word, naming the nearest known ones, and for anything else.
    """
    if isinstance(y, Tensor):
        check_words_shape(y, n)  # the denoiser reads the values once
        return y
    y = [y] * n if isinstance(y, str) else list(y) if isinstance(y, list | tuple | np.ndarray) else y
    if not isinstance(y, list) or not all(caption is None or isinstance(caption, str) for caption in y):
        raise ValueError(f"y={y!r}; expected a caption, or a list with one for each of {n} images: this model takes words, not classes")
    if len(y) != n:
        raise ValueError(f"y has {len(y)} captions for {n} images; expected one per image, or one caption for all")
    numbers = {word: k for k, word in enumerate(vocabulary, start=1)}
    captions = {caption: [_number(word, numbers, caption) for word in split_words(caption)] for caption in {each or "" for each in y}}
    length = max(map(len, captions.values()))
    if length > MAX_WORDS:
        longest = max(captions, key=lambda caption: len(captions[caption]))
        raise ValueError(f"y={longest!r} has {length} words; expected at most {MAX_WORDS}")
    rows = {caption: words + [NO_WORD] * (length - len(words)) for caption, words in captions.items()}
    return torch.tensor([rows[caption or ""] for caption in y], dtype=torch.long, device="cpu").view(n, length)


def check_words(y: Any, num_words: int, batch: int) -> None:
    """Raises `ValueError` unless y is a LongTensor (batch, L) of words 1..num_words, or `NO_WORD`. Waits for y's device."""
    check_words_shape(y, batch)
    outside = y[(y < NO_WORD) | (y > num_words)]
    if len(outside):
        raise ValueError(f"y contains {outside[0].item()}; expected words 1..{num_words} of the vocabulary, or {NO_WORD} for none")


def check_words_shape(y: Any, batch: int) -> None:
    """Like `check_words`, but does not read the values."""
    if not isinstance(y, Tensor):
        raise ValueError(
            f"y is of type {type(y).__name__}; expected a LongTensor of shape ({batch}, L): the words of one caption per image"
        )
    if y.dtype != torch.long or y.ndim != 2 or len(y) != batch or y.shape[1] > MAX_WORDS:
        raise ValueError(
            f"y is {y.dtype} of shape {tuple(y.shape)}; expected torch.long of shape ({batch}, L), L at most {MAX_WORDS}: the words of one "
            "caption per image"
        )


def as_vocabulary(words: Any) -> list[str]:
    """A model's vocabulary: distinct words as `split_words` finds them. Raises `ValueError` for others."""
    if isinstance(words, str) or not hasattr(words, "__iter__"):
        raise ValueError(f"words={words!r}; expected a list or tuple of words, the vocabulary of the captions")
    words = list(words)
    for word in words:
        if not isinstance(word, str) or split_words(word) != [word]:
            raise ValueError(f"words holds {word!r}; expected single words in lower case, without punctuation")
        if words.count(word) > 1:
            raise ValueError(f"words holds {word!r} twice; expected distinct words")
    if not words:
        raise ValueError("words is empty; expected one word or more, or None for a network without captions")
    return words


def vocabulary_of(captions: Sequence[str]) -> tuple[str, ...]:
    """Every word in these captions, in alphabetical order."""
    return tuple(sorted({word for caption in set(captions) for word in split_words(caption)}))


def _number(word: str, numbers: dict[str, int], caption: str) -> int:
    if word not in numbers:
        nearest = get_close_matches(word, numbers, n=3) or sorted(numbers)
        raise ValueError(f"unknown word {word!r} in {caption!r}; this model knows {len(numbers)} words: did you mean {_either(nearest)}?")
    return numbers[word]


def _either(words: list[str]) -> str:
    return repr(words[0]) if len(words) == 1 else f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}"
