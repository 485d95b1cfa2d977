"""The progress bar, with a stand-in for tqdm, without it, shown or not."""

import sys

import pytest

from spotlight_asars import progress as module
from spotlight_asars.progress import progress


class Bar:
    """Takes what the real bar takes, and remembers it."""

    made: list["Bar"]

    def __init__(self, steps, desc, file, leave):
        self.steps, self.what, self.file, self.leave = steps, desc, file, leave
        self.passed, self.figures, self.closed = 0, [], False
        Bar.made.append(self)

    def __iter__(self):
        for step in self.steps:
            self.passed += 1
            yield step

    def set_postfix(self, figures):
        self.figures.append(dict(figures))

    def close(self):
        self.closed = True


@pytest.fixture
def with_bar(monkeypatch):
    Bar.made = []
    monkeypatch.setattr(module, "tqdm", Bar)


@pytest.fixture
def without_bar(monkeypatch):
    monkeypatch.setattr(module, "tqdm", None)


def run(shown, values=(0.5, 0.25)):
    bar = progress(range(len(values)), shown, "epochs")
    steps = []
    for step in bar:
        steps.append(step)
        bar.describe(loss=values[step], validation_loss=None)
    bar.close()
    return steps


def test_a_bar_shows_steps_and_figures(with_bar, capsys):
    assert run(shown=True) == [0, 1]
    (bar,) = Bar.made
    assert (bar.what, bar.leave, bar.passed, bar.closed) == ("epochs", False, 2, True)
    assert bar.file is sys.stderr
    assert bar.figures == [{"loss": "0.5000"}, {"loss": "0.2500"}]
    assert capsys.readouterr() == ("", "")


def test_without_tqdm_there_is_a_line_a_step_on_standard_error(without_bar, capsys, monkeypatch):
    moments = iter([100.0, 103.0, 108.0])
    monkeypatch.setattr(module, "perf_counter", lambda: next(moments))
    assert run(shown=True) == [0, 1]
    lines = ["epochs 1 of 2: loss 0.5000; 3.0 s each, 3 s left", "epochs 2 of 2: loss 0.2500; 4.0 s each, 0 s left"]
    assert capsys.readouterr() == ("", "".join(f"{line}\n" for line in lines))


def test_figures_stand_in_the_order_given(without_bar, capsys):
    bar = progress([7], True, "files")
    for _ in bar:
        bar.describe(validation_loss=1.0, loss=2.0)
    assert capsys.readouterr().err.startswith("files 1 of 1: validation_loss 1.0000, loss 2.0000; ")


@pytest.mark.parametrize("present", ["with_bar", "without_bar"])
def test_nothing_is_shown_unless_asked(present, request, capsys):
    request.getfixturevalue(present)
    assert run(shown=False) == [0, 1]
    assert capsys.readouterr() == ("", "")
    assert present == "without_bar" or not Bar.made


@pytest.mark.parametrize("present", ["with_bar", "without_bar"])
@pytest.mark.parametrize("shown", [True, False])
def test_no_steps_and_an_early_end(present, shown, request):
    request.getfixturevalue(present)
    assert run(shown, values=()) == []
    bar = progress(range(5), shown, "epochs")
    for step in bar:
        if step == 1:
            break
    bar.close()
    bar.close()  # twice does no harm
    assert step == 1


def test_as_installed_nothing_goes_to_standard_output(capsys):
    assert run(shown=True) == [0, 1]
    assert capsys.readouterr().out == ""
