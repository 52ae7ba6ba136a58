"""Larger parts that several recipes share: backs, fronts of drawers and doors, and what is hidden behind."""

from lib.data.furniture_parts import bar, block, mirrored, rod, shifted, spread, turned


def backrest(draw, width, y, z, paint):
    """A back or headboard over the intervals y and z; a solid one may have something hidden behind it."""
    style = draw.choice("panel", "padded", "pads", "slats", "ladder", "spindles")
    if style in ("panel", "padded", "pads"):
        return solid_back(draw, style, width, y, z, paint) + rear(draw, width, y[1], z, paint)
    return open_back(draw, style, width, y, z, paint)


def solid_back(draw, style, width, y, z, paint):
    half, thick, height = width / 2, y[1] - y[0], z[1] - z[0]
    if style == "panel":
        return [block(half, y, z, paint.frame, rounding=draw.choice(0, 0.4 * thick))]
    if style == "padded":
        return [block(half, (y[0] - 0.5 * thick, y[1]), z, paint.main, rounding=0.6 * thick)]
    n = draw.integer(2, 3)
    share, pad_y, pad_z = (
        0.46 * width / n,
        (y[0] - 0.4 * thick, y[1] - 0.02),
        (z[0] + 0.15 * height, z[1] - 0.06 * height),
    )
    pads = [block((x - share, x + share), pad_y, pad_z, paint.main, rounding=0.02) for x in spread(-half, half, n)]
    return [block(half, y, z, paint.frame), *pads]


def open_back(draw, style, width, y, z, paint):
    """Two posts and a top rail, filled with upright slats or spindles, or with rungs."""
    half, thick, height, middle = width / 2, y[1] - y[0], z[1] - z[0], (y[0] + y[1]) / 2
    rail = z[1] - draw.uniform(0.12, 0.28) * height
    up, thin = (z[0], rail + 0.02), (middle - 0.4 * thick, middle + 0.4 * thick)
    parts = [block(half + 0.005, (y[0] - 0.005, y[1] + 0.005), (rail, z[1]), paint.frame)]
    parts += mirrored([block((half - thick, half), y, up, paint.frame)])
    if style == "ladder":
        low, n = z[0] + 0.1 * height, draw.integer(1, 3)
        share = 0.22 * (rail - low) / n
        return parts + [block(half - 0.01, thin, (c - share, c + share), paint.frame) for c in spread(low, rail, n)]
    n = min(draw.integer(2, 6), int(width / thick / 2) - 1)
    centers = spread(thick - half, half - thick, n)
    if style == "spindles":
        return parts + [rod((x, middle, up[0]), (x, middle, up[1]), 0.42 * thick, paint.accent) for x in centers]
    share = max(0.4 * thick, draw.uniform(0.2, 0.35) * (width - 2 * thick) / n)
    return parts + [block((x - share, x + share), thin, up, paint.frame) for x in centers]


def fronts(draw, x, y, z, rows, columns, color, knob):
    """A grid of drawer or door fronts on a face at y that looks to -y, with knobs, handles or neither."""
    style, gap, parts = draw.choice("knob", "handle", "bare"), 0.012, []
    width, height = (x[1] - x[0]) / columns, (z[1] - z[0]) / rows
    for cz in spread(*z, rows):
        for column, cx in enumerate(spread(*x, columns)):
            dx, dz = width / 2 - gap, height / 2 - gap
            parts.append(block((cx - dx, cx + dx), (y - 0.015, y + 0.02), (cz - dz, cz + dz), color))
            door = height > 1.3 * width  # its grip is beside the opening edge, a drawer's in the middle
            grip = cx + door * (0.32 if column % 2 == 0 else -0.32) * width
            if style == "knob":
                parts.append(rod((grip, y - 0.045, cz), (grip, y, cz), 0.02, knob))
            elif style == "handle":
                dx, dz = (0.016, 0.2 * height) if door else (0.25 * width, 0.016)
                parts.append(block((grip - dx, grip + dx), (y - 0.04, y), (cz - dz, cz + dz), knob))
    return parts


def rear(draw, width, y, z, paint, depth=0.1, middle=0.0):
    """Something fastened behind a solid face at y of that width about x = middle, over part of z; sometimes nothing."""
    style = draw.choice("nothing", "box", "box", "pocket", "drawers", "drawers", "shelves", "shelves", "ribs", "brace")
    height, half, inside, out = (
        z[1] - z[0],
        draw.uniform(0.22, 0.4) * width,
        y - 0.02,
        y + draw.uniform(0.6, 1.4) * depth,
    )
    middle += draw.uniform(-1, 1) * (0.45 * width - half)
    x, z = (
        (middle - half, middle + half),
        (z[0] + draw.uniform(0.08, 0.3) * height, z[1] - draw.uniform(0.1, 0.3) * height),
    )
    if style == "box":
        return [block(x, (inside, out), z, draw.choice(paint.frame, paint.accent))]
    if style == "pocket":
        return [block(x, (inside, out), z, draw.choice(paint.main, paint.accent), rounding=0.04)]
    if style == "drawers":
        rows = draw.integer(1, 2) if z[1] - z[0] > 0.15 else 1
        faces = fronts(draw, (-half, half), -out, z, rows, 1, paint.accent, paint.trim)
        return [block(x, (inside, out), z, paint.frame), *shifted(turned(faces, 2, 180), (middle, 0, 0))]
    if style == "shelves":
        boards = [block(x, (inside, out), (c - 0.016, c + 0.016), paint.frame) for c in z]
        return [*boards, block((x[0] + 0.003, x[0] + 0.038), (inside, out - 0.01), z, paint.accent)]
    if style == "ribs":
        centers = spread(*x, draw.integer(2, 4))
        return [block((c - 0.018, c + 0.018), (inside, y + 0.04), z, paint.accent) for c in centers]
    if style == "brace":
        return [bar((x[0], y + 0.005, z[0]), (x[1], y + 0.005, z[1]), 0.04, paint.accent)]
    return []
