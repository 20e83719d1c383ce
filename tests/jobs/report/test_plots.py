"""Plots: the same bytes each time, and of everything that a run may have left."""

from __future__ import annotations

import io
import json
import math
import os
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jobs.past_run import read_run
from jobs.paths import Workspace
from jobs.report.curves import apart
from jobs.report.evaluation_plots import plots_of_report
from jobs.report.findings import Named, measure_finding
from jobs.report.plot import Plot
from jobs.report.run_data import measured
from jobs.report.theme import DARK, DOTS, LIGHT, WIDTH
from jobs.report.training_plots import plots_of_one, plots_of_several
from jobs.report.write import replace_pictures
from tests.helpers.past_runs import FIRST, SECOND

ALL = [
    *("loss_curves", "overfitting_gap", "learning_rate"),
    *("gradient_norm", "speed", "memory"),
]


def colours(content: bytes) -> set[str]:
    """Return the colours of a picture."""
    with Image.open(io.BytesIO(content)) as image:
        found: Any = image.convert("RGB").getcolors(1 << 24)
    return {f"#{r:02x}{g:02x}{b:02x}" for _, (r, g, b) in found}


def of_rows(folder: Path, rows: list[dict[str, Any]]) -> list[Plot]:
    """Return the plots of an older run with some rows."""
    (folder / "training_metrics.json").write_text(json.dumps(rows))
    return plots_of_one(measured(read_run(folder)))


def test_a_run_has_all_its_plots_in_both_looks(past: Workspace) -> None:
    plots = plots_of_one(measured(read_run(past.run(FIRST).path)))
    assert [plot.name for plot in plots] == ALL
    light, dark = plots[0].draw(LIGHT), plots[0].draw(DARK)
    with Image.open(io.BytesIO(light)) as image:
        assert image.width == round(WIDTH * DOTS)
    # Training and validation differ in colour, on the ground of their page.
    for content, look in ((light, LIGHT), (dark, DARK)):
        assert {look.ground.lower(), *(c.lower() for c in look.data[:2])} <= colours(content)


def test_the_same_run_gives_the_same_bytes_whatever_matplotlibrc_lies_about(
    past: Workspace,
) -> None:
    runs = [measured(read_run(past.run(name).path)) for name in (FIRST, SECOND)]
    report = runs[0].run.report
    assert report is not None
    several = plots_of_several([Named(n, r) for n, r in zip("AB", runs, strict=True)])
    plots = [*plots_of_one(runs[0])[:2], several[0], plots_of_report(report)[0]]
    first = [plot.draw(LIGHT) for plot in plots]
    import matplotlib as mpl

    with mpl.rc_context({"figure.facecolor": "red", "font.size": 30, "text.usetex": True}):
        assert [plot.draw(LIGHT) for plot in plots] == first


def test_lines_differ_by_more_than_colour() -> None:
    for look in (LIGHT, DARK):
        styles = [look.line(number) for number in range(36)]
        without_colour = [(str(s["linestyle"]), s["marker"]) for s in styles[:6]]
        assert len(set(without_colour)) == 6
        assert len({str(sorted(style.items(), key=str)) for style in styles}) == 36


def test_a_run_with_next_to_nothing_is_drawn(tmp_path: Path) -> None:
    assert of_rows(tmp_path, [{"note": "no number"}]) == []
    (loss,) = of_rows(tmp_path, [{"step": 5, "loss": 1.5}])
    assert loss.finding == "No finite validation loss was measured; training loss was 1.5000."
    # The only point is to be seen.
    assert LIGHT.data[0].lower() in colours(loss.draw(LIGHT))


def test_what_is_not_finite_is_marked_and_told(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"step": 0, "val_loss": 3.0, "overfitting_gap": 0.1},
        {"step": 1, "loss": 2.5, "grad_norm": math.inf},
        {"step": 2, "loss": 10**300, "val_loss": math.nan, "overfitting_gap": math.nan},
    ]
    plots = {plot.name: plot for plot in of_rows(tmp_path, rows)}
    assert "2 values were NaN or infinite" in plots["loss_curves"].finding
    assert plots["gradient_norm"].finding == "L2 norm of the gradient: has no finite value."
    for plot in plots.values():
        assert plot.draw(LIGHT).startswith(b"\x89PNG")


def test_a_loss_that_falls_is_not_told_as_one_that_rises(tmp_path: Path) -> None:
    rows = [{"step": n, "loss": loss} for n, loss in enumerate((3.0, 1.0, 0.652), 1)]
    (tmp_path / "training_metrics.json").write_text(json.dumps(rows))
    named = Named("A", measured(read_run(tmp_path)))
    told = measure_finding([named], "loss", "training loss")
    assert told == "Training loss: A between 0.652 and 3, 0.652 at the end."


def test_the_highest_points_of_a_narrow_band_are_whole(tmp_path: Path) -> None:
    rows = [{"step": n, "memory_mb": 5000 + 6 * n} for n in range(31)]
    (plot,) = of_rows(tmp_path, rows)
    with Image.open(io.BytesIO(plot.draw(LIGHT))) as image:
        pixels = np.asarray(image.convert("RGB"))
    blue = (pixels == [int(LIGHT.data[0][n : n + 2], 16) for n in (1, 3, 5)]).all(axis=2)
    (across,) = np.nonzero(blue.any(axis=0))
    # The last point's marker is as tall as the first one's.
    first, last = (np.ptp(np.nonzero(blue[:, column])[0]) for column in across[[6, -7]])
    assert abs(int(first) - int(last)) <= 2


def test_names_are_no_formulas(tmp_path: Path) -> None:
    (tmp_path / "training_metrics.json").write_text('[{"step": 1, "loss": 2, "val_loss": 3}]')
    run = measured(read_run(tmp_path))
    odd = [Named(name, run) for name in ("A $x_1$", "_hidden", "B $\\frac{", "C \U0001f9ea 東")]
    for plot in plots_of_several(odd):
        assert plot.draw(LIGHT).startswith(b"\x89PNG")
    report = {"categories": {"$\\x{": {"adapter": {"token_f1": {"mean": 0.5}}}, "e": 3}}
    (plot,) = plots_of_report(report)
    assert plot.draw(LIGHT).startswith(b"\x89PNG")


def test_bands_too_low_for_their_words_push_them_apart() -> None:
    places = apart([0.01, 0.02, 0.03, 0.5])
    assert places == sorted(places)
    assert all(b - a >= 0.08 for a, b in pairwise(places))
    assert places[-1] == 0.5


def test_a_picture_of_what_is_no_longer_there_goes(tmp_path: Path) -> None:
    replace_pictures(tmp_path, ("a", "b"), {"a": b"1", "b": b"2"})
    (tmp_path / "mine.png").write_bytes(b"mine")
    assert replace_pictures(tmp_path, ("a", "b"), {"b": b"3"}) == [tmp_path / "b.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.png", "mine.png"]


def test_fonts_are_listed_in_the_workspace_alone(past: Workspace) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom jobs.paths import Workspace\n"
        "from jobs.report.write import plot_training\n"
        "workspace = Workspace(Path(sys.argv[1]))\n"
        "plot_training(workspace, workspace.run(sys.argv[2]), print)\n"
        "print(*(name for name in sys.modules if name == 'matplotlib.pyplot'))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(past.root), FIRST],
        env={**os.environ, "FARENSE_PLOTS": "on", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")
    folder = past.private / "matplotlib"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.glob("fontlist-*.json"))
    written = sorted(path.stem for path in past.run(FIRST).plots.iterdir())
    assert written == sorted(ALL)
