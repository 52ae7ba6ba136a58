"""The vocabulary of the furniture recipes: primitives, or lists of them, where x is right, y back and z up."""

from dataclasses import replace

import numpy as np

from lib.data.primitives import Box, Cone, Primitive, Tube

FULL = 0.97  # the largest share of a solid that may be rounding: a core must not vanish


def block(x, y, z, color, rounding=0.0) -> Box:
    """An upright box over three intervals; a number a stands for (-a, a)."""
    low, high = np.array([side if np.ndim(side) else (-side, side) for side in (x, y, z)], dtype=float).T
    half = (high - low) / 2
    rounding = min(rounding, FULL * half.min())
    return Box(half - rounding, rounding, np.eye(3), (low + high) / 2, color)


def bar(start, end, thickness, color) -> Box:
    """A square (or, with two thicknesses, rectangular) beam between two points; the first thickness is along x."""
    rotation, center, half = _axis(start, end)
    return Box(np.array([*np.broadcast_to(thickness, 2) / 2, half]), 0.0, rotation, center, color)


def rod(start, end, radius, color, end_radius=None, rounding=0.0) -> Cone:
    """A round bar between two points; with `end_radius` a cone."""
    rotation, center, half = _axis(start, end)
    size = np.array([radius, radius if end_radius is None else end_radius, half])
    rounding = min(rounding, FULL * size.min())
    return Cone(size - rounding, rounding, rotation, center, color)


def disc(z, radius, color, end_radius=None, rounding=0.0, x=0.0, y=0.0) -> Cone:
    """An upright round slab, or a cone, over the interval z."""
    return rod((x, y, z[0]), (x, y, z[1]), radius, color, end_radius, rounding)


def ball(center, radius, color) -> Cone:
    x, y, z = center
    return disc((z - radius, z + radius), radius, color, rounding=radius, x=x, y=y)


def tube(start, end, radius, color, end_radius=None, thickness=0.03) -> Tube:
    """An open cone around the line between two points."""
    rotation, center, half = _axis(start, end)
    return Tube(
        np.array([radius, radius if end_radius is None else end_radius, half]), thickness / 2, rotation, center, color
    )


def ring(z, radius, thickness, color) -> Tube:
    """A horizontal hoop around the z axis."""
    return tube((0, 0, z - 1e-3), (0, 0, z + 1e-3), radius, color, thickness=thickness)


def turned(parts, axis, degrees, pivot=(0, 0, 0)) -> list[Primitive]:
    """The parts rotated about the world axis of that number through the pivot."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
    return [part.moved(rotation, pivot - rotation @ np.array(pivot, dtype=float)) for part in parts]


def shifted(parts, offset) -> list[Primitive]:
    return [part.moved(offset=np.array(offset, dtype=float)) for part in parts]


def mirrored(parts, axis=0) -> list[Primitive]:
    """The parts and their mirror images in the plane where that coordinate (0 = x, 1 = y) is 0."""
    flip = np.eye(3)
    flip[axis, axis] = -1
    # every solid is its own mirror image, so the reflected one is had by a rotation: flip on both sides
    return [*parts, *(replace(p, rotation=flip @ p.rotation @ flip, center=flip @ p.center) for p in parts)]


def spread(low, high, n) -> np.ndarray:
    """Centers of n equal shares of an interval."""
    return low + (high - low) * (np.arange(n) + 0.5) / n


def legs(draw, x, y, height, color, thickness, styles=("square", "round", "tapered", "splayed", "panel", "sled")):
    """Four legs centered at (+-x, +-y) under a seat or top whose underside is at `height`."""
    style, t, up = draw.choice(*styles), thickness, height + 0.3 * thickness
    if style == "panel":
        return mirrored([block((x - t / 2, x + t / 2), y + t / 2, (0, up), color)])
    if style == "sled":
        posts = mirrored([bar((x, y, 0), (x, y, up), t, color)], axis=1)
        return mirrored([*posts, bar((x, -y - t / 2, t / 2), (x, y + t / 2, t / 2), t, color)])
    if style == "square":
        leg = bar((x, y, 0), (x, y, up), t, color)
    elif style == "round":
        leg = rod((x, y, 0), (x, y, up), t / 2, color)
    elif style == "tapered":
        leg = rod((x, y, 0), (x, y, up), 0.3 * t, color, end_radius=0.65 * t)
    else:
        out = draw.uniform(0.12, 0.28) * height
        foot, knee = (x + 0.6 * out, y + 0.6 * out, 0), (x - 0.4 * out, y - 0.4 * out, up)
        leg = rod(foot, knee, 0.35 * t, color, end_radius=0.55 * t)
    parts = mirrored(mirrored([leg]), axis=1)
    if style != "splayed" and height > 0.2 and draw.chance(0.3):  # an H of stretchers
        z = draw.uniform(0.2, 0.5) * height
        parts += mirrored([bar((x, -y, z), (x, y, z), 0.8 * t, color)])
        parts += [bar((-x, 0, z), (x, 0, z), 0.8 * t, color)]
    return parts


def _axis(start, end):
    """Rotation with z from start to end and x as near to the world's as can be, the middle, half the length."""
    start, end = np.array(start, dtype=float), np.array(end, dtype=float)
    length = np.linalg.norm(end - start)
    z = (end - start) / length
    near = np.eye(3)[int(abs(z[0]) > 0.9)]
    x = near - (near @ z) * z
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1), (start + end) / 2, length / 2
