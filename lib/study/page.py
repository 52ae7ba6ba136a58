"""HTML pages that need no other file: the frame, tables, pictures inside the text, and a card for a judged pair."""

import base64
from collections.abc import Iterable
from html import escape
from io import BytesIO

import numpy as np
import pandas as pd
from PIL import Image

from lib.study.own import Shown
from lib.study.own_plots import LOOK, answers_of

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; display: block; overflow-x: auto } th, td { padding: .2em .7em; text-align: left }
tr + tr, tbody tr { border-top: 1px solid #ddd }
.said { padding: .6em .9em; background: #eef3f8 } .warning { background: #fbe3e0; font-weight: 600 }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(30em, 100%), 1fr)); gap: 1.2em }
article { border: 2px solid; border-radius: 6px; padding: .7em } h3 { margin: 0 0 .4em; overflow-wrap: anywhere }
article p { margin: .4em 0 0; color: #222 }
.shown { display: flex; gap: .5em } figure { margin: 0; flex: 1; min-width: 0; color: #222 }
img { width: 100%; aspect-ratio: 1; border: 1px solid #ddd } figcaption { font-size: .85em }
"""


def page(title: str, body: Iterable[str], style: str = "") -> str:
    """A whole page; `title` is text, `body` is markup, `style` is added to `STYLE`."""
    head = [
        "<!doctype html>",
        '<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style>",
        f"<h1>{escape(title)}</h1>",
    ]
    return "\n".join([*head, *body]) + "</html>\n"


def table(frame: pd.DataFrame) -> str:
    """A table without its index, numbers to three digits; "nothing" where it has no rows."""
    with pd.option_context("display.max_colwidth", None):  # or long texts are cut
        shape = frame.to_html(index=False, border=0, na_rep="", float_format="{:.3g}".format)
    return shape if len(frame) else "nothing"


def card(one: Shown, row, names: tuple[str, str] = ("A", "B"), below: str = "") -> str:
    """A judged pair: photo, both montages, what the judge said with each first; `below` is text under them.

    row: anything with verdict, p_ab and p_ba; names: over the two montages.
    """
    verdict, color = LOOK[row.verdict]
    said = answers_of(row)
    pictures = [("photo", one.photo, ""), (names[0], one.a, said["A"]), (names[1], one.b, said["B"])]
    figures = "".join(
        f'<figure><b>{name}</b><img alt="" src="{data_url(image)}"><figcaption>{escape(text)}</figcaption></figure>'
        for name, image, text in pictures
        if image is not None
    )
    title, note = f"<h3>{escape(one.object)}: {verdict}</h3>", f"<p>{escape(below)}</p>" if below else ""
    return f'<article style="border-color: {color}">{title}<div class="shown">{figures}</div>{note}</article>'


def data_url(image: np.ndarray, lossless: bool = False) -> str:
    """The picture, uint8 (H,W,3), as WebP inside a URL."""
    file = BytesIO()
    Image.fromarray(image).save(file, "WEBP", quality=85, lossless=lossless)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
