"""What a user should know about a log: what is dropped and why, and what would make figures mislead."""

from dataclasses import astuple

import numpy as np

from spotlight_asars.cross_validation import (
    ENOUGH,
    RARE_ITEM,
    RARE_USER,
    SHORT_SESSION,
    SupportFilters,
    TimeSplit,
    lacking_support,
)
from spotlight_asars.datasets import presets
from spotlight_asars.interactions.sessionization import NO_SESSION_GAP
from spotlight_asars.interactions.sessions import SessionInteractions

MUCH = 1 / 3  # of the events: said if more than this is dropped
FEW_TARGETS = 1000
MOST = 0.5  # of the sessions, or of the targets


def notes_on_filters(log: SessionInteractions, filters: SupportFilters) -> list[str]:
    """Return a line if the filters drop much of a log, and one if most of its sessions have a single event."""
    notes = []
    lengths = np.bincount(log.session_ids)
    single = float((lengths == 1).mean())
    if single > MOST:
        longer = "" if log.session_gap == NO_SESSION_GAP else "; a longer --session-gap, such as 1d, joins more of them"
        notes.append(f"{single:.0%} of the sessions have a single event, which nothing can be learned from{longer}")
    lacking = lacking_support(log, *astuple(filters))
    left = int((lacking == ENOUGH).sum())
    if left < (1 - MUCH) * len(log):
        counts = np.bincount(lacking, minlength=4)
        reasons = {
            f"of items with fewer than {filters.item_support} events": counts[RARE_ITEM],
            f"in sessions with fewer than {filters.session_length} events": counts[SHORT_SESSION],
            f"of users with fewer than {filters.user_sessions} sessions": counts[RARE_USER],
        }
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
        given = ",".join(map(str, astuple(filters)))
        notes.append(
            f"the filters {given} leave {left:,} of {len(log):,} events: {why}{_keeps_more(log, filters, left)}"
        )
    return notes


def _keeps_more(log: SessionInteractions, filters: SupportFilters, left: int) -> str:
    """Return which filters keep clearly more events, if there are any."""
    learnable = presets.LEARNABLE
    if all(have <= least for have, least in zip(astuple(filters), astuple(learnable), strict=True)):
        return ""
    more = int((lacking_support(log, *astuple(learnable)) == ENOUGH).sum())
    return f"; --filters {','.join(map(str, astuple(learnable)))} leaves {more:,}" if more > 1.1 * left else ""


def notes_on_split(split: TimeSplit) -> list[str]:
    """Return lines on a test part that lost much, is small, or repeats its last items."""
    notes, test = [], split.test
    if split.dropped_test_events > MUCH:
        whole = round(len(test) / (1 - split.dropped_test_events))
        rest = max(whole - len(test) - split.unseen_items - split.unseen_users, 0)
        reasons = {
            "of items that the training part lacks": split.unseen_items,
            "of users that it lacks": split.unseen_users,
            "left alone in their sessions": rest,
        }
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
        mend = "" if split.boundary is None else "; a smaller --test-share loses fewer"
        notes.append(f"{split.dropped_test_events:.0%} of {whole:,} test events are dropped: {why}{mend}")
    targets = len(test) - test.num_sessions
    if targets < FEW_TARGETS:
        margin = 1.0 / max(targets, 1) ** 0.5  # two standard errors of a share near a half
        notes.append(f"the test part has {targets:,} targets: its Recall is uncertain by {margin:.2f} either way")
    again = (np.diff(test.session_ids) == 0) & (np.diff(test.item_ids) == 0)
    repeats = float(again.sum() / max(targets, 1))
    if repeats > MOST:
        notes.append(
            f"{repeats:.0%} of the test targets repeat the item before: judge every system by repeat_last's row"
        )
    return notes
