"""Train the small ViT with Accelerate; the hook looks at the machine when it is put on the model.

python train_accelerate.py
accelerate launch --num_processes 2 train_accelerate.py
python train_accelerate.py --gpus 8              # refuses to start on a machine with fewer
"""

from __future__ import annotations

import argparse

import torch
from accelerate import Accelerator
from accelerate.hooks import add_hook_to_module, remove_hook_from_module
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader
from vit import Quarters, ViT

from envdoctor.integrations.accelerate import Preflight


def main() -> None:
    """Check, then train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--gpus", type=int, default=0, help="refuse to start with fewer GPUs than this")
    given = parser.parse_args()
    set_seed(0)
    accelerator, model = Accelerator(), ViT()
    preflight = Preflight(require={"gpus": given.gpus}, budget_seconds=10)
    add_hook_to_module(model, preflight)
    remove_hook_from_module(model)  # it has done its work
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(Quarters(), 32, shuffle=True))
    losses: list[float] = []
    while len(losses) < given.steps:
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == given.steps:
                break
    verdict = preflight.report.verdict.value if preflight.report else "none"
    accelerator.print(f"envdoctor: {verdict}; loss {sum(losses[-10:]) / 10:.3f} after {len(losses)} steps")
    accelerator.end_training()


if __name__ == "__main__":
    main()
