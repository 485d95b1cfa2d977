"""The stand-in itself: it refuses what a GPU refuses, allows what a GPU allows, and computes what the CPU computes."""

from contextlib import nullcontext
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from spotlight_asars.layers.padding import PackedSteps, without_padding
from spotlight_asars.sequence.implicit import ASARSSequenceModel

SAME_DEVICE = "Expected all tensors to be on the same device"
FIVE, PLACES = torch.arange(5.0), torch.tensor([0, 3])
MIXTURES = {
    "add": lambda there: there + FIVE,
    "add_": lambda there: FIVE.add_(there),
    "mul.out": lambda there: torch.mul(there, 2, out=torch.empty(5)),
    "mv": lambda there: torch.ones(2, 5) @ there,
    "cat": lambda there: torch.cat([there, FIVE]),
    "stack": lambda there: torch.stack([FIVE, there]),
    "where": lambda there: torch.where(there > 2, there, FIVE),
    "gather": lambda there: there.gather(0, PLACES),
    "index_select": lambda there: there.index_select(0, PLACES),
    "index.": lambda there: FIVE[PLACES.to(there.device)],
    "index_put_": lambda there: there.index_put_((PLACES,), torch.ones(2)),
    "searchsorted": lambda there: torch.searchsorted(there, FIVE),
    "embedding": lambda there: nn.functional.embedding(PLACES, there[:, None]),
    "rnn": lambda there: nn.LSTM(5, 2).cuda()(FIVE[None]),
    "mm": lambda there: Cube.apply(there[:, None], torch.ones(1, 2)),
    "index_fill": lambda there: there.index_fill(0, PLACES, 0.0),
    "multinomial": lambda there: torch.multinomial(there, 2, generator=torch.Generator()),
}
ALLOWED = {
    "a number": lambda five: five + torch.tensor(1.0),
    "an index": lambda five: five[PLACES],
    "an index to write at": lambda five: five.index_put((PLACES,), torch.tensor(9.0)),
    "a copy": lambda five: five.copy_(torch.ones(5)),
    "a part": lambda five: five.clone().masked_fill_(five > 2, -torch.inf),
    "a comparison": lambda five: torch.where(five > 2, five, 0.0).maximum(torch.tensor(1.0)),
    "views and writing": lambda five: write_to_views(five.clone()),
    "to a part of another": lambda five: torch.mul(five[:2], 3, out=five.clone()[1:3]),
    "a turned view": lambda five: five.view(1, 5).clone().t_().flatten(),
    "sums by place": lambda five: five.new_zeros(3).index_add_(0, five.long() % 3, five),
    "sorting": lambda five: five.flip(0).sort(stable=True).values + five.argsort().bincount().cumsum(0),
    "from many": lambda five: torch.cat(five.double().split([2, 3])).unique(return_counts=True)[0],
}


class Cube(torch.autograd.Function):
    """The third power, times a matrix in the forward pass if given; its gradient makes a tensor of its own."""

    @staticmethod
    def forward(ctx, base, matrix=None):
        ctx.save_for_backward(base)
        return base**3 if matrix is None else base @ matrix

    @staticmethod
    def backward(ctx, slope):
        (base,) = ctx.saved_tensors
        three = torch.full(base.shape, 3.0, device=Cube.made_on or base.device)
        return slope * three * base**2

    made_on = None


def write_to_views(five):
    five[1:3] += 10
    five[five > 11] = 0.0
    five.view(1, 5)[:, -1].mul_(2)
    return five


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_raises_with_the_name_of_the_operation(name, gpu):
    message = "generator but found 'cpu'" if name == "multinomial" else SAME_DEVICE
    with gpu(), pytest.raises(RuntimeError, match=rf"aten\.[a-z_]*{name}.*{message}"):
        MIXTURES[name](FIVE.cuda())


@pytest.mark.parametrize("name", ALLOWED)
def test_what_a_gpu_allows(name, gpu):
    wanted = ALLOWED[name](torch.arange(5.0))
    with gpu():
        found = ALLOWED[name](torch.arange(5.0, device="cuda"))
        assert found.is_cuda
        assert found.shape == found.cpu().shape
    torch.testing.assert_close(found.held, wanted, rtol=0, atol=0)


def test_numpy_gets_nothing(gpu):
    with gpu():
        there = FIVE.cuda()
        for call in (there.numpy, partial(np.asarray, there), partial(np.add, 1.0, there)):
            with pytest.raises(TypeError, match=r"Tensor\.cpu\(\)"):
                call()
        np.testing.assert_array_equal(there.cpu().numpy(), FIVE.numpy())
        assert (there.tolist(), there[2].item(), float(there[3])) == ([0, 1, 2, 3, 4], 2.0, 3.0)


def test_where_tensors_are_made(gpu):
    with gpu():
        there = FIVE.to("cuda")
        for one in (
            there.new_zeros(2),
            torch.zeros_like(there),
            torch.ones(2, 3, device=there.device),
            torch.zeros_like(FIVE, device=there.device),
            torch.tensor([1.0], device="cuda"),
            torch.randint(9, (2,), device="cuda:0"),
            torch.from_numpy(np.ones(3)).to(there.device, torch.float32),
            FIVE.to(there),
            there.long(),
            deepcopy(there),
        ):
            assert one.device == torch.device("cuda:0") and one.is_cuda and one.get_device() == 0
        for one in (torch.arange(3), there.cpu(), there.to("cpu"), there.new_zeros(2, device="cpu"), there.to(FIVE)):
            assert one.device == torch.device("cpu") and type(one) is torch.Tensor
        assert there.to(there.device) is there
        copy, back = FIVE.cuda(), torch.zeros(5)
        assert back.copy_(copy) is back and torch.equal(back, FIVE)
        assert copy.zero_() is copy and FIVE.sum() == 10


@pytest.mark.parametrize("made_on", [None, "cpu"])
def test_gradients(made_on, gpu, monkeypatch):
    monkeypatch.setattr(Cube, "made_on", made_on)
    own = FIVE.clone().requires_grad_()
    (own[1:] * Cube.apply(own)[1:]).tanh().sum().backward()
    with gpu(), nullcontext() if made_on is None else pytest.raises(RuntimeError, match=SAME_DEVICE):
        there = FIVE.cuda().requires_grad_()
        (there[1:] * Cube.apply(there)[1:]).tanh().sum().backward()
        assert there.grad.is_cuda and torch.equal(there.grad.cpu(), own.grad)
        moved = FIVE.clone().requires_grad_()
        (moved.cuda() * 2).cpu().sum().backward()
        assert torch.equal(moved.grad, torch.full((5,), 2.0))


@pytest.mark.parametrize(
    ("optimizer", "sparse"),
    [
        (partial(torch.optim.Adam, fused=True), False),
        (torch.optim.SGD, False),
        (torch.optim.Adagrad, True),
        (torch.optim.SparseAdam, True),
    ],
)
def test_modules_and_optimizers(optimizer, sparse, gpu):
    def trained(move):
        torch.manual_seed(0)
        net = nn.Embedding(5, 3, sparse=sparse)
        weight = net.weight
        net = move(net)
        assert net.weight is weight and isinstance(weight, nn.Parameter)
        steps = optimizer(net.parameters(), lr=0.1)
        for _ in range(2):
            steps.zero_grad()
            with torch.sparse.check_sparse_tensor_invariants(False):
                (net(move(torch.tensor([1, 4, 1]))) ** 2).sum().backward()
                assert weight.grad.is_sparse is sparse
                steps.step()
            state = deepcopy(steps.state_dict()), deepcopy(net.state_dict())
            steps.load_state_dict(state[0])
            net.load_state_dict(state[1])
        return weight.detach().cpu()

    wanted = trained(lambda one: one)
    with gpu():
        torch.testing.assert_close(trained(lambda one: one.cuda()), wanted, rtol=0, atol=0)


def test_random_numbers(gpu):
    with gpu():
        torch.manual_seed(1)
        shared = torch.rand(3, device="cuda").cpu()
        torch.manual_seed(1)
        assert torch.equal(shared, torch.rand(3))
    with gpu(own_random_numbers=True):
        torch.manual_seed(1)
        before = torch.cuda.get_rng_state()
        own = torch.rand(3, device="cuda").cpu()
        assert torch.equal(own, torch.rand(3)) and not torch.equal(torch.rand(3, device="cuda").cpu(), own)
        torch.cuda.set_rng_state(before)
        assert torch.equal(FIVE[:3].cuda().uniform_().cpu(), own)


def test_nothing_is_left_behind(gpu):
    before = torch.cuda.is_available(), torch.cuda.device_count(), nn.Module._apply
    with gpu():
        assert (torch.cuda.is_available(), torch.cuda.device_count()) == (True, 1)
        layer = nn.Linear(2, 2)
    assert (torch.cuda.is_available(), torch.cuda.device_count(), nn.Module._apply) == before
    assert type(layer.double().weight) is nn.Parameter


def test_a_tensor_made_without_a_device_is_found(rows, gpu, monkeypatch):
    arange = torch.arange
    monkeypatch.setattr(torch, "arange", lambda *numbers, device=None, **settings: arange(*numbers, **settings))
    with gpu():
        present = torch.ones(2, 3, dtype=torch.bool, device="cuda")
        for call in (
            lambda: PackedSteps.of(present),
            lambda: without_padding(present[:, :, None].long())[1] + present.new_zeros(4),
            lambda: ASARSSequenceModel("bpr", n_iter=1, use_cuda=True).fit(rows),
        ):
            with pytest.raises(RuntimeError, match=SAME_DEVICE):
                call()


def test_an_array_made_without_a_copy_is_found(rows, gpu, monkeypatch):
    with gpu():
        model = ASARSSequenceModel("bpr", n_iter=1, use_cuda=True).fit(rows)
        monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: tensor)
        for call in (lambda: model.predict([1, 2]), lambda: model.recommend([101]), model.session, model.state):
            with pytest.raises(TypeError, match=r"Tensor\.cpu\(\)"):
                call()
