"""The pictures of the postcards: skies, grounds and things, drawn in batches with smooth edges.

Positions are fractions of the picture's side: x to the right, y down, so a picture may have any size. A shape is drawn by its
coverage, the fraction of each pixel that lies inside it: (B, 1, S, S) in [0, 1]. Colours are (B, 3, 1, 1) or (B, 3, S, S) in [0, 1].
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

TIMES = ("dawn", "day", "sunset", "night")
WEATHERS = ("clear", "clouds", "rain", "snowfall", "rainbow")
GROUNDS = ("sea", "hills", "desert", "snow")
COLOURS = ("red", "yellow", "green", "blue", "white", "purple")
FLAKES = 20  # drops of rain, or flakes of snow

Colour = tuple[float, float, float]

# the sky at the top, half-way down and at the horizon: one row per time
SKY: list[tuple[Colour, Colour, Colour]] = [
    ((0.48, 0.60, 0.90), (0.93, 0.78, 0.88), (1.00, 0.80, 0.72)),
    ((0.16, 0.44, 0.88), (0.42, 0.68, 0.96), (0.80, 0.93, 1.00)),
    ((0.22, 0.14, 0.44), (0.80, 0.28, 0.42), (1.00, 0.66, 0.26)),
    ((0.02, 0.03, 0.13), (0.06, 0.08, 0.26), (0.16, 0.18, 0.40)),
]
# by what the time of day multiplies the colours of the ground, and those of things
GROUND_LIGHT: list[Colour] = [(0.96, 0.84, 0.88), (1.0, 1.0, 1.0), (0.86, 0.60, 0.52), (0.30, 0.33, 0.54)]
THING_LIGHT: list[Colour] = [(1.0, 0.94, 0.96), (1.0, 1.0, 1.0), (0.96, 0.80, 0.74), (0.56, 0.58, 0.80)]
SUN: list[Colour] = [(1.00, 0.93, 0.78), (1.00, 0.95, 0.62), (1.00, 0.84, 0.42), (0.97, 0.96, 0.86)]  # at night, the moon
GLOW = (0.30, 0.35, 0.42, 0.26)  # how bright the sky is around it
CLOUD: list[Colour] = [(1.00, 0.90, 0.92), (0.98, 0.99, 1.00), (0.98, 0.60, 0.50), (0.24, 0.27, 0.44)]
WATER: list[Colour] = [(0.42, 0.54, 0.76), (0.08, 0.38, 0.68), (0.34, 0.17, 0.38), (0.03, 0.07, 0.20)]
FAR_AND_NEAR: dict[str, tuple[Colour, Colour]] = {  # the two rows of hills, by the light of day
    "hills": ((0.46, 0.70, 0.36), (0.30, 0.58, 0.20)),
    "desert": ((0.93, 0.74, 0.46), (0.88, 0.64, 0.32)),
    "snow": ((0.84, 0.90, 0.97), (0.95, 0.97, 1.00)),
}
MOUNTAIN: Colour = (0.40, 0.44, 0.58)
BEACH: Colour = (0.93, 0.83, 0.60)
PAINT: list[Colour] = [  # one per entry of COLOURS
    *((0.86, 0.12, 0.12), (0.98, 0.82, 0.12), (0.12, 0.58, 0.22)),
    *((0.12, 0.32, 0.90), (0.97, 0.97, 0.95), (0.60, 0.20, 0.72)),
]
RAINBOW: list[Colour] = [  # from the inner edge outwards
    *((0.58, 0.30, 0.80), (0.25, 0.50, 0.95), (0.30, 0.80, 0.35)),
    *((0.98, 0.90, 0.30), (0.98, 0.58, 0.20), (0.92, 0.25, 0.25)),
]
LAMP: Colour = (1.0, 0.86, 0.42)
NIGHT = TIMES.index("night")


class Canvas:
    """A batch of pictures being painted. pixels: (B, 3, S, S) in [0, 1]."""

    def __init__(self, pixels: Tensor):
        self.pixels = pixels
        self.size = pixels.shape[-1]
        centres = (torch.arange(self.size) + 0.5) / self.size
        self.x, self.y = centres.view(1, 1, 1, -1), centres.view(1, 1, -1, 1)

    def paint(self, coverage: Tensor, colour: Tensor) -> None:
        """Covers what is there with a colour."""
        self.pixels += coverage * (colour.clamp(0, 1) - self.pixels)

    def lighten(self, amount: Tensor, colour: Tensor) -> None:
        """Adds light of a colour; what is bright already gains less."""
        self.pixels += amount * colour * (1 - self.pixels)

    def inside(self, distance: Tensor, softness: float = 1.0) -> Tensor:
        """Coverage, from the signed distance to the edge (negative inside). softness: how many pixels wide the edge is."""
        return (0.5 - distance * (self.size / softness)).clamp(0, 1)

    def below(self, skyline: Tensor) -> Tensor:
        """Coverage of all that lies below a skyline: its height y for every x, (B, 1, 1, S)."""
        slope = torch.gradient(skyline, dim=3)[0] * self.size
        return self.inside((skyline - self.y) / (1 + slope**2).sqrt())


class Local:
    """Coordinates of one thing per picture: p to the right and q up, from the middle of its base, in units of its size."""

    def __init__(self, canvas: Canvas, x: Tensor, y: Tensor, scale: Tensor):
        self.p, self.q = (canvas.x - x) / scale, (y - canvas.y) / scale
        self.pixel = 1 / (canvas.size * scale)

    def box(self, left: float, right: float, bottom: float, top: float) -> Tensor:
        """Coverage of a rectangle: exact, however narrow."""
        half = self.pixel / 2
        width = torch.minimum(self.p + half, torch.full_like(half, right)) - torch.maximum(self.p - half, torch.full_like(half, left))
        height = torch.minimum(self.q + half, torch.full_like(half, top)) - torch.maximum(self.q - half, torch.full_like(half, bottom))
        return (width.clamp(min=0) / self.pixel) * (height.clamp(min=0) / self.pixel)

    def polygon(self, *corners: tuple[float, float]) -> Tensor:
        """Coverage of a convex polygon, its corners anticlockwise."""
        sides = [
            ((self.p - p0) * (q1 - q0) - (self.q - q0) * (p1 - p0)) / math.hypot(p1 - p0, q1 - q0)  # the distance from its line
            for (p0, q0), (p1, q1) in zip(corners, (*corners[1:], corners[0]), strict=True)
        ]
        return self.inside(reduce(torch.maximum, sides))

    def disk(self, p: float, q: float, radius: float, flat: float = 1.0) -> Tensor:
        """Coverage of a disk; of an ellipse whose height is `flat` times its width."""
        return self.inside(((self.p - p) ** 2 + ((self.q - q) / flat) ** 2).sqrt() - radius)

    def inside(self, distance: Tensor) -> Tensor:
        """Coverage, from the signed distance to the edge in units of the thing."""
        return (0.5 - distance / self.pixel).clamp(0, 1)


def rows(table: Sequence, index: Tensor) -> Tensor:
    """One colour of a table per picture: (B, 3, 1, 1), or (B, 1, 1, 1) from a table of numbers."""
    return torch.tensor(table)[index].view(len(index), -1, 1, 1)


def plain(colour: Colour) -> Tensor:
    return torch.tensor(colour).view(1, 3, 1, 1)


def paint_sky(canvas: Canvas, time: Tensor, horizon: Tensor, grey: Tensor, u: Tensor) -> Tensor:
    """The sky, from its colour at the top to that at the horizon. grey: how overcast it is. Returns the colour at the horizon."""
    stops = torch.tensor(SKY)[time] + 0.07 * (u[:, 0:3, None] - 0.5)  # (B, 3 stops, 3)
    stops = stops + grey.view(-1, 1, 1) * (0.85 * stops.mean(dim=2, keepdim=True) + 0.03 - stops)
    top, middle, low = (stop[:, :, None, None].clamp(0, 1) for stop in stops.unbind(1))
    down = (canvas.y / horizon).clamp(0, 1)
    canvas.pixels = (1 - down) ** 2 * top + 2 * down * (1 - down) * middle + down**2 * low
    canvas.pixels = canvas.pixels.expand(-1, -1, -1, canvas.size).clone()
    return low


def paint_sun(canvas: Canvas, time: Tensor, x: Tensor, y: Tensor, u: Tensor) -> None:
    """The sun with its glow; at night the moon, full or waning."""
    colour, night = rows(SUN, time), (time == NIGHT).view(-1, 1, 1, 1)
    radius = 0.062 + 0.03 * u[:, 0].view(-1, 1, 1, 1) + 0.015 * ~night
    distance = ((canvas.x - x) ** 2 + (canvas.y - y) ** 2).sqrt()
    canvas.lighten(rows(GLOW, time) * torch.exp(-(distance**2) / 0.03), colour)
    canvas.lighten(0.9 * rows(GLOW, time) * torch.exp(-((distance / (1.9 * radius)) ** 2)), colour)
    side = torch.where(u[:, 1] < 0.5, -1.0, 1.0).view(-1, 1, 1, 1)
    away = torch.where(u[:, 2] < 0.5, 0.9, 5.0).view(-1, 1, 1, 1) * radius  # the shadow on the moon, often beyond it
    shadow = canvas.inside(((canvas.x - x - side * away) ** 2 + (canvas.y - y + 0.3 * away) ** 2).sqrt() - radius)
    canvas.paint(canvas.inside(distance - radius) * (1 - shadow * night), colour)


def paint_clouds(canvas: Canvas, time: Tensor, grey: Tensor, clear: Tensor, u: Tensor) -> None:
    """Clouds in each third of the sky but one, each of a few soft ellipses above a flat base. clear: the third without, (B,), or -1."""
    colour = rows(CLOUD, time) * (1 - 0.25 * grey)
    for cloud in range(3):
        a, b, c, d = u[:, 4 * cloud : 4 * cloud + 4].view(-1, 4, 1, 1).unbind(1)
        a, b, c, d = (each[:, None] for each in (a, b, c, d))
        x, y = (cloud + 0.15 + 0.7 * a) / 3, 0.09 + 0.24 * b
        width = 0.13 + 0.06 * c
        lump = torch.full_like(canvas.x + canvas.y + x, math.inf)
        for p, q, r in ((-0.75, 0.05, 0.50), (-0.1 + 0.2 * (d - 0.5), 0.28, 0.72), (0.62, 0.08, 0.55)):
            lump = torch.minimum(lump, ((canvas.x - x - p * width) ** 2 + ((canvas.y - y + q * width) * 1.35) ** 2).sqrt() - r * width)
        base = canvas.y - y - 0.18 * width
        shade = 1 - 0.16 * ((canvas.y - y) / width + 0.6).clamp(0, 1)
        there = (clear != cloud).view(-1, 1, 1, 1)
        canvas.paint(0.92 * there * canvas.inside(torch.maximum(lump, base), 2.0), colour * shade)


def paint_rainbow(canvas: Canvas, horizon: Tensor, u: Tensor) -> None:
    """An arc of six colours that flow into one another."""
    x, radius = 0.35 + 0.3 * u[:, 0].view(-1, 1, 1, 1), 0.50 + 0.06 * u[:, 1].view(-1, 1, 1, 1)
    distance = ((canvas.x - x) ** 2 + (canvas.y - horizon - 0.04) ** 2).sqrt()
    band = (distance - radius) / 0.16 + 0.5  # 0 at the inner edge, 1 at the outer one
    for i, colour in enumerate(RAINBOW):
        strength = torch.exp(-(((band - (i + 0.5) / len(RAINBOW)) * len(RAINBOW)) ** 2))
        canvas.paint(0.62 * strength, plain(colour))


def paint_mountains(canvas: Canvas, horizon: Tensor, low: Tensor, light: Tensor, u: Tensor) -> None:
    """Three peaks on the horizon, pale with distance, with snow on top."""
    skyline = torch.full((len(u), 1, 1, canvas.size), 2.0)
    for peak in range(3):
        x, height, width = u[:, 3 * peak : 3 * peak + 3].view(-1, 3, 1, 1).unbind(1)
        x, height, width = (each[:, None] for each in (x, height, width))
        x, height = (peak + 0.1 + 0.8 * x) / 3, 0.15 + 0.13 * height
        skyline = torch.minimum(skyline, horizon - height + (canvas.x - x).abs() * (0.75 + 0.5 * width))
    rock = plain(MOUNTAIN) * light
    slope = 0.10 * torch.sign(torch.gradient(skyline, dim=3)[0])  # the side that turns away from the light
    rock = (rock + 0.38 * (low + 0.12 - rock)) * (1 - slope)
    covered = canvas.below(skyline)
    canvas.paint(covered, rock)
    snow = horizon - 0.17 + 0.02 * torch.sin(40 * canvas.x + 6 * u[:, 9].view(-1, 1, 1, 1))  # the line down to which snow lies
    white = (0.75 + 0.25 * light) * light.clamp(min=0.55) * (1 - slope)
    canvas.paint(covered * canvas.inside(canvas.y - snow), white)


def paint_sea(canvas: Canvas, time: Tensor, horizon: Tensor, low: Tensor, sun_x: Tensor, shines: Tensor, u: Tensor) -> None:
    """Water with waves, and a path of light below the sun if it shines; in front, a beach."""
    depth = (canvas.y - horizon).clamp(min=0)
    water = rows(WATER, time) + torch.exp(-depth / 0.10) * 0.55 * (low - rows(WATER, time))
    phase = 2 * math.pi * (3.0 * torch.log(depth + 0.15) + u[:, 0].view(-1, 1, 1, 1))
    wave = torch.sin(phase + 1.2 * torch.sin(2 * math.pi * (1.5 * canvas.x + u[:, 1].view(-1, 1, 1, 1))))
    near = ((depth - 0.03) / 0.10).clamp(0, 1)  # far waves are too small to be seen
    water = water * (1 + 0.12 * near * wave)
    path = torch.exp(-(((canvas.x - sun_x) / (0.05 + 0.22 * depth)) ** 2)) * shines * (0.55 + 0.35 * wave * near)
    water = water + (0.62 * path).clamp(0, 1) * (rows(SUN, time) - water)
    canvas.paint(canvas.inside(horizon - canvas.y), water)
    shore = 0.885 + 0.02 * torch.sin(2 * math.pi * (0.8 * canvas.x + u[:, 2].view(-1, 1, 1, 1)))
    light = rows(GROUND_LIGHT, time)
    canvas.paint(0.7 * canvas.below(shore - 0.022), (0.2 + 0.8 * light) * 0.97)  # surf
    canvas.paint(canvas.below(shore), plain(BEACH) * light * (1.05 - 0.5 * (canvas.y - shore).clamp(min=0)))


def paint_hills(canvas: Canvas, ground: str, light: Tensor, horizon: Tensor, low: Tensor, u: Tensor) -> None:
    """Two rows of hills, dunes or fields of snow, lit from one side."""
    far, near = (plain(colour) * light for colour in FAR_AND_NEAR[ground])
    for row, (colour, y, height, haze) in enumerate(((far, horizon, 0.032, 0.25), (near, horizon + 0.10, 0.045, 0.0))):
        a, b = (u[:, 2 * row + i].view(-1, 1, 1, 1) for i in range(2))
        angle = 2 * math.pi * ((0.9 + 0.8 * a) * canvas.x + b)
        skyline = y - height * (torch.sin(angle) + 0.25 * torch.sin(2.3 * angle + 1))
        side = 1 + 0.07 * torch.cos(angle)
        down = (canvas.y - skyline).clamp(min=0)
        canvas.paint(canvas.below(skyline), colour * side * (1.04 - 0.55 * down) + haze * (low - colour))


def paint_fall(canvas: Canvas, snow: Tensor, time: Tensor, u: Tensor) -> None:
    """Drops of rain as slanted strokes; flakes of snow as soft dots. snow: bool (B,), which of the two. u: (B, 2 FLAKES)."""
    night = (time == NIGHT).view(-1, 1, 1, 1)
    snow = snow.view(-1, 1, 1, 1)
    length, width = torch.where(snow, 0.0, 0.085), torch.where(snow, 0.020, 0.010)
    amount = torch.zeros_like(canvas.pixels[:, :1])
    for flake in range(FLAKES):
        # every one has a cell of its own, five across and four down, so that none is without
        x = (flake % 5 + u[:, 2 * flake].view(-1, 1, 1, 1)) / 5
        y = (flake // 5 + u[:, 2 * flake + 1].view(-1, 1, 1, 1)) / 4
        dx, dy = canvas.x - x, canvas.y - y
        along = ((dy - 0.3 * dx) / 1.044).clamp(min=0).minimum(length)  # the nearest point of the stroke
        distance = ((dx + 0.287 * along) ** 2 + (dy - 0.958 * along) ** 2).sqrt()
        amount = torch.maximum(amount, canvas.inside(distance - width))
    colour = torch.where(snow, 1.0, 0.88) * torch.where(night, 0.72, 1.0) * torch.tensor([0.96, 0.98, 1.0]).view(1, 3, 1, 1)
    canvas.paint(amount * torch.where(snow, 0.95, 0.62), colour)


def draw_house(canvas: Canvas, at: Local, paint: Tensor, light: Tensor, night: Tensor) -> None:
    canvas.paint(at.box(0.22, 0.36, 0.60, 1.02), plain((0.42, 0.25, 0.22)) * light)
    canvas.paint(at.box(-0.50, 0.50, 0, 0.58), paint * (1 - 0.12 * at.p.clamp(-0.5, 0.5)))
    canvas.paint(at.polygon((-0.66, 0.54), (0.66, 0.54), (0.0, 1.0)), plain((0.36, 0.21, 0.19)) * light)
    windows = at.box(-0.38, -0.17, 0.20, 0.42) + at.box(0.17, 0.38, 0.20, 0.42)
    canvas.paint(windows, torch.where(night, plain(LAMP), plain((0.24, 0.26, 0.34))))
    canvas.paint(at.box(-0.09, 0.09, 0, 0.34), plain((0.30, 0.17, 0.12)) * light)


def draw_lighthouse(canvas: Canvas, at: Local, paint: Tensor, light: Tensor, night: Tensor) -> None:
    lamp = plain(LAMP)
    for side in (-1.0, 1.0):
        reach = (side * at.p).clamp(min=0)
        beam = torch.exp(-(((at.q - 1.19) / (0.05 + 0.16 * reach)) ** 2)) * torch.exp(-reach / 1.3) * (reach > 0)
        canvas.lighten(0.42 * beam * night, lamp)
    other = torch.where(paint.amin(dim=1, keepdim=True) > 0.9 * light.amin(dim=1, keepdim=True), 0.60, 0.97) * light
    stripe = ((at.q + 0.02).div(0.27).floor() % 2 == 1) & (at.q < 1.06)
    body = at.polygon((-0.26, 0), (0.26, 0), (0.16, 1.06), (-0.16, 1.06))
    canvas.paint(body, torch.where(stripe, other, paint) * (1 - 0.6 * at.p.clamp(-0.3, 0.3)))
    canvas.paint(at.box(-0.22, 0.22, 1.05, 1.12), plain((0.25, 0.25, 0.28)) * light)
    canvas.paint(at.box(-0.11, 0.11, 1.12, 1.28), torch.where(night, lamp, plain((0.98, 0.92, 0.66)) * light))
    canvas.paint(at.polygon((-0.17, 1.27), (0.17, 1.27), (0.0, 1.45)), plain((0.25, 0.25, 0.28)) * light)


def draw_tree(canvas: Canvas, at: Local, paint: Tensor, light: Tensor, night: Tensor) -> None:
    canvas.paint(at.box(-0.08, 0.08, 0, 0.5), plain((0.36, 0.23, 0.13)) * light)
    crown = (at.p**2 + (at.q - 0.78) ** 2).sqrt() - 0.34
    for p in (-0.25, 0.25):
        crown = torch.minimum(crown, ((at.p - p) ** 2 + (at.q - 0.60) ** 2).sqrt() - 0.26)
    shade = 0.92 + 0.30 * ((at.q - 0.62) - 0.5 * at.p).clamp(-0.5, 0.5)
    canvas.paint(at.inside(crown), paint * shade)


def draw_boat(canvas: Canvas, at: Local, paint: Tensor, light: Tensor, night: Tensor) -> None:
    canvas.paint(0.45 * at.disk(0, -0.03, 0.48, 0.16), plain((0.05, 0.08, 0.14)))
    canvas.paint(at.polygon((0.06, 0.27), (0.56, 0.27), (0.06, 1.08)), paint)
    canvas.paint(at.polygon((-0.06, 0.27), (-0.06, 0.96), (-0.44, 0.27)), paint * 0.86)
    canvas.paint(at.box(-0.035, 0.035, 0.15, 1.12), plain((0.30, 0.19, 0.12)) * light)
    canvas.paint(at.polygon((-0.40, 0), (0.36, 0), (0.56, 0.22), (-0.54, 0.22)), plain((0.42, 0.24, 0.14)) * light)


def draw_balloon(canvas: Canvas, at: Local, paint: Tensor, light: Tensor, night: Tensor) -> None:
    canvas.paint(at.box(-0.10, 0.10, 0.0, 0.14), plain((0.45, 0.28, 0.15)) * light)
    canvas.paint(0.8 * at.polygon((-0.07, 0.13), (0.07, 0.13), (0.13, 0.32), (-0.13, 0.32)), paint * 0.55)
    envelope = torch.maximum(at.disk(0, 0.74, 0.40), at.polygon((-0.10, 0.26), (0.10, 0.26), (0.345, 0.54), (-0.345, 0.54)))
    lit = 0.95 + 0.55 * night * torch.exp(-(((at.q - 0.42) / 0.25) ** 2)) - 0.25 * at.p.clamp(-0.4, 0.4)
    canvas.paint(envelope, paint * lit)
    gore = envelope * (0.5 + 0.5 * torch.cos(2 * math.pi * at.p / 0.30)) * (at.p.abs() < 0.42)
    canvas.paint(0.16 * gore, torch.where(paint.amin(dim=1, keepdim=True) > 0.5 * light.amin(dim=1, keepdim=True), 0.3, 1.0) * light)


def draw_tent(canvas: Canvas, at: Local, paint: Tensor, light: Tensor, night: Tensor) -> None:
    warm = torch.where(night, 1.25, 1.0)  # a lamp inside
    canvas.paint(at.polygon((-0.66, 0), (0.66, 0), (0.0, 0.86)), paint * warm * torch.where(at.p > 0, 0.82, 1.0))
    canvas.paint(at.polygon((-0.20, 0), (0.20, 0), (0.0, 0.56)), torch.where(night, plain(LAMP), plain((0.16, 0.13, 0.14))))


THINGS: dict[str, Callable[[Canvas, Local, Tensor, Tensor, Tensor], None]] = {
    "house": draw_house,
    "lighthouse": draw_lighthouse,
    "tree": draw_tree,
    "tent": draw_tent,
    "balloon": draw_balloon,
    "boat": draw_boat,  # the last: the only one that needs the sea
}
