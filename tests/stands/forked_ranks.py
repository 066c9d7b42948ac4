"""Many ranks from one import of torch: forked_ranks.py RANKS ODD. Run as a program.

Each forked rank joins one gloo process group, and brings a snapshot over the store of that group; rank 0 writes the
report on stdout. ``ODD`` has another NCCL. The parent's exit code is the number of ranks that ended otherwise than the
verdict says.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterable
from typing import Any


class Shared:
    """The store of the process group as a board."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def put(self, key: str, data: bytes) -> None:
        """Leave a notice."""
        self._store.set(key, data)

    def look(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Give the notices that are there."""
        return {key: bytes(self._store.get(key)) for key in keys if self._store.check([key])}

    def close(self) -> None:
        """Leave the store as it is."""


def main() -> int:
    """Fork the ranks and wait for them."""
    import torch.distributed as dist

    from envdoctor import rules
    from envdoctor.cli import fleet_rank  # noqa: F401 - imported once for all ranks
    from tests import fleet_members  # noqa: F401 - the same

    _ = rules.RULES
    ranks, odd = int(sys.argv[1]), int(sys.argv[2])
    with socket.create_server(("127.0.0.1", 0)) as server:
        meeting_point = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    pids = []
    for number in range(ranks):
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = rank(dist, meeting_point, number, ranks, odd)
            finally:
                sys.stdout.flush()
                os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    print(f"codes {sorted(set(codes))}", file=sys.stderr)
    return sum(code != 1 for code in codes)


def rank(dist: Any, meeting_point: str, number: int, ranks: int, odd: int) -> int:
    """Be one rank."""
    import datetime as dt

    from envdoctor.cli import fleet as command
    from envdoctor.cli import fleet_rank
    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.cli.settings import Settings
    from envdoctor.fleet.launch import Launch
    from envdoctor.fleet.meeting import Hello, Meeting
    from envdoctor.plugins import Plugins
    from tests.fleet_members import document, torch

    began = time.monotonic()
    limit = dt.timedelta(seconds=240)
    dist.init_process_group("gloo", meeting_point, limit, world_size=ranks, rank=number)
    print(f"rank {number} joined after {time.monotonic() - began:.1f} s", file=sys.stderr)
    shared = dist.distributed_c10d._get_default_store()
    board = Shared(dist.PrefixStore("envdoctor/test", shared))
    settled = Settings(level="quick", fail_on="warning")
    given = {"also": (), "format_": "json", "show": "problems"}
    catalogue = Catalogue(Plugins())
    place = Launch("torchrun", number, ranks, "127.0.0.1", 0, number % 8, number // 8, ranks // 8, keeps_store=True)
    own = fleet_rank.Rank(
        place, settled, 200.0, lambda *_: None, lambda: command.gathering(settled, catalogue, "rank"),
        lambda report: command.deliver(report, given, settled), catalogue,
    )  # fmt: skip
    meeting = Meeting(board, number, ranks)
    meeting.hello(Hello(f"node{number // 8}", number % 8 == 0, "0.1.0"))
    nccl = "2.21.5" if number == odd else "2.27.5"
    meeting.bring(document(*torch(nccl=nccl), hostname=f"node{number // 8}", level="quick"))
    if number == 0:
        return fleet_rank._speak(own, meeting)
    return fleet_rank._listen(own, meeting, None)


if __name__ == "__main__":
    sys.exit(main())
