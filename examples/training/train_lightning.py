"""Train the small ViT with Lightning; the callback looks at the machine before the model is moved anywhere.

python train_lightning.py
python train_lightning.py --gpus 8               # refuses to start on a machine with fewer
"""

from __future__ import annotations

import argparse

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from vit import Quarters, ViT

from envdoctor.integrations.lightning import Preflight


class Classifier(lightning.LightningModule):
    """The ViT with its loss and optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.model = ViT()
        self.losses: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Give the loss of one batch."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self.model(images), labels)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Give the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main() -> None:
    """Train; the trainer calls the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--gpus", type=int, default=0, help="refuse to start with fewer GPUs than this")
    given = parser.parse_args()
    lightning.seed_everything(0, verbose=False)
    preflight = Preflight(require={"gpus": given.gpus}, budget_seconds=10)
    model = Classifier()
    trainer = lightning.Trainer(
        max_steps=given.steps, callbacks=[preflight], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, DataLoader(Quarters(), batch_size=32, shuffle=True))
    verdict = preflight.report.verdict.value if preflight.report else "none"
    print(f"envdoctor: {verdict}; loss {sum(model.losses[-10:]) / 10:.3f} after {trainer.global_step} steps")


if __name__ == "__main__":
    main()
