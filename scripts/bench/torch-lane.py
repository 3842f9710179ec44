"""One rank of a PyTorch training for torch.ts, in one of three ways. Arguments: way, model, steps, and for gloo: rank,
world size, rendezvous file. Ways: plain (one rank, PyTorch alone), gloo (DistributedDataParallel), ringfold.

Prints one line of JSON at the end: {"samplesPerSecond": ..., "rank": ...}; a rank's own, of its batch of 64.
"""

import json
import sys
import time

import torch
from torch import nn

BATCH = 64
WARM_UP = 10

way, kind, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(1)
models = {
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 13 * 13, 10)
    ),
    "mlp": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    ),
}
model = models[kind]()
inputs = torch.rand(1024, 1, 28, 28)
labels = torch.arange(1024) % 10
criterion = nn.CrossEntropyLoss()
started = 0.0


def batch(step):
    first = step * BATCH % 1024
    return inputs[first : first + BATCH], labels[first : first + BATCH]


def told(rank):
    seconds = time.perf_counter() - started
    print(json.dumps({"samplesPerSecond": BATCH * (steps - WARM_UP) / seconds, "rank": rank}), flush=True)


if way == "ringfold":
    import ringfold

    optimizer = torch.optim.Adam(model.parameters())
    for step in ringfold.steps(model, optimizer, steps):
        with step:
            if step.index == WARM_UP:
                started = time.perf_counter()
            rows, targets = batch(step.index)
            loss = criterion(model(rows), targets)
            loss.backward()
            ringfold.all_reduce_(model, loss=loss, examples=BATCH)
            optimizer.step()
            optimizer.zero_grad()
    told(ringfold.init().rank)
else:
    rank = 0
    if way == "gloo":
        rank, world_size = int(sys.argv[4]), int(sys.argv[5])
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{sys.argv[6]}", rank=rank, world_size=world_size
        )
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(steps):
        if step == WARM_UP:
            started = time.perf_counter()
        rows, targets = batch(step)
        loss = criterion(model(rows), targets)
        loss.backward()
        loss.item()
        optimizer.step()
        optimizer.zero_grad()
    told(rank)
