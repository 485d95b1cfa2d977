"""
The default support filters of each log format, and those that have a name.

Filters are applied in turn until nothing changes. The paper's Table 1 keeps

- MovieLens, Tianchi: sessions with at least 2 events, items with at least 10 events, users with at least 10 sessions;
- the authors' own log: 2, 20 and 20;
- RecSys 2015: 2 and 20, without users.

Section 3.1 also splits "each dataset into sparse and dense two kinds of subsets" by support, but names no numbers:
SPARSE and DENSE are the lower and the higher thresholds of Table 1.

The split is the same for all formats: a session whose last event is after a boundary in time is test
(`time_based_split`). The paper does not give its boundary; the default leaves a fifth of the sessions to the test part.
"""

from collections.abc import Mapping
from types import MappingProxyType

from spotlight_asars.cross_validation import SupportFilters

PAPER = SupportFilters(item_support=10, session_length=2, user_sessions=10)
SPARSE = PAPER
DENSE = SupportFilters(item_support=20, session_length=2, user_sessions=20)
RECSYS15 = SupportFilters(item_support=20, session_length=2, user_sessions=1)
# The paper's 10 sessions per user leave nothing of MovieLens 100K, where most users rated everything in one sitting.
# Counts on u.data, with one-hour sessions and filters to a fixed point. The split is at the 80 % quantile of session
# ends: "kept" is the share of test events whose user and item are in the training part, "targets" is the number of
# kept events that are not the first of their session:
#
# (items, length, sessions)  users  items  sessions  events   kept  targets
# (10, 2, 10)                    0      0         0       0
# ( 5, 2, 10)                   21    473       282   4,099   36 %      175
# (10, 2,  5)                  108    732       892  19,956   56 %    1,579
# (10, 2,  4)                  147    832     1,077  26,829   49 %    1,762
# (10, 2,  3)                  210    906     1,279  35,675   39 %    1,869
# (10, 2,  2)                  349    986     1,569  52,119   24 %    2,127
# ( 5, 2,  2)                  349  1,194     1,594  53,536   24 %    2,216
# (10, 2,  1)                  943  1,150     2,184  97,454   10 %    1,661
#
# Among the settings that give every user a history, those with two sessions per user leave the most events. Of the
# settings with the paper's item support, this one also leaves the most targets.
MOVIELENS_100K = SupportFilters(item_support=10, session_length=2, user_sessions=2)
# All that can be learned from: an item that occurs once has nothing to be predicted by, a session of one event has
# nothing to predict. The default of logs in files of no known data set.
LEARNABLE = SupportFilters(item_support=2, session_length=2, user_sessions=1)
NAMED: Mapping[str, SupportFilters] = MappingProxyType(
    {
        "paper": PAPER,
        "sparse": SPARSE,
        "dense": DENSE,
        "learnable": LEARNABLE,
        "recsys15": RECSYS15,
        "movielens-100k": MOVIELENS_100K,
    }
)
