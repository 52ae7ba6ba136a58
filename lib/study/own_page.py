"""Notebook 10's page: every object's photo, montages, answers and verdict in one HTML file that needs no other."""

from html import escape
from pathlib import Path

import pandas as pd

from lib.profiles import Profile
from lib.study import page
from lib.study.own import Shown
from lib.study.tables import replacing


def write_page(
    answers: pd.DataFrame, shown: list[Shown], tables: dict[str, pd.DataFrame], statement: str, settings: Profile
) -> Path:
    """Writes `results/<profile>/report/10_pairs.html`: statement, tables under their titles, a card an object."""
    warning = " warning" if statement.startswith("not") else ""
    parts = [f'<p class="said{warning}">{escape(statement)}</p>']
    parts += [f"<h2>{escape(title)}</h2>{page.table(table)}" for title, table in tables.items()]
    cards = [page.card(one, row) for one, (_, row) in zip(shown, answers.iterrows(), strict=True)]
    parts.append(
        f'<h2>Every object ({escape(statement.partition(":")[0])})</h2><div class="pairs">{"".join(cards)}</div>'
    )
    path = settings.tables_dir.parent / "report" / "10_pairs.html"
    with replacing(path) as partial:
        partial.write_text(page.page("A against B", parts), encoding="utf-8")
    return path
