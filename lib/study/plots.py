"""The look of every figure, set by importing this module, and how figures are saved."""

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

from lib.profiles import Profile
from lib.study.tables import replacing

COLUMN, TEXT = 3.4, 7.0  # widths of a figure in inches: one column, the whole text
BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GRAY, YELLOW, SKY = sns.color_palette("colorblind").as_hex()

sns.set_theme(
    context="paper",
    style="ticks",
    palette="colorblind",
    rc={
        "figure.figsize": (TEXT, TEXT / 2),
        "figure.dpi": 120,
        "savefig.dpi": 200,
        "font.size": 8,
        "axes.titlesize": 9,
        "axes.labelsize": 8,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "judging-to-improve",  # the same ids, so the same bytes, on every run
    },
)


def save_figure(figure: Figure, name: str, settings: Profile) -> Figure:
    """Write `<figures_dir>/<name>.png` (200 dpi) and `.svg`, equal bytes on repeat; close and return it."""
    _settle(figure)
    for kind, metadata in {"png": {}, "svg": {"Date": None}}.items():
        with replacing(settings.figures_dir / f"{name}.{kind}") as partial:
            figure.savefig(partial, format=kind, metadata=metadata)
    plt.close(figure)
    return figure


def _settle(figure: Figure):
    """Fix the layout at whole hundred-thousandths: the solver's last digits differ from run to run.

    At the resolution of the file, since text is wider or narrower by its hinting at another one.
    """
    shown = figure.dpi
    figure.set_dpi(plt.rcParams["savefig.dpi"])
    figure.draw_without_rendering()
    figure.set_dpi(shown)
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position([round(part, 5) for part in axes.get_position(original=True).bounds])
