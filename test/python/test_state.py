"""A state as bytes and back: every type, and what optimizers, schedulers and loss scalers of this release keep."""

import unittest

import torch
from torch import nn

from ringfold import state
from ringfold.state import State, decode, encode


def bytes_of(chunks) -> bytes:
    return b"".join(bytes(chunk) for chunk in chunks)


class Types(unittest.TestCase):
    def test_each_type_comes_back(self):
        for dtype in state._names:
            with self.subTest(dtype):
                tensor = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
                tensors, metadata = decode(bytes_of(encode([("t", tensor)], {"of": "a test"})))
                self.assertEqual(tensors["t"].dtype, dtype)
                self.assertEqual(tensors["t"].tolist(), tensor.tolist())
                self.assertEqual(metadata, {"of": "a test"})

    def test_an_empty_one_and_a_scalar_come_back(self):
        tensors, _ = decode(bytes_of(encode([("none", torch.empty(0, 3)), ("one", torch.tensor(2.0))], {})))
        self.assertEqual((tensors["none"].shape, tensors["one"].item()), ((0, 3), 2.0))


class Optimizers(unittest.TestCase):
    def trained(self, of_optimizer, seed, of_scheduler=lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20)):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        optimizer = of_optimizer(model.parameters())
        holder = State(model, [optimizer], [of_scheduler(optimizer)])
        self.advance(holder, 3)
        return holder

    def advance(self, holder, count):
        for _ in range(count):
            holder.keep_buffers()
            holder.optimizers[0].zero_grad()
            holder.model(torch.arange(12.0).reshape(4, 3)).pow(2).mean().backward()
            holder.optimizers[0].step()
            holder.extra[0].step()
            holder.step += 1
        holder.keep_buffers()

    def test_training_goes_on_with_the_same_bits(self):
        kinds = {
            "sgd": lambda parameters: torch.optim.SGD(parameters, 0.01, momentum=0.9, nesterov=True),
            "adamw": lambda parameters: torch.optim.AdamW(parameters, amsgrad=True),
            "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, momentum=0.5, centered=True),
            "adagrad": torch.optim.Adagrad,
            "adafactor": getattr(torch.optim, "Adafactor", None),
            "adam by foreach": lambda parameters: torch.optim.Adam(parameters, foreach=True),
        }
        for name, of_optimizer in kinds.items():
            if of_optimizer is None:  # of a newer release
                continue
            with self.subTest(name):
                self.assert_restored(self.trained(of_optimizer, 1), self.trained(of_optimizer, 2))

    def test_schedulers_come_back(self):
        schedulers = torch.optim.lr_scheduler
        kinds = {
            "one cycle": lambda optimizer: schedulers.OneCycleLR(optimizer, 0.1, total_steps=20),
            "lambda": lambda optimizer: schedulers.LambdaLR(optimizer, lambda step: 0.9**step),
            "sequence": lambda optimizer: schedulers.SequentialLR(
                optimizer, [schedulers.ConstantLR(optimizer, 0.1, 2), schedulers.ExponentialLR(optimizer, 0.9)], [2]
            ),
        }
        for name, of_scheduler in kinds.items():
            with self.subTest(name):
                first, second = (self.trained(torch.optim.Adam, seed, of_scheduler) for seed in (1, 2))
                self.assert_restored(first, second)

    def assert_restored(self, first, second):
        """The second takes the state of the first, and goes on with the same bits."""
        kept = bytes_of(first.chunks())
        second.restore(kept)
        self.assertEqual(bytes_of(second.chunks()), kept)
        self.advance(first, 2)
        self.advance(second, 2)
        self.assertEqual(bytes_of(second.chunks()), bytes_of(first.chunks()))

    def test_a_state_of_another_model_changes_nothing(self):
        holder = self.trained(torch.optim.Adam, 1)
        before = bytes_of(holder.chunks())
        other = nn.Linear(3, 1)
        with self.assertRaisesRegex(ValueError, "does not fit: model/0.weight"):
            holder.restore(bytes_of(State(other, [torch.optim.Adam(other.parameters())], []).chunks()))
        self.assertEqual(bytes_of(holder.chunks()), before)

    def test_a_setting_that_is_a_tensor_is_named(self):
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        optimizer.param_groups[0]["lr"] = torch.tensor(0.1)
        with self.assertRaisesRegex(TypeError, r"optimizers\.0\.groups\.0\.lr is of type Tensor"):
            bytes_of(State(model, [optimizer], []).chunks())

    def test_an_optimizer_that_keeps_lists_of_tensors_is_refused(self):
        model = nn.Linear(2, 1)
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.01)

        def closure():
            optimizer.zero_grad()
            loss = model(torch.ones(1, 2)).sum().pow(4)
            loss.backward()
            return loss

        optimizer.step(closure)
        with self.assertRaisesRegex(TypeError, r"must be numbers, words and lists of them: optimizers\.0\.scalars\.0\.\w+"):
            bytes_of(State(model, [optimizer], []).chunks())


if __name__ == "__main__":
    unittest.main()
