"""Train the small ViT with Hugging Face's Trainer; the callback looks at the machine before the first step.

python train_transformers.py
python train_transformers.py --gpus 8            # refuses to start on a machine with fewer
"""

from __future__ import annotations

import argparse
import tempfile

from torch import Tensor, nn
from transformers import Trainer, TrainingArguments, set_seed
from vit import Quarters, ViT

from envdoctor.integrations.transformers import Preflight


class ForTrainer(nn.Module):
    """The ViT as the Trainer wants a model: it takes named inputs and gives its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.model = ViT()

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Give loss and logits."""
        logits = self.model(images)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Named(Quarters):
    """The same pictures, their parts by name."""

    def __getitem__(self, index: int) -> dict[str, object]:  # type: ignore[override]
        image, label = super().__getitem__(index)
        return {"images": image, "labels": label}


def main() -> None:
    """Train; the trainer calls the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--gpus", type=int, default=0, help="refuse to start with fewer GPUs than this")
    given = parser.parse_args()
    set_seed(0)
    preflight = Preflight(require={"gpus": given.gpus}, budget_seconds=10)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=given.steps, per_device_train_batch_size=32, learning_rate=2e-3, report_to=[],
            save_strategy="no", logging_strategy="steps", logging_steps=max(1, given.steps // 4), disable_tqdm=True,
            remove_unused_columns=False,
        )  # fmt: skip
        trainer = Trainer(ForTrainer(), arguments, train_dataset=Named(), callbacks=[preflight])
        trainer.train()
    losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    verdict = preflight.report.verdict.value if preflight.report else "none"
    print(f"envdoctor: {verdict}; loss {float(losses[-1]):.3f} after {trainer.state.global_step} steps")


if __name__ == "__main__":
    main()
