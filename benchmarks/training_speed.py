"""
Measure training speed next to Spotlight and GRU4Rec, on catalogues of growing size, and by part of a training step.

    OMP_NUM_THREADS=1 python benchmarks/training_speed.py --train train.txt --format recsys15 --spotlight CHECKOUT \\
        --gru4rec CHECKOUT --out benchmarks/results/training_speed.json

Spotlight and GRU4Rec run from their own code and take turns with ours in one process; without a checkout, that
comparison is skipped. Only real events count, never padding. Prints tables, writes JSON with every repetition.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import spotlight_asars
from spotlight_asars import host as spotlight_host
from spotlight_asars.cross_validation import rows_of, time_based_split
from spotlight_asars.datasets import FORMATS
from spotlight_asars.evaluation import metrics, rank_targets
from spotlight_asars.experiments.logs import LogChoice, training_log
from spotlight_asars.experiments.settings import CountingSettings, NetSettings, Training
from spotlight_asars.experiments.systems import settings_of
from spotlight_asars.interactions.channels import ITEM, TARGET
from spotlight_asars.interactions.rows import bounded_batches
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.layers.basic import Dropout
from spotlight_asars.layers.recurrent import EventLSTM
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.representations import asars as representations
from spotlight_asars.sequence.training import negatives, trainer
from spotlight_asars.serialization.files import write_whole

# Against Spotlight: its defaults.
DIM, ROWS, MAX_LENGTH = 32, 256, 200
LOSSES = {"bpr": 1, "adaptive_hinge": 5}  # negatives a target
FULL_ROWS = 1024  # of simulated users with MAX_LENGTH events each

# Against GRU4Rec: BPR-max with its authors' settings for clicks.
UNITS, SAMPLES, EVENTS = 100, 2048, 80
GRU4REC = {"layers": [UNITS], "loss": "bpr-max", "batch_size": EVENTS, "n_sample": SAMPLES, "sample_alpha": 0.4,
           "dropout_p_embed": 0.5, "dropout_p_hidden": 0.05, "learning_rate": 0.05, "momentum": 0.4, "bpreg": 1.95,
           "elu_param": 0.5, "constrained_embedding": True}  # fmt: skip
HELD_OUT = 0.15  # of the training part's sessions, the latest ones

CATALOGUES = (10_000, 100_000, 1_000_000, 4_000_000)
SAMPLINGS = {
    "local": {"loss": "bpr", "num_negative_samples": 5},
    "shared": {"loss": "bpr_max", "sampling": "shared", "num_negative_samples": 256},
}


def time_user(loss: str, num_negative_samples: int, **settings) -> ASARSSequenceModel:
    """Return the paper's net: recurrent layers over items and over dwell, attention, user embeddings."""
    options = {"hidden_dim": DIM, **settings.pop("representation_options", {})}
    settings = {"embedding_dim": DIM, "batch_size": ROWS, "n_iter": 1, "random_state": 0, **settings}
    return ASARSSequenceModel(
        loss, "asars_time_user", num_negative_samples=num_negative_samples, representation_options=options, **settings
    )


def full_rows(num_items: int) -> SessionInteractions:
    """Return users with as many random events as a row holds, so that nothing is padded."""
    draw, events = np.random.RandomState(0), FULL_ROWS * MAX_LENGTH
    seconds = draw.randint(1, 600, size=(FULL_ROWS, MAX_LENGTH)).cumsum(axis=1).ravel()
    users = np.repeat(np.arange(1, FULL_ROWS + 1), MAX_LENGTH)
    return SessionInteractions(users, draw.randint(1, num_items, size=events), timestamps=seconds, num_items=num_items)


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds of one call, by the wall clock."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def beside_spotlight(log: SessionInteractions, losses: list[str], repetitions: int) -> Iterator[dict]:
    """Time epochs of ours and of Spotlight's LSTM, on the log's sessions and on full rows."""
    interactions = importlib.import_module("spotlight.interactions")
    implicit = importlib.import_module("spotlight.sequence.implicit")
    for name, events, rows_of_users in (
        ("sessions", log, log.session_ids),
        ("full rows", full_rows(log.num_items), None),
    ):
        users = events.user_ids if rows_of_users is None else np.unique(rows_of_users, return_inverse=True)[1]
        theirs = interactions.Interactions(
            users.astype(np.int32), events.item_ids, timestamps=events.timestamps, num_items=events.num_items
        ).to_sequence(max_sequence_length=MAX_LENGTH)
        ours = to_session_sequences(events, MAX_LENGTH)
        for loss, samples in [(loss, LOSSES[loss]) for loss in losses]:
            spotlight = implicit.ImplicitSequenceModel(
                loss, "lstm", DIM, n_iter=1, batch_size=ROWS, num_negative_samples=samples,
                random_state=np.random.RandomState(0),
            )  # fmt: skip
            model = time_user(loss, samples)
            undropped = time_user(loss, samples, representation_options={"dropout": 0.0})  # Spotlight has none
            calls = {
                "ours": partial(model.fit, ours),
                "ours without dropout": partial(undropped.fit, ours),
                "spotlight": partial(spotlight.fit, theirs),
            }
            few = slice(2 * ROWS)  # warm-up: leave out what a first step loads
            spotlight.fit(interactions.SequenceInteractions(theirs.sequences[few], num_items=theirs.num_items))
            for net in (model, undropped):
                net.fit(ours.rows(few))
            found = {kind: [] for kind in calls}
            for _ in range(repetitions):
                for kind, call in calls.items():
                    found[kind].append(seconds_of(call))
            real = int((theirs.sequences != 0).sum())
            assert real == len(ours.events)
            yield {"rows": name, "loss": loss, "negatives": samples, "events": real,
                   "padded_positions": theirs.sequences.size,
                   "seconds": found}  # fmt: skip


class Gru4RecSystem:
    """Wrap a model of the official code so that `rank_targets` can rank with its scores of all items."""

    def __init__(self, model: object, num_items: int) -> None:
        self._model, numbers = model, model.data_iterator.itemidmap
        self._columns = torch.from_numpy(numbers.to_numpy().astype(np.int64))
        self._items = torch.from_numpy(numbers.index.to_numpy().astype(np.int64))
        self._num_items = num_items

    def target_states(self, sequences: SessionSequences) -> Tensor:
        """Return the GRU states before each target: (targets, units)."""
        net, events = self._model.model, torch.from_numpy(sequences.padded_events(np.arange(len(sequences))))
        place = torch.zeros(self._num_items, dtype=torch.long)
        place[self._items] = self._columns
        hidden = [torch.zeros(len(events), UNITS)]
        before = []
        with torch.no_grad():
            for event in events.unbind(1):  # (rows, channel)
                before.append(hidden[0])
                there = event[:, ITEM, None] != 0
                stepped = net.hidden_step(net.Wy(place[event[:, ITEM]]), [hidden[0]])
                hidden = [torch.where(there, stepped, hidden[0])]
        return torch.stack(before, dim=1)[events[:, :, TARGET] != 0]

    def item_scores(self, states: Tensor) -> Tensor:
        """Return the scores of all items: (targets, items); items that it does not know come last."""
        net = self._model.model
        scores = torch.full((len(states), self._num_items), -1e9)
        with torch.no_grad():
            scores[:, self._items] = net.score_items(states, net.Wy.weight, net.By.weight)[:, self._columns]
        return scores[:, 1:]


def our_rivals() -> dict[str, NetSettings | CountingSettings]:
    """Return our systems against GRU4Rec: with its settings, with faster ones, and ASARS systems of `compare`."""
    same = replace(settings_of("gru4rec_bpr_max"), batch_events=EVENTS, num_negative_samples=SAMPLES)
    return {
        "gru4rec_bpr_max": same,
        "gru4rec_bpr_max, 256 negatives": replace(same, batch_size=96, num_negative_samples=256, learning_rate=0.1),
        "asars_memory": settings_of("asars_memory"),
        "asars_time_user": settings_of("asars_time_user"),
        "asars_time_user, mixed lengths": replace(settings_of("asars_time_user"), mix_lengths=True),
    }


def beside_gru4rec(log: SessionInteractions, epochs: int) -> dict:
    """
    Measure MRR@20 and Recall@20 of held-out sessions by seconds of training; ours and theirs take turns, an epoch each.

    Seconds cover all of `fit`, including what comes before the first epoch. Non-neural systems are fitted once.
    """
    official: ModuleType = importlib.import_module("gru4rec_pytorch")
    split = time_based_split(log, HELD_OUT)
    train, test = rows_of(split, MAX_LENGTH)
    events = pd.DataFrame(
        {"SessionId": split.train.session_ids, "ItemId": split.train.item_ids, "Time": split.train.timestamps}
    )
    models = {name: settings.new_system(train, Training(epochs=1)) for name, settings in our_rivals().items()}
    curves = {name: [] for name in ("gru4rec", *models)}

    def ranked(name: str, system: object, seconds: float) -> None:
        so_far = curves[name][-1]["seconds"] if curves[name] else 0.0
        found = metrics(rank_targets(system, test), (20,))
        curves[name].append({"seconds": so_far + seconds, **found})

    class Turns(official.SessionDataIterator):
        """Their iterator, which runs an epoch of each of ours after each of its own, and times only itself."""

        def __call__(self, *arguments: object, **options: object) -> Iterator:
            begin = time.perf_counter()
            yield from super().__call__(*arguments, **options)
            ranked("gru4rec", Gru4RecSystem(theirs, log.num_items), time.perf_counter() - begin)
            for name, model in models.items():
                if isinstance(model, ASARSSequenceModel) or not curves[name]:
                    ranked(name, model, seconds_of(partial(model.fit, train)))

    torch.manual_seed(0)
    theirs = official.GRU4Rec(**GRU4REC, n_epochs=epochs, device=torch.device("cpu"))
    standing, official.SessionDataIterator = official.SessionDataIterator, Turns
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            theirs.fit(events, compatibility_mode=False)
    finally:
        official.SessionDataIterator = standing
    return {"events": len(train.events), "targets": test.num_targets, "epochs": epochs, "curves": curves}


def of_catalogue(num_items: int, sampling: str, batches: int) -> dict:
    """Time mini-batches of rows of random items from a catalogue of this size, in milliseconds."""
    draw, rows, length = np.random.RandomState(0), 64, 10
    items = draw.randint(1, num_items, size=(rows * batches, length))
    data = SessionSequences(items, np.arange(1, len(items) + 1), num_items)
    model = time_user(**SAMPLINGS[sampling], batch_size=rows, sparse=True)
    calls = [seconds_of(partial(model.fit, data)) for _ in range(3)]  # the first is a warm-up
    steps = [1e3 * record.seconds / batches for record in model.epoch_records[1:]]
    return {"items": num_items, "sampling": sampling, "rows": rows, "length": length,
            "milliseconds_a_mini_batch": steps, "seconds_a_call": calls[1:]}  # fmt: skip


# Parts of the forward pass: the functions to time.
WATCHED = (
    ("rows of a mini-batch", SessionSequences, "padded_events"),
    ("sampling", negatives, "sample_local_items"),
    ("recurrent layers, forward", EventLSTM, "forward"),
    ("recurrent layers, forward", EventLSTM, "with_newest"),
    ("attention, forward", representations, "triangle_attention"),
    ("dropout, forward", Dropout, "forward"),
    ("item projection, forward", representations.AsarsTimeUserNet, "_projected"),
    ("scores, forward", trainer, "score_items"),
    ("scores, forward", negatives, "score_items"),
    ("loss, forward", trainer.TrainingStep, "measure"),
)
# Parts of the backward pass: autograd nodes by prefix of their names.
NODES = {"MkldnnRnn": "recurrent layers", "LSTMRecurrence": "recurrent layers", "RunningMixture": "attention",
         "Embedding": "embeddings"}  # fmt: skip


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Mark the functions of WATCHED for torch's profiler, by the name of their part."""
    standing = [(holder, name, getattr(holder, name)) for _, holder, name in WATCHED]

    def marked(part: str, function: Callable) -> Callable:
        def call(*arguments: object, **options: object) -> object:
            with torch.profiler.record_function(f"part: {part}"):
                return function(*arguments, **options)

        return call

    for (part, holder, name), (_, _, function) in zip(WATCHED, standing, strict=True):
        setattr(holder, name, marked(part, function))
    try:
        yield
    finally:
        for holder, name, function in standing:
            setattr(holder, name, function)


def profile(rows: SessionSequences) -> dict:
    """Time a step by part, and torch's LSTMs alone on the same shapes, in milliseconds."""
    model = time_user("bpr", 1).fit(rows)
    model.fit(rows)
    batches = bounded_batches(rows.lengths, ROWS)
    whole = 1e3 * min(seconds_of(partial(model.fit, rows)) for _ in range(3)) / len(batches)
    with watched(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        under_profiler = 1e3 * seconds_of(partial(model.fit, rows)) / len(batches)
    parts: dict[str, float] = {}

    def add(part: str, microseconds: float) -> None:
        parts[part] = parts.get(part, 0.0) + microseconds / 1e3 / len(batches)

    for event in seen.key_averages():
        name, node = event.key, event.key.removeprefix("autograd::engine::evaluate_function: ")
        if name.startswith("part: "):
            add(name.removeprefix("part: "), event.cpu_time_total)
        elif node != name:
            part = next((part for begin, part in NODES.items() if node.startswith(begin)), "all else")
            add(f"{part}, backward", event.cpu_time_total)
        elif name.startswith("Optimizer.step"):
            add("optimizer", event.cpu_time_total)
    parts["all else"] = under_profiler - sum(parts.values())
    shapes = [(len(batch), int(rows.lengths[batch].max())) for batch in batches]
    floor = min(seconds_of(partial(lstm_alone, shapes)) for _ in range(3))
    return {"steps": len(batches), "milliseconds_a_step": whole, "under_the_profiler": under_profiler, "parts": parts,
            "lstm_alone_milliseconds_a_step": 1e3 * floor / len(batches)}  # fmt: skip


def lstm_alone(shapes: list[tuple[int, int]]) -> None:
    """Run torch's LSTM forward and backward, one over items and one over dwell bins."""
    layers = [nn.LSTM(size, DIM, batch_first=True) for size in (DIM, 16)]
    for rows, length in shapes:
        for layer in layers:
            layer(torch.randn(rows, length, layer.input_size, requires_grad=True))[0].sum().backward()


def about() -> dict:
    """Describe machine, versions and threads."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
                "spotlight_asars": spotlight_asars.__version__}  # fmt: skip
    return {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "load_before": os.getloadavg()[0]},
        "threads": torch.get_num_threads(),
        "versions": versions,
        "host": spotlight_host.NAME,
    }


def show_spotlight(found: dict) -> None:
    """Print two lines of the table."""
    best = {kind: min(seconds) for kind, seconds in found["seconds"].items()}
    for kind in ("ours", "ours without dropout"):
        ratios = np.divide(found["seconds"]["spotlight"], found["seconds"][kind])
        own, spotlight = (found["events"] / best[one] for one in (kind, "spotlight"))
        print(
            f"{found['rows']:<10} {found['loss']:<15} {kind:<22} {own:>9,.0f} events/s, Spotlight {spotlight:>9,.0f}: "
            f"{np.median(ratios):5.2f} times",
            flush=True,
        )


def show_gru4rec(found: dict) -> None:
    """Print the speed, the best epoch, and when the best MRR@20 and Recall@20 of GRU4Rec were reached."""
    wanted = {metric: max(point[metric] for point in found["curves"]["gru4rec"]) for metric in ("mrr@20", "recall@20")}
    for name, curve in found["curves"].items():
        rate = found["events"] * len(curve) / curve[-1]["seconds"]
        best = max(curve, key=lambda point: point["mrr@20"])
        reached = [
            f"{metric} {least:.4f} "
            + next((f"after {point['seconds']:.1f} s" for point in curve if point[metric] >= least), "not reached")
            for metric, least in wanted.items()
        ]
        print(f"{name:<30} {rate:>9,.0f} events/s, best {best['mrr@20']:.4f} / {best['recall@20']:.4f};", *reached)


def show_profile(found: dict) -> None:
    """Print the parts of a step."""
    for part, milliseconds in sorted(found["parts"].items(), key=lambda item: -item[1]):
        print(f"{part:<28} {milliseconds:8.2f} ms {100 * milliseconds / found['under_the_profiler']:5.1f} %")
    share = found["lstm_alone_milliseconds_a_step"] / found["milliseconds_a_step"]
    print(f"{'without the profiler':<28} {found['milliseconds_a_step']:8.2f} ms; two LSTMs alone: {share:.0%} of it")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="a log of sessions; no test part is read")
    parser.add_argument("--format", choices=sorted(FORMATS), required=True)
    parser.add_argument("--spotlight", type=Path, help="a checkout of Spotlight")
    parser.add_argument("--gru4rec", type=Path, help="a checkout of the official GRU4Rec for PyTorch")
    parser.add_argument("--losses", nargs="+", choices=tuple(LOSSES), default=list(LOSSES), help="against Spotlight")
    parser.add_argument("--repetitions", type=int, default=2, help="epochs against Spotlight (%(default)s)")
    parser.add_argument("--epochs", type=int, default=6, help="against GRU4Rec (%(default)s)")
    parser.add_argument("--catalogues", type=int, nargs="*", default=CATALOGUES, help="numbers of items, none to skip")
    parser.add_argument("--batches", type=int, default=12, help="mini-batches for each catalogue (%(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sys.path += [str(path) for path in (options.spotlight, options.gru4rec) if path]
    log = training_log(LogChoice(train=options.train, log_format=options.format), whole=True).events
    found: dict[str, object] = about()
    if options.spotlight:
        found["spotlight"] = []
        for one in beside_spotlight(log, options.losses, options.repetitions):
            show_spotlight(one)
            found["spotlight"].append(one)
    found["profile"] = {}
    for name, events in (("sessions", log), ("full rows", full_rows(log.num_items))):
        print(f"Parts of a step on {name}:")
        found["profile"][name] = profile(to_session_sequences(events, MAX_LENGTH))
        show_profile(found["profile"][name])
    found["catalogues"] = []
    for sampling in SAMPLINGS:
        for num_items in options.catalogues:
            one = of_catalogue(num_items, sampling, options.batches)
            found["catalogues"].append(one)
            step, call = (min(one[name]) for name in ("milliseconds_a_mini_batch", "seconds_a_call"))
            print(
                f"{num_items:>10,} items, {sampling:<7} {step:8.2f} ms a mini-batch, {call:6.2f} s a call", flush=True
            )
    if options.gru4rec:
        found["gru4rec"] = beside_gru4rec(log, options.epochs)
        show_gru4rec(found["gru4rec"])
    if options.out:
        write_whole(options.out, json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
