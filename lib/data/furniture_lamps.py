"""Recipes for lamps: each takes a Draw and returns primitives. The lamp is about 1 high."""

import numpy as np

from lib.data.furniture_parts import ball, bar, block, disc, ring, rod, tube, turned


def lamp(draw):
    build = draw.choice(standing_lamp, standing_lamp, table_lamp, table_lamp, desk_lamp, branched_lamp)
    return build(draw, draw.paint())


def standing_lamp(draw, paint):
    radius, height, low = draw.uniform(0.13, 0.25), draw.uniform(0.14, 0.3), draw.uniform(0.6, 0.75)
    parts, tray = base(draw, low, paint), 0.3 * low
    if draw.chance(0.3):
        parts += [disc((tray, tray + 0.035), 0.8 * radius, paint.accent)]
    style = draw.choice("cone", "drum", "open", "open", "globe", "bowl")
    return (
        parts + shade(draw, style, low, radius, height, paint) + behind_shade(draw, low + 0.25 * height, radius, paint)
    )


def table_lamp(draw, paint):
    body, wide, radius = draw.uniform(0.35, 0.5), draw.uniform(0.1, 0.2), draw.uniform(0.22, 0.36)
    low, height, color = body + 0.06, draw.uniform(0.26, 0.42), draw.choice(paint.frame, paint.accent)
    parts = [disc((0, 0.035), 1.05 * wide, paint.trim), rod((0, 0, 0.9 * body), (0, 0, low + 0.1), 0.025, paint.trim)]
    parts += lamp_body(draw, body, wide, color)
    style = draw.choice("cone", "drum", "open", "open", "globe")
    return (
        parts + shade(draw, style, low, radius, height, paint) + behind_shade(draw, low + 0.25 * height, radius, paint)
    )


def lamp_body(draw, top, wide, color):
    """The heavy lower part of a table lamp, a vase, a ball, a block, three discs or a cone."""
    style, waist = draw.choice("vase", "ball", "block", "stack", "cone"), draw.uniform(0.25, 0.6) * top
    if style == "vase":
        lower = disc((0.03, waist), 0.5 * wide, color, end_radius=wide)
        return [lower, disc((waist - 0.008, top), wide, color, end_radius=0.3 * wide)]
    if style == "ball":
        return [ball((0, 0, 0.02 + 0.4 * top), 0.4 * top, color), rod((0, 0, 0.7 * top), (0, 0, top), 0.04, color)]
    if style == "block":
        return [block(0.7 * wide, 0.7 * wide, (0.02, top), color, rounding=draw.choice(0, 0.03))]
    if style == "stack":
        rows = zip((1, 0.8, 0.6), np.linspace(0.02, 0.02 + 2 * top / 3, 3), strict=True)
        return [disc((z, z + top / 3 + 0.01), r * wide, color, rounding=0.13 * top) for r, z in rows]
    return [disc((0.03, top), wide, color, end_radius=draw.uniform(0.2, 0.5) * wide)]


def desk_lamp(draw, paint):
    """Two jointed arms that hold a cone over the desk, turned some way about the base."""
    wide, thick = draw.uniform(0.13, 0.2), draw.uniform(0.03, 0.04)
    back, up, reach = draw.uniform(0, 0.2), draw.uniform(0.45, 0.65), draw.uniform(0.3, 0.5)
    elbow, wrist = np.array([0, back, up]), np.array([0, back - reach, up + draw.uniform(-0.1, 0.25)])
    foot = disc((0, 0.05), wide, paint.frame, end_radius=0.85 * wide)
    if draw.chance(0.4):
        foot = block(wide, 0.8 * wide, (0, 0.05), paint.frame, rounding=0.015)
    head, aim = draw.uniform(0.1, 0.16), np.array([0, -draw.uniform(0.2, 0.9), -1])
    aim *= draw.uniform(0.16, 0.24) / np.linalg.norm(aim)
    parts = [foot, bar((0, 0, 0.03), elbow, thick, paint.trim), bar(elbow, wrist, thick, paint.trim)]
    parts += [ball(elbow, 0.8 * thick, paint.accent), ball(wrist, 0.8 * thick, paint.accent)]
    parts += [rod(wrist - 0.15 * aim, wrist + aim, 0.35 * head, paint.main, end_radius=head)]
    parts += [rod(wrist + 0.9 * aim, wrist + 1.12 * aim, 0.7 * head, paint.accent, end_radius=0.6 * head)]
    if draw.chance(0.4):
        counterweight = elbow + 0.35 * (elbow - wrist)
        parts += [bar(elbow, counterweight, thick, paint.trim), ball(counterweight, 0.06, paint.main)]
    return turned(parts, 2, draw.uniform(-80, 80))


def branched_lamp(draw, paint):
    """Several small lights on arms around one pole."""
    top, n, style = draw.uniform(0.65, 0.85), draw.integer(2, 5), draw.choice("ball", "cup", "bell")
    reach, rise, drop = draw.uniform(0.16, 0.26), draw.uniform(-0.05, 0.15), draw.choice(0, 0.2)
    size, start = draw.uniform(0.07, 0.1), draw.uniform(0, 360)
    parts = [*base(draw, top, paint), ball((0, 0, top), 0.045, paint.accent)]
    for i in range(n):
        z = top - drop * i / n
        tip, up = np.array([0, -reach, z + rise]), np.array([0, 0, 0.13 if style == "cup" else -0.13])
        light = ball(tip, size, paint.main)
        if style != "ball":
            light = rod(tip - 0.15 * up, tip + up, 0.5 * size, paint.main, end_radius=size)
        parts += turned([bar((0, 0, z), tip, 0.03, paint.frame), light], 2, start + 360 * i / n)
    return parts


def base(draw, top, paint):
    """A pole up to `top` on a plate, a dome, a cross or a tripod."""
    style, wide, radius = (
        draw.choice("plate", "dome", "cross", "tripod"),
        draw.uniform(0.13, 0.2),
        draw.uniform(0.018, 0.028),
    )
    if style == "tripod":
        hub, reach = draw.uniform(0.35, 0.9) * top, draw.uniform(0.16, 0.26)
        leg = rod((0, -reach, 0), (0, 0, hub), 0.018, paint.frame, end_radius=0.022)
        pole = rod((0, 0, hub - 0.05), (0, 0, top + 0.02), radius, paint.frame)
        return [pole, ball((0, 0, hub), 0.035, paint.trim), *(turned([leg], 2, a)[0] for a in (30, 150, 270))]
    pole = rod((0, 0, 0.01), (0, 0, top + 0.02), radius, paint.frame)
    if style == "plate":
        return [pole, disc((0, 0.035), wide, paint.trim)]
    if style == "dome":
        return [pole, disc((0, 0.09), wide, paint.trim, end_radius=0.05)]
    foot = bar((-wide, 0, 0.02), (wide, 0, 0.02), 0.04, paint.trim)
    return [pole, *turned([foot], 2, 45), *turned([foot], 2, -45)]


def shade(draw, style, z, radius, height, paint):
    """A shade from z up to z + height, closed, or open with a bulb on a spoke inside."""
    start, end, top = (0, 0, z), (0, 0, z + height), draw.uniform(0.35, 0.8) * radius
    if style == "globe":
        return [ball((0, 0, z + 0.8 * radius), 0.85 * radius, paint.main)]
    if style == "bowl":
        return [rod(start, end, 0.35 * radius, paint.main, end_radius=radius, rounding=0.02)]
    if style == "drum":
        bands = [ring(z + share * height, 0.85 * radius, 0.03, paint.accent) for share in (0.08, 0.92)]
        return [rod(start, end, 0.85 * radius, paint.main), *bands]
    if style == "cone":
        return [rod(start, end, radius, paint.main, end_radius=top), ball((0, 0, z + height + 0.015), 0.03, paint.trim)]
    middle, half = (0, 0, z + height / 2), (radius + top) / 2
    inside = [rod(start, middle, 0.032, paint.trim), ball(middle, 0.3 * half, paint.accent)]
    spoke = bar((-half, 0, middle[2]), (half, 0, middle[2]), 0.03, paint.trim)
    return [tube(start, end, radius, paint.main, end_radius=top), spoke, *inside]


def behind_shade(draw, z, radius, paint):
    """Perhaps a box or a second small light on an arm behind the shade, which hides it from the front."""
    style, y, small = draw.choice("nothing", "box", "light"), radius + draw.uniform(0.02, 0.08), 0.35 * radius
    if style == "nothing":
        return []
    arm = bar((0, 0, z), (0, y, z), 0.03, paint.trim)
    if style == "box":
        return [arm, block(small, (y - 0.02, y + 0.06), (z - 0.05, z + 0.05), paint.accent)]
    return [arm, rod((0, y - 0.02, z), (0, y + 0.1, z), 0.5 * small, paint.accent, end_radius=small)]
