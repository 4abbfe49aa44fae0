"""Captions: the meaning of a postcard in English, whole or in part, in one of several phrasings.

A caption states some of the picture's attributes; what it does not state is free. A complete one states them all: two pictures with the
same complete caption differ only in what no attribute describes, such as the shape of the hills.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from diffusion_lib.words import vocabulary_of

NUMBERS = 24  # random numbers for a caption
PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "time": {
        "dawn": ("at dawn", "at sunrise"),
        "day": ("by day", "at noon"),
        "sunset": ("at sunset", "in the evening"),
        "night": ("at night", "by night"),
    },
    "ground": {
        "sea": ("by the sea", "on the beach"),
        "hills": ("in the hills", "in green hills"),
        "desert": ("in the desert", "among sand dunes"),
        "snow": ("in the snow", "in a white winter landscape"),
    },
    "weather": {
        "clear": ("under a clear sky", "under a cloudless sky"),
        "clouds": ("under clouds", "under a cloudy sky"),
        "rain": ("in the rain", "while it rains"),
        "snowfall": ("in falling snow", "while it snows"),
        "rainbow": ("under a rainbow", "with a rainbow"),
    },
    "light": {"none": ("without {light}",), "sun": ("with the sun",), "moon": ("with the moon",)},
    "mountains": {"none": ("without mountains",), "there": ("with mountains", "before mountains")},
    "place": {"left": ("on the left",), "middle": ("in the middle",), "right": ("on the right",)},
}
EMPTY = {
    "sea": ("the empty sea", "nothing but the sea"),
    "hills": ("empty hills", "nothing but green hills"),
    "desert": ("an empty desert", "nothing but sand dunes"),
    "snow": ("an empty winter landscape", "nothing but snow"),
}
SIZES = {"small": ("small", "tiny"), "large": ("large", "big")}
LEFT_OF, RIGHT_OF = ("left of", "to the left of"), ("right of", "to the right of")
# how often a caption that is not complete states an attribute
STATED = dict(time=0.85, ground=0.85, weather=0.6, light=0.6, mountains=0.5, colour=0.9, place=0.6, size=0.5)
COMPLETE = 0.3  # the share of complete captions


def captions_of(
    meanings: Mapping[str, Tensor], attributes: Mapping[str, tuple[str, ...]], u: Tensor, complete: bool = False
) -> tuple[str, ...]:
    """One caption per picture. meanings: LongTensors (n,), as in `postcards.draw_meanings`; attributes: their values' names. u: (n,
    `NUMBERS`) in [0, 1) chooses the phrasing, and what is stated. complete: state everything."""
    columns = {name: [names[value] for value in meanings[name].tolist()] for name, names in attributes.items()}
    each = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return tuple(_caption(meaning, iter(row), complete) for meaning, row in zip(each, u.tolist(), strict=True))


def _caption(meaning: dict[str, str], u: Iterator[float], complete: bool) -> str:
    complete = (next(u) < COMPLETE) or complete
    states = {name: (next(u) < often) or complete for name, often in STATED.items()}

    def pick(phrases: tuple[str, ...]) -> str:
        return phrases[int(next(u) * len(phrases))]

    def phrase(name: str) -> list[str]:
        chosen = pick(PHRASES[name][meaning[name]])
        return [chosen.format(light="the moon" if meaning["time"] == "night" else "the sun")] if states[name] else []

    parts = [_things(meaning, states, pick)]
    if meaning["thing"] != "none":
        if meaning["second_thing"] == "none":
            parts += phrase("place")
        parts += phrase("ground")
    parts += phrase("time") + phrase("weather")
    light = phrase("light") if meaning["weather"] in ("clear", "clouds") else []  # in other weather neither sun nor moon can be seen
    last = " and ".join(light + phrase("mountains"))
    if last.startswith("without"):
        last = last.replace(" and without", " or")
    return " ".join([*parts, last]).strip()


def _things(meaning: dict[str, str], states: dict[str, bool], pick) -> str:
    if meaning["thing"] == "none":
        return pick(EMPTY[meaning["ground"]])

    def one(prefix: str) -> str:
        size, colour, thing = (meaning[prefix + name] for name in ("size", "colour", "thing"))
        words = [pick(SIZES[size])] * states["size"] + [colour] * states["colour"] + [thing]
        return f"a {' '.join(words)}"

    if meaning["second_thing"] == "none":
        return one("")
    left, right = one(""), one("second_")
    first_is_left = pick((True, False))
    relation = pick(LEFT_OF if first_is_left else RIGHT_OF) if states["place"] else "and"
    return f"{left} {relation} {right}" if first_is_left else f"{right} {relation} {left}"


def vocabulary(attributes: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Every word that occurs in captions, in alphabetical order."""
    phrases = [phrase for table in PHRASES.values() for phrases in table.values() for phrase in phrases]
    phrases += [phrase for table in (EMPTY, SIZES) for phrases in table.values() for phrase in phrases]
    phrases += [*LEFT_OF, *RIGHT_OF, "a and or", "the sun the moon", *attributes["thing"][1:], *attributes["colour"][1:]]
    return vocabulary_of([phrase.replace("{light}", "") for phrase in phrases])


def random_numbers(n: int, seed: int) -> Tensor:
    """The random numbers of n captions: (n, `NUMBERS`); row k depends only on the seed and k."""
    return torch.rand(n, NUMBERS, generator=torch.Generator().manual_seed(seed))
