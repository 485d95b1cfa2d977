"""Figure 1 for a log: exact small cases, slow loops, and the report."""

import csv
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from spotlight_asars import cli
from spotlight_asars.cross_validation import SupportFilters
from spotlight_asars.experiments.analysis.report import summary_lines, write_analysis
from spotlight_asars.experiments.analysis.statistics import (
    analyse,
    as_json,
    cold_shares,
    describe_dwell,
    shares_of_most_common,
    shares_of_repeats,
)
from spotlight_asars.experiments.logs import LogChoice, log_to_analyse
from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.sessions import SessionInteractions

NAN = float("nan")


def events_of(sessions):
    """A log of (user, items) pairs, a session each, in order of time."""
    users, items, times, numbers = [], [], [], []
    for number, (user, own) in enumerate(sessions):
        users += [user] * len(own)
        items += own
        times += [1000.0 * number + 10.0 * place for place in range(len(own))]
        numbers += [number] * len(own)
    return SessionInteractions(np.array(users), np.array(items), timestamps=times, session_ids=np.array(numbers))


class TestMostCommon:
    def test_by_hand(self):
        found = shares_of_most_common(events_of([(1, [5, 5, 5, 2]), (1, [7, 8])]), most=3)
        assert found.tolist() == [(0.75 + 0.5) / 2, (0.25 + 0.5) / 2, 0.0]

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(st.integers(0, 3), st.lists(st.integers(1, 5), min_size=1, max_size=8)), min_size=1, max_size=9
        )
    )
    def test_equals_a_loop(self, sessions):
        expected = np.zeros(10)
        for _, own in sessions:
            counts = sorted((own.count(item) for item in set(own)), reverse=True)
            for rank, count in enumerate(counts):
                expected[rank] += count / len(own) / len(sessions)
        np.testing.assert_allclose(shares_of_most_common(events_of(sessions)), expected, atol=1e-12)


class TestRepeats:
    def test_by_hand(self):
        # The third session meets 1 again from one session back, 2 from two back, and 9 never.
        found = shares_of_repeats(events_of([(1, [2, 3]), (1, [1, 1]), (1, [1, 2, 9, 1])]), back=3)
        assert found.tolist() == [(0.0 + 0.5) / 2, (0.0 + 0.75) / 2, (0.0 + 0.75) / 2]

    def test_nobody_who_comes_back(self):
        assert shares_of_repeats(events_of([(0, [1]), (0, [1])])) is None  # anonymous
        assert shares_of_repeats(events_of([(1, [1]), (2, [1])])) is None

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(
            st.tuples(st.integers(0, 3), st.lists(st.integers(1, 4), min_size=1, max_size=5)), min_size=1, max_size=12
        ),
        st.integers(1, 4),
    )
    def test_equals_a_loop(self, sessions, back):
        shares, past = [], {}
        for user, own in sessions:
            if user and user in past:
                shares.append(
                    [np.mean([any(item in old for old in past[user][-n:]) for item in own]) for n in range(1, back + 1)]
                )
            past.setdefault(user, []).append(own)
        found = shares_of_repeats(events_of(sessions), back)
        if not shares:
            assert found is None
        else:
            np.testing.assert_allclose(found, np.mean(shares, axis=0), atol=1e-12)


class TestDwell:
    def test_by_hand(self):
        found = describe_dwell(np.array([0.0, 2.0, NAN, 4.0, 4.0, NAN]))
        assert (found.known, found.zero_share) == (4, 0.25)
        assert found.quantiles["50 %"] == 3.0
        assert found.edges[[0, -1]].tolist() == [0.0, 4.0]
        assert (found.density * np.diff(found.edges)).sum() == pytest.approx(1.0)
        assert found.bins[0] == 0.0 and found.bins[1] == pytest.approx(
            ScottBinning().fit(np.array([0.0, 2, 4, 4])).width
        )

    def test_the_gamma_distribution_is_found_again(self):
        seconds = stats.gamma.rvs(1.7, scale=40.0, size=20_000, random_state=0)
        found = describe_dwell(seconds)
        assert found.shape == pytest.approx(1.7, rel=0.03) and found.scale == pytest.approx(40.0, rel=0.03)
        middle = (found.edges[1:] + found.edges[:-1]) / 2
        assert np.abs(found.density - stats.gamma.pdf(middle, 1.7, scale=40.0)).max() < 0.002

    @pytest.mark.parametrize("seconds", [[0.0, 0.0], [5.0, 5.0], [5.0]])
    def test_too_few_different_ones_have_no_fit(self, seconds):
        found = describe_dwell(np.array(seconds))
        assert np.isnan(found.shape) and found.known == len(seconds)

    def test_none_known(self):
        assert describe_dwell(np.array([NAN, NAN])) is None


def test_shares_by_hand():
    events = SessionInteractions(
        np.array([1, 1, 1, 2, 2, 3, 1, 4, 4]),
        np.array([1, 2, 1, 1, 2, 2, 3, 1, 9]),
        timestamps=np.array([0.0, 0.0, 5.0, 10.0, 20.0, 30.0, 40_000.0, 50_000.0, 50_010.0]),
    )
    found = analyse(events, test_share=0.4).shares
    assert found["tied_times"] == 2 / 9 and found["sessions_of_one_event"] == 2 / 5
    # The later sessions: item 3 by user 1; items 1 and 9 by user 4.
    assert found["events_of_cold_items"] == 2 / 3 and found["events_of_cold_users"] == 2 / 3


def test_a_log_that_cannot_be_split_has_no_cold_shares():
    assert all(np.isnan(share) for share in cold_shares(events_of([(1, [1, 2])])).values())


@pytest.fixture
def log():
    draw = np.random.RandomState(0)
    times = np.sort(draw.randint(10**6, size=400)).astype(float)
    return pd.DataFrame(
        {"user": draw.randint(1, 9, size=400), "item": draw.randint(1, 20, size=400), "timestamp": times}
    )


def test_categories_are_counted_as_items_are(log):
    events = SessionInteractions.from_log(log)
    kinds = SessionInteractions.from_log(log.assign(item=log["item"] % 3))
    found = analyse(events, kinds)
    assert found.categories_in_session.tolist() == shares_of_most_common(kinds).tolist()
    assert (found.repeated_categories >= found.repeated_items).all()
    assert np.all(np.diff(found.repeated_items) >= 0)


def test_the_report_is_one_page_that_needs_no_other_file(log, tmp_path):
    pytest.importorskip("matplotlib")
    analysis = analyse(SessionInteractions.from_log(log))
    files = write_analysis(analysis, "<b>&log", tmp_path)
    assert sorted(files) == sorted(path.name for path in tmp_path.iterdir())
    page = (tmp_path / "report.html").read_text()
    assert "<b>" not in page and "&lt;b&gt;&amp;log" in page
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))
    assert not re.findall(r'href="|url\(|<script', page)
    assert all(line.split("  ")[-1].replace("'", "&#x27;") in page for line in summary_lines(analysis))
    rows = list(csv.reader((tmp_path / "repeats.csv").read_text().splitlines()))
    assert rows[0] == ["sessions_back", "items"]
    assert [float(row[1]) for row in rows[1:]] == analysis.repeated_items.tolist()


def test_without_matplotlib_tables_and_report_are_written(log, tmp_path, capsys, monkeypatch):
    for module in ("cli.analyse", "experiments.analysis.report"):
        monkeypatch.setattr(f"spotlight_asars.{module}.Figure", None)
    path = tmp_path / "log.csv"
    log.to_csv(path, index=False)
    options = [
        "--data",
        str(path),
        "--format",
        "csv",
        "--columns",
        "user,item,timestamp",
        "--out",
        str(tmp_path / "out"),
    ]
    assert cli.main(["analyse", *options]) == 0
    assert capsys.readouterr().err.count("pip install matplotlib") == 1
    tables = ["dwell.csv", "dwell_bins.csv", "items_in_session.csv", "repeats.csv", "shares.csv"]
    found = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert found == sorted([*tables, "analysis.json", "report.html"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<img" not in page and "pip install matplotlib" in page and all(table in page for table in tables)


def test_from_the_command_line(log, tmp_path, capsys):
    path = tmp_path / "log.csv"
    log.to_csv(path, index=False)
    options = ["analyse", "--data", str(path), "--format", "csv", "--columns", "user,item,timestamp"]
    assert cli.main([*options, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "events 400  users 8  items 19" in told and "report.html" in told
    assert (tmp_path / "out" / "analysis.json").is_file()
    assert cli.main([*options, "--categories"]) == 2
    assert "tianchi, or recsys15" in capsys.readouterr().err
    assert cli.main(["analyse", "--train", str(path), "--format", "csv", "--columns", "user,item,timestamp"]) == 2
    assert "--data FILE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["analyse", "--help"])
    told = capsys.readouterr().out
    assert "--data FILE" in told and "--train" not in told and "--test " not in told


def test_tianchi_has_categories(tmp_path, capsys):
    path = tmp_path / "UserBehavior.csv"
    path.write_text("".join(f"{1 + n % 2},{n % 5 + 1},{n % 2},pv,{1511600000 + 50 * n}\n" for n in range(40)))
    options = ["analyse", "--data", str(path), "--format", "tianchi", "--categories", "--out", str(tmp_path / "out")]
    assert cli.main(options) == 0
    rows = list(csv.reader((tmp_path / "out" / "items_in_session.csv").read_text().splitlines()))
    assert rows[0] == ["rank", "items", "categories"] and float(rows[1][2]) == 1.0  # each user has one category
    capsys.readouterr()


def test_filters_leave_the_same_events_of_items_and_of_categories(tmp_path):
    """Items 8 and 9 are rare, and a session too short without 8: they go, whatever support their categories have."""
    events = [(1, 3, 10), (1, 4, 20), (1, 9, 30), (1, 3, 9_000), (1, 8, 9_010), (2, 4, 10), (2, 3, 20), (2, 4, 30)]
    path = tmp_path / "UserBehavior.csv"
    path.write_text("".join(f"{user},{item},{item % 2},pv,{1_511_600_000 + at}\n" for user, item, at in events))
    choice = LogChoice(data=path, log_format="tianchi", filters=SupportFilters(2, 2, 1))
    name, items, kinds = log_to_analyse(choice, categories=True)
    assert name == path.name and items.to_log()["item"].tolist() == [3, 4, 4, 3, 4]
    assert kinds.to_log()["item"].tolist() == [1, 0, 0, 1, 0]
    for column in ("user_ids", "session_ids", "timestamps"):
        assert getattr(items, column).tolist() == getattr(kinds, column).tolist()
    assert analyse(items, kinds).categories_in_session[:2] == pytest.approx([7 / 12, 5 / 12])


def test_the_simulators_categories_are_filtered_too():
    _, items, kinds = log_to_analyse(LogChoice(filters=SupportFilters(10, 2, 10)), categories=True)
    assert 0 < len(items) == len(kinds) and items.session_ids.tolist() == kinds.session_ids.tolist()


def test_numbers_that_are_unknown_are_null():
    found = as_json(analyse(events_of([(1, [1, 2])])))
    assert found["shares"]["events_of_cold_items"] is None and found["repeated_items"] is None
