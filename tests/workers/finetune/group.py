"""Be one of two workers: ``python group.py RANK MEETING JOB...`` runs pickled jobs one by one."""

import pickle
import sys
from pathlib import Path

import torch
from torch import distributed as dist

from workers.finetune.loop import train
from workers.finetune.parallel import World


def main() -> None:
    """Meet the other worker, and train."""
    rank = int(sys.argv[1])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
    for path in sys.argv[3:]:
        job = pickle.loads(Path(path).read_bytes())  # noqa: S301
        train(job, World(rank, 2), lambda _: None)
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
