"""The moments of a session as input (paper section 2.2): session gap, session duration, hour and weekday."""

import torch
from torch import Tensor, nn

from spotlight_asars.host import ZeroEmbedding
from spotlight_asars.interactions.channels import SESSION_GAP_BIN, SESSION_START, TIME, UNKNOWN_TIME
from spotlight_asars.interactions.times import SECONDS_PER_DAY

CONTEXTS = ("session_gap", "session_duration", "hour", "weekday")
_SECONDS_PER_HOUR = 3600
_DURATION_BINS = 34  # 0 unknown, then powers of two seconds up to the 32 bits of the TIME channel


class ContextEmbedding(nn.Module):
    """
    The sum of an embedding for each kind of time asked for, all zero at the start.

    Each is known at the moment of the event it belongs to: nothing here looks at a later event.

    Parameters
    ----------
    contexts : tuple of str
        Of CONTEXTS.
    dim : int
    num_gap_bins : int
        Bins of the session gap.
    sparse : bool, optional
    """

    def __init__(self, contexts: tuple[str, ...], dim: int, num_gap_bins: int, sparse: bool = False) -> None:
        super().__init__()
        sizes = {"session_gap": num_gap_bins, "session_duration": _DURATION_BINS, "hour": 25, "weekday": 8}
        self.tables = nn.ModuleDict(
            {name: ZeroEmbedding(sizes[name], dim, padding_idx=0, sparse=sparse) for name in contexts}
        )

    def forward(self, events: Tensor) -> Tensor:
        """(batch, time, channel) to (batch, time, dim)."""
        return sum(table(context_of(name, events)) for name, table in self.tables.items())


def context_of(name: str, events: Tensor) -> Tensor:
    """
    One kind of time as a number for each event; 0 where it is unknown or does not apply.

    Parameters
    ----------
    name : str
        'session_gap': the bin of the pause before a session, at its first event; 'session_duration': the power of two
        of the seconds since the session began, plus 1; 'hour': 1 to 24, UTC; 'weekday': 1 (Monday) to 7, UTC.
    events : int64 tensor of shape (batch, time, channel)

    Returns
    -------
    int64 tensor of shape (batch, time)
    """
    if name == "session_gap":
        return events[:, :, SESSION_GAP_BIN]
    seconds = events[:, :, TIME]  # (batch, time)
    if name == "session_duration":
        begin = _at_session_start(seconds, events[:, :, SESSION_START])
        since = (seconds - begin).clamp(min=0)
        number = (since + 1).to(torch.float64).log2().long() + 1
        number = torch.where(begin == UNKNOWN_TIME, 0, number)
    # As in Python, torch's remainder is never negative, so times before the origin fall into the right hour.
    elif name == "hour":
        number = seconds % SECONDS_PER_DAY // _SECONDS_PER_HOUR + 1
    else:
        number = seconds % (7 * SECONDS_PER_DAY) // SECONDS_PER_DAY + 1
    return torch.where(seconds == UNKNOWN_TIME, 0, number)


def _at_session_start(seconds: Tensor, starts: Tensor) -> Tensor:
    """The time at which each event's session begins; a row that begins inside a session takes its own first."""
    place = torch.arange(seconds.shape[1], device=seconds.device)  # (time,)
    latest = (place * (starts != 0)).cummax(dim=1).values if seconds.shape[1] else seconds  # (batch, time)
    return seconds.gather(1, latest)
