"""The paper's Table 2 in the terminal."""


def format_table(results: dict) -> str:
    """
    Results of ``compare`` as text: a line for the log, and a line a system.

    Parameters
    ----------
    results : dict
        As from ``compare``.
    """
    dataset, protocol = results["dataset"], results["protocol"]
    head = ["system", "MRR@20", "95 %", "Recall@20", "95 %", "epochs", "events/s", "MiB"]
    rows = [head, *(_row(name, model) for name, model in results["models"].items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(_pad(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths, strict=True)))
             for row in rows]  # fmt: skip
    rule = "-" * len(lines[0])
    about = (
        f"{dataset['name']}: {dataset['events']:,} events, {dataset['users']:,} users, {dataset['items']:,} items, "
        f"{dataset['sessions']:,} sessions, of {protocol['events_read']:,} events read; {dataset['targets']:,} targets"
    )
    how = (
        f"dwell {protocol['dwell']}, seed {protocol['seed']}, host {protocol['host']}; "
        f"{protocol['dropped_test_events']:.1%} of the test events dropped, "
        f"{protocol['tied_timestamps']:.1%} of the training events share their time with another"
    )
    early = protocol["test_events_before_training_ends"]
    if early >= 0.005:
        how += f"\n{early:.1%} of the test events lie before the last training event"
    return "\n".join([about, how, rule, lines[0], rule, *lines[1:], rule])


def _row(name: str, model: dict) -> list[str]:
    return [
        name,
        f"{model['mrr@20']:.4f}",
        "{:.4f}-{:.4f}".format(*model["ci95"]["mrr@20"]),
        f"{model['recall@20']:.4f}",
        "{:.4f}-{:.4f}".format(*model["ci95"]["recall@20"]),
        f"{model['epochs']}",
        f"{model['events_per_second']:,.0f}",
        f"{model['peak_memory_mib']:,.0f}",
    ]


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)
