"""Recipes for shelves and cabinets: each takes a Draw and returns primitives. Objects are about 1 long or high."""

import numpy as np

from lib.data.furniture_backs import fronts, rear
from lib.data.furniture_parts import bar, block, disc, legs, mirrored


def shelf(draw):
    paint = draw.paint()
    half, deep, height = draw.uniform(0.17, 0.45), draw.uniform(0.11, 0.2), draw.uniform(0.6, 1.0)
    t, n, foot = draw.uniform(0.03, 0.045), draw.integer(3, 5), draw.uniform(0.0, 0.08)
    levels = np.linspace(foot, height, n) + t * (np.arange(n) == 0)  # tops of the boards
    build = draw.choice(case, case, posts, leaning)
    parts, front = build(draw, half, deep, height, t, levels, paint)
    if draw.chance(0.65):
        parts += [block(half - 0.01, (deep - 0.022, deep + 0.012), (foot, height - 0.005), paint.accent)]
        parts += rear(draw, 2 * half, deep, (foot, height), paint)
    else:
        parts += [bar((0.02 - half, deep, foot + 0.03), (half - 0.02, deep, height - 0.03), 0.03, paint.accent)]
    for level in range(n - 1)[-3:]:
        if draw.chance(0.7):
            room = levels[level + 1] - t - levels[level]
            parts += goods(draw, half - 0.06, (front[level], deep - 0.03), levels[level], room, paint)
    return parts


def case(draw, half, deep, height, t, levels, paint):
    """Boards between side panels, sometimes with an upright between; and the y of every board's front edge."""
    color, foot = draw.choice(paint.frame, paint.main), levels[0] - t
    parts = mirrored([block((half - t, half), deep, (0, height), paint.frame)])
    parts += [block(half - 0.005, deep - 0.008, (z - t, z - 0.002), color) for z in levels]
    if draw.chance(0.3):
        x = draw.uniform(-0.4, 0.4) * half
        parts += [block((x - t / 2, x + t / 2), deep - 0.014, (foot + 0.01, height - 0.01), paint.frame)]
    return parts, np.full(len(levels), -deep)


def posts(draw, half, deep, height, t, levels, paint):
    x, y = half - t / 2 + 0.006, deep - t / 2 + 0.006
    corners = mirrored(mirrored([bar((x, y, 0), (x, y, height + 0.02), t, paint.trim)]), axis=1)
    return corners + [block(half, deep, (z - t, z), paint.frame) for z in levels], np.full(len(levels), -deep)


def leaning(draw, half, deep, height, t, levels, paint):
    """A ladder with boards that grow shorter upwards."""
    x, y, front = half - t / 2 + 0.006, deep - t / 2, np.linspace(-deep, 0.1 * deep, len(levels))
    sides = [bar((x, -deep, 0), (x, 0.5 * deep, height + 0.04), t, paint.frame)]
    sides += [bar((x, y, 0), (x, y, height + 0.04), t, paint.frame)]
    boards = [block(half, (y0, deep - 0.006), (z - t, z), paint.main) for y0, z in zip(front, levels, strict=True)]
    return mirrored(sides) + boards, front


def goods(draw, half, y, z, room, paint):
    """What stands on a board at height z: a box, three books, or a vase."""
    style, x = draw.choice("box", "books", "vase"), draw.uniform(-0.6, 0.6) * half
    top, depth, middle = z + draw.uniform(0.5, 0.85) * room, y[1] - y[0], (y[0] + y[1]) / 2
    if style == "vase":
        radius = 0.3 * min(depth, half)
        return [disc((z - 0.01, top), radius, paint.main, draw.uniform(0.4, 0.9) * radius, x=x, y=middle)]
    y = (middle - 0.33 * depth, middle + 0.33 * depth)
    if style == "box":
        return [block((x - 0.38 * half, x + 0.38 * half), y, (z - 0.01, top), draw.choice(paint.main, paint.trim))]
    books = zip((x - 0.037, x, x + 0.037), (paint.main, paint.accent, paint.trim), strict=True)
    return [block((c - 0.02, c + 0.018), y, (z - 0.01, top - draw.uniform(0, 0.2) * room), color) for c, color in books]


def cabinet(draw):
    paint = draw.paint()
    half, deep, height = draw.uniform(0.22, 0.5), draw.uniform(0.14, 0.24), draw.uniform(0.4, 1.0)
    foot, body = draw.uniform(0.04, 0.16), draw.choice(paint.frame, paint.main)
    if draw.chance(0.6):
        parts = legs(draw, half - 0.04, deep - 0.04, foot, paint.trim, 0.045, styles=("square", "round", "tapered"))
    else:
        parts = [block(half - 0.03, (0.04 - deep, deep - 0.01), (0, foot + 0.01), paint.trim)]
    if draw.chance(0.6):
        lip = draw.uniform(0.01, 0.03)
        parts += [block(half + lip, (-deep - lip - 0.01, deep + 0.01), (height - 0.005, height + 0.035), paint.accent)]
    parts += cabinet_face(draw, half, deep, (foot, height), body, paint)
    return parts + rear(draw, 1.8 * half, deep, (foot, height), paint, depth=0.14)


def cabinet_face(draw, half, deep, z, body, paint):
    """The body over the interval z with its doors and drawers, or with an open compartment over them."""
    door = paint.main if body is paint.frame else draw.choice(paint.frame, paint.accent)
    x, low, high, columns = half - 0.025, z[0] + 0.025, z[1] - 0.025, 1 if half < 0.27 else draw.integer(2, 3)
    layout, split = (
        draw.choice("doors", "drawers", "both", "beside", "niche"),
        low + draw.uniform(0.35, 0.7) * (high - low),
    )

    def grid(x, z, rows, columns, color):
        return fronts(draw, x, -deep, z, rows, columns, color, paint.trim)

    if layout == "niche":
        wall = (split - 0.01, z[1])
        parts = [block(half, deep, (z[0], split), body), block(half, deep, (z[1] - 0.035, z[1]), body)]
        parts += mirrored([block((half - 0.035, half), deep, wall, body)])
        parts += [block(half - 0.01, (deep - 0.04, deep - 0.005), (wall[0], z[1] - 0.01), paint.accent)]
        parts += goods(draw, half - 0.06, (-deep, deep - 0.04), split, z[1] - 0.035 - split, paint)
        return parts + grid((-x, x), (low, split), 1, columns, door)
    parts = [block(half, deep, z, body)]
    if layout == "doors":
        return parts + grid((-x, x), (low, high), 1, columns, door)
    if layout == "drawers":
        columns = min(columns, 2)
        return parts + grid((-x, x), (low, high), draw.integer(2, 5 - columns), columns, door)
    if layout == "both":
        parts += grid((-x, x), (low, split), 1, columns, door)
        return parts + grid((-x, x), (split, high), 1, min(columns, 2), paint.accent)
    left, right = ((-x, 0), (0, x)) if draw.chance(0.5) else ((0, x), (-x, 0))
    return parts + grid(left, (low, high), 1, 1, door) + grid(right, (low, high), draw.integer(2, 3), 1, paint.accent)
