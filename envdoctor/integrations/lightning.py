"""A Lightning callback: ``Trainer(callbacks=[Preflight(require={"gpus": 8})])``."""

from __future__ import annotations

from typing import Any

from envdoctor.integrations.once import Once

try:
    from lightning.pytorch.callbacks import Callback
except ModuleNotFoundError:  # the older distribution of the same
    from pytorch_lightning.callbacks import Callback


class Preflight(Once, Callback):
    """Calls ``envdoctor.preflight()`` on every rank when the first stage is set up, before the model is moved.

    By then Lightning has made the process group, over which the ranks compare. It takes the arguments of
    ``preflight()``; ``report`` is the report once it has run. Raises ``NotReady``.
    """

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Check."""
        self.check()
