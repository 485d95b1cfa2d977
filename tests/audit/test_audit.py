"""The leak audit passes on every system of the package, and reports what it measured and where."""

import numpy as np
import pytest

from spotlight_asars import host
from spotlight_asars.audit import CHECKS, audit, changes
from spotlight_asars.experiments.settings import COUNTING_SYSTEMS
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import VSTAN
from spotlight_asars.sequence.non_neural.rules import Popularity
from spotlight_asars.sequence.representations.context import CONTEXTS
from spotlight_asars.sequence.representations.registry import representation_names
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker
from spotlight_asars.sequence.two_stage.ranker import RankingNets

HOST_NETS = ["pooling", "cnn", "lstm"] + (["mixture"] if host.NAME == "spotlight" else [])
EVERYTHING = {"context": CONTEXTS, "dwell_input": True, "dwell_weight": True, "recency": True, "pointer": True}
SESSIONS = {"scope": "session", "hidden_scope": "session", "recurrent": "gru"}
BLIND = ("bpr_mf", "popularity")  # look at no event
ROUNDING = 1e-5  # as a share


def model_of(representation, dwell, epochs=1, loss="bpr", **options):
    if representation not in HOST_NETS:
        options = {"hidden_dim": 8, **options}
    return ASARSSequenceModel(
        loss,
        representation,
        embedding_dim=8,
        n_iter=epochs,
        batch_size=8,
        learning_rate=0.05,
        random_state=0,
        dwell=dwell,
        representation_options=options,
    )


def two_stages(dwell):
    members = [
        Member(lambda epochs: model_of("asars_time_user", dwell, epochs), 1),
        Member(lambda epochs: SessionMemory(dwell)),
        Member(lambda epochs: VSTAN()),
    ]
    return TwoStageRanker(members, dwell, candidates=6, ranking=RankingNets(nets=1, epochs=2))


def counting(name, dwell):
    system = COUNTING_SYSTEMS[name]
    return system(dwell=dwell) if system.reads_dwell else system()


SYSTEMS = {
    **{name: lambda dwell, name=name: model_of(name, dwell) for name in (*representation_names(), *HOST_NETS)},
    **{name: lambda dwell, name=name: counting(name, dwell) for name in COUNTING_SYSTEMS},
    "every option": lambda dwell: model_of("asars_time_user", dwell, **EVERYTHING),
    "every option, by session": lambda dwell: model_of("asars_time_user", dwell, **EVERYTHING, **SESSIONS),
    "asars_two_stage": two_stages,
}


@pytest.mark.parametrize("dwell", ["known", "observed"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_passes(name, dwell, rows):
    report = audit(SYSTEMS[name](dwell).fit(rows), rows, dwell=dwell, max_rows=4, max_cuts=2)
    report.raise_for_failure()
    assert [finding.name for finding in report.findings] == list(CHECKS)
    skipped = [finding.name for finding in report.findings if finding.status == "skipped"]
    assert skipped == []
    # The control: the same changes do move the scores of later targets, where a system looks at events at all.
    for check in ("future events", "target's own item", "company"):
        assert (report[check].allowed > 1000 * ROUNDING) == (name not in BLIND)


def test_the_rule_is_the_system_s_own_and_known_where_it_has_none(rows):
    for system, dwell in ((model_of("gru4rec", "observed"), "observed"), (SessionMemory("observed"), "observed")):
        assert audit(system.fit(rows), rows, max_rows=1, max_cuts=1).dwell == dwell
    assert audit(Popularity().fit(rows), rows, max_rows=1).dwell == "known"


def test_what_is_seen_under_observed_is_told(rows):
    """Of a single target the newest dwell may move the score under 'observed' only, and the audit says how much."""
    row = SessionSequences(np.array([[1, 2]]), dwell=np.array([[3, 1]]), binning=rows.binning, num_items=20)
    findings = {
        dwell: audit(model_of("asars_time_cat", dwell).fit(rows), row)["next event's time"]
        for dwell in ("known", "observed")
    }
    assert (findings["known"].status, findings["known"].change, findings["known"].allowed) == ("passed", 0, 0)
    assert findings["observed"].status == "skipped" and findings["observed"].allowed > 1000 * ROUNDING
    assert str(findings["observed"]) == "skipped next event's time: these rows hold nothing that must not move"


class Spoilt:
    """All scores are 2, but in rows of one user they are 3 for the item that the last event of the row is of."""

    def __init__(self, user):
        self._user = user

    def target_states(self, rows):
        scores = np.full((rows.num_targets, rows.num_items - 1), 2.0, dtype=np.float32)
        row = np.repeat(np.arange(len(rows)), rows.targets_a_row)
        last = rows.events[rows.offsets[1:] - 1, 0][row]
        spoilt = rows.user_ids[row] == self._user
        scores[np.flatnonzero(spoilt), last[spoilt] - 1] = 3.0
        return scores

    def item_scores(self, states):
        return states


def test_the_change_and_its_place_by_hand():
    items = np.array([[0, 0, 1, 2, 3], [4, 5, 6, 1, 2], [0, 0, 0, 1, 2], [3, 1, 4, 1, 5]])
    rows = SessionSequences(items, user_ids=np.array([1, 2, 3, 4]), num_items=7)
    report = audit(Spoilt(4), rows)
    assert [finding.name for finding in report.failed] == ["future events", "row windows", "target's own item"]
    for finding in report.failed:
        assert finding.change == pytest.approx(1 / 3)  # 2 to 3, and the largest is 3
        assert finding.row == 3
    # Its last item is an event to come for the targets before it, the earliest of which is named.
    assert report["future events"].position == 1
    assert report["future events"].allowed == pytest.approx(1 / 3)
    assert str(report["target's own item"]).startswith("FAILED target's own item: largest change 0.333, tolerance")
    assert "at row 3, position" in str(report["target's own item"])
    audit(Spoilt(4), rows.rows([0, 1, 2])).raise_for_failure()
    audit(Spoilt(4), rows, tolerance=34.0).raise_for_failure()
    assert [finding.name for finding in audit(Spoilt(4), rows, tolerance=0.34).failed] == ["target's own item"]


def test_as_text_a_line_for_each_check(rows):
    lines = str(audit(Popularity().fit(rows), rows, max_rows=3)).splitlines()
    assert lines[0].startswith("passed leak audit of Popularity, dwell='known', 3 rows, ")
    assert len(lines) == 1 + len(CHECKS)
    for line, check in zip(lines[1:], CHECKS, strict=True):
        assert line.startswith(f"passed {check}: largest change ")
        same_shapes = check in ("same call again", "next event's time", "target's own item")
        assert ("tolerance 1e-06" if same_shapes else "tolerance 0.0001") in line
    assert str(audit(Spoilt(0), rows, max_rows=3)).startswith("FAILED leak audit of Spoilt")


def test_checks_without_sense_are_skipped_and_say_why(rows):
    report = audit(Spoilt(0), rows, max_rows=2)
    assert str(report["item order"]) == "skipped item order: the system has no predict(sequences, item_ids)"
    with pytest.raises(KeyError):
        report["luck"]


def test_rows_of_which_little_is_known(rows):
    """A single target, a single item, the host's rows without times or users."""
    for sequences in (
        SessionSequences(np.array([[1, 2]]), num_items=20),
        SessionSequences(np.array([[1, 1, 1]])),
        host.SequenceInteractions(np.array([[0, 1, 2], [3, 4, 5]]), num_items=20),
    ):
        for system in (model_of("asars_time_user", "known", loss="cross_entropy"), VSTAN()):
            audit(system.fit(sequences), sequences).raise_for_failure()


def test_of_many_items_some_are_compared_and_always_those_of_the_rows(rows, monkeypatch):
    monkeypatch.setattr(changes, "MOST_ITEMS", 3)
    audited = changes.AuditedRows(rows, 2, 0)
    assert set(audited.rows.events[:, 0]) <= set(audited.items)
    assert len(audited.items) < 19
    audit(model_of("gru4rec", "known").fit(rows), rows, max_rows=2).raise_for_failure()
    assert not audit(Spoilt(audited.rows.user_ids[1]), rows, max_rows=2).passed


def test_wrong_input_is_refused(rows, refuses):
    system = Popularity().fit(rows)
    no_target = SessionSequences(np.array([[1, 2]]), targets=np.zeros((1, 2), dtype=bool))
    refuses(lambda: audit(system, no_target), "no event is a target")
    refuses(lambda: audit(system, rows, dwell="none"), "dwell is 'none'")
    refuses(lambda: audit(system, rows, max_rows=0), "max_rows is 0")

    class TooFew(Spoilt):
        def target_states(self, rows):
            return super().target_states(rows)[1:]

    with pytest.raises(ValueError, match="the system gives scores for"):
        audit(TooFew(0), rows)
