"""[payload] The program of each rank that bench-collectives starts by torchrun: it measures and writes down rows.

``ENVDOCTOR_RANKS`` holds its orders as JSON: backend, out (a file for the first rank's rows), probes (where our own
modules are) and what ``exchange`` wants.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Dict

ORDERS = "ENVDOCTOR_RANKS"


def main(orders: Dict[str, Any]) -> None:
    """Join the other ranks, measure, and leave."""
    import datetime as dt

    import torch

    from envdoctor_probes.bench.exchange import exchange, local_device

    device = local_device(torch, orders["backend"], int(os.environ["LOCAL_RANK"]))
    limit = dt.timedelta(seconds=float(orders["seconds"]) + 60)
    torch.distributed.init_process_group(orders["backend"], timeout=limit)

    def report(row: Dict[str, Any]) -> None:
        if torch.distributed.get_rank() == 0:
            with open(orders["out"], "a", encoding="ascii") as file:
                file.write(json.dumps(row) + "\n")

    exchange(torch, device, orders, report)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules must not be found in place of others
    told = json.loads(os.environ[ORDERS])
    sys.path.append(told["probes"])
    main(told)
