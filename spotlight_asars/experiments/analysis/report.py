"""Write an analysis as CSV files, PNG figures and one self-contained HTML page."""

import base64
import html
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from spotlight_asars.experiments.analysis.statistics import SESSIONS_BACK, Analysis
from spotlight_asars.experiments.figures import HOW_TO_GET_FIGURES, Figure, figure_as_png
from spotlight_asars.serialization.files import write_whole

_ITEM_COLOUR, _CATEGORY_COLOUR, _LINE_COLOUR = "#e08a3c", "#3b6ea5", "#a33b3b"
CURVE_POINTS = 600  # of the gamma distribution's density
_WORDS = {
    "tied_times": "of the events have the same time as another event of their session",
    "sessions_of_one_event": "of the sessions have a single event, so nothing can be predicted in them",
    "events_of_cold_items": "of the events in later sessions are of items that earlier sessions lack",
    "events_of_cold_users": "of the events in later sessions are of users that earlier sessions lack",
}


def write_analysis(analysis: Analysis, name: str, folder: Path) -> list[str]:
    """
    Write tables, figures and the report into a folder.

    Parameters
    ----------
    analysis : Analysis
    name : str
        Name of the log, for titles.
    folder : Path

    Returns
    -------
    list of str
        Names of the files. Without matplotlib there are no figures, neither as files nor in the report.
    """
    tables = _tables(analysis)
    for file, table in tables.items():
        write_whole(folder / file, table.to_csv(index=False, lineterminator="\n"))
    drawings = {} if Figure is None else _drawings(analysis)
    figures = {file: figure_as_png(draw(analysis)) for file, draw in drawings.items()}
    for file, content in figures.items():
        write_whole(folder / file, content)
    write_whole(folder / "report.html", _report(analysis, name, figures))
    return [*tables, *figures, "report.html"]


def _tables(analysis: Analysis) -> dict[str, pd.DataFrame]:
    """Return the table of each CSV file, without those that the log has no numbers for."""
    tables = {"items_in_session.csv": _by_rank("rank", analysis.items_in_session, analysis.categories_in_session)}
    if analysis.repeated_items is not None:
        columns = (analysis.repeated_items, analysis.repeated_categories)
        tables["repeats.csv"] = _by_rank("sessions_back", *columns)
    if analysis.dwell is not None:
        dwell = analysis.dwell
        histogram = {"from_seconds": dwell.edges[:-1], "to_seconds": dwell.edges[1:], "density": dwell.density}
        tables["dwell.csv"] = pd.DataFrame(histogram)
        tables["dwell_bins.csv"] = pd.DataFrame({"edge_seconds": dwell.bins})
    tables["shares.csv"] = pd.DataFrame(analysis.shares.items(), columns=["what", "share"]).dropna()
    return tables


def _by_rank(heading: str, items: np.ndarray, categories: np.ndarray | None) -> pd.DataFrame:
    table = pd.DataFrame({heading: np.arange(1, len(items) + 1), "items": items})
    return table if categories is None else table.assign(categories=categories)


def _drawings(analysis: Analysis) -> dict[str, Callable[[Analysis], "Figure"]]:
    """Return the function that draws each figure, without those that the log has no numbers for."""
    drawings = {"items_in_session.png": _draw_most_common}
    if analysis.repeated_items is not None:
        drawings["repeats.png"] = _draw_repeats
    if analysis.dwell is not None and len(analysis.dwell.density):
        drawings["dwell.png"] = _draw_dwell
    return drawings


def _draw_most_common(analysis: Analysis) -> "Figure":
    """Figure 1, left."""
    title = "Short-term: share of a session taken by its most common items"
    figure, axes = _axes("rank of the item in its session", "mean share of a session's events", title)
    columns = {"category": analysis.categories_in_session, "item": analysis.items_in_session}
    shown = {name: column for name, column in columns.items() if column is not None}
    width = 0.8 / len(shown)
    for place, (name, column) in enumerate(shown.items()):
        ranks = np.arange(1, len(column) + 1) + (place - (len(shown) - 1) / 2) * width
        axes.bar(ranks, column, width, label=name, color=_CATEGORY_COLOUR if name == "category" else _ITEM_COLOUR)
    axes.set_xticks(range(1, len(analysis.items_in_session) + 1))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(frameon=False)
    return figure


def _draw_repeats(analysis: Analysis) -> "Figure":
    """Figure 1, middle."""
    title = "Long-term: share of a session seen in the user's previous sessions"
    figure, axes = _axes("number of previous sessions", "mean share of events whose item they hold", title)
    for name, column in (("category", analysis.repeated_categories), ("item", analysis.repeated_items)):
        if column is not None:
            colour = _CATEGORY_COLOUR if name == "category" else _ITEM_COLOUR
            axes.plot(np.arange(1, len(column) + 1), column, marker="o", label=name, color=colour)
    axes.set_xticks(range(1, len(analysis.repeated_items) + 1))
    axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(frameon=False)
    return figure


def _draw_dwell(analysis: Analysis) -> "Figure":
    """Figure 1, right, with the Scott bin edges below the histogram."""
    dwell = analysis.dwell
    title = "Dwell time: time spent on an event"
    figure, axes = _axes("dwell, seconds", "density per second, for dwell above zero", title)
    axes.stairs(dwell.density, dwell.edges, fill=True, color=_CATEGORY_COLOUR, alpha=0.55, label="observed")
    if not math.isnan(dwell.shape):
        seconds = np.linspace(0.0, dwell.edges[-1], CURVE_POINTS + 1)[1:]  # the density is infinite at 0 if shape < 1
        fit = f"gamma, shape {dwell.shape:.2f}, scale {dwell.scale:,.0f} s"
        axes.plot(seconds, stats.gamma.pdf(seconds, dwell.shape, scale=dwell.scale), color=_LINE_COLOUR, label=fit)
    shown = dwell.bins[dwell.bins <= dwell.edges[-1]]
    label = f"Scott bins: {len(dwell.bins) - 1}, {len(shown)} edges shown"
    axes.plot(shown, np.zeros(len(shown)), "|", color="black", markersize=9, clip_on=False, label=label)
    axes.set_xlim(0.0, dwell.edges[-1])
    axes.set_ylim(0.0, 1.15 * dwell.density.max())  # scale to the bars, even if the curve exceeds them
    axes.legend(frameon=False)
    return figure


def _axes(x_label: str, y_label: str, title: str) -> tuple["Figure", object]:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def summary_lines(analysis: Analysis) -> list[str]:
    """Return the summary that the terminal and the report show, one string per line."""
    lines = [str(analysis.counts)]
    lines += [f"{value:7.1%}  {_WORDS[key]}" for key, value in analysis.shares.items() if not math.isnan(value)]
    if analysis.repeated_items is not None:
        repeated = analysis.repeated_items[-1]
        lines.append(
            f"{repeated:7.1%}  of a session's events are of items from the user's previous {SESSIONS_BACK} sessions"
        )
    dwell = analysis.dwell
    if dwell is not None:
        quantiles = ", ".join(f"{name} {value:,.0f} s" for name, value in dwell.quantiles.items())
        lines.append(f"dwell of {dwell.known:,} events: {quantiles}; {dwell.zero_share:.1%} are zero")
        if not math.isnan(dwell.shape):
            lines.append(f"gamma fit to dwell above zero: shape {dwell.shape:.3f}, scale {dwell.scale:,.1f} s")
        lines.append(f"Scott bins: {len(dwell.bins) - 1}, {dwell.bins[1] - dwell.bins[0]:,.1f} s wide")
    return lines


def _report(analysis: Analysis, name: str, figures: dict[str, bytes]) -> str:
    """Return the HTML page with the summary, the figures and the tables."""
    title = html.escape(f"{name}: sessions, repeats, dwell times")
    pictures = "\n".join(
        f'<img alt="{html.escape(file)}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        for file, content in figures.items()
    )
    lines = "\n".join(html.escape(line) for line in summary_lines(analysis))
    pictures = pictures or f"<p>{html.escape(HOW_TO_GET_FIGURES)}</p>"
    tables = "\n".join(
        f"<details><summary>{html.escape(file)}</summary>{_as_html(table)}</details>"
        for file, table in _tables(analysis).items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
img {{ max-width: 100%; width: 30rem; }}
pre {{ background: #f4f4f4; padding: 1rem; overflow-x: auto; }}
td, th {{ padding: 0.1rem 0.8rem; text-align: right; }}
</style>
</head>
<body>
<h1>{title}</h1>
<pre>{lines}</pre>
{pictures}
<p>After Figure 1 of the paper: the share of a session taken by its most common items, the share seen in previous
sessions, and dwell times. The dwell of an event is the time to the next event of its session; the last has none.</p>
{tables}
</body>
</html>
"""


def _as_html(table: pd.DataFrame) -> str:
    return table.to_html(index=False, border=0, float_format="{:.6g}".format)
