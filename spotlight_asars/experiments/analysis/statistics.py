"""Statistics of a log after the paper's Figure 1: most common items, repeated items and dwell times."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

from spotlight_asars.cross_validation import in_test_part
from spotlight_asars.errors import InputError
from spotlight_asars.experiments.logs import tied_share
from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.sessionization import ANONYMOUS_USER, changes, dwell_times
from spotlight_asars.interactions.sessions import LogCounts, SessionInteractions

MOST_COMMON = 10  # ranks of items in a session, by number of events
SESSIONS_BACK = 10
HISTOGRAM_BINS = 60
SHOWN = 0.98  # share of the dwell times that the histogram covers


@dataclass(frozen=True)
class DwellTimes:
    """
    Distribution of dwell times, in seconds.

    Attributes
    ----------
    known : int
        Number of known dwell times: all events but the last of each session.
    zero_share : float
        Share of the known dwell times that are zero.
    quantiles : dict
        Quartiles and 99th percentile of the known dwell times.
    edges, density : float64 arrays of shape (bins + 1,) and (bins,)
        Histogram of the dwell times above zero, up to their 98th percentile; the density counts all of them.
    shape, scale : float
        Maximum likelihood fit of a gamma distribution to the dwell times above zero; NaN with fewer than two different
        values.
    bins : float64 array
        Edges of the Scott bins that nets read.
    """

    known: int
    zero_share: float
    quantiles: dict[str, float]
    edges: np.ndarray
    density: np.ndarray
    shape: float
    scale: float
    bins: np.ndarray


@dataclass(frozen=True)
class Analysis:
    """
    Figure 1 of the paper for a log, and further statistics to know before training.

    Attributes
    ----------
    counts : LogCounts
    items_in_session, categories_in_session : float64 array of shape (10,), or None
        Mean share of a session's events that belong to its most common item, its second, ...; None without categories.
    repeated_items, repeated_categories : float64 array of shape (10,), or None
        Mean share of a session's events whose item occurs in the user's previous 1, 2, ... sessions; None without
        returning users.
    dwell : DwellTimes or None
        None if no session has two events.
    shares : dict
        Shares of tied timestamps, of sessions with one event, and of test events (after a split by time) whose item or
        user is new. NaN where undefined.
    """

    counts: LogCounts
    items_in_session: np.ndarray
    categories_in_session: np.ndarray | None
    repeated_items: np.ndarray | None
    repeated_categories: np.ndarray | None
    dwell: DwellTimes | None
    shares: dict[str, float]


def analyse(
    events: SessionInteractions, categories: SessionInteractions | None = None, test_share: float = 0.2
) -> Analysis:
    """
    Compute the statistics of a log.

    Parameters
    ----------
    events : SessionInteractions
    categories : SessionInteractions, optional
        The same events, with categories in place of items.
    test_share : float, optional
        Share of the sessions in the test part, for the shares of new items and users.

    Returns
    -------
    Analysis
    """
    return Analysis(
        LogCounts.of(events),
        shares_of_most_common(events),
        None if categories is None else shares_of_most_common(categories),
        shares_of_repeats(events),
        None if categories is None else shares_of_repeats(categories),
        describe_dwell(dwell_times(events.timestamps, events.session_ids)),
        {**_tied_and_single(events), **cold_shares(events, test_share)},
    )


def shares_of_most_common(events: SessionInteractions, most: int = MOST_COMMON) -> np.ndarray:
    """
    Return the mean share of a session's events that belong to its j-th most common item.

    Returns
    -------
    float64 array of shape (most,)
        A session with fewer than `most` items counts as 0 for the remaining ranks.
    """
    order = np.lexsort((events.item_ids, events.session_ids))
    session, item = events.session_ids[order], events.item_ids[order]
    first = np.flatnonzero(changes(session) | changes(item))  # (pairs,), of session and item
    count = np.diff(np.append(first, len(order)))  # (pairs,)
    session = session[first]
    by_count = np.lexsort((-count, session))
    count, session = count[by_count], session[by_count]
    begin = np.flatnonzero(changes(session))  # (sessions,)
    rank = np.arange(len(count)) - np.repeat(begin, np.diff(np.append(begin, len(count))))  # (pairs,)
    length = np.bincount(events.session_ids)  # (sessions,)
    shown = rank < most
    return np.bincount(rank[shown], (count / length[session])[shown], minlength=most) / len(length)


def shares_of_repeats(events: SessionInteractions, back: int = SESSIONS_BACK) -> np.ndarray | None:
    """
    Return the mean share of a session's events whose item occurs in the user's previous n sessions.

    The mean is over the sessions of named users, without the first session of each.

    Returns
    -------
    float64 array of shape (back,), or None
        For n = 1, 2, ...; None if no user has two sessions.
    """
    named = events.user_ids != ANONYMOUS_USER
    user, item, session = events.user_ids[named], events.item_ids[named], events.session_ids[named]
    if not len(user):
        return None
    opens_session, opens_user = changes(session), changes(user)
    number = np.cumsum(opens_session) - 1  # of the session
    visit = number - np.maximum.accumulate(np.where(opens_user, number, 0))  # number of the user's previous sessions
    order = np.lexsort((visit, item, user))
    again = ~(changes(user[order]) | changes(item[order]))  # same user and item as in the row before
    apart = np.where(again, np.diff(visit[order], prepend=0), 0)
    # Later events of the same item in a session share the distance of the first.
    fresh = apart > 0
    source = np.maximum.accumulate(np.where(fresh | ~again, np.arange(len(order)), 0))
    distance = np.empty(len(order), dtype=np.int64)
    distance[order] = apart[source]
    counts = visit > 0
    if not counts.any():
        return None
    length = np.bincount(number)  # (sessions,)
    weight = counts / length[number]  # (events,)
    near = (distance > 0) & (distance <= back)
    found = np.bincount(distance[near] - 1, weight[near], minlength=back)
    return np.cumsum(found) / (visit[opens_session] > 0).sum()


def describe_dwell(seconds: np.ndarray) -> DwellTimes | None:
    """
    Describe the distribution of dwell times, with a gamma fit (the paper's Figure 1) and Scott bins (Eq. 8).

    Parameters
    ----------
    seconds : float64 array of shape (events,)
        Dwell times, NaN where unknown.

    Returns
    -------
    DwellTimes or None
        None if no dwell time is known.
    """
    known = seconds[~np.isnan(seconds)]
    if not len(known):
        return None
    above = known[known > 0.0]
    levels = {"25 %": 0.25, "50 %": 0.5, "75 %": 0.75, "99 %": 0.99}
    quantiles = {name: float(np.quantile(known, level)) for name, level in levels.items()}
    edges, density, shape, scale = np.zeros(1), np.zeros(0), np.nan, np.nan
    if len(above):
        end = float(np.quantile(above, SHOWN, method="higher"))
        counts, edges = np.histogram(above, HISTOGRAM_BINS, (0.0, end))
        density = counts / len(above) / np.diff(edges)
    if len(above) and above.min() < above.max():
        shape, _, scale = stats.gamma.fit(above, floc=0.0)
    binning = ScottBinning().fit(known)
    bins = binning.low + binning.width * np.arange(binning.num_known_bins + 1)
    zero_share = 1.0 - len(above) / len(known)
    return DwellTimes(len(known), zero_share, quantiles, edges, density, float(shape), float(scale), bins)


def _tied_and_single(events: SessionInteractions) -> dict[str, float]:
    length = np.bincount(events.session_ids)
    return {"tied_times": tied_share(events), "sessions_of_one_event": float((length == 1).mean())}


def cold_shares(events: SessionInteractions, test_share: float = 0.2) -> dict[str, float]:
    """Return the shares of test events whose item or user does not occur in the training part."""
    try:
        is_test, _ = in_test_part(events, test_share)
    except InputError:  # too few sessions to split
        return {"events_of_cold_items": np.nan, "events_of_cold_users": np.nan}
    cold_item = _unseen(events.item_ids, is_test)
    named = events.user_ids[is_test] != ANONYMOUS_USER
    cold_user = _unseen(events.user_ids, is_test)[named]
    users = float(cold_user.mean()) if len(cold_user) else np.nan
    return {"events_of_cold_items": float(cold_item.mean()), "events_of_cold_users": users}


def _unseen(ids: np.ndarray, is_test: np.ndarray) -> np.ndarray:
    """Return, for each test event, whether its id occurs in no training event."""
    seen = np.zeros(int(ids.max()) + 1, dtype=bool)
    seen[ids[~is_test]] = True
    return ~seen[ids[is_test]]


def as_json(analysis: Analysis) -> dict:
    """Return the analysis in JSON types, with None for NaN."""
    return _plain(asdict(analysis))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(one) for one in value.tolist()]
    return None if isinstance(value, float) and not np.isfinite(value) else value
