"""Postcards: small colour landscapes with captions, drawn by this package. A dataset that needs no download.

Picture k depends only on the seed and k. Every picture has a meaning, one value of each of `ATTRIBUTES`, and a caption in English
that states all or part of it (`captions`). A third of all combinations of a thing, its colour and the time of day is held out: it
occurs in no picture but those of `load_postcards(held_out=True)`.
"""

from functools import lru_cache

import torch
from torch import Tensor

from diffusion_lib.data import drawing
from diffusion_lib.data.captions import NUMBERS, captions_of
from diffusion_lib.data.dataset import ImageDataset, check_memory, to_float
from diffusion_lib.data.drawing import COLOURS, GROUNDS, THINGS, TIMES, WEATHERS, Canvas, Local, rows
from diffusion_lib.devices import torchs_defaults

PLACES, SIZES = ("left", "middle", "right"), ("small", "large")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "time": TIMES,
    "weather": WEATHERS,
    "light": ("none", "sun", "moon"),
    "ground": GROUNDS,
    "mountains": ("none", "there"),
    # of the only thing, or of the left one of two
    "thing": ("none", *THINGS),
    "colour": ("none", *COLOURS),
    "place": ("none", *PLACES),
    "size": ("none", *SIZES),
    # of the thing on the right, where there are two
    "second_thing": ("none", *THINGS),
    "second_colour": ("none", *COLOURS),
    "second_size": ("none", *SIZES),
}
SCENES = tuple(f"{ground} {'by' if time == 'day' else 'at'} {time}" for ground in GROUNDS for time in TIMES)  # the classes of the dataset
SIZE, SMALLEST = 32, 16
CLEAR, CLOUDS, RAIN, SNOWFALL, RAINBOW = range(len(WEATHERS))
SEA, NIGHT = GROUNDS.index("sea"), drawing.NIGHT
DAWN, SUNSET = TIMES.index("dawn"), TIMES.index("sunset")
BALLOON, BOAT = (ATTRIBUTES["thing"].index(name) for name in ("balloon", "boat"))
RANDOM_NUMBERS = 144  # for each picture: the first 16 for its meaning, the last 24 for its caption, those between for the drawing
PART = 256  # pictures drawn at a time: few enough for the processor's cache


def is_held_out(thing: Tensor, colour: Tensor, time: Tensor) -> Tensor:
    """Whether a combination occurs in no training picture: bool. thing, colour: indices into `THINGS`, `COLOURS`."""
    return (thing + colour + time) % 3 == 0


def load_postcards(
    *, train: bool = True, n: int | None = None, size: int | tuple[int, int] | None = None, seed: int = 0, held_out: bool = False
) -> ImageDataset:
    """20,000 postcards for training or 4,000 others for testing, or n of either. size: height and width in pixels, 32 by default.

    Its classes are the `SCENES`: a ground at a time of day. `attributes` holds the whole meaning, `captions` one caption each.
    held_out: draws only things in colours that occur in no other postcards at that time of day.
    """
    if isinstance(size, tuple):
        if size[0] != size[1]:
            raise ValueError(f"size={size}; expected a square: postcards are as high as they are wide")
        size = size[0]
    if size is not None and size < SMALLEST:
        raise ValueError(f"size={size}; expected {SMALLEST} or more: on smaller postcards nothing can be recognised")
    stream = (4 * seed + 2 * held_out + (not train)) % 2**64  # a generator takes no larger seed
    return _postcards(n or (20_000 if train else 4_000), stream, size or SIZE, held_out)


@lru_cache(maxsize=2)
@torchs_defaults()
def _postcards(n: int, seed: int, size: int, held_out: bool) -> ImageDataset:
    check_memory(n, (3, size, size))
    u = torch.rand(n, RANDOM_NUMBERS, generator=torch.Generator().manual_seed(seed))  # a row per picture: n changes no picture
    meanings = draw_meanings(u, held_out)
    captions = captions_of(meanings, ATTRIBUTES, u[:, -NUMBERS:])
    scene = meanings["ground"] * len(TIMES) + meanings["time"]
    return ImageDataset(to_float(draw_postcards(meanings, u, size)), scene, SCENES, captions, meanings, ATTRIBUTES)


@torchs_defaults()
def draw_meanings(u: Tensor, held_out: bool = False) -> dict[str, Tensor]:
    """One value of each of `ATTRIBUTES` for each row of random numbers u (n, 16 or more) in [0, 1): LongTensors (n,)."""
    time = _choice(u[:, 0], len(TIMES))
    weather = torch.bucketize(u[:, 1].contiguous(), torch.tensor([0.40, 0.63, 0.76, 0.88]), right=True)
    weather[(weather == RAINBOW) & (time == NIGHT)] = CLEAR  # it needs the sun
    shines = (u[:, 2] < 0.6) & (weather <= CLOUDS)
    ground = _choice(u[:, 4], len(GROUNDS))
    number = torch.bucketize(u[:, 6].contiguous(), torch.tensor([0.12, 0.70]), right=True)  # of things

    def thing_and_colour(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        thing = (first * torch.where(ground == SEA, len(THINGS), len(THINGS) - 1)).long()  # boats stay at sea
        # the colours that are held out are a third of all, every third in turn
        residue = (-(thing + time)) % 3
        if not held_out:
            residue = (residue + 1 + (second >= 0.5)) % 3
        return thing, residue + 3 * ((second * 4).long() % 2)

    thing, colour = thing_and_colour(u[:, 7], u[:, 8])
    second, second_colour = thing_and_colour(u[:, 9], u[:, 10])
    place = torch.where(number == 1, _choice(u[:, 11], len(PLACES)), 0)
    one, two = number >= 1, number == 2
    return dict(
        time=time,
        weather=weather,
        light=shines * (1 + (time == NIGHT)),
        ground=ground,
        mountains=(u[:, 5] < 0.35).long(),
        thing=one * (1 + thing),
        colour=one * (1 + colour),
        place=one * (1 + place),
        size=one * (1 + _choice(u[:, 12], len(SIZES))),
        second_thing=two * (1 + second),
        second_colour=two * (1 + second_colour),
        second_size=two * (1 + _choice(u[:, 13], len(SIZES))),
    )


@torchs_defaults()
def draw_postcards(meanings: dict[str, Tensor], u: Tensor, size: int = SIZE) -> Tensor:
    """The pictures of these meanings, each LongTensor (n,), with what they leave open chosen by u (n, `RANDOM_NUMBERS`) in [0, 1).

    Returns pixels, uint8 (n, 3, size, size).
    """
    n = len(u)
    check_memory(n, (3, size, size))
    pixels = torch.empty(n, 3, size, size, dtype=torch.uint8)
    for start in range(0, n, PART):
        part = slice(start, start + PART)
        painted = _paint({name: values[part] for name, values in meanings.items()}, u[part], size)
        pixels[part] = (painted * 255).round()
    return pixels


def _paint(meaning: dict[str, Tensor], u: Tensor, size: int) -> Tensor:
    n = len(u)
    time, weather, ground = meaning["time"], meaning["weather"], meaning["ground"]
    shines, has_mountains = meaning["light"] > 0, meaning["mountains"] > 0
    u = u[:, 16:]
    canvas = Canvas(torch.zeros(n, 3, size, size))
    horizon = (0.58 + 0.07 * u[:, 0]).view(-1, 1, 1, 1)
    overcast = (weather == RAIN) * 0.7 + (weather == SNOWFALL) * 0.6 + (weather == CLOUDS) * 0.1
    low = drawing.paint_sky(canvas, time, horizon, overcast, u[:, 1:4])

    third = _sun_third(meaning, u[:, 4])
    sun_x = ((third + 0.5) / 3 + 0.12 * (u[:, 5] - 0.5)).view(-1, 1, 1, 1)
    # the sun stands low in the morning and in the evening, but not behind mountains or things
    is_low = ((time == DAWN) | (time == SUNSET)) & ~has_mountains & (meaning["second_thing"] == 0)
    sun_y = torch.where(is_low, 0.26 + 0.24 * u[:, 6], 0.12 + 0.12 * u[:, 6]).view(-1, 1, 1, 1)

    def only(which: Tensor, paint, *inputs) -> None:
        """Paints on some pictures only."""
        if len(index := which.nonzero().flatten()):
            part = Canvas(canvas.pixels[index])
            paint(part, *(each[index] if isinstance(each, Tensor) else each for each in inputs))
            canvas.pixels[index] = part.pixels

    only(shines, drawing.paint_sun, time, sun_x, sun_y, u[:, 7:10])
    only(weather == RAINBOW, drawing.paint_rainbow, horizon, u[:, 10:12])
    clear_third = torch.where(shines, third, -1)
    only(weather == CLOUDS, drawing.paint_clouds, time, overcast.view(-1, 1, 1, 1), clear_third, u[:, 12:24])
    light = rows(drawing.GROUND_LIGHT, time)
    only(has_mountains, drawing.paint_mountains, horizon, low, light, u[:, 24:34])
    only(ground == SEA, drawing.paint_sea, time, horizon, low, sun_x, shines.view(-1, 1, 1, 1), u[:, 34:38])
    for kind, name in enumerate(GROUNDS):
        if kind != SEA:
            only(ground == kind, drawing.paint_hills, name, light, horizon, low, u[:, 34:38])

    for prefix, place, v in (("", meaning["place"] - 1, u[:, 40:46]), ("second_", torch.full((n,), 2), u[:, 46:52])):
        thing, colour, large = (meaning[prefix + what] for what in ("thing", "colour", "size"))
        x, y, scale = _stand(thing, place, large == 2, ground, horizon.flatten(), v)
        paint = torch.tensor(drawing.PAINT)[(colour - 1).clamp(min=0)] + 0.08 * (v[:, 3:6] - 0.5)
        lit = rows(drawing.THING_LIGHT, time)
        paint = (paint.view(-1, 3, 1, 1) * lit).clamp(0, 1)
        for kind, draw in enumerate(THINGS.values(), start=1):
            only(thing == kind, _draw_thing, draw, x, y, scale, paint, lit, time)

    falls = (weather == RAIN) | (weather == SNOWFALL)
    only(falls, drawing.paint_fall, weather == SNOWFALL, time, u[:, 52 : 52 + 2 * drawing.FLAKES])
    return canvas.pixels


def _draw_thing(canvas: Canvas, draw, x: Tensor, y: Tensor, scale: Tensor, paint: Tensor, light: Tensor, time: Tensor) -> None:
    at = Local(canvas, *(each.view(-1, 1, 1, 1) for each in (x, y, scale)))
    if draw not in (drawing.draw_balloon, drawing.draw_boat):
        canvas.paint(0.30 * at.disk(0.05, 0.0, 0.60, 0.13), torch.zeros(1, 3, 1, 1))  # its shadow on the ground
    draw(canvas, at, paint, light, (time == NIGHT).view(-1, 1, 1, 1))


def _stand(thing: Tensor, place: Tensor, large: Tensor, ground: Tensor, horizon: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where a thing stands: the middle of its base (x, y), and its size. Each (n,)."""
    scale = torch.where(large, 0.37, 0.225) + 0.03 * (v[:, 0] - 0.5)
    x = torch.tensor([0.22, 0.50, 0.78])[place.clamp(0, 2)] + 0.07 * (v[:, 1] - 0.5)
    y = torch.where(large, 0.87, horizon + 0.16) + 0.03 * (v[:, 2] - 0.5)  # what is far away is small
    at_sea = ground == SEA
    y = torch.where(at_sea, 0.93 + 0.02 * v[:, 2], y)  # on the beach
    y = torch.where(thing == BOAT, torch.where(large, 0.80, horizon + 0.10), y)
    floating = torch.where(large, 0.50, 0.40) + 0.08 * (v[:, 2] - 0.5)
    return x, torch.where(thing == BALLOON, floating, y), scale


def _sun_third(meaning: dict[str, Tensor], u: Tensor) -> Tensor:
    """The third of the picture (0, 1, 2) in which the sun stands: one without a thing."""
    taken = torch.zeros(len(u), 3, dtype=torch.bool)
    there = meaning["thing"] > 0
    taken[there, meaning["place"][there] - 1] = True
    taken[meaning["second_thing"] > 0, 2] = True
    rank = (~taken).cumsum(dim=1)  # the free ones, counted from 1
    wanted = 1 + (u * (~taken).sum(dim=1)).long()
    return ((rank == wanted[:, None]) & ~taken).long().argmax(dim=1)


def _choice(u: Tensor, n: int) -> Tensor:
    return (u * n).long()
