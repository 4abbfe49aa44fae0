"""Drawing: shapes cover as much of the picture as their areas say, and each thing looks like no other."""

import math

import pytest
import torch

from diffusion_lib.data.drawing import NIGHT, PAINT, THING_LIGHT, THINGS, TIMES, Canvas, Local


def local(x=0.4, y=0.7, scale=0.3, size=32):
    canvas = Canvas(torch.zeros(1, 3, size, size))
    return canvas, Local(canvas, *(torch.tensor(each).view(1, 1, 1, 1) for each in (x, y, scale)))


def area(coverage, size):
    """In units of a thing of scale 0.3."""
    return coverage.sum().item() / (size * 0.3) ** 2


@pytest.mark.parametrize(("left", "right", "bottom", "top"), [(-0.5, 0.5, 0, 0.6), (-0.01, 0.01, 0, 1.0), (0.2, 0.37, 0.1, 0.14)])
@pytest.mark.parametrize("size", [32, 64])
def test_boxes_cover_their_area_however_narrow(left, right, bottom, top, size):
    _, at = local(size=size)
    assert area(at.box(left, right, bottom, top), size) == pytest.approx((right - left) * (top - bottom), rel=1e-4)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_disks_and_polygons_cover_about_their_area(size):
    _, at = local(size=size)
    tolerance = 0.8 / size  # an edge is not a straight line within a pixel at corners
    assert area(at.disk(0.1, 0.4, 0.35), size) == pytest.approx(math.pi * 0.35**2, abs=tolerance)
    assert area(at.polygon((-0.6, 0), (0.6, 0), (0, 0.9)), size) == pytest.approx(0.54, abs=tolerance)


def test_polygon_is_empty_outside_and_full_inside():
    canvas, at = local(size=64)
    coverage = at.polygon((-0.6, 0), (0.6, 0), (0, 0.9))
    p, q = at.p.expand_as(coverage), at.q.expand_as(coverage)
    inside = (q > 0.06) & (q < 0.9 - 1.5 * p.abs() - 0.12)
    outside = (q < -0.06) | (q > 0.9 - 1.5 * p.abs() + 0.12)
    assert (coverage[inside] == 1).all()
    assert (coverage[outside] == 0).all()
    assert canvas.pixels.max() == 0  # nothing is painted yet


def test_ground_lies_below_its_skyline():
    canvas = Canvas(torch.zeros(1, 3, 64, 64))
    covered = canvas.below(0.5 + 0.1 * torch.sin(6 * canvas.x))
    heights = 1 - covered.mean(dim=2)[0, 0]
    assert torch.allclose(heights, (0.5 + 0.1 * torch.sin(6 * canvas.x)).flatten(), atol=0.02)


def drawn(name, paint, time, size=32):
    canvas, at = local(x=0.5, y=0.9, scale=0.37, size=size)
    canvas.pixels += 0.5
    light = torch.tensor(THING_LIGHT[time]).view(1, 3, 1, 1)
    colour = torch.tensor(PAINT[paint]).view(1, 3, 1, 1) * light
    THINGS[name](canvas, at, colour, light, torch.full((1, 1, 1, 1), time == NIGHT))
    return canvas.pixels[0]


@pytest.mark.parametrize("name", THINGS)
def test_things_are_drawn_in_their_colour_at_every_time(name):
    for time in range(len(TIMES)):
        pictures = torch.stack([drawn(name, paint, time) for paint in range(len(PAINT))])
        assert pictures.min() >= 0
        assert pictures.max() <= 1 + 1e-5  # rounding
        differences = torch.cdist(pictures.flatten(1), pictures.flatten(1))
        assert differences[~torch.eye(len(PAINT), dtype=bool)].min() > 1.0, TIMES[time]
        # the paint is there: in some pixel, nearly pure
        for paint, picture in enumerate(pictures):
            colour = torch.tensor(PAINT[paint]) * torch.tensor(THING_LIGHT[time])
            assert (picture - colour[:, None, None]).abs().amax(dim=0).min() < 0.2


def test_windows_are_lit_at_night_only():
    day, night = (drawn("house", 0, TIMES.index(time), size=64) for time in ("day", "night"))
    yellow = [((picture[0] > 0.9) & (picture[1] > 0.7) & (picture[2] < 0.6)).sum().item() for picture in (day, night)]
    assert yellow[0] == 0
    assert yellow[1] > 20
