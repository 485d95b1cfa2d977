"""The tables, the CSV files and the figures of given results."""

import csv
import io
import re
from pathlib import Path

import pytest

from spotlight_asars.experiments import figures
from spotlight_asars.experiments.comparison.summary import differences, dwell_gain, summarise, target_values
from spotlight_asars.experiments.comparison.table import curves_csv, format_table, table_csv
from spotlight_asars.experiments.figures import write_figures


@pytest.fixture
def results(run_of):
    """Two systems of two seeds and one that counts, 'asars_time_user' with a twin, on a simulated log."""
    runs = {
        "gru4rec": [run_of([1, 2, 25, 4]), run_of([2, 2, 5, 50])],
        "asars_time_user": [run_of([1, 1, 2, 4]), run_of([1, 2, 5, 5])],
        "popularity": [run_of([9, 9, 15, 21], epochs=None, events_per_second=1e7, **{"validation_mrr@20": None})],
    }
    models = {name: summarise(of, target_values(of), seed=0) for name, of in runs.items()}
    first = target_values(runs["gru4rec"])
    for name in ("asars_time_user", "popularity"):
        tests = differences(target_values(runs[name]), first, runs[name][0].ranks, seed=0)
        models[name] |= {f"{metric}_less_first": {"first": "gru4rec", **test} for metric, test in tests.items()}
    models["asars_time_user"]["dwell_gain"] = dwell_gain(runs["asars_time_user"], runs["gru4rec"], seed=0)
    for model in models.values():
        model["share_of_oracle"] = model["mrr@20"] / 0.8
    return {
        "dataset": {"name": "tiny", "events": 1200, "users": 3, "items": 60, "sessions": 9, "targets": 4},
        "protocol": {"events_read": 1300, "dwell": "known", "seed": 0, "seeds": 2, "host": "embedded",
                     "dropped_test_events": 0.125, "tied_timestamps": 0.0, "use_cuda": False,
                     "test_events_before_training_ends": 0.0},
        "oracle": {"mrr@20": 0.8, "recall@20": 1.0},
        "models": models,
    }  # fmt: skip


class TestTable:
    def test_a_row_a_system(self, results):
        lines = format_table(results).splitlines()
        head = next(line for line in lines if line.startswith("system"))
        titles = ["system", "MRR@20", "95 %", "seeds", "Recall@20", "95 %", "seeds", "MRR@20 less gru4rec"]
        assert re.split(" {2,}", head) == [*titles, "epochs", "events/s", "MiB", "of best"]
        rows = {line.split()[0]: line for line in reversed(lines) if line and line.split()[0] in results["models"]}
        assert "0.3688  0.1125-0.6250  ±.0972" in rows["gru4rec"] and rows["gru4rec"].endswith("46.1%")
        assert "+.2125" in rows["asars_time_user"] and " - " in rows["popularity"]
        assert "10,000,000" in rows["popularity"]

    def test_it_fits_a_wide_terminal(self, results):
        models = results["models"]
        models["sequential_rules"] = models.pop("popularity")
        lines = format_table(results).splitlines()
        assert max(len(line) for line in lines[3:]) <= 140

    def test_columns_that_would_be_empty_are_left_out(self, results):
        for model in results["models"].values():
            model["standard_deviation"] = None
            del model["share_of_oracle"]
        del results["oracle"]
        del results["models"]["asars_time_user"], results["models"]["popularity"]
        text = format_table(results)
        head = next(line for line in text.splitlines() if line.startswith("system"))
        assert head.split() == ["system", "MRR@20", "95", "%", "Recall@20", "95", "%", "epochs", "events/s", "MiB"]
        assert "control" not in text and "possible" not in text

    def test_all_cutoffs_and_the_twin(self, results):
        text = format_table(results)
        assert "MRR@10  MRR@20  MRR@30  MRR@40  MRR@all  Recall@10" in text
        gain = text[text.index("shuffled-dwell control") :]
        assert "asars_time_user  0.5813   0.3688  +.2125" in gain and gain.count("asars_time_user") == 1
        assert "MRR@20 0.8000, Recall@20 1.0000" in text


class TestCsv:
    def test_a_row_a_system_with_all_numbers(self, results):
        rows = list(csv.DictReader(io.StringIO(table_csv(results))))
        assert [row["system"] for row in rows] == list(results["models"])
        model = results["models"]["asars_time_user"]
        for column in ("mrr@10", "mrr@all", "recall@40", "events_per_second", "peak_memory_mib", "share_of_oracle"):
            assert float(rows[1][column]) == model[column]
        assert [float(rows[1][f"mrr@20_{end}"]) for end in ("low", "high")] == list(model["ci95"]["mrr@20"])
        assert float(rows[1]["mrr@20_less_first"]) == model["mrr@20_less_first"]["difference"]
        assert float(rows[1]["recall@20_dwell_gain_p_value"]) == model["dwell_gain"]["recall@20"]["p_value"]
        assert float(rows[1]["mrr@20_twin"]) == model["dwell_gain"]["twin"]["mrr@20"]
        assert rows[0]["mrr@20_less_first"] == rows[0]["mrr@20_twin"] == rows[2]["epochs"] == ""
        assert rows[0]["seeds"] == "2" and rows[2]["seeds"] == "1" and rows[2]["mrr@20_standard_deviation"] == ""

    def test_the_points_of_the_curves(self, results):
        rows = list(csv.reader(io.StringIO(curves_csv(results))))
        assert rows[0] == ["system", "K", "mrr", "recall"] and len(rows) == 1 + 3 * 5
        model = results["models"]["gru4rec"]
        assert rows[1] == ["gru4rec", "10", str(model["mrr@10"]), str(model["recall@10"])]
        assert rows[5] == ["gru4rec", "all", str(model["mrr@all"]), "1.0"]


class TestFigures:
    def test_three_pictures(self, results, tmp_path):
        pytest.importorskip("matplotlib")
        names = write_figures(results, tmp_path)
        assert names == ["mrr_at_k.png", "training_speed.png", "peak_memory.png"]
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
        for name in names:
            assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")

    def test_what_they_show(self, results):
        pytest.importorskip("matplotlib")
        mrr_axes, recall_axes = figures.draw_curves(results).axes
        assert len(mrr_axes.get_lines()) == len(recall_axes.get_lines()) == 3
        line = mrr_axes.get_lines()[1]
        model = results["models"]["asars_time_user"]
        assert list(line.get_ydata()) == [model[f"mrr@{cutoff}"] for cutoff in (10, 20, 30, 40, "all")]
        (speed,), (memory,) = figures.draw_speed(results).axes, figures.draw_memory(results).axes
        assert speed.get_xscale() == "log" and memory.get_xscale() == "linear"
        assert [bar.get_width() for bar in memory.patches] == [50.0, 50.0, 50.0]

    def test_what_takes_no_memory_of_a_gpu_has_no_bar(self, results):
        pytest.importorskip("matplotlib")
        results["models"]["popularity"]["peak_memory_mib"] = 0.0
        (memory,) = figures.draw_memory(results).axes
        assert memory.get_xscale() == "linear" and memory.patches[2].get_width() == 0.0

    def test_more_systems_than_colours(self, results, tmp_path):
        pytest.importorskip("matplotlib")
        results["models"] = {f"system_{number}": results["models"]["gru4rec"] for number in range(24)}
        assert len(write_figures(results, tmp_path)) == 3

    def test_without_matplotlib(self, results, monkeypatch, tmp_path):
        monkeypatch.setattr(figures, "Figure", None)
        assert write_figures(results, tmp_path) == [] and not list(Path(tmp_path).iterdir())
