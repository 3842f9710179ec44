"""PyTorch beside our engines, for engine-suite.ts: the same models, losses and optimizer, on one thread.

Each line on stdin, {"model": "cnn", "batch": 64, "milliseconds": 300}, is answered with one line of JSON:
{"samplesPerSecond": ...}. A model is made when it is first asked for, and stays until another one is.
"""

import json
import math
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

CLASSES = 10
VOCABULARY, TOKENS, WIDTH, HEADS, HIDDEN = 256, 64, 128, 4, 512


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("future", torch.triu(torch.ones(TOKENS, TOKENS, dtype=torch.bool), 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch = x.shape[0]
        q, k, v = (p(x).view(batch, TOKENS, HEADS, -1).transpose(1, 2) for p in self.project)
        if hasattr(F, "scaled_dot_product_attention"):  # PyTorch 2
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(2, 3) / math.sqrt(WIDTH // HEADS)
            y = scores.masked_fill(self.future, -math.inf).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, TOKENS, WIDTH))


class Transformer(nn.Module):
    """Byte tokens, learned positions, one block with the norms in front, logits for each place."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.attention = Attention()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.hidden, self.narrow = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.logits = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.places.weight
        x = x + self.attention(self.norms[0](x))
        x = x + self.narrow(F.gelu(self.hidden(self.norms[1](x)), approximate="tanh"))
        return self.logits(self.norms[2](x)).view(-1, VOCABULARY)


def separable(channels: int, filters: int, stride: int) -> list:
    """A convolution of each channel by itself, then one of single pixels."""
    own = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels)
    return [own, nn.ReLU(), nn.Conv2d(channels, filters, 1), nn.ReLU()]


def depthwise() -> nn.Module:
    blocks = separable(32, 64, 1) + separable(64, 128, 2) + separable(128, 128, 1)
    top = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, CLASSES)]
    return nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), *blocks, *top)


def open_model(name: str, batch: int):
    torch.manual_seed(1)
    if name == "transformer":
        ids = torch.arange(batch * TOKENS).view(batch, TOKENS)
        return Transformer(), (ids * 37) % VOCABULARY, ((ids * 31 + 7) % VOCABULARY).view(-1)
    inputs = ((torch.arange(batch * 784) * 37) % 101).to(torch.float32) / 101
    labels = torch.arange(batch) % CLASSES
    if name == "cnn":
        conv = nn.Conv2d(1, 32, 3)
        model = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(5408, CLASSES))
        return model, inputs.view(batch, 1, 28, 28), labels
    if name == "depthwise":
        return depthwise(), inputs.view(batch, 1, 28, 28), labels
    hidden = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(512, CLASSES)), inputs.view(batch, 784), labels


def main() -> None:
    torch.set_num_threads(1)
    opened = None
    for line in sys.stdin:
        asked = json.loads(line)
        name, batch = asked["model"], asked["batch"]
        if opened != (name, batch):
            opened = (name, batch)
            model, inputs, labels = open_model(name, batch)
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        samples, start = 0, time.perf_counter()
        while True:
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
            samples += batch
            elapsed = time.perf_counter() - start
            if 1_000 * elapsed >= asked["milliseconds"]:
                break
        print(json.dumps({"samplesPerSecond": samples / elapsed}), flush=True)


main()
