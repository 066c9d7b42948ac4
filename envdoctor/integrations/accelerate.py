"""A hook for Accelerate: ``add_hook_to_module(model, Preflight(require={"gpus": 8}))``."""

from __future__ import annotations

from typing import Any

from accelerate.hooks import ModelHook

from envdoctor.integrations.once import Once


class Preflight(Once, ModelHook):
    """Calls ``envdoctor.preflight()`` on every rank when it is put on a model; the model's own calls stay as they are.

    Put it on after ``Accelerator()``, which makes the process group over which the ranks compare, and before
    ``prepare()``; ``remove_hook_from_module`` takes it off again. It takes the arguments of ``preflight()``; ``report``
    is the report once it has run. Raises ``NotReady``.
    """

    def init_hook(self, module: Any) -> Any:
        """Check; give the model back as it is."""
        self.check()
        return module
