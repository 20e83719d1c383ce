"""How plots look: colours and line styles for light and dark pages, and a figure as a PNG.

The colours are those of Okabe and Ito, which people with any kind of colour vision tell apart (some
darker on white, lighter on black); all the same no two lines differ by colour alone. Figures are
drawn by matplotlib's objects, without pyplot: nothing is global, no window system is touched.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.paths import Workspace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches, 100 of CSS's pixels each, and dots an inch: two for each of those pixels.
WIDTH, HEIGHT = 5.4, 3.5
DOTS = 200
COLOURS = 128
FONT = 11.0
# Points that a row of a legend takes.
LEGEND_ROW = 14.3

DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (9, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class Look:
    """The colours of a page: of its ground, of text, of lines that help the eye, and of data."""

    name: str
    ground: str
    ink: str
    faint: str
    grid: str
    data: tuple[str, ...]
    bands: tuple[str, ...]

    def line(self, number: int) -> dict[str, Any]:
        """Return the style of the line with a number, from 0; the first 36 differ from another."""
        shift = number // len(DASHES)
        return {
            "color": self.data[number % len(self.data)],
            "linestyle": DASHES[(number + shift) % len(DASHES)],
            "marker": MARKERS[(number + shift) % len(MARKERS)],
        }


LIGHT = Look(
    name="light",
    ground="#ffffff",
    ink="#1f2328",
    faint="#59636e",
    grid="#e3e7eb",
    data=("#0072B2", "#D55E00", "#009E73", "#AA4499", "#B07800", "#000000"),
    bands=("#d9efe8", "#e3f1fa", "#fdf0cf", "#fadfd0"),
)
DARK = Look(
    name="dark",
    ground="#161b22",
    ink="#e6edf3",
    faint="#a3adb8",
    grid="#2b323b",
    data=("#56B4E9", "#E69F00", "#2CC295", "#CC79A7", "#F0E442", "#ffffff"),
    bands=("#12372d", "#143247", "#41350f", "#4a2413"),
)
LOOKS = (LIGHT, DARK)


def use_private_cache(workspace: Workspace) -> None:
    """Let matplotlib keep its list of fonts in the workspace; to be called before it is imported.

    In the user's home it may not be able to, and in a shared temporary folder another user could
    plant a list.
    """
    folder = workspace.private / "matplotlib"
    try:
        workspace.private.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        # matplotlib then takes a temporary folder, which it removes.
        pass
    os.environ["MPLCONFIGDIR"] = str(folder)
    # It would tell of that, and that it looks for fonts.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


@contextmanager
def drawing(look: Look, width: float = WIDTH, height: float = HEIGHT) -> Iterator[Figure]:
    """Yield an empty figure in a look; the same everywhere, whatever matplotlibrc lies about.

    Args:
        width, height: inches.
    """
    import matplotlib as mpl  # noqa: PLC0415 - takes a third of a second
    from matplotlib.figure import Figure  # noqa: PLC0415 - for the same reason

    with mpl.rc_context(), warnings.catch_warnings():
        # A character that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        mpl.rcdefaults()
        mpl.rcParams.update(_settings(look))
        yield Figure(figsize=(width, height), dpi=DOTS, layout="constrained")


def png(figure: Figure) -> bytes:
    """Return a figure as PNG; the same figure gives the same bytes.

    It gets a palette: a third of the bytes, and no difference to the eye.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - as above
    from PIL import Image  # noqa: PLC0415 - comes with matplotlib

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
    found = io.BytesIO()
    flat = drawn.quantize(COLOURS, dither=Image.Dither.NONE)
    flat.save(found, format="PNG", dpi=(DOTS, DOTS))
    return found.getvalue()


def titled(axes: Axes, title: str) -> None:
    """Give a plot its title, at the left, with room for a legend below it."""
    axes.set_title(title, loc="left", fontweight="bold", pad=8)


def legend_above(axes: Axes, handles: list[Any], title: str, columns: int = 2) -> None:
    """Put the title and, below it, the legend above a plot, where they cover nothing."""
    rows = -(-len(handles) // columns)
    axes.set_title(title, loc="left", fontweight="bold", pad=10 + LEGEND_ROW * rows)
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        frameon=False,
        borderaxespad=0.2,
        handlelength=2.6,
        columnspacing=1.4,
        labelspacing=0.25,
        markerscale=0.75,  # a star of full size would reach into the title
    )


def _settings(look: Look) -> Any:  # the keys are typed by matplotlib, not by us
    return {
        # A `$` in the name of a run is no formula.
        "text.parse_math": False,
        "font.size": FONT,
        "axes.titlesize": FONT + 1.5,
        "legend.fontsize": FONT - 1,
        "lines.linewidth": 1.8,
        "lines.markersize": 4.5,
        "figure.facecolor": look.ground,
        "savefig.facecolor": look.ground,
        "axes.facecolor": look.ground,
        "axes.edgecolor": look.faint,
        "axes.labelcolor": look.ink,
        "axes.titlecolor": look.ink,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": look.grid,
        "text.color": look.ink,
        "xtick.color": look.faint,
        "ytick.color": look.faint,
        "xtick.labelcolor": look.ink,
        "ytick.labelcolor": look.ink,
    }
