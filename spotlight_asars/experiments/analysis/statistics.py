"""What a log is like, as the paper's Figure 1 asks: the session's main items, repeats, and dwell times."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

from spotlight_asars.cross_validation import in_test_part
from spotlight_asars.errors import InputError
from spotlight_asars.experiments.logs import tied_share
from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.sessionization import ANONYMOUS_USER, changes, dwell_times
from spotlight_asars.interactions.sessions import LogCounts, SessionInteractions

MOST_COMMON = 10  # items of a session, by their events in it
SESSIONS_BACK = 10
HISTOGRAM_BINS = 60
SHOWN = 0.98  # of the dwell times are inside the histogram's range


@dataclass(frozen=True)
class DwellTimes:
    """
    How long events were dwelt on, in seconds.

    Attributes
    ----------
    known : int
        Events that are not the last of their session, so that their dwell is known.
    zero_share : float
        Share of these that lasted no time; the gamma distribution is fitted to the others.
    quantiles : dict
        The quartiles and the 99th percentile of the known.
    edges, density : float64 arrays of shape (bins + 1,) and (bins,)
        A histogram of those above zero, up to where 98 % of them lie; its density is of all above zero.
    shape, scale : float
        Of the gamma distribution, by maximum likelihood; NaN with fewer than two different values.
    bins : float64 array
        The edges of the Scott bins that nets see, in seconds.
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
    Figure 1 of the paper for a log, and what to know before a model is trained on it.

    Attributes
    ----------
    counts : LogCounts
    items_in_session, categories_in_session : float64 array of shape (10,), or None
        Mean share of a session's events that are of its most common item, its second, ...; None without categories.
    repeated_items, repeated_categories : float64 array of shape (10,), or None
        Mean share of a session's events whose item its user has met in the 1, 2, ... sessions before; None without
        users who come back.
    dwell : DwellTimes or None
        None where no session has two events.
    shares : dict
        Of events with a time that another event of their session has; of sessions of one event; of the events of a
        split by time's test part, those of items and users that the training part has not. NaN where there is none.
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
    Count what Figure 1 shows.

    Parameters
    ----------
    events : SessionInteractions
    categories : SessionInteractions, optional
        The same events with their items' categories as items.
    test_share : float, optional
        Share of the sessions that the cold shares' test part has.
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
    Mean over sessions of the share of events that are of the session's j-th most common item.

    Returns
    -------
    float64 array of shape (most,)
        A session with fewer different items has 0 for the rest.
    """
    order = np.lexsort((events.item_ids, events.session_ids))
    session, item = events.session_ids[order], events.item_ids[order]
    first = np.flatnonzero(changes(session) | changes(item))  # (pairs,), of a session and an item
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
    Mean over sessions of the share of events whose item their user has met in the n sessions before.

    Only sessions of users who have an earlier one count; anonymous ones are of nobody.

    Returns
    -------
    float64 array of shape (back,), or None
        For n = 1, 2, ...; None where no user comes back.
    """
    named = events.user_ids != ANONYMOUS_USER
    user, item, session = events.user_ids[named], events.item_ids[named], events.session_ids[named]
    if not len(user):
        return None
    opens_session, opens_user = changes(session), changes(user)
    number = np.cumsum(opens_session) - 1  # of the session among those of named users
    visit = number - np.maximum.accumulate(np.where(opens_user, number, 0))  # how many sessions of the user came before
    order = np.lexsort((visit, item, user))
    again = ~(changes(user[order]) | changes(item[order]))  # the same user met the same item before
    apart = np.where(again, np.diff(visit[order], prepend=0), 0)
    # Further events of one session are as far from the session before as its first is.
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
    The distribution of dwell times, with its gamma fit (paper Figure 1) and Scott bins (Eq. 8).

    Parameters
    ----------
    seconds : float64 array of shape (events,)
        NaN where unknown.
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
    """Shares of the test part's events whose item, or whose user, the training part has not."""
    try:
        is_test, _ = in_test_part(events, test_share)
    except InputError:  # too few sessions to be split
        return {"events_of_cold_items": np.nan, "events_of_cold_users": np.nan}
    cold_item = _unseen(events.item_ids, is_test)
    named = events.user_ids[is_test] != ANONYMOUS_USER
    cold_user = _unseen(events.user_ids, is_test)[named]
    users = float(cold_user.mean()) if len(cold_user) else np.nan
    return {"events_of_cold_items": float(cold_item.mean()), "events_of_cold_users": users}


def _unseen(ids: np.ndarray, is_test: np.ndarray) -> np.ndarray:
    """Of each test event, whether its id stands in no training event."""
    seen = np.zeros(int(ids.max()) + 1, dtype=bool)
    seen[ids[~is_test]] = True
    return ~seen[ids[is_test]]


def as_json(analysis: Analysis) -> dict:
    """The analysis in types that JSON has; None for what is unknown."""
    return _plain(asdict(analysis))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(one) for one in value.tolist()]
    return None if isinstance(value, float) and not np.isfinite(value) else value
