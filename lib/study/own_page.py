"""Notebook 10's page: every object's photo, montages, answers and verdict in one HTML file that needs no other."""

import base64
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lib.profiles import Profile
from lib.study.own import Shown
from lib.study.own_plots import LOOK, answers_of
from lib.study.tables import replacing

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; display: block; overflow-x: auto } th, td { padding: .2em .7em; text-align: left }
tr + tr, tbody tr { border-top: 1px solid #ddd }
.said { padding: .6em .9em; background: #eef3f8 } .warning { background: #fbe3e0; font-weight: 600 }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(30em, 100%), 1fr)); gap: 1.2em }
article { border: 2px solid; border-radius: 6px; padding: .7em } h3 { margin: 0 0 .4em; overflow-wrap: anywhere }
.shown { display: flex; gap: .5em } figure { margin: 0; flex: 1; min-width: 0; color: #222 }
img { width: 100%; aspect-ratio: 1; border: 1px solid #ddd } figcaption { font-size: .85em }
"""


def write_page(
    answers: pd.DataFrame, shown: list[Shown], tables: dict[str, pd.DataFrame], statement: str, settings: Profile
) -> Path:
    """Writes `results/<profile>/report/10_pairs.html`: statement, tables under their titles, a card an object."""
    warning = " warning" if statement.startswith("not") else ""
    parts = [
        "<!doctype html>",
        '<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>A against B</title><style>{STYLE}</style>",
        f'<h1>A against B</h1><p class="said{warning}">{escape(statement)}</p>',
    ]
    for title, table in tables.items():
        with pd.option_context("display.max_colwidth", None):  # or long texts are cut
            shape = table.to_html(index=False, border=0, na_rep="", float_format="{:.3g}".format)
        parts.append(f"<h2>{escape(title)}</h2>{shape if len(table) else 'nothing'}")
    cards = [_card(one, row) for one, (_, row) in zip(shown, answers.iterrows(), strict=True)]
    parts.append(
        f'<h2>Every object ({escape(statement.partition(":")[0])})</h2><div class="pairs">{"".join(cards)}</div>'
    )
    path = settings.tables_dir.parent / "report" / "10_pairs.html"
    with replacing(path) as partial:
        partial.write_text("\n".join(parts) + "</html>\n", encoding="utf-8")
    return path


def _card(one: Shown, row: pd.Series) -> str:
    verdict, color = LOOK[row.verdict]
    said = answers_of(row)
    pictures = [("photo", one.photo, ""), ("A", one.a, said["A"]), ("B", one.b, said["B"])]
    figures = "".join(
        f'<figure><b>{name}</b><img alt="" src="{_data_url(image)}"><figcaption>{escape(text)}</figcaption></figure>'
        for name, image, text in pictures
        if image is not None
    )
    title = f"<h3>{escape(one.object)}: {verdict}</h3>"
    return f'<article style="border-color: {color}">{title}<div class="shown">{figures}</div></article>'


def _data_url(image: np.ndarray) -> str:
    file = BytesIO()
    Image.fromarray(image).save(file, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
