"""Time context as input (paper section 2.2): session gap, session duration, hour and weekday."""

from types import MappingProxyType

import torch
from torch import Tensor, nn

from spotlight_asars.host import ZeroEmbedding
from spotlight_asars.interactions.channels import SESSION_GAP_BIN, SESSION_START, TIME, UNKNOWN_TIME
from spotlight_asars.interactions.times import SECONDS_PER_DAY

CONTEXTS = ("session_gap", "session_duration", "hour", "weekday")
# Numbers of indices, with 0 for an unknown time.
PERIOD_SIZES = MappingProxyType({"weekday": 8, "hour": 25})
_DURATION_BINS = 34  # 0 for unknown, then powers of two seconds, up to the 32 bits of the TIME channel


class ContextEmbedding(nn.Module):
    """
    The sum of one embedding for each kind of time context, all zero at initialization.

    The context of an event is known when the event happens; it never depends on later events.

    Parameters
    ----------
    contexts : tuple of str
        A subset of CONTEXTS.
    dim : int
        Embedding dimension.
    num_gap_bins : int
        Number of session gap bins.
    sparse : bool, optional
        Use sparse gradients.
    """

    def __init__(self, contexts: tuple[str, ...], dim: int, num_gap_bins: int, sparse: bool = False) -> None:
        super().__init__()
        sizes = {"session_gap": num_gap_bins, "session_duration": _DURATION_BINS, **PERIOD_SIZES}
        self.tables = nn.ModuleDict(
            {name: ZeroEmbedding(sizes[name], dim, padding_idx=0, sparse=sparse) for name in contexts}
        )

    def forward(self, events: Tensor) -> Tensor:
        """Embed the context of events: (batch, time, channel) to (batch, time, dim)."""
        return sum(table(context_of(name, events)) for name, table in self.tables.items())


def context_of(name: str, events: Tensor) -> Tensor:
    """
    Return the index of each event's time context; 0 if it is unknown or does not apply.

    Parameters
    ----------
    name : {'session_gap', 'session_duration', 'hour', 'weekday'}
        'session_gap': the bin of the gap before the session, at its first event only. 'session_duration': 1 plus the
        power of two of the seconds since the session began. 'hour': 1 to 24, UTC. 'weekday': 1 (Monday) to 7, UTC.
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
    else:
        # torch's remainder is never negative, so times before the origin get the right hour and weekday, too.
        unit, period = (3600, SECONDS_PER_DAY) if name == "hour" else (SECONDS_PER_DAY, 7 * SECONDS_PER_DAY)
        number = seconds % period // unit + 1
    return torch.where(seconds == UNKNOWN_TIME, 0, number)


def _at_session_start(seconds: Tensor, starts: Tensor) -> Tensor:
    """Return the start time of each event's session; a row that begins inside a session uses its first event."""
    position = torch.arange(seconds.shape[1], device=seconds.device)  # (time,)
    latest = (position * (starts != 0)).cummax(dim=1).values if seconds.shape[1] else seconds  # (batch, time)
    return seconds.gather(1, latest)
