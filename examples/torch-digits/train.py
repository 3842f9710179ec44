"""Handwritten digits with PyTorch on a Ringfold cluster: a small convolutional network on MNIST.

`--data` is a folder with the four IDX files of MNIST; the same path on every agent.
"""

import argparse
import os
import struct

import ringfold
import torch
from torch import nn


def read_idx(path):
    """uint8 tensor of an IDX file. Format: yann.lecun.com/exdb/mnist."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    dimensions = data[3]
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    return torch.frombuffer(data, dtype=torch.uint8, offset=4 + 4 * dimensions).reshape(shape)


def examples(folder, kind, count):
    images = read_idx(os.path.join(folder, f"{kind}-images-idx3-ubyte"))[:count]
    labels = read_idx(os.path.join(folder, f"{kind}-labels-idx1-ubyte"))[:count]
    return images.float().div(255).unsqueeze(1), labels.long()


options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--data", required=True)
options.add_argument("--epochs", type=int, default=1)
options.add_argument("--batch-size", type=int, default=64, help="over all ranks")
options.add_argument("--examples", type=int, default=60_000)
options = options.parse_args()

job = ringfold.init()
torch.manual_seed(job.seed)
inputs, labels = examples(options.data, "train", options.examples)
test_inputs, test_labels = examples(options.data, "t10k", 10_000)
device = "cuda" if torch.cuda.is_available() else "cpu"

model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 13 * 13, 10)).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
criterion = nn.CrossEntropyLoss()


@torch.no_grad()
def evaluate(rank, world_size):
    first, end = ringfold.share(len(test_labels), rank, world_size)
    loss = correct = 0
    for batch in torch.arange(first, end).split(500):
        target = test_labels[batch].to(device)
        logits = model(test_inputs[batch].to(device))
        loss += criterion(logits, target).item() * len(batch)
        correct += (logits.argmax(1) == target).sum().item()
    return loss, correct, end - first


per_epoch = ringfold.steps_per_epoch(len(labels), options.batch_size)
for step in ringfold.steps(
    model, optimizer, options.epochs * per_epoch, evaluate=evaluate, steps_per_epoch=per_epoch
):
    with step:
        rows = step.indices(len(labels), options.batch_size)
        logits = model(inputs[rows].to(device))
        target = labels[rows].to(device)
        loss = criterion(logits, target)
        loss.backward()
        ringfold.all_reduce_(model, loss=loss, correct=(logits.argmax(1) == target).sum())
        optimizer.step()
        optimizer.zero_grad()
        if step.rank == 0 and step.index % 100 == 0:
            print(f"step {step.index}: loss {loss.item():.4f} on {step.world_size} ranks")
