"""Recipes for chairs, stools and sofas: each takes a Draw and returns primitives. Objects are about 1 long or high."""

import numpy as np

from lib.data.furniture_backs import backrest, rear
from lib.data.furniture_draws import tinted
from lib.data.furniture_parts import ball, bar, block, disc, legs, mirrored, ring, rod, shifted, spread, turned


def chair(draw):
    paint = draw.paint()
    half, deep, seat = draw.uniform(0.2, 0.31), draw.uniform(0.2, 0.29), draw.uniform(0.36, 0.52)
    under, leg, lean = seat - draw.uniform(0.035, 0.07), draw.uniform(0.035, 0.06), draw.uniform(0, 12)
    if draw.chance(0.5):
        parts, inset = [block(half, deep, (under, seat), paint.frame)], draw.uniform(0, 0.02)
        pad = (seat - 0.02, seat + draw.uniform(0.03, 0.07))
        parts += [block(half - inset, (-deep - 0.01, deep - 0.03), pad, paint.main, rounding=0.025)]
    else:
        parts = [block(half, deep, (under, seat), paint.main)]
    if draw.chance(0.2):
        parts += pedestal(draw, under, 0.95 * half + 0.04, paint.trim)
    else:
        parts += legs(draw, half - leg / 2 - 0.004, deep - leg / 2 - 0.004, under, paint.frame, leg)
    top = seat + draw.uniform(0.35, 0.6)
    back = backrest(draw, 2 * half - 0.02, (deep - leg, deep), (seat - 0.02, top), paint)
    parts += turned(back, 0, -lean, pivot=(0, deep, seat))
    if draw.chance(0.4):
        parts += arms(draw, half, (-deep + 0.02, deep + 0.2 * np.sin(np.radians(lean))), seat, leg, paint)
    return parts


def arms(draw, half, y, seat, thick, paint):
    """A pair of armrests on the sides of a seat: solid, on a post in front, or sloping."""
    style, height = draw.choice("solid", "post", "slope"), seat + draw.uniform(0.14, 0.22)
    if style == "solid":
        color = draw.choice(paint.frame, paint.main)
        return mirrored([block((half - thick, half + 0.01), y, (seat - 0.03, height), color)])
    x, front = half - thick / 2, height - (0.05 if style == "slope" else 0)
    arm = bar((x, y[0] - 0.02, front), (x, y[1], height), (1.3 * thick, 0.035), paint.accent)
    return mirrored([arm, bar((x, y[0] + 0.02, seat - 0.02), (x, y[0] + 0.02, front), thick, paint.frame)])


def pedestal(draw, height, reach, color):
    """A column up to `height` on a round base, on a star of five feet, or on four feet with casters."""
    style, column = draw.choice("disc", "star", "casters"), rod((0, 0, 0.03), (0, 0, height + 0.01), 0.03, color)
    if style == "disc":
        return [column, disc((0, 0.035), reach, color), disc((0.03, 0.09), 0.6 * reach, color, end_radius=0.04)]
    n = 5 if style == "star" else 4
    ends = [(reach * np.cos(a), reach * np.sin(a)) for a in 2 * np.pi * (np.arange(n) + 0.75) / n]
    star = [bar((0, 0, 0.08), (x, y, 0.05), 0.036, color) for x, y in ends]
    return [column, *star, *(ball((x, y, 0.03), 0.03, color) for x, y in ends if style == "casters")]


def stool(draw):
    build = draw.choice(square_stool, square_stool, round_stool, round_stool, pouf)
    return build(draw, draw.uniform(0.45, 0.95), draw.uniform(0.17, 0.28), draw.paint())


def square_stool(draw, height, half, paint):
    deep, leg = draw.uniform(0.6, 1) * half, draw.uniform(0.035, 0.06)
    under, pad = height - draw.uniform(0.035, 0.08), height + draw.uniform(0.03, 0.06)
    parts = [block(half, deep, (under, height), paint.frame)]
    if draw.chance(0.6):
        parts += [block(half - 0.005, deep - 0.005, (height - 0.02, pad), paint.main, rounding=0.03)]
    parts += legs(draw, half - leg / 2 - 0.005, deep - leg / 2 - 0.005, under, paint.accent, leg)
    if draw.chance(0.5):  # a board across the front, and what it hides
        low, face = draw.uniform(0.1, 0.6) * height, 0.035 - 0.9 * deep
        parts += [block(half - 0.02, (face - 0.035, face), (low, under + 0.01), paint.main)]
        parts += rear(draw, 2 * half - 0.1, face, (low, under), paint, depth=deep)
    return parts


def round_stool(draw, height, half, paint):
    under, low = height - draw.uniform(0.035, 0.08), draw.uniform(0.25, 0.45) * height
    parts = [disc((under, height), half, paint.frame, end_radius=draw.choice(half, 1.1 * half))]
    if draw.chance(0.6):
        parts += [disc((height - 0.02, height + 0.05), 0.97 * half, paint.main, rounding=0.03)]
    hoop = 0.65 * half
    if draw.chance(0.3):
        parts += [*pedestal(draw, under, half, paint.trim), bar((-hoop, 0, low), (hoop, 0, low), 0.035, paint.trim)]
    else:
        n, splay, knee = draw.integer(3, 4), draw.uniform(0, 0.25) * height, draw.choice(0.02, 0.03)
        for a in 2 * np.pi * (np.arange(n) + 0.75) / n:
            out = np.array([np.cos(a), np.sin(a), 0])
            foot, top = (hoop + splay) * out, hoop * out + (0, 0, under + 0.02)
            parts += [rod(foot, top, 0.02, paint.accent, end_radius=knee)]
        hoop += splay * (1 - low / under)
    return [*parts, ring(low, hoop, 0.035, paint.trim)] if draw.chance(0.5) else parts


def pouf(draw, height, half, paint):
    """A round or square upholstered body with a lid, on stub feet or none."""
    height, foot, inset = 0.6 * height, draw.choice(0, 0.05), 0.6 * half
    lid = (height - 0.02, height + draw.uniform(0.05, 0.1))
    if draw.chance(0.6):
        parts = [block(half, half, (foot, height), paint.main, rounding=0.02)]
        parts += [block(half + 0.01, half + 0.01, lid, paint.accent, rounding=0.04)]
        parts += [disc((height, lid[1] + 0.01), 0.15 * half, paint.trim)]
        parts += rear(draw, 2 * half, half, (foot, height), paint, depth=0.08)
    else:
        parts = [disc((foot, height), half, paint.main, end_radius=draw.uniform(0.85, 1) * half, rounding=0.02)]
        parts += [disc(lid, 1.03 * half, paint.accent, rounding=0.03), ring(foot + 0.03, half, 0.035, paint.trim)]
    if foot:
        stub = rod((inset, inset, 0), (inset, inset, foot + 0.02), 0.025, paint.trim)
        parts += mirrored(mirrored([stub]), axis=1)
    return parts


def sofa(draw):
    paint = draw.paint()
    paint = paint._replace(trim=tinted(paint.main, draw.choice(0.3, -0.2)))
    half, deep, low = 0.5, draw.uniform(0.18, 0.25), draw.uniform(0.03, 0.09)
    seat, back, n = draw.uniform(0.18, 0.24), draw.uniform(0.36, 0.52), draw.integer(1, 3)
    behind, plump = deep - draw.uniform(0.07, 0.12), draw.choice(0.015, 0.04)
    color = draw.choice(paint.main, paint.trim, paint.accent)
    sides, inner = sofa_arms(draw, half, (-deep, deep - 0.01), (low, seat), paint)
    parts = [block(half - 0.01, (0.005 - deep, deep - 0.02), (low, seat - 0.05), paint.main, rounding=0.015)]
    parts += [block(half, (behind, deep), (low + 0.01, back), paint.main, rounding=plump), *sides]
    for x in spread(-inner, inner, n):
        side = (x - inner / n + 0.005, x + inner / n - 0.005)
        parts += [block(side, (-deep - 0.015, behind + 0.02), (seat - 0.075, seat), color, rounding=plump)]
        cushion = block(side, (behind - 0.08, behind + 0.03), (seat - 0.01, back + 0.02), color, rounding=plump)
        parts += turned([cushion], 0, -8, pivot=(0, behind, seat))
    if draw.chance(0.35):  # a chaise on one side
        side, far = draw.choice(-1, 1), -deep - draw.uniform(0.12, 0.24)
        x = sorted((side * inner, side * (inner - 2 * inner / max(n, 2))))
        parts += [block(x, (far, 0.03 - deep), (low, seat - 0.05), paint.main, rounding=0.015)]
        parts += [block(x, (far - 0.015, 0.05 - deep), (seat - 0.075, seat - 0.004), color, rounding=plump)]
    else:
        for x in (-0.3, 0.28):
            parts += pillow(draw, (x, behind - 0.13, seat + 0.07), paint.accent) if draw.chance(0.5) else []
    parts += sofa_feet(draw, half, deep, low, paint.frame)
    return parts + rear(draw, 0.9, deep, (low + 0.04, back - 0.05), paint)


def sofa_arms(draw, half, y, z, paint):
    """Arms at both ends, or one, or none, from z[0] to above the seat z[1]; and half the width between them."""
    style, wide = draw.choice("box", "roll", "pillow", "wood", "none"), draw.uniform(0.05, 0.13)
    inner, top = half - wide, z[1] + draw.uniform(0.06, 0.14)
    if style == "none":
        return [], half - 0.005
    if style == "wood":
        x, posts = (inner + 0.01, half + 0.005), (y[0] - 0.01, y[1] - 0.06)
        arm = [block((inner, half + 0.01), y, (top - 0.04, top), paint.frame)]
        arm += [block(x, (c, c + 0.045), (z[0] + 0.01, top - 0.01), paint.frame) for c in posts]
    else:
        rounding = 0.06 if style == "pillow" else 0.012
        arm = [block((inner, half + 0.005), (y[0] - 0.01, y[1]), (z[0], top), paint.main, rounding=rounding)]
    if style == "roll":
        x = inner + 0.6 * wide
        arm += [rod((x, y[0] - 0.02, top), (x, y[1], top), 0.62 * wide, paint.main, rounding=0.01)]
    return (mirrored(arm) if draw.chance(0.85) else arm), inner


def sofa_feet(draw, half, deep, low, color):
    style = draw.choice("stubs", "plinth", "runners")
    if style == "plinth":
        return [block(half - 0.04, deep - 0.04, (0, low + 0.02), color)]
    if style == "runners":
        return mirrored([block((half - 0.1, half - 0.06), deep - 0.01, (0, low + 0.02), color)])
    x, y = half - 0.06, deep - 0.05
    return mirrored(mirrored([rod((x, y, 0), (x, y, low + 0.02), 0.018, color, end_radius=0.028)]), axis=1)


def pillow(draw, center, color):
    """A loose cushion that leans back."""
    cushion = shifted([block(0.09, 0.03, 0.085, color, rounding=0.03)], center)
    return turned(turned(cushion, 1, draw.uniform(-20, 20), center), 0, -22, center)
