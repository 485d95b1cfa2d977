"""Format the results of a comparison: the paper's Table 2 and Figure 6 for the terminal, and both as CSV."""

import pandas as pd

from spotlight_asars.evaluation import CUTOFFS
from spotlight_asars.experiments.comparison.summary import JUDGED_BY
from spotlight_asars.interactions.sessions import LogCounts

_HEADINGS = {"mrr": "MRR", "recall": "Recall"}


def format_table(results: dict) -> str:
    """
    Format results for the terminal: the log, one line per system, all cutoffs, and the gains from dwell.

    Parameters
    ----------
    results : dict
        The results of ``compare``.

    Returns
    -------
    str
    """
    parts = [_about(results), _aligned(_table(results)), _aligned(_cutoffs_table(results))]
    gains = {name: model["dwell_gain"] for name, model in results["models"].items() if "dwell_gain" in model}
    if gains:
        title = "gain from true dwell times over the shuffled-dwell control"
        parts += [f"{title}\n{_aligned(_gains_table(results, gains))}"]
    return "\n".join(parts)


def _about(results: dict) -> str:
    dataset, protocol = results["dataset"], results["protocol"]
    counts = LogCounts(*(dataset[name] for name in ("events", "users", "items", "sessions")))
    lines = [
        f"{dataset['name']}: {counts.in_words()}, of {protocol['events_read']:,} events read; "
        f"{dataset['targets']:,} targets"
    ]
    first, times = protocol["seed"], protocol["seeds"]
    seeds = f"seed {first}" if times == 1 else f"mean of seeds {first} to {first + times - 1}"
    lines += [
        f"dwell {protocol['dwell']}, {seeds}, host {protocol['host']}; "
        f"{protocol['dropped_test_events']:.1%} of the test events dropped, "
        f"{protocol['tied_timestamps']:.1%} of the training events share their time with another"
    ]
    early = protocol["test_events_before_training_ends"]
    if early >= 0.005:
        lines += [f"{early:.1%} of the test events precede the last training event"]
    if "oracle" in results:
        oracle = results["oracle"]
        lines += [
            f"best possible on this simulated log: MRR@20 {oracle['mrr@20']:.4f}, Recall@20 {oracle['recall@20']:.4f}"
        ]
    return "\n".join(lines)


def _table(results: dict) -> list[list[str]]:
    """Return the cells of Table 2, without columns that are empty for every system."""
    models = results["models"]
    first = next(iter(models))
    rows = []
    for name, model in models.items():
        deviation, row = model["standard_deviation"], {"system": name}
        for metric in JUDGED_BY:
            row[_heading(metric)] = f"{model[metric]:.4f}"
            row[f"95 % {metric}"] = "{:.4f}-{:.4f}".format(*model["ci95"][metric])
            row[f"seeds {metric}"] = "" if deviation is None else "±" + _short(deviation[metric], sign="")
        less = model.get("mrr@20_less_first")
        row[f"MRR@20 less {first}"] = "" if less is None else _difference(less)
        row["epochs"] = "-" if model["epochs"] is None else f"{model['epochs']}"
        row["events/s"] = f"{model['events_per_second']:,.0f}"
        row["MiB"] = f"{model['peak_memory_mib']:,.0f}"
        row["of best"] = f"{model['share_of_oracle']:.1%}" if "share_of_oracle" in model else ""
        rows.append(row)
    columns = [column for column in rows[0] if any(row[column] for row in rows)]
    heads = ["95 %" if column.startswith("95 %") else "seeds" if column.startswith("seeds") else column
             for column in columns]  # fmt: skip
    return [heads, *([row[column] for column in columns] for row in rows)]


def _cutoffs_table(results: dict) -> list[list[str]]:
    """Return the cells of Figure 6: MRR and Recall at all cutoffs."""
    metrics = _all_metrics()
    rows = [[name, *(f"{model[metric]:.4f}" for metric in metrics)] for name, model in results["models"].items()]
    return [["system", *map(_heading, metrics)], *rows]


def _gains_table(results: dict, gains: dict[str, dict]) -> list[list[str]]:
    rows = [["system", *(cell for metric in JUDGED_BY for cell in (_heading(metric), "control", "gain (95 %)", "p"))]]
    for name, gain in gains.items():
        row = [name]
        for metric in JUDGED_BY:
            row += [f"{results['models'][name][metric]:.4f}", f"{gain['twin'][metric]:.4f}", _difference(gain[metric])]
            row += [f"{gain[metric]['p_value']:.3f}"]
        rows.append(row)
    return rows


def _all_metrics() -> list[str]:
    cutoffs = ["all" if cutoff is None else str(cutoff) for cutoff in CUTOFFS]
    return [f"mrr@{cutoff}" for cutoff in cutoffs] + [f"recall@{cutoff}" for cutoff in cutoffs if cutoff != "all"]


def _heading(metric: str) -> str:
    name, cutoff = metric.split("@")
    return f"{_HEADINGS[name]}@{cutoff}"


def _difference(test: dict) -> str:
    low, high = test["interval"]
    return f"{_short(test['difference'])} ({_short(low)} {_short(high)})"


def _short(value: float, sign: str = "+") -> str:
    """Format a difference without its leading zero, ``+.0123``, so that the table fits a terminal."""
    return f"{value:{sign}.4f}".replace("0.", ".", 1)


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    rule = "-" * len(lines[0])
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def table_csv(results: dict) -> str:
    """Return CSV with one row per system: every single number in ``results.json``, empty where there is none."""
    return _csv([_flat(name, model) for name, model in results["models"].items()])


def _flat(name: str, model: dict) -> dict[str, object]:
    row = {"system": name, **{metric: model[metric] for metric in _all_metrics()}}
    for metric in JUDGED_BY:
        row |= dict(zip((f"{metric}_low", f"{metric}_high"), model["ci95"][metric], strict=True))
        row[f"{metric}_standard_deviation"] = (model["standard_deviation"] or {}).get(metric)
    for metric in JUDGED_BY:
        row |= _flat_test(f"{metric}_less_first", model.get(f"{metric}_less_first"))
    for column in ("targets", "epochs", "validation_mrr@20", "parameters", "seconds_per_epoch", "events_per_second",
                   "evaluation_seconds", "peak_memory_mib"):  # fmt: skip
        row[column] = model[column]
    row["seeds"] = len(model["seeds"])
    row["share_of_oracle"] = model.get("share_of_oracle")
    gain = model.get("dwell_gain", {})
    for metric in JUDGED_BY:
        row |= _flat_test(f"{metric}_dwell_gain", gain.get(metric))
        row[f"{metric}_twin"] = gain["twin"][metric] if gain else None
    return row


def _flat_test(name: str, test: dict | None) -> dict[str, float | None]:
    low, high = (None, None) if test is None else test["interval"]
    return {
        name: None if test is None else test["difference"],
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_p_value": None if test is None else test["p_value"],
    }


def curves_csv(results: dict) -> str:
    """Return CSV with the points of Figure 6: system, K, mrr and recall (which is 1 over all items)."""
    rows = []
    for name, model in results["models"].items():
        for cutoff in ("all" if cutoff is None else cutoff for cutoff in CUTOFFS):
            recall = 1.0 if cutoff == "all" else model[f"recall@{cutoff}"]
            rows.append({"system": name, "K": cutoff, "mrr": model[f"mrr@{cutoff}"], "recall": recall})
    return _csv(rows)


def _csv(rows: list[dict]) -> str:
    # As objects, so that whole numbers stay whole in a column with gaps.
    return pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n")
