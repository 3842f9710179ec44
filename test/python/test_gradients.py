"""What travels of a model: each type and layout there and back, and buckets that leave during a backward pass."""

import math
import unittest

import torch
from torch import nn

from ringfold.gradients import Gradients, Handover


def shared(gradients: Gradients) -> torch.Tensor:
    memory = bytearray(4 * max(1, gradients.offsets[-1]))
    gradients.use(memory)
    return torch.frombuffer(memory, dtype=torch.float32)


def give_all(gradients: Gradients, weight: float) -> None:
    for index in range(len(gradients.parts)):
        gradients.give(index, weight)
    gradients.share(0, gradients.offsets[-1])


class Types(unittest.TestCase):
    def test_each_type_keeps_its_own(self):
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
            with self.subTest(dtype):
                model = nn.Linear(3, 2).to(dtype)
                for parameter in model.parameters():
                    parameter.grad = torch.full_like(parameter, 0.5)
                gradients = Gradients(model)
                vector = shared(gradients)
                give_all(gradients, 4.0)
                self.assertEqual(vector.tolist(), [2.0] * 8)
                gradients.take(8.0)
                for parameter in model.parameters():
                    self.assertEqual(parameter.grad.dtype, dtype)
                    self.assertTrue((parameter.grad == 0.25).all())

    def test_any_stride(self):
        model = nn.Conv2d(2, 3, 2, bias=False)
        model.weight.grad = torch.arange(24.0).reshape(3, 2, 2, 2).contiguous(memory_format=torch.channels_last)
        gradients = Gradients(model)
        self.assertFalse(model.weight.grad.is_contiguous())
        vector = shared(gradients)
        give_all(gradients, 2.0)
        self.assertEqual(vector.tolist(), [2.0 * value for value in range(24)])
        gradients.take(2.0)
        self.assertEqual(model.weight.grad.flatten().tolist(), list(range(24)))

    def test_sparse_stays_sparse(self):
        model = nn.Embedding(5, 2, sparse=True)
        model(torch.tensor([1, 1, 4])).sum().backward()
        gradients = Gradients(model)
        vector = shared(gradients)
        self.assertIsNone(gradients.non_finite_gradient())
        give_all(gradients, 3.0)
        self.assertEqual(vector.tolist(), [0, 0, 6, 6, 0, 0, 0, 0, 3, 3])
        gradients.take(6.0)
        self.assertTrue(model.weight.grad.is_sparse)
        self.assertEqual(model.weight.grad.to_dense()[1].tolist(), [1, 1])
        torch.optim.SparseAdam(model.parameters()).step()

    def test_a_gradient_that_nobody_computed_is_zero_and_comes_back(self):
        model = nn.Linear(2, 1)
        gradients = Gradients(model)
        vector = shared(gradients)
        give_all(gradients, 4.0)
        self.assertEqual(vector.tolist(), [0, 0, 0])
        vector.fill_(6)
        gradients.take(2.0)
        self.assertEqual(model.weight.grad.tolist(), [[3, 3]])

    def test_a_gradient_that_no_rank_computed_stays_none(self):
        model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1), nn.Linear(1, 1, bias=False))
        gradients = Gradients(model)
        vector = shared(gradients)
        model[0].weight.grad = torch.ones(1, 2)
        names = [name for name, _ in gradients.parts]
        lacking = gradients.lacking(4.0)
        self.assertEqual([names[part] for part in lacking], ["0.bias", "1.weight", "1.bias", "2.weight"])
        vector.fill_(6)
        gradients.take(2.0, [names.index("2.weight")])
        self.assertIsNone(model[2].weight.grad)
        self.assertEqual(model[0].bias.grad.tolist(), [3])

    def test_a_step_without_any_example_changes_nothing(self):
        model = nn.BatchNorm1d(2)
        model.weight.grad = torch.tensor([math.nan, 1.0])
        gradients = Gradients(model)
        shared(gradients)
        give_all(gradients, 0.0)
        lacking = gradients.lacking(0.0)
        self.assertEqual(len(lacking), 2)
        gradients.take(0.0, lacking)
        self.assertIsNone(model.weight.grad)
        self.assertEqual(model.running_var.tolist(), [1, 1])

    def test_a_rank_without_examples_gives_zeros_whatever_it_has(self):
        model = nn.BatchNorm1d(2)
        model.running_mean.fill_(math.nan)
        model.weight.grad = torch.tensor([math.nan, 1.0])
        gradients = Gradients(model)
        vector = shared(gradients)
        give_all(gradients, 0.0)
        self.assertEqual(vector.tolist(), [0.0] * 8)

    def test_complex_numbers_are_refused(self):
        model = nn.Module()
        model.phase = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
        with self.assertRaisesRegex(TypeError, "phase is complex"):
            Gradients(model)

    def test_a_buffer_that_was_replaced_is_the_one_that_travels(self):
        model = nn.Module()
        model.register_buffer("average", torch.zeros(1))
        gradients = Gradients(model)
        vector = shared(gradients)
        model.average = torch.ones(1)
        give_all(gradients, 2.0)
        self.assertEqual(vector.tolist(), [2.0])
        gradients.take(4.0)
        self.assertEqual(model.average.tolist(), [0.5])


class Sameness(unittest.TestCase):
    """What is new in a model after the loop began would be trained on each rank by itself."""

    def setUp(self):
        self.model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1, bias=False))
        self.model[0].bias.requires_grad_(False)
        self.gradients = Gradients(self.model)

    def test_what_stays_is_taken(self):
        self.gradients.verify()
        self.model[1].weight.requires_grad_(False)
        self.gradients.verify()

    def test_another_parameter_is_named(self):
        self.model[1].weight = nn.Parameter(torch.ones(1, 2))
        with self.assertRaisesRegex(RuntimeError, "1.weight is not what it was before the loop"):
            self.gradients.verify()

    def test_another_module_is_named_and_a_new_one(self):
        kept = self.model[1]
        self.model[1] = nn.Linear(2, 1, bias=False)
        with self.assertRaisesRegex(RuntimeError, "^1 is not what it was"):
            self.gradients.verify()
        self.model[1] = kept
        self.gradients.verify()
        self.model.append(nn.ReLU())
        with self.assertRaisesRegex(RuntimeError, "^2 is not what it was"):
            self.gradients.verify()

    def test_another_shape_is_named(self):
        self.model[0].weight.data = torch.ones(4, 3)
        with self.assertRaisesRegex(RuntimeError, r"0.weight was of shape \(2, 3\) and is of \(4, 3\)"):
            self.gradients.verify()

    def test_what_is_trained_all_of_a_sudden_is_named(self):
        self.model[0].bias.requires_grad_(True)
        with self.assertRaisesRegex(RuntimeError, "0.bias was frozen before the loop"):
            self.gradients.verify()

    def test_tied_weights_travel_once(self):
        self.model[1].weight = nn.Parameter(torch.ones(2, 3))
        self.model[0].weight = self.model[1].weight
        gradients = Gradients(self.model)
        gradients.verify()
        self.assertEqual([name for name, _ in gradients.parts], ["0.weight"])


class Finite(unittest.TestCase):
    def test_the_first_part_is_named(self):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        gradients = Gradients(model)
        shared(gradients)
        self.assertIsNone(gradients.non_finite_gradient())
        model[1].weight.grad[0, 1] = math.inf
        give_all(gradients, 1.0)
        self.assertEqual(gradients.non_finite_gradient(), "1.weight")
        self.assertEqual(gradients.non_finite(0, 9), "1.weight")
        self.assertIsNone(gradients.non_finite(0, 6))

    def test_a_sum_that_overflows_is_no_finding(self):
        model = nn.Linear(2, 1, bias=False)
        model.weight.grad = torch.full((1, 2), 3e38)
        gradients = Gradients(model)
        shared(gradients)
        give_all(gradients, 1.0)
        self.assertIsNone(gradients.non_finite_gradient())
        self.assertIsNone(gradients.non_finite(0, 2))


class Overlap(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        self.model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        self.gradients = Gradients(self.model)
        self.vector = shared(self.gradients)
        self.left = []
        self.handover = Handover(self.gradients, [30, 12, 0], 3.0, self.leave)
        self.gradients.listen(lambda index: self.handover.final(index))

    def leave(self, start, non_finite):
        self.left.append((start, non_finite, self.vector[start:].clone()))

    def loss(self):
        return self.model(torch.ones(3, 4).mul(torch.arange(3.0)[:, None])).pow(2).mean()

    def test_buckets_leave_from_the_end_with_what_all_at_once_would_have_sent(self):
        self.loss().backward()
        self.assertEqual([start for start, _, _ in self.left], [30, 12])
        self.assertIsNone(self.handover.finish())
        early = [part for _, _, part in self.left]
        give_all(self.gradients, 3.0)
        for (start, _, _), part in zip(self.left, early):
            self.assertTrue(torch.equal(part, self.vector[start:]))

    def test_a_bucket_that_is_not_finite_is_named_as_it_leaves(self):
        (self.loss() * math.inf).backward()
        self.assertEqual([name for _, name, _ in self.left], ["1.weight", "0.weight"])

    def test_a_second_pass_is_refused(self):
        self.loss().backward()
        with self.assertRaisesRegex(RuntimeError, "came twice .* step.backward"):
            self.loss().backward()

    def test_a_gradient_that_was_changed_since_is_refused(self):
        self.loss().backward()
        self.model[2].weight.grad.mul_(0.5)
        with self.assertRaisesRegex(RuntimeError, "2.weight was changed after step.backward"):
            self.handover.finish()

    def test_earlier_passes_add_up(self):
        model = nn.Linear(2, 1, bias=False)
        gradients = Gradients(model)
        vector = shared(gradients)
        current = []
        gradients.listen(lambda index: current[0].final(index) if current else None)
        model(torch.ones(1, 2)).sum().backward()
        current.append(Handover(gradients, [1, 0], 1.0, lambda *_: None))
        model(torch.ones(1, 2)).sum().backward()
        current[0].finish()
        self.assertEqual(vector.tolist(), [2.0, 2.0])


if __name__ == "__main__":
    unittest.main()
