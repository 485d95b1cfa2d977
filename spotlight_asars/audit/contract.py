"""The contract of every ``Recommender``, as a list of checks: ``check_recommender``."""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from spotlight_asars.audit.leaks import audit
from spotlight_asars.audit.report import LeakError
from spotlight_asars.cross_validation import time_based_split
from spotlight_asars.errors import InputError
from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.channels import DWELL, ITEM, SESSION_START, TARGET, TIME, TIME_ORIGIN
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.serialization.models import MODEL, load_model, registered_kinds, save_model

CLOSE = 1e-5  # relative to the largest score, where sums may be taken in another order
LOGS = ("anonymous", "users", "dwell")


class ContractError(AssertionError):
    """A recommender breaks its contract; the message is one line that names the check and what went wrong."""


class _Broken(Exception):
    """What a check found wrong."""


@dataclass(frozen=True)
class _Case:
    """A system fitted on one generated log."""

    unfitted: Recommender
    system: Recommender
    train: SessionSequences
    test: SessionSequences
    has_users: bool

    @property
    def history(self) -> dict:
        """One request for `recommend`, of items, times and perhaps a user that the system knows."""
        items = self.system.raw_items.raw_ids[[2, 0, 4]].tolist()
        user = {"user": self.system.raw_users.raw_ids[0]} if self.has_users else {}
        return {"items": items, "timestamps": [1.4e9, 1.4e9 + 30.0, 1.4e9 + 50.0], **user}


def generated_log(kind: str) -> pd.DataFrame:
    """
    Return a small log: 14 items in a noisy ring, with a fixed seed.

    Parameters
    ----------
    kind : {'anonymous', 'users', 'dwell'}
        Anonymous sessions of equal dwell; users with three sessions each; or users, where a long dwell on an item makes
        it come again.
    """
    draw = np.random.RandomState(LOGS.index(kind))
    events = []
    for session in range(36):
        item, seconds = draw.randint(14), 1.4e9 + session * 10_000.0
        for _ in range(draw.randint(3, 7)):
            dwell = draw.randint(1, 200) if kind == "dwell" else 20
            events.append((f"user {session % 12}", f"session {session}", f"item {item}", seconds))
            seconds += dwell
            item = item if kind == "dwell" and dwell > 120 else (item + draw.randint(1, 3)) % 14
    log = pd.DataFrame(events, columns=["user", "session", "item", "timestamp"])
    return log.drop(columns="user" if kind == "anonymous" else "session")


def check_recommender(system: Recommender) -> None:
    """
    Check that a recommender keeps the contract that the whole package relies on.

    Clones of the system are fitted on three small generated logs (anonymous, with users, with informative dwell; the
    seeds are fixed) and used in every way that the package uses them. The checks, in order:

    - parameters: `get_params` gives the constructor's arguments, `set_params` changes and refuses, a clone is equal;
    - not fitted: scoring, recommending and explaining raise one clear InputError before `fit`;
    - fit: it returns the system, remembers the numbering of the rows, and leaves the system it was cloned from alone;
    - random state: torch's global random state is unchanged by scoring, and by the fit of a system that is not random;
    - target states: one a target, in order; slices score alike; scores are finite float32;
    - predict: one and many sequences, `item_ids`, and the score of the padding;
    - recommend: raw ids, k, `exclude_seen`, `now`, lists and DataFrames agree;
    - explain: the explained item is the best one, and attention is there exactly if `has_attention` says so;
    - foreign rows: other vocabularies, dwell bins, items or users are refused;
    - foreign ids: `predict` refuses numbers that the system does not know;
    - state: `from_state(state())` scores the same, fitted or not;
    - file: `load_model` of a file of `save_model` scores the same;
    - session: live sessions agree with `recommend`, or are refused by one clear InputError;
    - leak audit: nothing that comes later moves a score, see :func:`spotlight_asars.audit.audit`;
    - evaluation: `recommend` and `predict` score a history as evaluation scores the target that follows it.

    Parameters
    ----------
    system : Recommender
        Not fitted, and small: it is fitted three times.

    Raises
    ------
    ContractError
        With one line that names the first check that failed.
    InputError
        If the system is not a Recommender, or is already fitted.
    """
    if not isinstance(system, Recommender):
        raise InputError(f"{type(system).__name__} is not a Recommender: derive it from sequence.Recommender")
    if system.is_fitted:
        raise InputError("the system is already fitted: give check_recommender an unfitted one; it fits clones of it")
    _run(system, "parameters", _check_parameters, system)
    _run(system, "not fitted", _check_not_fitted, system)
    for kind in LOGS:
        log = SessionInteractions.from_log(generated_log(kind))
        split = time_based_split(log, 0.25)
        train = to_session_sequences(split.train)
        bins = {"binning": train.binning, "gap_binning": train.gap_binning}
        test = to_session_sequences(split.test, history=split.train, **bins)
        case = _run(system, "fit", _check_fit, system, train, test, kind != "anonymous")
        for name, check in CHECKS.items():
            _run(system, name, check, case)


def _run(system: Recommender, name: str, check: Callable, *arguments: object) -> object:
    """Run a check, and say in one line what failed."""
    try:
        return check(*arguments)
    except Exception as error:  # a faulty system may raise anything
        known = isinstance(error, _Broken | LeakError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        raise ContractError(f"{type(system).__name__} fails the check {name!r}: {' '.join(reason.split())}") from error


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise _Broken(reason)


def _require_refusal(call: Callable[[], object], what: str) -> None:
    """Raise unless a call raises an error of one line that is an InputError or another ValueError."""
    try:
        call()
    except ValueError as error:
        _require(bool(str(error)) and "\n" not in str(error), f"{what} is refused, but not by one line of text")
        return
    except Exception as error:
        raise _Broken(f"{what} ends in a {type(error).__name__}, not an InputError: {error}") from error
    raise _Broken(f"{what} is not refused")


def _clone(system: Recommender) -> Recommender:
    return system.__sklearn_clone__()


def _scores(system: Recommender, rows: SessionSequences) -> np.ndarray:
    with torch.no_grad():
        return torch.as_tensor(system.item_scores(system.target_states(rows))).cpu().numpy()


def _require_close(found: Iterable, expected: Iterable, what: str) -> None:
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    _require(found.shape == expected.shape, f"{what}: the shapes are {found.shape} and {expected.shape}")
    apart = np.abs(found - expected).max(initial=0.0)
    _require(bool(apart <= CLOSE * max(1.0, np.abs(expected).max(initial=0.0))), f"{what}: they differ by {apart:.3g}")


def _check_parameters(system: Recommender) -> None:
    parameters = system.get_params()
    copy = _clone(system)
    _require(type(copy) is type(system) and copy is not system, "a clone is no new object of the same class")
    _require(not copy.is_fitted, "a clone is fitted")
    theirs = copy.get_params()
    _require(set(theirs) == set(parameters), "a clone has other parameters")
    for name, value in parameters.items():
        if isinstance(value, int | float | str | bool | None):
            _require(theirs[name] == value, f"a clone has {name}={theirs[name]!r} and the system {value!r}")
    _require(copy.set_params(**parameters) is copy, "set_params does not return the system")
    _require_refusal(lambda: copy.set_params(no_such_parameter_=1), "set_params of an unknown parameter")


def _check_not_fitted(system: Recommender) -> None:
    rows = SessionSequences(np.array([[1, 2, 3]]))
    for name, call in (
        ("check_fitted", system.check_fitted),
        ("target_states", lambda: system.target_states(rows)),
        ("predict", lambda: system.predict(np.array([1]))),
        ("recommend", lambda: system.recommend(["a"])),
        ("explain", lambda: system.explain(["a"], attention=False)),
        ("session", system.session),
    ):
        _require_refusal(call, f"{name} before fit")


def _check_fit(unfitted: Recommender, train: SessionSequences, test: SessionSequences, has_users: bool) -> _Case:
    system = _clone(unfitted)
    state = torch.get_rng_state()
    _require(system.fit(train) is system, "fit does not return the system")
    if not torch.equal(torch.get_rng_state(), state):
        # Spotlight seeds torch globally when a model is made, and draws from its global state in fit.
        _require(system.is_random, "fit changes torch's global random state, and is_random is False")
    _require(system.is_fitted, "the system is not fitted after fit: call keep_numbering in fit")
    _require(not unfitted.is_fitted, "fitting a clone fits the original")
    for name in ("num_items", "num_users", "item_vocabulary", "user_vocabulary", "binning", "gap_binning"):
        _require(getattr(system, name) == getattr(train, name), f"{name} is not that of the training part")
    if parameters := unfitted.get_params():
        _require_refusal(lambda: system.set_params(**parameters), "set_params of a fitted system")
    return _Case(unfitted, system, train, test, has_users)


def _check_random_state(case: _Case) -> None:
    state = torch.get_rng_state()
    _scores(case.system, case.test)
    case.system.recommend(**case.history)
    case.system.predict(np.array([1, 2]))
    _require(torch.equal(torch.get_rng_state(), state), "scoring changes torch's global random state")


def _check_target_states(case: _Case) -> None:
    system, rows = case.system, case.test
    states = system.target_states(rows)
    _require(len(states) == rows.num_targets, f"there are {len(states)} states for {rows.num_targets} targets")
    scores = system.item_scores(states)
    _require(isinstance(scores, torch.Tensor), f"item_scores gives a {type(scores).__name__}, no tensor")
    _require(scores.dtype == torch.float32, f"scores are of type {scores.dtype}, not float32")
    shape = (rows.num_targets, system.num_items - 1)
    _require(tuple(scores.shape) == shape, f"scores have shape {tuple(scores.shape)}, not {shape}")
    scores = scores.detach().cpu().numpy()
    _require(bool(np.isfinite(scores).all()), "a score is not finite")
    middle = len(states) // 2
    parts = [system.item_scores(states[one]).detach().cpu().numpy() for one in (slice(0, middle), slice(middle, None))]
    _require_close(np.concatenate(parts), scores, "two slices of the states and all of them")
    _require(len(system.item_scores(states[:0])) == 0, "an empty slice of the states has scores")
    reverse = np.arange(len(rows))[::-1]
    place = np.split(np.arange(rows.num_targets), np.cumsum(rows.targets_a_row)[:-1])
    order = np.concatenate([place[row] for row in reverse])
    _require_close(_scores(system, rows.rows(reverse)), scores[order], "rows in reverse order")
    shares = system.item_probabilities(states).detach().cpu().numpy()
    _require(shares.shape == shape and bool((shares >= 0).all()), "an item probability is negative")
    _require(bool((shares.sum(axis=1) <= 1 + 1e-4).all()), "the item probabilities of a target sum to more than 1")


def _check_predict(case: _Case) -> None:
    system = case.system
    sequences = np.array([[0, 1, 2], [3, 1, 2], [0, 0, 4]])
    scores = system.predict(sequences)
    _require(scores.shape == (3, system.num_items), f"three sequences have scores of shape {scores.shape}")
    _require(scores.dtype == np.float32, f"predict gives {scores.dtype}, not float32")
    padding = np.finfo(np.float32).min
    _require(bool((scores[:, 0] == padding).all()), "the padding does not get the smallest float32")
    one = system.predict(sequences[1])
    _require(one.shape == (system.num_items,), f"one sequence has scores of shape {one.shape}")
    _require_close(one[1:], scores[1, 1:], "one sequence and the same in a batch")
    _require_close(system.predict(np.array([1, 2]))[1:], scores[0, 1:], "a sequence with and without padding")
    wanted = np.array([5, 2, 7])
    for item_ids in (wanted, wanted[:, None]):
        _require_close(system.predict(sequences, item_ids), scores[:, wanted], "item_ids and all items")
    dwell, starts = np.ones_like(sequences), np.zeros(sequences.shape, dtype=bool)
    again = system.predict(sequences, user_ids=0, dwell=dwell, session_starts=starts)
    _require_close(again[:, 1:], scores[:, 1:], "unknown dwell, user 0 and one session, given and by default")
    if case.has_users:
        users = system.predict(sequences, user_ids=np.array([1, 2, 3]))
        _require(users.shape == scores.shape, "user_ids change the shape of the scores")


def _check_recommend(case: _Case) -> None:
    system, history = case.system, case.history
    everything = system.recommend(**history, k=100)
    _require(set(everything) == set(system.raw_items.raw_ids), "k=100 of 14 items does not give all raw ids")
    _require(system.recommend(**history, k=3) == everything[:3], "the best 3 are not the first 3 of all")
    pairs = system.recommend(**history, k=100, return_scores=True)
    values = [score for _, score in pairs]
    _require(values == sorted(values, reverse=True), "recommendations are not in the order of their scores")
    unseen = system.recommend(**history, k=100, exclude_seen=True)
    expected = [item for item in everything if item not in history["items"]]
    _require(sorted(unseen) == sorted(expected), "exclude_seen gives an item of the history, or leaves out others")
    many = {name: [value] * 2 for name, value in history.items()}
    twice = system.recommend(**many, k=100, return_scores=True)
    for found in twice:
        ours = dict(pairs)
        _require_close([score for _, score in found], [ours[item] for item, _ in found], "one history and two")
    later = history["timestamps"][-1] + 10.0
    now = system.recommend(**history, k=100, now=later, return_scores=True)
    if system.dwell != "observed":
        found, expected = dict(now), dict(pairs)
        order = list(expected)
        _require_close([found[item] for item in order], [expected[item] for item in order], "now moves scores")
    frame = pd.DataFrame({"item": history["items"], "timestamp": history["timestamps"]})
    if case.has_users:
        frame["user"] = history["user"]
    table = system.recommend(frame, k=3)
    _require({"rank", "item", "score"} <= set(table.columns), "a DataFrame's answer lacks rank, item or score")
    _require_close(table["score"], values[:3], "a DataFrame and a list")
    _require_refusal(lambda: system.recommend(**history, k=0), "k=0")


def _check_explain(case: _Case) -> None:
    system, history = case.system, case.history
    found = system.explain(**history, attention=False)
    best, score = system.recommend(**history, k=1, return_scores=True)[0]
    _require(found.rank == 1 and len(found.events) == len(history["items"]), "explain does not explain the best item")
    _require_close([found.score], [score], f"the explained score and that of {best!r}")
    if system.has_attention:
        weights = system.explain(**history).events["attention"]
        _require(bool(weights.notna().all()), "has_attention is True, and an event has no attention weight")
    else:
        _require_refusal(lambda: system.explain(**history), "attention of a system where has_attention is False")


def _check_foreign_rows(case: _Case) -> None:
    system = case.system

    def refused(what: str, **changes: object) -> None:
        other = case.test.rows(np.arange(len(case.test)))
        for name, value in changes.items():
            setattr(other, name, value)
        _require_refusal(lambda: system.target_states(other), f"rows with {what}")

    reverse = Vocabulary(case.train.item_vocabulary.raw_ids[::-1])
    refused("another item vocabulary", item_vocabulary=reverse)
    refused("other dwell bins", binning=ScottBinning(max_bins=7).fit(np.arange(1.0, 500.0)))
    refused("more items", num_items=system.num_items + 5)
    refused("more users", num_users=system.num_users + 5)


def _check_foreign_ids(case: _Case) -> None:
    system = case.system
    for sequences in ([system.num_items], [-1], [1.5]):
        _require_refusal(lambda given=sequences: system.predict(np.array(given)), f"predict of {sequences}")
    _require_refusal(lambda: system.predict(np.array([1]), np.array([system.num_items])), "an item id out of range")
    _require_refusal(lambda: system.predict(np.array([1]), user_ids=system.num_users), "a user id out of range")


def _check_state(case: _Case) -> None:
    kind = type(case.system)
    if case.unfitted.state().code or case.system.state().code:
        return  # settings that are code are given again, which only their user can
    copy = kind.from_state(case.system.state())
    _require(type(copy) is kind, f"from_state gives a {type(copy).__name__}")
    _require(
        bool((_scores(copy, case.test) == _scores(case.system, case.test)).all()),
        "the system from from_state scores differently",
    )
    _require(not kind.from_state(case.unfitted.state()).is_fitted, "from_state of an unfitted system is fitted")


def _check_file(case: _Case) -> None:
    kind = type(case.system)
    if kind not in registered_kinds(MODEL):
        _require_refusal(
            lambda: save_model(case.system, Path(tempfile.gettempdir()) / "unregistered.h5"),
            "a file of a class without @register_kind('model')",
        )
        return
    if case.system.state().code:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        save_model(case.system, path)
        copy = load_model(path)
    _require(type(copy) is kind, f"load_model gives a {type(copy).__name__}")
    _require(
        bool((_scores(copy, case.test) == _scores(case.system, case.test)).all()), "a loaded model scores differently"
    )
    history = case.history
    _require(copy.recommend(**history) == case.system.recommend(**history), "a loaded model recommends differently")


def _check_session(case: _Case) -> None:
    system, history = case.system, case.history
    try:
        live = system.session(history.get("user"))
    except InputError as error:
        _require("\n" not in str(error), "live sessions are refused, but not by one line of text")
        return
    _require(system.has_live_sessions, "session() answers, and has_live_sessions is False")
    for item, seconds in zip(history["items"], history["timestamps"], strict=True):
        live.observe(item, seconds)
    expected = dict(system.recommend(**history, k=100, return_scores=True))
    found = live.recommend(100, return_scores=True)
    _require_close(
        [score for _, score in found], [expected[item] for item, _ in found], "a live session and the whole history"
    )


def _check_leaks(case: _Case) -> None:
    audit(case.system, case.test, max_rows=4, max_cuts=2).raise_for_failure()


def _check_evaluation(case: _Case) -> None:
    system, rows = case.system, case.test
    scores = _scores(system, rows)
    for number in range(0, rows.num_targets, max(1, rows.num_targets // 5)):
        event = int(np.flatnonzero(rows.events[:, TARGET])[number])
        row = int(np.searchsorted(rows.offsets, event, side="right")) - 1
        before = rows.events[rows.offsets[row] : event]
        times = before[:, TIME] + float(TIME_ORIGIN)
        user = system.raw_users.raw_ids[rows.user_ids[row] - 1] if case.has_users else None
        now = float(rows.events[event, TIME]) + TIME_ORIGIN
        raw = system.raw_items.inverse(before[:, ITEM]).tolist()
        found = dict(system.recommend(raw, times, user, k=100, now=now, return_scores=True))
        found = [found[item] for item in system.raw_items.raw_ids]
        _require_close(found, scores[number], "evaluation and recommend")
        starts = before[:, SESSION_START]
        found = system.predict(before[:, ITEM], None, rows.user_ids[row], before[:, DWELL], starts, times)
        _require_close(found[1:], scores[number], "evaluation and predict")


CHECKS: dict[str, Callable[[_Case], None]] = {
    "random state": _check_random_state,
    "target states": _check_target_states,
    "predict": _check_predict,
    "recommend": _check_recommend,
    "explain": _check_explain,
    "foreign rows": _check_foreign_rows,
    "foreign ids": _check_foreign_ids,
    "state": _check_state,
    "file": _check_file,
    "session": _check_session,
    "leak audit": _check_leaks,
    "evaluation": _check_evaluation,
}
