"""A forked process can use a model that its parent has loaded and used."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, sys, time
import numpy as np, torch
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.serialization import load_model, save_model

torch.set_num_threads(2)
rows = SessionSequences(np.random.RandomState(0).randint(1, 3000, size=(20, 20)), num_items=3000)
save_model(ASARSSequenceModel(n_iter=1, random_state=0, embedding_dim=64).fit(rows), sys.argv[1])
model = load_model(sys.argv[1])
wanted = model.recommend([1, 2, 3])
process = os.fork()
if not process:
    os._exit(0 if model.recommend([1, 2, 3]) == wanted and torch.get_num_threads() == 1 else 1)
for _ in range(600):
    ended, status = os.waitpid(process, os.WNOHANG)
    if ended:
        break
    time.sleep(0.1)
else:
    os.kill(process, 9)
    status = "it hangs"
print(status, torch.get_num_threads())
"""


@pytest.mark.once
def test_a_worker_forked_from_a_process_of_two_torch_threads_answers(tmp_path):
    """Regression: it waited for ever for OpenMP's threads, which had stayed with its parent."""
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "model.h5")], capture_output=True, text=True, timeout=300
    )
    assert found.stdout == "0 2\n", found.stdout + found.stderr
