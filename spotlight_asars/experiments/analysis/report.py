"""An analysis as CSV files, PNG figures and one HTML page that needs no other file."""

import base64
import csv
import html
import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from scipy import stats

from spotlight_asars.experiments.analysis.statistics import SESSIONS_BACK, Analysis
from spotlight_asars.experiments.figures import HOW_TO_GET_FIGURES, Figure, figure_as_png
from spotlight_asars.serialization.files import write_whole

_ITEM_COLOUR, _CATEGORY_COLOUR, _LINE_COLOUR = "#e08a3c", "#3b6ea5", "#a33b3b"
CURVE_POINTS = 600  # of the gamma distribution's density
_WORDS = {
    "tied_times": "of the events share their time with another one of their session",
    "sessions_of_one_event": "of the sessions have a single event: nothing can be predicted there",
    "events_of_cold_items": "of the later sessions' events are of items that the earlier ones have not",
    "events_of_cold_users": "of the later sessions' events are of users that the earlier ones have not",
}


def write_analysis(analysis: Analysis, name: str, folder: Path) -> list[str]:
    """
    Write tables, figures and the report into a folder.

    Parameters
    ----------
    analysis : Analysis
    name : str
        Of the log, for titles.
    folder : Path

    Returns
    -------
    list of str
        Names of the files; figures are among them, and in the report, where matplotlib is installed.
    """
    tables = _tables(analysis)
    for table, rows in tables.items():
        write_whole(folder / table, _as_csv(rows))
    drawn = {} if Figure is None else _figures(analysis)
    figures = {file: figure_as_png(draw(analysis)) for file, draw in drawn.items()}
    for file, content in figures.items():
        write_whole(folder / file, content)
    write_whole(folder / "report.html", _report(analysis, name, figures))
    return [*tables, *figures, "report.html"]


def _tables(analysis: Analysis) -> dict[str, list[list]]:
    """Rows of each CSV file, names of columns first; a file whose numbers the log does not give is left out."""
    tables = {"items_in_session.csv": _by_rank("rank", analysis.items_in_session, analysis.categories_in_session)}
    if analysis.repeated_items is not None:
        columns = (analysis.repeated_items, analysis.repeated_categories)
        tables["repeats.csv"] = _by_rank("sessions_back", *columns)
    if analysis.dwell is not None:
        dwell = analysis.dwell
        ends = zip(dwell.edges[:-1].tolist(), dwell.edges[1:].tolist(), dwell.density.tolist(), strict=True)
        tables["dwell.csv"] = [["from_seconds", "to_seconds", "density"], *map(list, ends)]
        tables["dwell_bins.csv"] = [["edge_seconds"], *([edge] for edge in dwell.bins.tolist())]
    shares = {key: value for key, value in analysis.shares.items() if not math.isnan(value)}
    tables["shares.csv"] = [["what", "share"], *map(list, shares.items())]
    return tables


def _by_rank(heading: str, items: np.ndarray, categories: np.ndarray | None) -> list[list]:
    columns = {"items": items, "categories": categories}
    there = {name: column.tolist() for name, column in columns.items() if column is not None}
    rows = zip(*there.values(), strict=True)
    return [[heading, *there], *([rank, *row] for rank, row in enumerate(rows, 1))]


def _as_csv(rows: Iterable[list]) -> str:
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows(rows)
    return content.getvalue()


def _figures(analysis: Analysis) -> dict[str, Callable[[Analysis], "Figure"]]:
    """What draws each figure that the log gives."""
    figures = {"items_in_session.png": _draw_most_common}
    if analysis.repeated_items is not None:
        figures["repeats.png"] = _draw_repeats
    if analysis.dwell is not None and len(analysis.dwell.density):
        figures["dwell.png"] = _draw_dwell
    return figures


def _draw_most_common(analysis: Analysis) -> "Figure":
    """Figure 1, left."""
    title = "Short-term: how much of a session its main items take"
    figure, axes = _axes("rank in the session, by events there", "mean share of a session's events", title)
    columns = {"category": analysis.categories_in_session, "item": analysis.items_in_session}
    there = {name: column for name, column in columns.items() if column is not None}
    width = 0.8 / len(there)
    for place, (name, column) in enumerate(there.items()):
        ranks = np.arange(1, len(column) + 1) + (place - (len(there) - 1) / 2) * width
        axes.bar(ranks, column, width, label=name, color=_CATEGORY_COLOUR if name == "category" else _ITEM_COLOUR)
    axes.set_xticks(range(1, len(analysis.items_in_session) + 1))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(frameon=False)
    return figure


def _draw_repeats(analysis: Analysis) -> "Figure":
    """Figure 1, middle."""
    title = "Long-term: how much comes back from the user's sessions before"
    figure, axes = _axes("how many sessions before", "mean share of a session's events met there", title)
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
    """Figure 1, right, with the edges of the Scott bins below the histogram."""
    dwell = analysis.dwell
    title = "Dwell time: how long an event is looked at"
    figure, axes = _axes("dwell, seconds", "density per second, of dwell above zero", title)
    axes.stairs(dwell.density, dwell.edges, fill=True, color=_CATEGORY_COLOUR, alpha=0.55, label="observed")
    if not math.isnan(dwell.shape):
        seconds = np.linspace(0.0, dwell.edges[-1], CURVE_POINTS + 1)[1:]  # at 0 it is infinite for a shape below 1
        fit = f"gamma, shape {dwell.shape:.2f}, scale {dwell.scale:,.0f} s"
        axes.plot(seconds, stats.gamma.pdf(seconds, dwell.shape, scale=dwell.scale), color=_LINE_COLOUR, label=fit)
    shown = dwell.bins[dwell.bins <= dwell.edges[-1]]
    label = f"Scott bins: {len(dwell.bins) - 1}, {len(shown)} edges shown"
    axes.plot(shown, np.zeros(len(shown)), "|", color="black", markersize=9, clip_on=False, label=label)
    axes.set_xlim(0.0, dwell.edges[-1])
    axes.set_ylim(0.0, 1.15 * dwell.density.max())  # the bars keep their room where the curve rises beyond them
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
    """What the terminal and the report say in words."""
    lines = [str(analysis.counts)]
    lines += [f"{value:7.1%}  {_WORDS[key]}" for key, value in analysis.shares.items() if not math.isnan(value)]
    if analysis.repeated_items is not None:
        repeated = analysis.repeated_items[-1]
        lines.append(
            f"{repeated:7.1%}  of a session's events are of items from its user's {SESSIONS_BACK} sessions before"
        )
    dwell = analysis.dwell
    if dwell is not None:
        quantiles = ", ".join(f"{name} {value:,.0f} s" for name, value in dwell.quantiles.items())
        lines.append(f"dwell of {dwell.known:,} events: {quantiles}; {dwell.zero_share:.1%} are zero")
        if not math.isnan(dwell.shape):
            lines.append(f"gamma fit of those above zero: shape {dwell.shape:.3f}, scale {dwell.scale:,.1f} s")
        lines.append(f"Scott bins: {len(dwell.bins) - 1}, {dwell.bins[1] - dwell.bins[0]:,.1f} s wide")
    return lines


def _report(analysis: Analysis, name: str, figures: dict[str, bytes]) -> str:
    """One page with everything in it."""
    title = html.escape(f"{name}: sessions, repeats, dwell times")
    pictures = "\n".join(
        f'<img alt="{html.escape(file)}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        for file, content in figures.items()
    )
    lines = "\n".join(html.escape(line) for line in summary_lines(analysis))
    pictures = pictures or f"<p>{html.escape(HOW_TO_GET_FIGURES)}</p>"
    tables = "\n".join(
        f"<details><summary>{html.escape(file)}</summary>{_as_html(rows)}</details>"
        for file, rows in _tables(analysis).items()
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
<p>After Figure 1 of the paper: how much of a session its main items take, how much comes back from the sessions before,
and how long events are dwelt on. An event's dwell is the time to the next one of its session; the last has none.</p>
{tables}
</body>
</html>
"""


def _as_html(rows: list[list]) -> str:
    shown = [[f"{cell:.6g}" if isinstance(cell, float) else html.escape(str(cell)) for cell in row] for row in rows]
    head = "".join(f"<th>{cell}</th>" for cell in shown[0])
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in shown[1:])
    return f"<table><tr>{head}</tr>{body}</table>"
