"""One rank of a Gloo all-reduce for ring.ts. Arguments: rank, world size, rendezvous file.

Each line on stdin, "<bytes> <operations>", is answered with one line of JSON: {"ms": [...], "checked": bool}.
"""

import json
import sys
import time

import torch
import torch.distributed as dist

PERIOD, AMPLITUDE = 101, 50


def pattern(rank: int, round_: int, count: int) -> torch.Tensor:
    """The same values as ring-pattern.ts."""
    one = (torch.arange(PERIOD) * 31 + rank * 17 + round_ * 7) % PERIOD - AMPLITUDE
    return one.to(torch.float32).repeat(count // PERIOD + 1)[:count].clone()


def main() -> None:
    rank, world_size = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=world_size)
    for line in sys.stdin:
        size, operations = (int(word) for word in line.split())
        count = size // 4
        milliseconds, checked = [], True
        for operation in range(operations):
            buffer = pattern(rank, operation, count)
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(buffer)
            milliseconds.append(1e3 * (time.perf_counter() - start))
            dist.barrier()  # nobody checks while another rank is still at work
            expected = sum(pattern(other, operation, PERIOD) for other in range(world_size))
            checked &= torch.equal(buffer, expected.repeat(count // PERIOD + 1)[:count])
        print(json.dumps({"ms": milliseconds, "checked": checked}), flush=True)


main()
