"""
The support filters that each format's logs get unless the user asks for others, and those that go by a name.

The paper's Table 1 keeps sessions of at least 2 events, items with at least 10 events and users with at least 10
sessions (MovieLens, Tianchi), 20 and 20 (its own log), or items with at least 20 and no users (RecSys 2015).
Section 3.1 splits "each dataset into sparse and dense two kinds of subsets" by support, and names no further numbers:
SPARSE and DENSE are the lower and the higher of the two that its table has. Filters are applied in turn until nothing
changes.

The split is the same for all: by time, sessions whose last event is after a boundary are test (`time_based_split`). The
paper does not name its boundary; here it leaves a fifth of the sessions to the test part.
"""

from collections.abc import Mapping
from types import MappingProxyType

from spotlight_asars.cross_validation import SupportFilters

PAPER = SupportFilters(item_support=10, session_length=2, user_sessions=10)
SPARSE = PAPER
DENSE = SupportFilters(item_support=20, session_length=2, user_sessions=20)
RECSYS15 = SupportFilters(item_support=20, session_length=2, user_sessions=1)
# The paper's 10 sessions a user leave nothing of MovieLens 100K, where most users rated everything in one
# sitting. Counted on u.data with one-hour sessions and filters to a fixed point; "kept" is the share of the
# test events left after a split at the 80 % quantile of session ends, without users and items that the
# training part lacks, and "targets" are the events after the first in the test sessions left:
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
# Two sessions a user leave the most to train on among the settings with a history for every user, and
# with the paper's item support the most targets.
MOVIELENS_100K = SupportFilters(item_support=10, session_length=2, user_sessions=2)
NAMED: Mapping[str, SupportFilters] = MappingProxyType(
    {"paper": PAPER, "sparse": SPARSE, "dense": DENSE, "recsys15": RECSYS15, "movielens-100k": MOVIELENS_100K}
)
