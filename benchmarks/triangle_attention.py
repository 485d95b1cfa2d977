"""
Measure time and peak memory of triangle attention by length: linear form, dense form, loop over sub-sequences.

    OMP_NUM_THREADS=1 python benchmarks/triangle_attention.py --out benchmarks/results/triangle_attention.json

The loop stands for a model that processes each sub-sequence by itself: a softmax over each prefix. Each form and length
runs in its own process, the forms in turn. Peak memory is that of the resident set above the start of the first
repetition, when the inputs exist already; time is that of the fastest repetition. Growth is the exponent a of n ** a
between neighbouring lengths. The script prints a table and writes JSON with every repetition.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import about_this_run, growth, peak_mib, take_back_peak
from torch import Tensor

from spotlight_asars.layers.attention import triangle_attention
from spotlight_asars.serialization.files import write_whole

FORMS = ("linear", "dense", "loop")
PASSES = ("forward", "forward and backward")


def loop(scores: Tensor, values: Tensor, present: Tensor) -> Tensor:
    """Compute the same attention one sub-sequence after the other: (batch, time, dim)."""
    mixed = []
    for end in range(1, scores.shape[1] + 1):
        logits = scores[:, :end].masked_fill(~present[:, :end], -torch.inf)  # (batch, end)
        mixed.append(torch.einsum("bk,bkd->bd", logits.softmax(dim=1), values[:, :end]))  # (batch, dim)
    return torch.stack(mixed, dim=1)


def attention_of(form: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the attention function of a form."""
    if form == "loop":
        return loop
    return lambda scores, values, present: triangle_attention(scores, values, present, form=form)


def measure(form: str, steps: int, batch: int, dim: int, repetitions: int, gradients: bool) -> dict:
    """Return the seconds of each repetition, and the peak MiB above the start."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    scores = torch.randn(batch, steps, requires_grad=gradients)
    values = torch.randn(batch, steps, dim, requires_grad=gradients)
    present = torch.ones(batch, steps, dtype=torch.bool)
    upstream = torch.randn(batch, steps, dim)
    attend = attention_of(form)

    def once() -> float:
        begin = time.perf_counter()
        mixed = attend(scores, values, present)
        if gradients:
            torch.autograd.grad(mixed, (scores, values), upstream)
        return time.perf_counter() - begin

    # First calls load modules into memory, which must not count.
    few = torch.randn(2, 3, dim, requires_grad=gradients)
    mixed = attend(few[:, :, 0], few, torch.ones(2, 3, dtype=torch.bool))
    if gradients:
        torch.autograd.grad(mixed, few, mixed.detach())
    before = take_back_peak()
    first = once()
    memory = peak_mib() - before
    return {"seconds": [first, *(once() for _ in range(repetitions - 1))], "peak_mib": memory}


def in_a_process(form: str, steps: int, options: argparse.Namespace, gradients: bool) -> dict:
    """Call :func:`measure` in a new process."""
    fewer = 2 if form != "linear" and steps >= 1_000 else options.repetitions
    call = [sys.executable, __file__, "--form", form, "--lengths", steps, "--batch", options.batch, "--dim",
            options.dim, "--repetitions", fewer]  # fmt: skip
    call += ["--gradients"] if gradients else []
    run = subprocess.run([str(part) for part in call], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{form} with {steps} steps ended with {run.returncode}: {run.stderr.strip()[-400:]}")
    return json.loads(run.stdout)


def difference(batch: int, dim: int, steps: int) -> float:
    """Return the largest difference of the other forms from the dense one."""
    torch.manual_seed(0)
    inputs = torch.randn(batch, steps), torch.randn(batch, steps, dim), torch.rand(batch, steps) > 0.1
    inputs[2][:, 0] = True  # the loop's softmax over nothing is not a number
    dense = attention_of("dense")(*inputs)
    return max(float((attention_of(form)(*inputs) - dense).abs().max()) for form in ("linear", "loop"))


def print_table(found: list[dict]) -> None:
    """Print one row per length and form: time and memory, relative to the linear form, and their growth."""
    for name in PASSES:
        print(f"\n{name}\n{'steps':>7} {'form':>7} {'ms':>10} {'of linear':>10} {'growth':>7} "
              f"{'MiB':>9} {'of linear':>10} {'growth':>7}")  # fmt: skip
        of_pass = [one for one in found if one["pass"] == name]
        for one in of_pass:
            linear = next(x for x in of_pass if x["steps"] == one["steps"] and x["form"] == "linear")
            cells = ""
            for key, unit in (("fastest", 1e3), ("peak_mib", 1.0)):
                ratio = one[key] / linear[key] if linear[key] else float("nan")
                exponent = one.get(f"growth_{key}")
                cells += f" {unit * one[key]:10.2f} {ratio:9.1f}x {'' if exponent is None else f'{exponent:.2f}':>7}"
            print(f"{one['steps']:7d} {one['form']:>7}{cells}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 200, 2_000])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=15, help="2 for the slow forms of 1,000 steps or more")
    parser.add_argument("--form", choices=FORMS, help="measure only this form, in this process")
    parser.add_argument("--gradients", action="store_true", help="with --form: forward and backward")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sizes = {"batch": options.batch, "dim": options.dim, "repetitions": options.repetitions}
    if options.form:
        print(json.dumps(measure(options.form, options.lengths[0], gradients=options.gradients, **sizes)))
        return 0
    about = about_this_run()
    found: list[dict] = []
    for name in PASSES:
        shorter: dict[str, dict] = {}
        for steps in options.lengths:
            for form in FORMS:
                one = in_a_process(form, steps, options, gradients=name != PASSES[0])
                one = {"pass": name, "steps": steps, "form": form, "fastest": min(one["seconds"]), **one}
                last = shorter.get(form)
                for key in ("fastest", "peak_mib") if last else ():
                    if last[key] > 0 < one[key]:
                        one[f"growth_{key}"] = growth([last["steps"], steps], [last[key], one[key]])
                shorter[form] = one
                found.append(one)
    print_table(found)
    apart = difference(4, options.dim, 200)
    print(f"\nlargest difference of the linear form and the loop from the dense form at 200 steps: {apart:.1e}")
    if options.out:
        about = {**about, "sizes": sizes, "largest_difference": apart}
        write_whole(options.out, json.dumps({**about, "found": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
