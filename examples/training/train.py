"""Train a small ViT with plain PyTorch, on one process or on many, after a look at the machine.

    python train.py
    torchrun --nproc-per-node 2 train.py             # DDP: NCCL on GPUs, gloo on CPUs
    python train.py --gpus 8                         # refuses to start on a machine with fewer

Under torchrun the ranks compare themselves first, and all of them begin or none does.
"""

from __future__ import annotations

import argparse
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from vit import Quarters, ViT

import envdoctor


def train(steps: int, device: torch.device) -> float:
    """Train for so many steps; give the mean loss of the last quarter of them."""
    model: nn.Module = ViT().to(device)
    data, sampler = Quarters(), None
    if dist.is_initialized():
        model = DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
        sampler = DistributedSampler(data)
    loader = DataLoader(data, batch_size=32, sampler=sampler, shuffle=sampler is None, num_workers=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses: list[float] = []
    while len(losses) < steps:
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == steps:
                break
    last = losses[-max(1, steps // 4) :]
    return sum(last) / len(last)


def main() -> None:
    """Check the machine, then train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--gpus", type=int, default=0, help="refuse to start with fewer GPUs than this")
    given = parser.parse_args()
    torch.manual_seed(0)

    # Before anything touches a GPU: a machine that cannot train says so here, with the fix, and not hours later.
    report = envdoctor.preflight(require={"torch": ">=2.0", "gpus": given.gpus}, budget_seconds=10)

    local, many = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")) > 1
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if many:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    loss = train(given.steps, device)
    if not many or dist.get_rank() == 0:
        print(f"envdoctor: {report.verdict.value}; loss {loss:.3f} after {given.steps} steps on {device.type}")
    if many:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
