"""A step of fitting is made of its mini-batch: nothing in it is as large as the catalogue."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spotlight_asars import host
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel

NUM_ITEMS = 200_000  # past what recurrent layers of some versions of torch take to work in


class LargestTensor(TorchDispatchMode):
    """Records the largest dense tensor that any operation gives, but for those that lay there before."""

    def __init__(self, before):
        super().__init__()
        self._before = {tensor.untyped_storage().data_ptr() for tensor in before}
        self.largest = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(result):
            if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
                continue
            if tensor.untyped_storage().data_ptr() not in self._before:
                self.largest = max(self.largest, tensor.numel())
        return result


@pytest.fixture
def largest_of_steps(monkeypatch):
    """Fits a model and says how large the largest tensor of any of its steps was."""

    def fitted(model, rows):
        found, epoch = [], host.ImplicitSequenceModel.fit

        def recorded(self, *arguments):
            states = [one for state in self._optimizer.state.values() for one in state.values()]
            with LargestTensor([*self._net.parameters(), *states]) as seen:
                epoch(self, *arguments)
            found.append(seen.largest)

        monkeypatch.setattr(host.ImplicitSequenceModel, "fit", recorded)
        model.fit(rows)
        return max(found)

    return fitted


def rows_of_few_items():
    items = np.random.RandomState(0).randint(1, NUM_ITEMS, size=(24, 6))
    return SessionSequences(items, user_ids=np.arange(1, 25), num_items=NUM_ITEMS)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "bpr"},
        {"loss": "adaptive_hinge"},
        {"loss": "sampled_cross_entropy"},
        {"loss": "bpr_max", "sampling": "shared", "num_negative_samples": 20},
        {"loss": "sampled_cross_entropy", "sampling": "shared", "num_negative_samples": 20},
    ],
    ids=str,
)
def test_no_step_makes_a_tensor_as_large_as_the_catalogue(options, largest_of_steps):
    settings = {"embedding_dim": 8, "n_iter": 2, "batch_size": 8, "sparse": True, "random_state": 0}
    model = ASARSSequenceModel(representation_options={"hidden_dim": 8, "user_dim": 4}, **settings, **options)
    assert largest_of_steps(model, rows_of_few_items()) < NUM_ITEMS


def test_the_check_sees_dense_gradients(largest_of_steps):
    model = ASARSSequenceModel("bpr", embedding_dim=8, n_iter=1, batch_size=8, sparse=False, random_state=0)
    assert largest_of_steps(model, rows_of_few_items()) >= NUM_ITEMS
