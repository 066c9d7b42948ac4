"""A callback for Hugging Face's Trainer: ``Trainer(callbacks=[Preflight(require={"gpus": 8})])``."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from envdoctor.integrations.once import Once


class Preflight(Once, TrainerCallback):
    """Calls ``envdoctor.preflight()`` on every rank when training begins, before the first step.

    It takes the arguments of ``preflight()``; ``report`` is the report once it has run. Raises ``NotReady``.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - theirs
        """Check."""
        self.check()
