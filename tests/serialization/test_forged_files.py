"""Files with a right checksum that the package did not write: read as what they are, or refused with one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from spotlight_asars import host
from spotlight_asars.datasets.prepare import prepare
from spotlight_asars.datasets.prepared import LogOnDisk
from spotlight_asars.errors import InputError
from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import VSTAN
from spotlight_asars.sequence.non_neural.rules import Popularity, SequentialRules
from spotlight_asars.sequence.online.sessions import LiveSessions
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.sequence.representations.registry import BUILT_IN
from spotlight_asars.sequence.training.resuming import EpochRecord
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker
from spotlight_asars.sequence.two_stage.ranker import RankingNets
from spotlight_asars.serialization.hdf5 import CHECKPOINT, LIVE_SESSIONS, MODEL_FILE, PREPARED_LOG, write_sealed
from spotlight_asars.serialization.models import load_model, load_sessions, save_model, save_sessions
from spotlight_asars.serialization.state import SystemState, random_state_from

ROOT = Path(__file__).parents[2]
TOO_MANY = 10**13  # of which no machine has room for a number each


def forge(path, kind, *changes):
    """Change a file, and give it a right checksum."""
    original = path.with_suffix(".original")
    shutil.copy(path, original)

    def fill(file):
        with h5py.File(original) as source:
            for name in source:
                source.copy(name, file)
        for change in changes:
            change(file)

    write_sealed(path, fill, kind)


def put(name, **dataset):
    """Change: another dataset in the place of one."""

    def change(file):
        del file[name]
        file.create_dataset(name, **dataset)

    return change


def values(name, change):
    """Change: the values of an array; or its type or shape."""

    def changed(file):
        found = change(file[name][()].copy())
        del file[name]
        file[name] = found

    return changed


def entries(name, *path, **new):
    """Change: some entries of JSON, under a path in it."""

    def change(file):
        found = json.loads(file[name][()])
        inside = found
        for step in path:
            inside = inside[step]
        inside.update(new)
        del file[name]
        file[name] = np.bytes_(json.dumps(found))

    return change


def filled(place, value):
    """Return a function that sets values of an array."""

    def change(array):
        array[place] = value
        return array

    return change


@pytest.fixture(scope="module")
def model(rows):
    """A fitted net with users and dwell."""
    return ASARSSequenceModel(
        embedding_dim=6, n_iter=1, batch_size=8, random_state=3, representation_options={"hidden_dim": 6}
    ).fit(rows)


@pytest.fixture
def net_file(tmp_path, model):
    save_model(model, tmp_path / "net.h5")
    return tmp_path / "net.h5"


@pytest.fixture
def log_file(tmp_path):
    draw = np.random.RandomState(0)
    log = pd.DataFrame({"user": draw.randint(4, size=60), "item": draw.randint(9, size=60)})
    prepare([log.assign(timestamp=np.arange(60.0))], tmp_path / "log.h5")
    return tmp_path / "log.h5"


@pytest.fixture
def sessions_file(tmp_path, model):
    sessions = LiveSessions(model, [None, 105])
    for step in range(5):
        sessions.observe(["a", "b"], [1e6 + step, 1e6 + 2 * step])
    save_sessions(sessions, tmp_path / "sessions.h5")
    return tmp_path / "sessions.h5"


@pytest.fixture
def users_file(tmp_path, model):
    users = LiveUsers(model, most=10)
    for step in range(5):
        users.observe(f"key {step % 3}", "a", 1e6 + step)
    save_sessions(users, tmp_path / "users.h5")
    return tmp_path / "users.h5"


def fit(rows, checkpoint, **settings):
    """Fit up to the second epoch, from a checkpoint."""
    options = {"embedding_dim": 6, "n_iter": 2, "batch_size": 8, "random_state": 3, "representation": "gru4rec"}
    options["representation_options"] = {"hidden_dim": 6}
    return ASARSSequenceModel(**{**options, **settings}).fit(rows, checkpoint=checkpoint)


@pytest.fixture
def checkpoint_file(tmp_path, rows):
    fit(rows, tmp_path / "checkpoint.h5", n_iter=1)
    return tmp_path / "checkpoint.h5"


@pytest.fixture(params=["model", "checkpoint", "sessions", "log"])
def any_file(request, model, rows):
    """A file of each kind: its path, its kind, the name of an array in it, and a function that reads it."""
    fixtures = {"model": "net_file", "checkpoint": "checkpoint_file", "sessions": "sessions_file", "log": "log_file"}
    path = request.getfixturevalue(fixtures[request.param])
    kinds = {"model": MODEL_FILE, "checkpoint": CHECKPOINT, "sessions": LIVE_SESSIONS, "log": PREPARED_LOG}
    read = {
        "model": lambda: load_model(path),
        "checkpoint": lambda: fit(rows, path),
        "sessions": lambda: load_sessions(path, model),
        "log": lambda: LogOnDisk(path),
    }[request.param]
    with h5py.File(path) as file:
        names = {"sessions": "sessions/arrays/users", "log": "session_users"}
        names["model"] = "model/arrays/weights/item_embeddings.weight"
        names["checkpoint"] = "arrays/" + next(iter(file["arrays"])) if request.param == "checkpoint" else ""
    return path, kinds[request.param], names[request.param], read


class TestEveryKind:
    def test_no_other_file_is_read_through_external_storage(self, any_file, tmp_path, refuses):
        """`session_users` of a prepared log showed the bytes of any file of the machine."""
        path, kind, name, read = any_file
        (tmp_path / "secret").write_bytes(np.arange(10_000.0).tobytes())

        def change(file):
            shape, dtype = file[name].shape, file[name].dtype
            put(name, shape=shape, dtype=dtype, external=[(str(tmp_path / "secret"), 0, 80_000)])(file)

        forge(path, kind, change)
        refuses(read, str(path), "external")

    def test_no_other_file_is_read_through_a_virtual_dataset(self, any_file, tmp_path, refuses):
        path, kind, name, read = any_file
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["secret"] = np.arange(10_000.0)

        def change(file):
            layout = h5py.VirtualLayout(shape=file[name].shape, dtype=file[name].dtype)
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "secret", shape=file[name].shape)
            del file[name]
            file.create_virtual_dataset(name, layout)

        forge(path, kind, change)
        refuses(read, str(path), "virtual")

    @pytest.mark.parametrize("make", [lambda name: h5py.ExternalLink("other.h5", name), h5py.SoftLink])
    def test_no_link_leads_elsewhere(self, any_file, refuses, make):
        path, kind, name, read = any_file

        def change(file):
            file.move(name, "aside")
            file[name] = make("/aside")

        forge(path, kind, change)
        refuses(read, str(path), "a link to elsewhere")

    def test_an_array_is_not_linked_twice(self, any_file, refuses):
        """An array linked a thousand times would take a thousand times its room in the file."""
        path, kind, name, read = any_file
        forge(path, kind, lambda file: file.__setitem__(f"{name} again", file[name]))
        refuses(read, str(path), "linked twice")

    def test_a_diamond_of_links_does_not_hang(self, any_file, refuses):
        """25 groups, each linked twice from the one above, have 2**25 ways down."""
        path, kind, _, read = any_file

        def change(file):
            group = file[next(name for name in file if isinstance(file[name], h5py.Group))]
            for _ in range(25):
                below = group.create_group("left")
                group["right"] = below
                group = below

        forge(path, kind, change)
        refuses(read, str(path), "linked twice")

    def test_a_bomb_is_not_unpacked(self, any_file, refuses):
        path, kind, name, read = any_file
        bomb = {"shape": (2**31,), "dtype": np.float64, "chunks": (2**20,), "compression": "gzip"}
        forge(path, kind, put(name, **bomb))
        refuses(read, str(path), "compressed")

    def test_an_array_larger_than_the_file(self, any_file, refuses):
        path, kind, name, read = any_file
        forge(path, kind, put(name, shape=(2**40,), dtype=np.float64))
        refuses(read, str(path), "not a plain array")

    def test_a_whole_number_of_any_length(self, any_file, refuses):
        path, kind, _, read = any_file
        texts = {MODEL_FILE: "model/about", CHECKPOINT: "call", LIVE_SESSIONS: "sessions/about", PREPARED_LOG: "about"}
        for digits in ("1" * 30, "1" * 5000):
            forge(path, kind, put(texts[kind], data=np.bytes_(f'{{"kind": {digits}}}')))
            refuses(read, str(path), "63 bits")

    def test_escapes_are_shown_as_text(self, any_file):
        """A message is printed on a terminal, which escapes could reprogram."""
        path, kind, _, read = any_file
        forge(path, kind, lambda file: file.__setitem__("\x1b[31m", h5py.SoftLink("/a")))
        with pytest.raises(InputError) as caught:
            read()
        assert "\\x1b[31m" in str(caught.value) and str(caught.value).isprintable()


class TestModels:
    def refused(self, path, refuses, change, *parts):
        forge(path, MODEL_FILE, change)
        refuses(lambda: load_model(path), str(path), "no model can be created from it", *parts)

    @pytest.mark.parametrize("representation", [*BUILT_IN, "pooling", "cnn", "lstm"])
    def test_shapes_are_compared_before_a_net_is_made(self, representation, tmp_path, refuses):
        """`num_items` of 2e8 in a file of 19 kB took all memory."""
        rows = host.SequenceInteractions(np.array([[0, 1, 2, 3], [3, 2, 1, 4]]), num_items=6)
        path = tmp_path / "model.h5"
        save_model(ASARSSequenceModel(representation=representation, n_iter=1, random_state=0).fit(rows), path)
        self.refused(path, refuses, entries("model/about", "fitted", num_items=TOO_MANY), "the weight", str(TOO_MANY))

    @pytest.mark.parametrize("name", ["hidden_dim", "user_dim", "dwell_dim"])
    def test_options_of_the_net_too(self, name, net_file, refuses):
        """`hidden_dim` of 20,000 made weights of 13 GB."""
        change = entries("model/about", "settings", "representation_options", **{name: TOO_MANY // 10**6})
        self.refused(net_file, refuses, change, "the weight")

    def test_bins_too(self, net_file, refuses):
        parts = "model/parts/binning/about"
        forge(net_file, MODEL_FILE, entries(parts, "settings", max_bins=TOO_MANY))
        self.refused(net_file, refuses, entries(parts, "fitted", num_known_bins=TOO_MANY - 2), "the weight")

    def test_other_nets_of_a_model_too(self, rows, tmp_path, refuses):
        path = tmp_path / "model.h5"
        save_model(SessionMemory(rounds=1, steps=4).fit(rows), path)
        self.refused(path, refuses, entries("model/about", "settings", steps=TOO_MANY), "the weight lag")
        ranker = TwoStageRanker(
            [Member(lambda epochs: Popularity())], candidates=5, ranking=RankingNets(nets=1, epochs=1)
        ).fit(rows)
        save_model(ranker, path)
        part = "model/parts/fitted_ranking/about"
        self.refused(path, refuses, entries(part, "settings", hidden_dim=TOO_MANY // 10**6), "the weight own")

    @pytest.mark.parametrize("number", ["num_items", "num_users"])
    @pytest.mark.parametrize("more", [-1, 1])
    def test_a_vocabulary_has_as_many_ids_as_the_model(self, rows, tmp_path, refuses, number, more):
        path = tmp_path / "model.h5"
        system = Popularity().fit(rows)
        save_model(system, path)
        change = entries("model/about", "fitted", **{number: getattr(system, number) + more})
        self.refused(path, refuses, change, f"its {number} is")

    @pytest.mark.parametrize("name", ["item_vocabulary", "user_vocabulary", "binning"])
    def test_parts_of_another_type(self, net_file, refuses, name):
        def change(file):
            other = "gap_binning" if name.endswith("vocabulary") else "item_vocabulary"
            del file[f"model/parts/{name}"]
            file[f"model/parts/{name}"] = file[f"model/parts/{other}"]

        self.refused(net_file, refuses, change, f"numbering {name} is not a")

    def test_a_part_of_itself(self, net_file, refuses):
        def change(file):
            del file["model/parts/binning"]
            file["model/parts/binning"] = file["model"]

        self.refused(net_file, refuses, change, "is a part of itself")

    def test_a_binning_takes_its_own_attributes_alone(self, model):
        """`from_state` set whatever a file named, methods included."""
        state = model.binning.state()
        fitted = {**state.fitted, "transform": "anything", "max_bins": 10**9}
        binning = ScottBinning.from_state(SystemState(state.settings, fitted=fitted))
        assert vars(binning) == vars(model.binning)

    @pytest.mark.parametrize(
        "fitted",
        [{"low": 0.0}, {"low": "0"}, {"width": -1.0}, {"num_known_bins": 0}, {"num_known_bins": 129}, {"low": np.nan}],
    )
    def test_a_binning_with_other_values(self, model, refuses, fitted):
        state = model.binning.state()
        fitted = fitted if fitted == {"low": 0.0} else {**state.fitted, **fitted}
        refuses(lambda: ScottBinning.from_state(SystemState(state.settings, fitted=fitted)), "its binning")

    @pytest.mark.parametrize(
        ("settings", "part"),
        [
            ({"batch_size": "8"}, "setting batch_size is of another type than int"),
            ({"n_iter": 2.5}, "setting n_iter"),
            ({"learning_rate": [0.1]}, "setting learning_rate"),
            ({"use_cuda": None}, "setting use_cuda"),
            ({"representation": 3}, "setting representation"),
            ({"representation_options": []}, "setting representation_options"),
            ({"strange": 3}, "unknown setting 'strange'"),
            ({"self": 3}, "unknown setting 'self'"),
            ({"optimizer_func": {"optimizer": "Module", "keywords": {}}}, "no optimizer 'Module'"),
            ({"optimizer_func": {"optimizer": ["Adam"], "keywords": {}}}, "optimizer_func optimizer is not text"),
        ],
    )
    def test_settings_of_other_types(self, net_file, refuses, settings, part):
        self.refused(net_file, refuses, entries("model/about", "settings", **settings), part)

    @pytest.mark.parametrize(
        ("path", "new"),
        [
            ((), {"bit_generator": "PCG64"}),
            (("state",), {"pos": 10**6}),
            (("state",), {"pos": -1}),
            (("state",), {"key": [1] * 623}),
            (("state",), {"key": [2**32] * 624}),
            ((), {"has_gauss": "yes"}),
        ],
    )
    def test_a_random_state_that_numpy_would_take(self, net_file, refuses, path, new):
        """numpy reads past the end of the key."""
        self.refused(
            net_file, refuses, entries("model/about", "settings", "random_state", *path, **new), "random state"
        )

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("indices", filled(0, 10**6)),
            ("indices", filled(0, -1)),
            ("indptr", filled(1, 10**6)),
            ("indptr", lambda array: array[:-1]),
            ("data", lambda array: array[:-1]),
            ("data", filled(0, np.nan)),
        ],
    )
    def test_a_sparse_matrix_stays_inside(self, rows, tmp_path, refuses, name, change):
        """scipy's loops write wherever the indices lead."""
        path = tmp_path / "model.h5"
        save_model(SequentialRules().fit(rows), path)
        self.refused(path, refuses, values(f"model/arrays/rules/{name}", change))

    def test_a_sparse_matrix_of_another_shape(self, rows, tmp_path, refuses):
        path = tmp_path / "model.h5"
        save_model(SequentialRules().fit(rows), path)

        def change(file):
            file["model/arrays/rules"].attrs["csr_matrix"] = np.array([15, 10**9])

        self.refused(path, refuses, change, "shape (15, 15)")

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("items", filled(0, 15)),
            ("items", filled(0, 0)),
            ("sizes", filled(0, 10**6)),
            ("begin", filled(0, 5)),
            ("positions", lambda array: array[:-1]),
            ("item_weights", filled(3, np.inf)),
        ],
    )
    def test_arrays_of_the_neighbours(self, rows, tmp_path, refuses, name, change):
        path = tmp_path / "model.h5"
        save_model(VSTAN(k=5).fit(rows), path)
        self.refused(path, refuses, values(f"model/arrays/{name}", change))

    def test_a_ranker_with_parts_of_another_model(self, rows, tmp_path, refuses):
        path = tmp_path / "model.h5"
        save_model(TwoStageRanker([Member(lambda epochs: Popularity())], candidates=5).fit(rows), path)
        change = entries("model/parts/features/about", "fitted", num_items=9)
        self.refused(path, refuses, change, "features counts")


class TestCheckpoints:
    def refused(self, path, rows, refuses, change, *parts):
        forge(path, CHECKPOINT, change)
        refuses(lambda: fit(rows, path), str(path), *parts)

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("exp_avg", lambda array: array.reshape(-1)[:0]),
            ("exp_avg", lambda array: array[:1, :1]),
            ("exp_avg_sq", lambda array: array[None].repeat(2, axis=0)),
            ("exp_avg_sq", lambda array: array.T),
            ("step", lambda array: array.reshape(-1)[:0]),
            ("step", lambda array: array[None].repeat(2, axis=0)),
        ],
    )
    def test_an_optimizer_state_of_another_shape(self, checkpoint_file, rows, refuses, name, change, monkeypatch):
        """The fused step wrote beyond its end: heap corruption, or a crash."""
        with h5py.File(checkpoint_file) as file:
            optimizer = dict(json.loads(file["state"][()])["dict"])["state"]["tuple"][1]
        of_first_weight = dict(dict(optimizer["dict"])["state"]["dict"])[0]
        array = dict(of_first_weight["dict"])[name]["tensor"]
        monkeypatch.setattr(torch.optim.Adam, "step", lambda self: pytest.fail("a step was taken"))
        self.refused(
            checkpoint_file, rows, refuses, values(f"arrays/{array}", change), f"optimizer's {name} has the shape"
        )

    @pytest.mark.parametrize(
        "change",
        [
            lambda state: state["dict"][0][1]["dict"].clear(),  # no state of any parameter
            lambda state: state["dict"].reverse(),
        ],
    )
    def test_what_does_no_harm(self, checkpoint_file, rows, change):
        """A parameter may have no state yet, and a dict has no order."""
        forge(checkpoint_file, CHECKPOINT, self.optimizers(change))
        fit(rows, checkpoint_file)

    @pytest.mark.parametrize(
        "change",
        [
            lambda state: state["dict"][0][1]["dict"][0][1]["dict"].pop(),  # exp_avg_sq of the first
            lambda state: state["dict"][0][1]["dict"][0].__setitem__(0, 99),
            lambda state: state["dict"][1][1]["list"].clear(),
            lambda state: state["dict"][1][1]["list"][0]["dict"][0].__setitem__(1, "fast"),  # lr
            lambda state: state["dict"][1][1]["list"][0]["dict"][-1].__setitem__(1, {"list": [0, 0]}),  # params
        ],
    )
    def test_an_optimizer_state_of_another_form(self, checkpoint_file, rows, refuses, change):
        self.refused(checkpoint_file, rows, refuses, self.optimizers(change), "optimizer")

    def optimizers(self, change):
        """Change both states of the optimizer: the last one and that of the best weights."""

        def changed(file):
            plain = json.loads(file["state"][()])
            found = dict(plain["dict"])
            change(found["state"]["tuple"][1])
            change(dict(found["run"]["dict"])["kept_state"]["tuple"][1])
            del file["state"]
            file["state"] = np.bytes_(json.dumps(plain))

        return changed

    def test_weights_of_another_shape(self, checkpoint_file, rows, refuses):
        with h5py.File(checkpoint_file) as file:
            name = next(name for name, array in file["arrays"].items() if array.shape == (15, 6))
        self.refused(checkpoint_file, rows, refuses, values(f"arrays/{name}", lambda array: array[:-1]), "(14, 6)")

    def test_an_array_that_is_used_again_and_again(self, checkpoint_file, rows, refuses):
        """A reference takes 80 bytes in the file, and the room of its array in memory."""

        def change(file):
            plain = json.loads(file["state"][()])
            name = max(file["arrays"], key=lambda name: file["arrays"][name].nbytes)
            plain["dict"].append(["more", {"list": [{"tensor": name}] * 5000}])
            del file["state"]
            file["state"] = np.bytes_(json.dumps(plain))

        self.refused(checkpoint_file, rows, refuses, change, "too often")

    @pytest.mark.parametrize(
        ("entry", "value"),
        [
            ("run", 3),
            ("random_state", {"dict": []}),
            ("torch_random_states", {"list": [3]}),
            ("torch_random_states", {"list": []}),
            ("epoch_records", {"list": [{"dict": [["epoch", "x"]]}]}),
            ("state", {"list": []}),
            ("state", {"tensor": "nothing"}),
            ("state", {"set": []}),
            ("state", {"dict": [[1.5, 2]]}),
            ("state", {"dict": [3]}),
            ("state", [3]),
        ],
    )
    def test_a_state_of_another_form(self, checkpoint_file, rows, refuses, entry, value):
        def change(file):
            plain = json.loads(file["state"][()])
            next(one for one in plain["dict"] if one[0] == entry)[1] = value
            del file["state"]
            file["state"] = np.bytes_(json.dumps(plain))

        self.refused(checkpoint_file, rows, refuses, change)

    def test_a_random_state_of_torch(self, checkpoint_file, rows, refuses):
        with h5py.File(checkpoint_file) as file:
            name = next(name for name, array in file["arrays"].items() if array.dtype == np.uint8)
        self.refused(checkpoint_file, rows, refuses, values(f"arrays/{name}", lambda array: array * 0 + 255))

    @pytest.mark.parametrize(
        "optimizer",
        [
            *("Adadelta", "Adagrad", "Adamax", "AdamW", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"),
            *(["Adafactor"] if hasattr(torch.optim, "Adafactor") else []),  # since torch 2.5
        ],
    )
    def test_the_state_of_every_optimizer_is_taken(self, optimizer, rows, tmp_path):
        """The trial step leaves no trace: the result is that of a call that never stopped."""
        made_by = getattr(torch.optim, optimizer)
        never_stopped = fit(rows, None, optimizer_func=made_by)
        fit(rows, tmp_path / "checkpoint.h5", optimizer_func=made_by, n_iter=1)
        resumed = fit(rows, tmp_path / "checkpoint.h5", optimizer_func=made_by)
        np.testing.assert_array_equal(resumed.predict([1, 2]), never_stopped.predict([1, 2]))

    def test_the_state_of_sparse_gradients_is_taken(self, rows, tmp_path):
        settings = {"sparse": True, "loss": "sampled_cross_entropy"}
        never_stopped = fit(rows, None, **settings)
        fit(rows, tmp_path / "checkpoint.h5", n_iter=1, **settings)
        resumed = fit(rows, tmp_path / "checkpoint.h5", **settings)
        np.testing.assert_array_equal(resumed.predict([1, 2]), never_stopped.predict([1, 2]))


SESSIONS = "sessions/arrays"


class TestLiveSessions:
    @pytest.mark.parametrize(
        "change",
        [
            values(f"{SESSIONS}/users", filled(0, 99)),
            values(f"{SESSIONS}/users", filled(0, -1)),
            values(f"{SESSIONS}/users", lambda array: array.astype(float)),
            values(f"{SESSIONS}/users", lambda array: np.zeros(3, np.int64)),
            values(f"{SESSIONS}/events", filled((0, 0, 0), 15)),  # an item
            values(f"{SESSIONS}/events", filled((0, 3, 1), 10**6)),  # a bin
            values(f"{SESSIONS}/events", filled((0, 3, 6), 13)),  # a user
            values(f"{SESSIONS}/events", lambda array: array[:, :3]),
            values(f"{SESSIONS}/latest_time", filled(0, np.nan)),
            values(f"{SESSIONS}/newest_time", lambda array: array[:1]),
            values(f"{SESSIONS}/starts_next", lambda array: array.astype(np.int64)),
            values(f"{SESSIONS}/memory/recurrent", lambda array: array[:, :-1]),
            values(f"{SESSIONS}/seen/items", filled(0, 15)),
            values(f"{SESSIONS}/seen/items", lambda array: array[:-1]),
            values(f"{SESSIONS}/seen/taken", filled(0, 2**40)),
            values(f"{SESSIONS}/seen/taken", filled(0, -1)),
            values(f"{SESSIONS}/seen/earlier", filled(0, 99)),
            lambda file: file.__delitem__(f"{SESSIONS}/memory"),
            entries("sessions/about", fitted=None),
            entries("sessions/about", "fitted", form="2"),
            entries("sessions/about", kind="Vocabulary"),
        ],
    )
    def test_arrays_that_do_not_fit_the_model(self, sessions_file, model, refuses, change):
        """101 of 158 forged files ended in another error than an InputError, some only when they were used."""
        forge(sessions_file, LIVE_SESSIONS, change)
        refuses(lambda: load_sessions(sessions_file, model), f"{sessions_file}: no live sessions can be created")

    @pytest.mark.parametrize(
        "change",
        [
            values("sessions/arrays/places", filled(0, 1024)),
            values("sessions/arrays/places", filled(0, -1)),
            values("sessions/arrays/places", lambda array: array * 0),
            values("sessions/arrays/places", lambda array: array[:-1]),
            entries("sessions/about", "settings", most=0),
            entries("sessions/about", "settings", most="10"),
            lambda file: file.move("sessions/parts/block_0", "sessions/parts/block_1"),
            lambda file: file.move("sessions/parts/keys", "sessions/parts/block_1"),
            lambda file: file.__delitem__("sessions/parts/block_0"),
        ],
    )
    def test_users_without_a_session_each(self, users_file, model, refuses, change):
        forge(users_file, LIVE_SESSIONS, change)
        refuses(lambda: load_sessions(users_file, model), f"{users_file}: no live sessions can be created")

    def test_a_part_is_not_live_sessions(self, users_file, model, refuses):
        def change(file):
            keys = file["sessions/parts/keys"]
            del file["sessions"]
            file["sessions"] = keys

        forge(users_file, LIVE_SESSIONS, change)
        refuses(lambda: load_sessions(users_file, model), "holds a Vocabulary, which is not live sessions")


class TestPreparedLogs:
    @pytest.mark.parametrize(
        "change",
        [
            values("items", filled(0, 10)),
            values("items", filled(0, 0)),
            values("items", lambda array: array[:-1]),
            values("items", lambda array: array.astype(np.int64)),
            values("timestamps", filled(0, np.nan)),
            values("timestamps", filled(0, np.inf)),
            values("session_offsets", filled(0, 1)),
            values("session_offsets", filled(-1, 99)),
            values("session_offsets", lambda array: array[:1]),
            values("session_offsets", lambda array: array[::-1].copy()),
            values("session_users", filled(0, 0)),
            values("session_users", filled(0, 5)),
            values("session_users", lambda array: array[:-1]),
            entries("about", session_gap="3600"),
            entries("about", session_gap=-1.0),
            put("about", data=np.bytes_("[]")),
            lambda file: file.__delitem__("user_vocabulary"),
            lambda file: file.__delitem__("item_vocabulary/arrays/ids"),
            entries("item_vocabulary/fitted", type="category"),
            put("item_vocabulary/fitted", data=np.bytes_("null")),
        ],
    )
    def test_numbers_that_stand_for_nothing(self, log_file, refuses, change):
        forge(log_file, PREPARED_LOG, change)
        refuses(lambda: LogOnDisk(log_file), f"{log_file}: no log can be created from it")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
    def test_a_pipe_among_the_shards_does_not_hang(self, log_file):
        os.mkfifo(log_file.parent / "a.h5")
        assert len(LogOnDisk(log_file.parent)) == 60


def test_a_random_state_survives():
    one = np.random.RandomState(7)
    one.normal(size=3)
    other = random_state_from(one.get_state(legacy=False))
    assert np.array_equal(one.normal(size=700), other.normal(size=700))


class TestSameSeed:
    """The same seed gives the same file, byte for byte."""

    def test_the_seconds_of_an_epoch_are_not_in_it(self, rows, tmp_path):
        for name in ("one", "other"):
            save_model(fit(rows, None, n_iter=2).fit(rows), tmp_path / name)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()

    def test_a_checkpoint_changes_nothing(self, rows, tmp_path):
        save_model(fit(rows, None), tmp_path / "one")
        fit(rows, tmp_path / "checkpoint", n_iter=1)
        save_model(fit(rows, tmp_path / "checkpoint"), tmp_path / "other")
        assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()

    def test_two_stages_too(self, rows, tmp_path):
        for name in ("one", "other"):
            members = [Member(lambda epochs: fit_later(epochs), 2), Member(lambda epochs: VSTAN(k=5))]
            save_model(
                TwoStageRanker(members, candidates=5, ranking=RankingNets(nets=2, epochs=1)).fit(rows), tmp_path / name
            )
        assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()

    def test_records_are_still_there(self, net_file, model):
        record, read = model.epoch_records[0], load_model(net_file).epoch_records[0]
        assert np.isnan(read.seconds) and record.seconds > 0
        assert read == EpochRecord(record.epoch, record.loss, record.validation_loss, read.seconds, record.events)

    @pytest.mark.once
    def test_in_another_process_too(self, tmp_path):
        """Sets and hashes differ from process to process."""
        log = tmp_path / "log.csv"
        draw = np.random.RandomState(0)
        frame = pd.DataFrame({"user": draw.randint(9, size=300), "item": draw.randint(12, size=300)})
        frame.assign(time=1_400_000_000 + 500 * np.arange(300)).to_csv(log, index=False)
        for seed in ("1", "2"):
            command = [sys.executable, "-m", "spotlight_asars", "train", "--data", str(log), "--format", "csv"]
            command += ["--columns", "user,item,time", "--filters", "1,2,1", "--epochs", "1", "--quiet"]
            path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed}
            subprocess.run([*command, "--out", str(tmp_path / seed)], env=environment, check=True, capture_output=True)
        assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def fit_later(epochs):
    return ASARSSequenceModel("bpr_max", "gru4rec", embedding_dim=6, n_iter=epochs, batch_size=8, random_state=3)


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forged_at_random_they_are_read_or_refused(tmp_path):
    """The script with its full count is a benchmark; its figures are in benchmarks/results."""
    script, out = ROOT / "benchmarks" / "forged_files.py", tmp_path / "found.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(script), "--files", "40", "--seed", "70000", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["violations"] == [] and len(found["outcomes"]) == 4
    for one in found["outcomes"].values():
        assert one["read"] + one["refused"] == 40 and one["read"] and one["refused"]
