"""Helpers shared by the tests of hostile input."""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.rules import SequentialRules


@pytest.fixture(scope="session")
def three_items():
    """Rows of two users with sessions of the items a, b and c."""
    log = pd.DataFrame({"user": [1, 1, 1, 2, 2, 2] * 3, "item": list("abcbca") * 3, "timestamp": np.arange(18.0) * 10})
    return to_session_sequences(SessionInteractions.from_log(log))


@pytest.fixture(scope="session")
def net(three_items):
    """A net fitted for one epoch."""
    return ASARSSequenceModel(n_iter=1, embedding_dim=4, random_state=0, representation="asars_time_att").fit(
        three_items
    )


@pytest.fixture(scope="session", params=["rules", "net"])
def system(request, three_items, net):
    """A system that counts, and one that learns."""
    return SequentialRules().fit(three_items) if request.param == "rules" else net
