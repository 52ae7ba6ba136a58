"""Recipes for tables and beds: each takes a Draw and returns primitives. The object is about 1 long."""

import numpy as np

from lib.data.furniture_backs import backrest, fronts, rear
from lib.data.furniture_draws import tinted
from lib.data.furniture_parts import bar, block, disc, legs, mirrored, ring, rod, spread, turned


def table(draw):
    return draw.choice(round_table, long_table, long_table, long_table)(draw, draw.uniform(0.3, 0.75), draw.paint())


def long_table(draw, height, paint):
    half, deep, leg = 0.5, draw.uniform(0.25, 0.42), draw.uniform(0.04, 0.08)
    under, support = (
        height - draw.uniform(0.035, 0.07),
        draw.choice(four_legs, four_legs, trestle, crossed, desk, counter),
    )
    top = block(half, deep, (under, height), paint.main, rounding=draw.choice(0, 0.02))
    return [top, *support(draw, half, deep, under, leg, paint), *ornament(draw, height, 0.3, 0.5 * deep, paint)]


def four_legs(draw, half, deep, under, leg, paint):
    parts, z, inset = apron(draw, half - leg, deep - leg, under, paint), draw.uniform(0.2, 0.4) * under, 0.7 * leg
    if draw.chance(0.75):
        return parts + legs(draw, half - leg, deep - leg, under, paint.frame, leg)
    parts += legs(draw, half - leg, deep - leg, under, paint.frame, leg, ("square", "round", "tapered", "panel"))
    return [*parts, block(half - inset, deep - inset, (z - 0.017, z + 0.017), paint.accent)]


def trestle(draw, half, deep, under, leg, paint):
    x, z = draw.uniform(0.6, 0.84) * half, 0.4 * under
    foot = block((x - leg / 2, x + leg / 2), deep - 0.04, (0, leg), paint.frame)
    upright = bar((x, 0, 0.02), (x, 0, under + 0.01), (leg - 0.008, 1.8 * leg), paint.frame)
    return [*mirrored([foot, upright]), bar((-x, 0, z), (x, 0, z), 0.8 * leg, paint.accent)]


def crossed(draw, half, deep, under, leg, paint):
    x, y, z = 0.8 * half, deep - 0.05, 0.5 * under
    cross = [bar((x, s * y, 0), (x, -s * y, under + 0.01), (leg, 0.8 * leg), paint.accent) for s in (-1, 1)]
    return [*mirrored(cross), bar((-x, 0, z), (x, 0, z), 0.7 * leg, paint.accent)]


def desk(draw, half, deep, under, leg, paint):
    """Drawers under one end, legs under the other, perhaps a panel between them at the back."""
    side, deep = draw.choice(-1, 1), deep - 0.03
    x, far = sorted((side * draw.uniform(0.25, 0.5) * half, side * (half - 0.02))), -side * (half - 0.05)
    face, rows = (x[0] + 0.01, x[1] - 0.01), draw.integer(2, 3)
    parts = [block(x, deep, (0, under + 0.01), paint.frame)]
    parts += fronts(draw, face, -deep, (0.03, under), rows, 1, paint.accent, paint.trim)
    parts += [bar((far, y, 0), (far, y, under + 0.01), leg, paint.frame) for y in (0.03 - deep, deep - 0.03)]
    if draw.chance(0.4):
        span = sorted((far, x[0] if side > 0 else x[1]))
        parts += [block(span, (deep - 0.05, deep - 0.015), (0.4 * under, under + 0.01), paint.main)]
    return parts + rear(draw, x[1] - x[0], deep, (0, under), paint, middle=sum(x) / 2)


def counter(draw, half, deep, under, leg, paint):
    """Closed in front: whatever is behind the front board cannot be seen from there."""
    face = 0.08 - deep
    sides = mirrored([block((half - 0.07, half - 0.03), deep - 0.03, (0, under + 0.01), paint.frame)])
    front = block(half - 0.04, (face - 0.04, face), (0.04, under + 0.01), paint.accent)
    return [*sides, front, *rear(draw, 2 * half - 0.16, face, (0.04, under), paint, depth=deep)]


def apron(draw, half, deep, under, paint):
    """A frame under the top, perhaps with drawers in front, or at the back where they cannot be seen."""
    style, z = draw.choice("none", "plain", "front", "back", "back"), (under - draw.uniform(0.07, 0.11), under + 0.01)
    if style == "none":
        return []
    frame, columns = block(half, deep, z, paint.frame), draw.integer(1, 3)
    if style == "plain":
        return [frame]
    x = (-0.9 * half, 0.9 * half if style == "front" else draw.uniform(-0.2, 0.9) * half)
    drawers = fronts(draw, x, -deep, (z[0], under), 1, columns, paint.main, paint.trim)
    return [frame, *(drawers if style == "front" else turned(drawers, 2, 180))]


def round_table(draw, height, paint):
    radius, leg, under = draw.uniform(0.38, 0.5), draw.uniform(0.04, 0.08), height - draw.uniform(0.035, 0.07)
    edge, style = draw.choice(1, 0.94, 1.04) * radius, draw.choice("column", "cone", "drum", "star", "legs")
    parts, foot = [disc((under, height), radius, paint.main, end_radius=edge)], draw.uniform(0.5, 0.75) * radius
    if style == "column":
        parts += [rod((0, 0, 0), (0, 0, under + 0.01), leg, paint.frame), disc((0, 0.045), foot, paint.frame)]
        parts += [disc((0.04, 0.12), 0.6 * foot, paint.accent, end_radius=leg)]
    elif style == "cone":
        parts += [disc((0.02, under + 0.01), foot, paint.accent, end_radius=draw.uniform(0.3, 0.6) * foot)]
        parts += [disc((0, 0.04), foot + 0.02, paint.frame)]
    elif style == "drum":
        parts += [disc((0, under + 0.01), 0.85 * radius, paint.frame, end_radius=0.7 * radius)]
        parts += [ring(0.05, 0.84 * radius, 0.05, paint.accent)]
    elif style == "star":
        n, knee, reach = draw.integer(3, 5), draw.choice(0.15, 0.5) * height, 0.75 * radius
        feet = [(reach * np.cos(a), reach * np.sin(a), 0.02) for a in 2 * np.pi * (np.arange(n) + 0.25) / n]
        parts += [rod((0, 0, 0.05), (0, 0, under + 0.01), leg, paint.frame)]
        parts += [bar((0, 0, knee), foot, 0.05, paint.accent) for foot in feet]
    else:
        inset, z = 0.6 * radius, 0.3 * height
        parts += legs(draw, inset, inset, under, paint.frame, leg, ("square", "round", "tapered"))
        parts += [disc((z - 0.018, z + 0.018), 1.4 * inset + 0.03, paint.accent)] if draw.chance(0.4) else []
    return parts + ornament(draw, height, 0.4 * radius, 0.4 * radius, paint)


def ornament(draw, z, x, y, paint):
    """A vase, a bowl or books on a top; mostly nothing."""
    x, y = draw.uniform(-1, 1) * x, draw.uniform(-1, 1) * y
    style = draw.choice("vase", "bowl", "books", *["nothing"] * 5)
    if style == "vase":
        parts = [disc((z - 0.01, z + 0.1), 0.035, paint.accent, end_radius=0.07, x=x, y=y)]
        return [*parts, disc((z + 0.09, z + 0.16), 0.065, paint.accent, end_radius=0.03, x=x, y=y)]
    if style == "bowl":
        return [disc((z - 0.01, z + 0.06), 0.05, paint.accent, end_radius=0.11, x=x, y=y)]
    if style == "books":
        books = zip((0.1, 0.085, 0.07), z + 0.035 * np.arange(3), (paint.frame, paint.trim, paint.accent), strict=True)
        return [block((x - w, x + w), (y - 0.7 * w, y + 0.7 * w), (low - 0.01, low + 0.03), c) for w, low, c in books]
    return []


def bed(draw):
    paint = draw.paint()
    paint = paint._replace(trim=tinted(draw.choice(paint.main, paint.accent), 0.75))  # the sheets
    half, long, foot = draw.uniform(0.24, 0.45), 0.5, draw.uniform(0.03, 0.12)
    rail, soft = foot + draw.uniform(0.06, 0.12), draw.uniform(0.07, 0.12)
    lying, style = rail + soft - 0.02, draw.choice("head", "head", "head", "canopy", "none")
    parts = [block(half, long, (foot, rail), paint.frame), *bedding(draw, half, long, (rail - 0.02, lying), paint)]
    if style == "head":
        y, z = (long - 0.005, long + draw.uniform(0.04, 0.06)), (foot, draw.uniform(0.36, 0.62))
        parts += backrest(draw, 2 * half + 0.01, y, z, paint)
    if style == "canopy":
        parts += canopy(half, long, draw.uniform(0.7, 0.85), paint.frame)
    elif draw.chance(0.35):
        top = lying + draw.uniform(-0.02, 0.1)
        parts += [block(half + 0.005, (-long - 0.03, 0.01 - long), (foot, top), paint.frame)]
    if draw.chance(0.5):
        return parts + legs(draw, half - 0.05, long - 0.06, foot, paint.frame, 0.05, ("square", "round", "tapered"))
    return [*parts, block(half - 0.04, long - 0.04, (0, foot + 0.01), paint.accent)]


def canopy(x, y, z, color):
    end = [*mirrored([bar((x, y, 0), (x, y, z), 0.04, color)]), bar((-x, y, z), (x, y, z), 0.036, color)]
    return mirrored(end, axis=1) + mirrored([bar((x, -y, z), (x, y, z), 0.036, color)])


def bedding(draw, half, long, z, paint):
    """A mattress over the interval z, a cover with or without a folded edge, one or two pillows."""
    low, lying = z
    fold, color = draw.uniform(-0.1, 0.25), draw.choice(paint.trim, paint.accent)
    cover = (lying - draw.uniform(0.25, 0.9) * (lying - low), lying + draw.uniform(0.02, 0.035))
    parts = [block(half - 0.02, long - 0.02, z, paint.trim, rounding=0.03)]
    parts += [block(half - 0.005, (0.005 - long, fold), cover, paint.main, rounding=0.03)]
    if draw.chance(0.6):
        edge = (cover[0], cover[1] + 0.008)
        parts += [block(half - 0.002, (fold - 0.1, fold + 0.002), edge, paint.accent, rounding=0.03)]
    n, lift = 1 if half < 0.3 else draw.integer(1, 2), draw.uniform(-5, 25)
    wide = 0.42 * (2 * half - 0.08) / n
    for x in spread(0.04 - half, half - 0.04, n):
        pillow = block((x - wide, x + wide), (0.27, 0.43), (lying - 0.025, lying + 0.05), color, rounding=0.03)
        parts += turned([pillow], 0, -lift, pivot=(0, 0.43, lying))
    return parts
