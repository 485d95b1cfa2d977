"""Draw the paper's Figures 6 to 8 for a comparison as PNG files, with matplotlib, an optional dependency."""

import io
from pathlib import Path

from spotlight_asars.evaluation import CUTOFFS
from spotlight_asars.serialization.files import write_whole

try:
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter
except ImportError:  # an optional dependency
    Figure = None
HOW_TO_GET_FIGURES = "no figures, since matplotlib is not installed: pip install matplotlib"
_MARKERS = "osD^vPX<>*"
_OTHER_COLOUR, _NET_COLOUR = "#b0b0b0", "#3b6ea5"
_WIDE_RANGE = 30  # ratio of largest to smallest value above which the scale is logarithmic


def write_figures(results: dict, folder: Path) -> list[str]:
    """
    Draw the figures into a folder.

    Parameters
    ----------
    results : dict
        The results of ``compare``.
    folder : Path

    Returns
    -------
    list of str
        Names of the files; empty without matplotlib.
    """
    if Figure is None:
        return []
    figures = {"mrr_at_k.png": draw_curves, "training_speed.png": draw_speed, "peak_memory.png": draw_memory}
    for name, draw in figures.items():
        write_whole(folder / name, figure_as_png(draw(results)))
    return list(figures)


def figure_as_png(figure: "Figure") -> bytes:
    """Return the content of a PNG file."""
    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()


def draw_curves(results: dict) -> "Figure":
    """Draw Figure 6, MRR@K, with Recall@K beside it; the legend lists systems from best to worst."""
    models = results["models"]
    ranking = sorted(models, key=lambda name: -models[name]["mrr@20"])
    colours = colormaps["tab10" if len(models) <= 10 else "tab20"].colors
    figure = Figure(figsize=(11, max(4.5, 1.5 + 0.25 * len(models))), layout="constrained")
    mrr_axes, recall_axes = figure.subplots(1, 2)
    cutoffs = ["all" if cutoff is None else str(cutoff) for cutoff in CUTOFFS]
    for axes, metric, shown in ((mrr_axes, "mrr", cutoffs), (recall_axes, "recall", cutoffs[:-1])):
        for place, (name, model) in enumerate(models.items()):
            axes.plot(
                shown,
                [model[f"{metric}@{cutoff}"] for cutoff in shown],
                color=colours[place % len(colours)],
                marker=_MARKERS[place % len(_MARKERS)],
                markersize=5,
                linewidth=1.3,
                label=name,
            )
        axes.set_xlabel("K")
        axes.set_title({"mrr": "MRR@K", "recall": "Recall@K"}[metric])
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    lines = dict(zip(models, mrr_axes.get_lines(), strict=True))
    figure.legend([lines[name] for name in ranking], ranking, loc="outside right upper", frameon=False)
    figure.suptitle(_title("MRR and Recall at cutoff K", results))
    return figure


def draw_speed(results: dict) -> "Figure":
    """Draw Figure 7, training speed."""
    return _bars(results, "events_per_second", "training events per second", "Training speed")


def draw_memory(results: dict) -> "Figure":
    """Draw Figure 8, peak memory."""
    where = "GPU memory" if results["protocol"]["use_cuda"] else "memory of the process"
    return _bars(results, "peak_memory_mib", f"peak {where}, MiB", "Peak memory")


def _bars(results: dict, key: str, label: str, title: str) -> "Figure":
    models = results["models"]
    values = [model[key] for model in models.values()]
    is_net = [model["epochs"] is not None for model in models.values()]
    figure = Figure(figsize=(8, 1.6 + 0.36 * len(models)), layout="constrained")
    axes = figure.subplots()
    colours = [_NET_COLOUR if net else _OTHER_COLOUR for net in is_net]
    if 0 < _WIDE_RANGE * min(values) < max(values):  # bars cannot start at zero on a logarithmic scale
        axes.set_xscale("log")
        axes.scatter(values, list(models), color=colours)
    else:
        axes.barh(list(models), values, color=colours)
    for place, value in enumerate(values):
        axes.annotate(f"{value:,.0f}", (value, place), (7, 0), textcoords="offset points", va="center", fontsize=9)
    axes.margins(x=0.15, y=0.5 / len(models))
    axes.invert_yaxis()  # the first system on top
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    note = "" if all(is_net) else " (grey: not trained by epochs)"
    axes.set_title(_title(title + note, results))
    return figure


def _title(what: str, results: dict) -> str:
    return f"{what}: {results['dataset']['name']}, dwell {results['protocol']['dwell']}"
