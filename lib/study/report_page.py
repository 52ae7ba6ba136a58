"""The report as one HTML file that needs no other: headline, claims, tables, figures, pairs, provenance, limits."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lib.profiles import Profile
from lib.study import gallery, page, provenance, report
from lib.study.claims import FAILS, HOLDS, OPEN
from lib.study.tables import replacing

COLORS = {HOLDS: "#d5e8f5", FAILS: "#f9dfc9", OPEN: "#eee"}  # blue and orange: told apart by everyone
STYLE = """
h2 { margin-top: 2em } summary { cursor: pointer; padding: .2em 0 } details details { margin-left: 1.2em }
.figure img { width: auto; max-width: 100%; aspect-ratio: auto; border: 0 } .figure { margin: 1em 0 }
.claims { display: table } .claims td { vertical-align: top } .claims small { color: #555 }
td.number { white-space: nowrap }
nav a { margin-right: 1em } pre { white-space: pre-wrap }
"""


def write_report(
    claims: pd.DataFrame, tables: Mapping[str, pd.DataFrame], entries: Sequence[gallery.Entry], settings: Profile
) -> Path:
    """Writes `results/<profile>/report/index.html`, whole or not at all; equal input gives equal bytes.

    claims: of `lib.study.claims.claims_table`; tables: of `report.read_tables`; figures are read from the run's folder.
    """
    parts = {
        "Headline": _list(report.headline(tables, claims)),
        "Claims": _claims(claims),
        "Tables and figures": "".join(_section(one) for one in report.sections(settings, tables)),
        "Pairs": _pairs(entries),
        "Provenance": _provenance(settings),
        "What this does not show": _list(report.limits(settings)),
    }
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title in parts)
    body = [f"<nav>{links}</nav>"]
    body += [f'<h2 id="{_anchor(title)}">{title}</h2>\n{part}' for title, part in parts.items()]
    path = settings.tables_dir.parent / "report" / "index.html"
    with replacing(path) as partial:
        partial.write_text(page.page(f"Judging to Improve: report of {settings.name}", body, STYLE), encoding="utf-8")
    return path


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _list(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in sentences)}</ul>"


def _claims(claims: pd.DataFrame) -> str:
    """What was printed beside what was measured; the rule and what decided it below each claim."""
    rows = []
    for one in claims.itertuples():
        measured = "" if pd.isna(one.measured) else f"{one.measured:.3g} [{one.low:.3g}, {one.high:.3g}], n = {one.n}"
        cells = [f"<td>{escape(one.claim)}<br><small>{escape(one.why)}</small></td>"]
        cells += [f"<td>{escape(text)}</td>" for text in (one.source, one.printed)]
        cells += [
            f'<td class="number">{measured}</td>',
            f'<td style="background: {COLORS[one.verdict]}">{one.verdict}</td>',
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(
        f"<th>{name}</th>" for name in ("claim, and its rule", "printed in", "as", "measured here", "verdict")
    )
    return f'<table class="claims"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _section(one: report.Section) -> str:
    figures = "".join(f'<div class="figure">{_picture(path)}</div>' for path in one.figures)
    tables = "".join(
        f"<details><summary>table {escape(name)}</summary>{page.table(frame)}<pre>{escape(caption)}</pre></details>"
        for name, frame, caption in one.tables
    )
    shown = " open" if one.title.startswith("08") else ""  # the study's figures are seen at once, the rest on demand
    return f"<details{shown}><summary><b>{escape(one.title)}</b></summary>{figures}{tables}</details>\n"


def _picture(path: Path) -> str:
    image = np.asarray(Image.open(path).convert("RGB"))
    return f'<img alt="{escape(path.stem)}" src="{page.data_url(image, lossless=True)}">'


def _pairs(entries: Sequence[gallery.Entry]) -> str:
    """Every pair under the row of Table 1 that it counts in."""
    if not entries:
        return "<p>No pairs were kept: notebook 04 was not run.</p>"
    parts = [f"<p>{'; '.join(gallery.NAMES)}: samples of the same photo and seed, as judge Y saw them.</p>"]
    for row, ones in groupby(entries, lambda one: one.row):
        cards = [page.card(one, one, gallery.NAMES, gallery.truth(one)) for one in ones]
        title = f"{escape(row)} ({len(cards)})"
        parts.append(f'<details><summary>{title}</summary><div class="pairs">{"".join(cards)}</div></details>')
    return "\n".join(parts)


def _provenance(settings: Profile) -> str:
    """The code and the machine of each notebook before this one; seconds, which no rerun repeats, stay in the file."""
    runs = provenance.read(settings)
    if not runs:
        return "<p>Nothing is recorded: the notebooks were not run by run_all.sh.</p>"
    frame = pd.DataFrame(runs).T.rename_axis("notebook").reset_index().drop(columns="seconds")
    text = "Seconds a notebook stand in <code>provenance.json</code>, one folder up."
    return f"{page.table(frame[~frame.notebook.str.startswith('09')])}<p>{text}</p>"
