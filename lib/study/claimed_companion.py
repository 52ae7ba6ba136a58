"""The companion paper's claims as records, each with its rule, and the list of both papers'."""

import pandas as pd

from lib.study.claim_numbers import agreement, agreements_apart, kappa, rig_flips
from lib.study.claimed import main_claims
from lib.study.claims import Claim, above, as_printed
from lib.study.proxies import FULL, WITHIN_CORRUPTED
from lib.study.published import load_published, recomputed

TOLD = "agreement with judge Y"


def all_claims() -> list[Claim]:
    """Every claim, the main paper's first."""
    published = load_published()
    return main_claims(published) + companion_claims(published)


def companion_claims(published: pd.DataFrame) -> list[Claim]:
    """Judges against each other, and proxies against a judge. published: of `load_published`."""
    number = published[published.paper == "companion"].set_index("item")
    again = recomputed(published).set_index("item").assign(k=pd.NA, n=pd.NA)
    again["value"] = again.printed
    return [
        Claim(
            "Judges X and Y agree",
            "companion, text",
            "0.83 [0.76, 0.89]",
            TOLD,
            as_printed(number.loc["X-Y agreement"]),
            agreement(proxy="judge X"),
        ),
        Claim(
            "How far they agree beyond chance",
            "companion, text",
            "kappa 0.66",
            "kappa, on montages,",
            as_printed(again.loc["X-Y kappa"]),
            kappa(),
        ),
        Claim(
            "A quarter of the raw verdicts flip",
            "companion, text",
            "about 0.26",
            "the share of judge Y's flips",
            as_printed(again.loc["flips of raw verdicts"]),
            rig_flips(),
        ),
        Claim(
            "The geometry proxy agrees with judge Y a little more often than a coin",
            "companion, text",
            "0.62 [0.56, 0.68]",
            TOLD,
            as_printed(number.loc["geometry proxy"]),
            agreement(proxy="geometry"),
        ),
        Claim(
            "Image similarity is no better than a coin",
            "companion, text",
            "0.48 [0.42, 0.54]",
            TOLD,
            as_printed(number.loc["CLIP proxy"]),
            agreement(proxy="image_similarity"),
        ),
        Claim(
            "Cheap proxies fall short of a second judge",
            "companion, title",
            "0.83 against 0.62",
            "judge X's agreement less the geometry proxy's",
            above(0),
            agreements_apart(first={"proxy": "judge X"}, second={"proxy": "geometry"}),
        ),
        Claim(
            "How good the geometry proxy is depends on the kind of pair",
            "companion, subgroup table",
            "0.91 against 0.40",
            f"agreement in '{FULL}' less that in '{WITHIN_CORRUPTED}'",
            above(0),
            agreements_apart(
                first={"proxy": "geometry", "subgroup": FULL},
                second={"proxy": "geometry", "subgroup": WITHIN_CORRUPTED},
            ),
        ),
    ]
