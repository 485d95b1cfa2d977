"""
Time exact ranking over all items against Spotlight's ``sequence_mrr_score`` and the official GRU4Rec's ``batch_eval``.

    OMP_NUM_THREADS=1 python benchmarks/evaluation_speed.py --train train.txt --test valid.txt \\
        --spotlight CHECKOUT --gru4rec CHECKOUT --out benchmarks/results/evaluation_speed.json

All rank one test part (RecSys 2015 clicks) with nets of the same sizes, which are barely trained:

- ours: targets per second of ``rank_targets``: states, scores of all items, and exact ranks with the tie rule. Rows are
  prepared beforehand, except against GRU4Rec, where ``to_session_sequences`` is timed too.
- Spotlight: sequences per second of ``sequence_mrr_score``, which ranks the last item of each sequence. Its sequences
  are windows of every prefix (``step_size=1``), so it ranks the same kind of targets; a sample of ``--sequences``.
- GRU4Rec: targets per second of ``batch_eval`` at four cutoffs, batches of 512 sessions, with a new iterator each time.

They take turns in one process; the reported ratio is the median over consecutive pairs. Memory is the peak above the
start, for catalogues of growing size and two settings of ``memory_mib``. The script prints a table and writes JSON.
"""

import argparse
import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measuring import about_this_run, peak_mib, take_back_peak

from spotlight_asars.evaluation import rank_targets
from spotlight_asars.experiments.logs import LogChoice, prepare_log
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.serialization.files import write_whole

ROWS_TO_FIT = 200
LONGEST = 20
CUTOFFS = [10, 20, 30, 40]


class Timed:
    """A wrapper that times the states and the scores of a system."""

    def __init__(self, system: object) -> None:
        self.system, self.seconds = system, {"states": 0.0, "scores": 0.0}

    def target_states(self, sequences: SessionSequences) -> torch.Tensor:
        return self._counted("states", self.system.target_states, sequences)

    def item_scores(self, states: torch.Tensor) -> torch.Tensor:
        return self._counted("scores", self.system.item_scores, states)

    def _counted(self, name: str, call: Callable, argument: object) -> torch.Tensor:
        begin = time.perf_counter()
        result = call(argument)
        self.seconds[name] += time.perf_counter() - begin
        return result


class RandomVectors:
    """A system of random vectors: one matrix product per block, for any catalogue."""

    num_users = 1

    def __init__(self, num_items: int, dim: int) -> None:
        torch.manual_seed(0)
        self.items, self.blocks = torch.randn(num_items - 1, dim), []

    def target_states(self, sequences: SessionSequences) -> torch.Tensor:
        return torch.randn(sequences.num_targets, self.items.shape[1])

    def item_scores(self, states: torch.Tensor) -> torch.Tensor:
        self.blocks.append(len(states))
        return states @ self.items.T


def seconds_of(call: Callable, *arguments: object) -> float:
    """Return the seconds of one call, and discard what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        begin = time.perf_counter()
        call(*arguments)
        return time.perf_counter() - begin


def our_model(representation: str, train: SessionSequences, dim: int) -> ASARSSequenceModel:
    """Return a net after one epoch on a few rows; its cost does not depend on its weights."""
    # The hidden state of Spotlight's own lstm always has the size of the embeddings.
    options = {"representation_options": {"hidden_dim": dim}} if representation == "gru4rec" else {}
    loss = "cross_entropy" if representation == "gru4rec" else "bpr"
    model = ASARSSequenceModel(
        representation=representation, embedding_dim=dim, n_iter=1, random_state=0, loss=loss, **options
    )
    return model.fit(train.rows(np.arange(ROWS_TO_FIT)))


def spotlights(checkout: Path, split: object, dim: int, how_many: int) -> tuple[object, object]:
    """Return Spotlight's model and a sample of its own sequences of the test part."""
    sys.path.insert(0, str(checkout))
    from spotlight.interactions import Interactions, SequenceInteractions
    from spotlight.sequence.implicit import ImplicitSequenceModel

    def sequences_of(part: object) -> object:
        # One user per session: the log is anonymous.
        log = Interactions(part.session_ids.astype(np.int32), part.item_ids, timestamps=np.arange(len(part)),
                           num_items=part.num_items)  # fmt: skip
        return log.to_sequence(max_sequence_length=LONGEST, min_sequence_length=2, step_size=1)

    train, test = sequences_of(split.train), sequences_of(split.test)
    draw = np.random.RandomState(0)
    model = ImplicitSequenceModel(representation="lstm", embedding_dim=dim, n_iter=1, random_state=draw)
    model.fit(SequenceInteractions(train.sequences[:ROWS_TO_FIT], num_items=train.num_items))
    drawn = np.random.RandomState(0).permutation(len(test.sequences))[:how_many]
    return model, SequenceInteractions(test.sequences[drawn], num_items=test.num_items)


def official_gru4rec(checkout: Path, train: Path, test: Path, dim: int) -> tuple[Callable[[], object], int]:
    """Return GRU4Rec's evaluation of the same test events, and the number of targets it ranks."""
    sys.path.insert(0, str(checkout))
    from evaluation import batch_eval
    from gru4rec_pytorch import GRU4Rec

    logs = [pd.read_csv(path, sep="\t", dtype={"ItemId": str}) for path in (train, test)]
    net = GRU4Rec(layers=[dim], n_epochs=0, device=torch.device("cpu"))
    with contextlib.redirect_stdout(io.StringIO()):
        net.fit(logs[0], compatibility_mode=False)  # compatibility mode fails on newer numpy
    known = logs[1][logs[1].ItemId.isin(set(logs[0].ItemId))].reset_index(drop=True)
    targets = int((known.groupby("SessionId").size() - 1).sum())
    return lambda: batch_eval(net, known.copy(), cutoff=CUTOFFS), targets


def in_turn(ours: Callable, theirs: Callable, counts: tuple[int, int], repetitions: int) -> dict:
    """Run both in turn, several times; return rates and the median ratio of consecutive pairs."""
    seconds = {"ours": [], "theirs": []}
    seconds_of(ours), seconds_of(theirs)  # first calls load modules
    for _ in range(repetitions):
        seconds["ours"].append(seconds_of(ours))
        seconds["theirs"].append(seconds_of(theirs))
    rates = {name: count / np.array(seconds[name]) for name, count in zip(seconds, counts, strict=True)}
    return {"seconds": seconds, "counts": dict(zip(seconds, counts, strict=True)),
            "rates": {name: float(np.median(rate)) for name, rate in rates.items()},
            "ratios": (rates["ours"] / rates["theirs"]).tolist(),
            "ratio": float(np.median(rates["ours"] / rates["theirs"]))}  # fmt: skip


def parts_of_time(model: object, rows: SessionSequences, repetitions: int) -> dict:
    """Return the median seconds of states, scores and ranks."""
    found = []
    for _ in range(repetitions):
        timed = Timed(model)
        timed.num_users = rows.num_users
        whole = seconds_of(rank_targets, timed, rows)
        found.append({**timed.seconds, "ranks": whole - sum(timed.seconds.values())})
    return {name: float(np.median([one[name] for one in found])) for name in found[0]}


def memory(num_items: int, setting: float, targets: int, dim: int) -> dict:
    """Return the peak MiB of ranking this many targets, above the system and the rows."""
    items = np.random.RandomState(0).randint(1, num_items, size=(targets // 10, 11))
    rows, system = SessionSequences(items, num_items=num_items), RandomVectors(num_items, dim)
    torch.set_num_threads(1)
    before = take_back_peak()
    seconds = seconds_of(rank_targets, system, rows, setting)
    return {"items": num_items, "memory_mib": setting, "peak_mib": peak_mib() - before, "block": max(system.blocks),
            "targets": rows.num_targets, "seconds": seconds}  # fmt: skip


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--spotlight", type=Path, help="a checkout of Spotlight")
    parser.add_argument("--gru4rec", type=Path, help="a checkout of GRU4Rec's official PyTorch code")
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--sequences", type=int, default=1_000, help="sequences that Spotlight ranks in a repetition")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--catalogues", type=int, nargs="+", default=[2_000, 20_000, 200_000], help="sizes, for memory")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {**about_this_run(), "sizes": {"dim": options.dim, "sequences": options.sequences}}
    catalogues = [(number, setting) for setting in (64.0, 256.0) for number in options.catalogues]
    # One process each, so that none reuses memory freed by another.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        found["memory"] = [pool.submit(memory, *one, 1_000, options.dim).result() for one in catalogues]
    split = prepare_log(LogChoice(train=options.train, test=options.test, log_format="recsys15")).split
    train = to_session_sequences(split.train)
    bins = {"binning": train.binning, "gap_binning": train.gap_binning}
    test = to_session_sequences(split.test, **bins)
    targets = test.num_targets
    print(f"{targets:,} targets, {test.num_items - 1:,} items, {options.dim} dimensions")
    if options.spotlight:
        model, sequences = spotlights(options.spotlight, split, options.dim, options.sequences)
        from spotlight.evaluation import sequence_mrr_score

        lstm = our_model("lstm", train, options.dim)
        found["spotlight"] = in_turn(lambda: rank_targets(lstm, test), lambda: sequence_mrr_score(model, sequences),
                                     (targets, len(sequences.sequences)), options.repetitions)  # fmt: skip
        found["spotlight"]["parts"] = parts_of_time(lstm, test, options.repetitions)
    if options.gru4rec:
        evaluate, their_targets = official_gru4rec(options.gru4rec, options.train, options.test, options.dim)
        gru = our_model("gru4rec", train, options.dim)
        found["gru4rec"] = in_turn(lambda: rank_targets(gru, to_session_sequences(split.test, **bins)), evaluate,
                                   (targets, their_targets), options.repetitions)  # fmt: skip
        found["gru4rec"]["parts"] = parts_of_time(gru, test, options.repetitions)
    for name in ("spotlight", "gru4rec"):
        if name in found:
            one, parts = found[name], found[name]["parts"]
            print(f"{name:>10}: ours {one['rates']['ours']:,.0f} a second, theirs {one['rates']['theirs']:,.0f}: "
                  f"{one['ratio']:.1f} times ({min(one['ratios']):.1f} to {max(one['ratios']):.1f}); ours spends "
                  + ", ".join(f"{part} {seconds:.3f} s" for part, seconds in parts.items()))  # fmt: skip
    print(f"{'items':>9} {'memory_mib':>11} {'block':>6} {'peak MiB':>9} {'seconds':>8}   (1,000 targets)")
    for one in found["memory"]:
        print(f"{one['items']:9,d} {one['memory_mib']:11.0f} {one['block']:6d} {one['peak_mib']:9.1f} "
              f"{one['seconds']:8.2f}")  # fmt: skip
    if options.out:
        write_whole(options.out, json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
