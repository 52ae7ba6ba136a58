"""Claims, their rules and verdicts, and the page that shows everything, on made-up tables."""

import json
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import study_tables as made

from lib.profiles import load_profile
from lib.stats.intervals import Estimate, proportion
from lib.study import claims_plots, labels, provenance, report, report_page
from lib.study.claimed_companion import all_claims
from lib.study.claims import (
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    Measured,
    above,
    as_printed,
    below,
    between,
    claims_table,
    decide,
    difference,
    reads,
    widened,
)
from lib.study.published import load_published
from lib.study.tables import write_table

PUBLISHED = load_published().set_index("item")


def interval(low, high, n=10):
    return Estimate((low + high) / 2, low, high, n, "made up")


@pytest.mark.parametrize(
    ("rule", "low", "high", "verdict"),
    [
        (above(0.5), 0.51, 0.6, HOLDS),
        (above(0.5), 0.4, 0.6, OPEN),
        (above(0.5), 0.4, 0.5, FAILS),
        (above(0), 0, 0, FAILS),
        (above(0), 0, 0.1, OPEN),
        (below(1), 0.2, 0.9, HOLDS),
        (below(1), 1, 1.2, FAILS),
        (below(1), 0.9, 1.2, OPEN),
        (between(-0.06, 0.06), 0, 0, HOLDS),
        (between(-0.06, 0.06), -0.44, -0.1, FAILS),
        (between(-0.06, 0.06), 0.01, 0.1, OPEN),
        (above(2), np.inf, np.inf, HOLDS),
        (above(2), np.nan, np.nan, OPEN),
    ],
)
def test_a_rule_holds_inside_fails_outside_and_is_open_across(rule, low, high, verdict):
    estimate = Estimate(low if low == high else (low + high) / 2, low, high, 10, "made up")
    assert rule.verdict(estimate) == verdict


def test_a_printed_share_has_the_parity_margin_or_its_own_interval():
    zero = as_printed(PUBLISHED.loc["ORPO, clean"].query("quantity == 'win_rate'").iloc[0])
    assert (zero.low, zero.high) == pytest.approx((-0.15, proportion(0, 8).high))
    flips = as_printed(PUBLISHED.loc["flips of i.i.d. pairs, judge X"])
    assert (flips.low, flips.high) == pytest.approx((proportion(15, 16).low, 0.94 + 0.15))
    bare = as_printed(PUBLISHED.loc["high budget preferred over low, judge X"])
    assert (bare.low, bare.high) == pytest.approx((0.74, 1.04))
    assert "interval" not in bare.words


def claim(rule, *rows, needs=("t",)):
    return Claim("c", "s", "p", "the number", rule, reads(*needs)(lambda *tables: list(rows))())


def test_a_claim_about_several_rows_is_decided_by_the_row_furthest_from_it():
    rows = [Measured("a", interval(0.1, 0.2)), Measured("b", interval(0.3, 0.4)), Measured("c", interval(0.2, 0.25))]
    row = decide(claim(below(0.65), *rows), {"t": pd.DataFrame()})
    assert row["verdict"] == HOLDS
    assert row["measured"] == pytest.approx(0.35)
    assert row["why"] == "holds where the number is below 0.65 in all 3 rows; b"
    row = decide(claim(below(0.65), *rows, Measured("d", interval(0.6, 0.7))), {"t": pd.DataFrame()})
    assert (row["verdict"], row["why"].split("; ")[1]) == (OPEN, "d")
    row = decide(claim(below(0.2), *rows), {"t": pd.DataFrame()})
    assert (row["verdict"], row["why"].split("; ")[1]) == (FAILS, "b")


def test_the_interval_of_one_of_many_rows_is_wider():
    one = interval(0.4, 0.6)
    assert widened(one, 1) == one
    five = widened(one, 5)
    assert five.high - five.low == pytest.approx(0.2 * 2.5758 / 1.96, rel=1e-4)
    below_chance = Measured("a", interval(0.3, 0.49))
    assert decide(claim(above(0.5), below_chance), {"t": pd.DataFrame()})["verdict"] == FAILS
    assert decide(claim(above(0.5), *[below_chance] * 9), {"t": pd.DataFrame()})["verdict"] == OPEN


def test_what_may_not_be_read_decides_nothing_and_says_so():
    gated = Measured("a", interval(0.8, 0.9), "clear gap failed")
    row = decide(claim(above(0.5), gated), {"t": pd.DataFrame()})
    assert row["verdict"] == OPEN
    assert row["why"].endswith("; a is not interpretable: clear gap failed")
    row = decide(claim(above(0.5), gated, Measured("b", interval(0.1, 0.2))), {"t": pd.DataFrame()})
    assert (row["verdict"], row["measured"]) == (FAILS, pytest.approx(0.15))


def test_a_table_or_row_that_is_missing_is_named():
    row = decide(claim(above(0.5), needs=("table1", "table2")), {"table2": pd.DataFrame()})
    assert row["verdict"] == OPEN
    assert row["why"].endswith("; table not made: table1")
    assert np.isnan(row["measured"])
    assert decide(claim(above(0.5)), {"t": pd.DataFrame()})["why"].endswith("; no row of it in t")


def test_a_difference_of_shares_is_newcombes():
    """Example of Newcombe (1998), method 10, 56/70 - 48/80: 0.2 [0.0524, 0.3339], from Wilson's intervals."""
    first = Estimate(0.8, 0.6911, 0.8776, 70, "")
    second = Estimate(0.6, 0.4904, 0.7003, 80, "")
    apart = difference(first, second)
    assert (apart.value, apart.low, apart.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-3)


def tables(**change):
    given = {
        "table1": made.table1(full=True),
        "table2": made.table2(),
        "mechanism": made.mechanism(),
        "02_generated": made.generated(),
    }
    return given | change


def verdicts(given):
    return claims_table(all_claims(), given).set_index("claim")


def find(table, beginning):
    (row,) = table[table.index.str.startswith(beginning)].itertuples()
    return row


def test_every_claim_can_be_decided_without_any_table():
    table = claims_table(all_claims(), {})
    assert list(table.columns) == ["claim", "source", "printed", "measured", "low", "high", "n", "verdict", "why"]
    assert set(table.verdict) == {OPEN}
    assert table.claim.is_unique
    assert table.why.str.contains("table not made: ").all()
    assert table.why.str.contains("holds where ").all()


def test_every_claim_about_the_adaptation_finds_its_rows():
    table = verdicts(tables())
    mine = table[~table.why.str.contains("table not made")]
    assert len(mine) == 6 + 6 + 3 + 9
    assert not mine.why.str.contains("no row of it").any()
    cells = mine[mine.index.str.startswith("Win-rate of")]
    assert len(cells) == 9
    assert (cells.n == made.N).all()


def test_known_tables_give_known_verdicts():
    given = tables()
    table = verdicts(given)
    assert find(table, "Adapting the flow").verdict == HOLDS
    assert find(table, "LoRA training").verdict == HOLDS
    assert find(table, "DPO with beta 0.5 diverges").verdict == HOLDS
    assert find(table, "Wash-out").measured == pytest.approx(0.1)
    assert find(table, "Judge X prefers the sample of many").verdict == FAILS
    assert find(table, "Win-rate of conditioner repair, hard, medium").why.endswith("clear gap failed")
    moved = given["table1"].copy()
    place = moved.index[(moved.method == "dpo_0.5") & (moved.severity == "mild")]
    moved.loc[place, ["geometry_delta", "geometry_delta_low", "geometry_delta_high"]] = -0.44, -0.6, -0.3
    changed = find(verdicts(tables(table1=moved)), "Adapting the flow")
    assert (changed.verdict, changed.measured) == (FAILS, -0.44)
    assert changed.why.endswith("; DPO beta 0.5, hard, mild")


def test_a_method_beyond_the_paper_cannot_refute_it():
    table = made.table1()
    table = table[table.interpretable]
    few = table.assign(win_half_low=0.2, win_half=0.3, win_half_high=0.4)
    strong = pd.DataFrame([made.cell("dro", "clean", "", "slat", 40, 0), made.cell("orpo", "clean", "", "both", 40, 0)])
    assert find(verdicts({"table1": pd.concat([few, strong])}), "No intervention").verdict == HOLDS
    strong = pd.DataFrame([made.cell("orpo", "clean", "", "slat", 40, 0)])
    assert find(verdicts({"table1": pd.concat([few, strong])}), "No intervention").verdict == FAILS


def test_the_committed_tables_of_the_protocol_are_read_by_their_claims():
    mini = report.read_tables(load_profile("mini"))
    table = verdicts(
        {name: frame for name, frame in mini.items() if name[:2] in ("01", "02", "03", "07") and name != "02_generated"}
    )
    protocol = table[~table.why.str.contains("table not made")]
    assert len(protocol) == 8 + 7
    assert not protocol.why.str.contains("no row of it").any()
    taught = find(protocol, "Failure 3")
    assert taught.verdict == OPEN
    assert "taught" in taught.why


def test_names_of_rows():
    structure = pd.Series({"method": "dpo_0.1", "severity": "mild", "stage": "structure"})
    assert labels.row(structure) == "DPO beta 0.1, structure, hard, mild"
    assert labels.row(structure.replace({"structure": "slat", "mild": ""})) == "DPO beta 0.1, clean"
    assert labels.gate_failed(pd.Series({"clear_gap": "failed", "no_gap": "failed", "interpretable": False})) == (
        "clear gap and no gap failed"
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A smoke run in tmp_path with every made-up table and a figure."""
    monkeypatch.setattr("lib.profiles.ROOT", tmp_path)
    settings = made.SMOKE
    for name, frame in tables().items():
        write_table(frame, name, settings, f"caption of <{name}>")
    write_table(pd.DataFrame({"x": [1]}), "10_mine", settings)
    settings.figures_dir.mkdir(parents=True)
    figure = plt.figure(figsize=(1, 1))
    for name in ("08_table1", "10_mine"):
        figure.savefig(settings.figures_dir / f"{name}.png")
    plt.close(figure)
    return settings


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_tables_come_back_as_they_were_written_without_the_readers_own(run):
    read = report.read_tables(run)
    assert set(read) == set(tables())
    pd.testing.assert_frame_equal(read["table1"], made.table1(full=True), check_dtype=False, rtol=1e-10)
    clean = made.table1().query("regime == 'clean'")
    write_table(clean, "table1", run)
    assert set(report.read_tables(run)["table1"].severity) == {""}


def test_the_page_holds_claims_tables_figures_pairs_and_limits_and_needs_no_other_file(run):
    read = report.read_tables(run)
    claims = claims_table(all_claims(), read)
    provenance.record("04_adaptation", 12.3, {"n_judged": 7}, run)
    path = report_page.write_report(claims, read, made.entries(), run)
    assert path == run.tables_dir.parent / "report" / "index.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert all(source.startswith(("data:image/webp;base64,", "#")) for source in page.sources)
    assert page.tags.count("article") == 3
    assert page.tags.count("img") == 1 + 3 * 3
    for text in (*claims.claim, *claims.why, *report.headline(read, claims), *report.limits(run)):
        assert text in page.text
    for text in ("caption of <table1>", "table mechanism", "chair <1>: A preferred", "truly equal", "n_judged"):
        assert text in page.text
    assert "10_mine" not in page.text


def test_the_page_repeats_byte_for_byte_and_a_rerun_of_the_notebooks_does_not_change_it(run):
    read = report.read_tables(run)
    claims = claims_table(all_claims(), read)
    provenance.record("04_adaptation", 500.0, {}, run)
    first = report_page.write_report(claims, read, made.entries(), run).read_bytes()
    provenance.record("04_adaptation", 3.0, {}, run)
    provenance.record("09_report", 3.0, {}, run)
    assert report_page.write_report(claims, read, made.entries(), run).read_bytes() == first


def test_a_page_that_cannot_be_written_leaves_the_old_one(run, monkeypatch):
    read = report.read_tables(run)
    claims = claims_table(all_claims(), read)
    path = report_page.write_report(claims, read, [], run)
    assert "No pairs were kept" in path.read_text()
    before = path.read_bytes()
    monkeypatch.setattr(report_page.page, "page", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report_page.write_report(claims, read, [], run)
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]
    assert path.read_bytes() == before


def test_the_headline_counts_what_the_tables_hold():
    given = tables()
    claims = claims_table(all_claims(), given)
    counts = claims.verdict.value_counts()
    said = report.headline(given, claims)
    assert said[0] == (
        f"Of {len(claims)} claims of the two papers {counts[HOLDS]} hold here, {counts.get(FAILS, 0)} do not, and "
        f"{counts[OPEN]} cannot be told."
    )
    readable = given["table1"].interpretable
    assert f"Of {len(readable)} rows of Table 1 {readable.sum()} may be read" in said[1]
    assert "DPO beta 0.1, structure, clean" in said[-1]
    assert report.headline({}, claims_table(all_claims(), {}))[-1].endswith("Table 1 is not made.")
    none = given["table1"].assign(interpretable=False)
    assert "0 may be read" in report.headline({"table1": none}, claims)[1]


def test_missing_tables_are_named_with_the_notebook_that_makes_them(capsys):
    sources = report.sources({"table1": made.table1()}).set_index("table")
    assert sources.loc["table1", ["made by notebook", "rows"]].tolist() == ["04", "9"]
    assert sources.loc["02_controls", ["made by notebook", "rows"]].tolist() == ["02", "not made"]
    assert report.there({"table1": 0}, "table1")
    assert not report.there({"table1": 0}, "table1", "table2")
    assert capsys.readouterr().out == "Not drawn: table2 (notebook 05) not made yet\n"


def test_the_claims_figure_has_each_claim_in_the_column_of_its_verdict():
    table = claims_table(all_claims(), tables())
    figure = claims_plots.verdicts(table)
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == list(table.claim)
    for column, (line, verdict) in enumerate(zip(axis.lines, (HOLDS, OPEN, FAILS), strict=True)):
        assert list(line.get_ydata()) == list(table.index[table.verdict == verdict])
        assert set(line.get_xdata()) <= {column}
    plt.close(figure)


def test_provenance_names_no_person_or_folder(run):
    provenance.record("04_adaptation", 12.34, {}, run)
    text = provenance.path(run).read_text()
    assert json.loads(text)["04_adaptation"]["seconds"] == 12.3
    assert "/" not in text
