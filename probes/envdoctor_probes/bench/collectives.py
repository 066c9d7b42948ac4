"""[payload] bench-collectives: over the user's own launch, or over ranks started here, one a GPU or gloo on the CPU."""

from __future__ import annotations

import glob
import json
import os
import sys
from typing import Any, Dict, List, Optional, Tuple

from envdoctor.facts.bench import WITHOUT, BenchCollectives, Measured, PeerCopy
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.bench.exchange import OPS, exchange, local_device
from envdoctor_probes.bench.forced import forced, joined, taken_out, takings
from envdoctor_probes.bench.nccl_log import NcclLog, parse_nccl_log
from envdoctor_probes.bench.peers import copies_between
from envdoctor_probes.bench.place import Place, choose
from envdoctor_probes.bench.ranks import ORDERS
from envdoctor_probes.bench.recipes import find
from envdoctor_probes.bench.sizes import describe
from envdoctor_probes.bench.stopping import quartiles
from envdoctor_probes.bench.suite import NO_TIME, Suite, words
from envdoctor_probes.bench.wanted import Wanted

__all__ = ["bench_collectives", "measured_of"]

KIB, MIB = 1 << 10, 1 << 20
ALL_REDUCE = OPS[0]
SIZES = {
    "quick": (256 * KIB, 16 * MIB, 256 * MIB),
    "default": (32 * KIB, 256 * KIB, 2 * MIB, 16 * MIB, 128 * MIB, 512 * MIB),
    "full": (32 * KIB, 256 * KIB, 2 * MIB, 16 * MIB, 128 * MIB, 512 * MIB, 2048 * MIB),
}
CPU_SIZES = (32 * KIB, MIB, 16 * MIB)
_CPU_LEAST = 5
_START = 20.0  # that ranks need to import torch and to meet
_AGAIN = 12.0  # that a launch without a variable needs, where the first one has put torch into the page cache
_MATTERS = 1.05  # how much faster it must be without all of the variables before it is asked which one


@probe(level="deep", child="torch", seconds=110.0)
def bench_collectives(context: Context) -> BenchCollectives:
    """Copies between pairs of GPUs first, then the ranks."""
    import tempfile

    wanted = Wanted.of(context.options)
    place = choose(context, wanted)
    with tempfile.TemporaryDirectory(prefix="envdoctor-ranks-") as folder:
        collectives = Collectives(context, place, wanted, folder)
        collectives.measure()
        fact: BenchCollectives = collectives.suite.fact
    return fact


class Collectives:
    """The suite under way; ``folder`` is for what the ranks and NCCL write down."""

    def __init__(self, context: Context, place: Place, wanted: Wanted, folder: str) -> None:
        self._context, self._place, self._wanted, self._folder = context, place, wanted, folder
        self._backend = "nccl" if place.is_cuda else "gloo"
        self._launched = "RANK" in context.environ and "WORLD_SIZE" in context.environ
        self._ranks = self._count()
        self._peers: List[PeerCopy] = []
        self._unknown: Dict[str, str] = {}
        self._gradients = self._gradient_bytes()
        self.suite = Suite("collectives", context, place, wanted, self._answer)

    def _count(self) -> int:
        if self._launched:
            return int(self._context.environ["WORLD_SIZE"])
        found = self._wanted.ranks or (self._place.torch.cuda.device_count() if self._place.is_cuda else 2)
        if found < 2:
            raise NotThere("there is one GPU here: collectives need several, or a launch over several machines")
        if self._place.is_cuda and found > self._place.torch.cuda.device_count():
            raise NotThere(f"{found} ranks need {found} GPUs, torch sees {self._place.torch.cuda.device_count()}")
        return found

    def _gradient_bytes(self) -> Optional[int]:
        """Give the bytes of the model's gradients in fp32: what a data-parallel step reduces."""
        try:
            recipe = find(self._place.torch, self._wanted.model, on_gpu=self._place.is_cuda)
            return 4 * int(describe(self._place, recipe, 1).parameters or 0)
        except Exception as error:
            self._unknown["gradient_bytes"] = words(error)
            return None

    def _answer(self, suite: Suite) -> BenchCollectives:
        log = self._log()
        here = self._context.environ.get("LOCAL_WORLD_SIZE", "") if self._launched else str(self._ranks)
        rank = self._context.environ.get("RANK", "") if self._launched else "0"
        return BenchCollectives(
            unknown=dict(self._unknown), measured=tuple(suite.measured), backend=self._backend, ranks=self._ranks,
            launched_by="torchrun" if self._launched else "envdoctor", peers=tuple(self._peers),
            ranks_here=int(here) if here.isdigit() else None, rank=int(rank) if rank.isdigit() else None,
            nccl_version=log.version or None, networks=log.networks, transports=log.transports,
            algorithms=log.algorithms, gradient_bytes=self._gradients,
        )  # fmt: skip

    def _log(self) -> NcclLog:
        text = ""
        for file in sorted(glob.glob(os.path.join(self._folder, "nccl.*"))):
            with open(file, encoding="utf-8", errors="replace") as opened:
                text += opened.read(1 << 20)
        return parse_nccl_log(text)

    def measure(self) -> None:
        """Measure pairs where this process is alone to do so, then all ranks together."""
        os.environ.setdefault("NCCL_DEBUG", "INFO")  # of this process and of the ranks; said when they meet, not later
        self._log_to("nccl")
        if not self._launched:
            for each in copies_between(self.suite):
                self._peers.append(each)
                self.suite.tell(f"cuda:{each.first} to cuda:{each.second}")
        names = forced(self._backend, self._context.environ)
        if self._launched:
            self._join()
        else:
            self._place.leave()  # to the ranks
            self._launch(self._orders(_AGAIN if names else 0.0))
        self.suite.tell()
        self._without(names)

    def _log_to(self, name: str) -> None:
        os.environ["NCCL_DEBUG_FILE"] = os.path.join(self._folder, f"{name}.%h.%p")

    def _orders(self, kept_back: float = 0.0) -> Dict[str, Any]:
        """Give all steps, and the time for them; ``kept_back``: seconds that are for something else."""
        sizes = self._sizes()
        steps = [(op, size) for size in sizes for op in OPS]
        if self._gradients:
            steps.append((ALL_REDUCE, self._gradients))
        seconds = max(1.0, self.suite.deadline.left - _START - kept_back)
        orders = {"backend": self._backend, "steps": steps, "seconds": seconds}
        return orders if self._place.is_cuda else {**orders, "least": _CPU_LEAST}

    def _sizes(self) -> List[int]:
        sizes = SIZES[self._wanted.budget] if self._place.is_cuda else CPU_SIZES
        return [each for each in sizes if 4 * each <= self._place.allowed_bytes]

    def _keep(self, row: Dict[str, Any], without: str = "") -> None:
        self.suite.measured.append(measured_of(row, self._ranks, self._place, without))

    def _without(self, names: Tuple[str, ...]) -> None:
        """Measure the all-reduce in new ranks without what forces NCCL's choice; singly where that changed anything."""
        sizes = [*self._sizes()[-1:], *([self._gradients] if self._gradients else [])]
        for taken in takings(names):
            if len(taken) < len(names) and not self._matters(joined(names)):
                break
            why = self._why_not_again()
            if why:
                state = "not-applicable" if self._launched else "skipped"
                row = {"op": ALL_REDUCE, "bytes": sizes[-1], "state": state, "reason": why, "seconds": []}
                self._keep(row, joined(taken))
                continue
            self._log_to("without")  # what carries the data is told of the environment as it is
            with taken_out(taken):
                orders = {**self._orders(), "steps": [(ALL_REDUCE, size) for size in sizes]}
                self._launch(orders, joined(taken))
            self.suite.tell(f"{ALL_REDUCE} without {joined(taken)}")

    def _why_not_again(self) -> str:
        if self._launched:
            return (
                "ranks of your own launch keep its environment: run envdoctor bench --suite collectives on one host "
                "without a launcher, or launch again without the variable"
            )
        return NO_TIME if self.suite.deadline.left < _AGAIN else ""

    def _matters(self, without: str) -> bool:
        """Tell whether some all-reduce was faster without these variables."""
        found = [each for each in self.suite.measured if each.name == ALL_REDUCE and each.seconds]
        plain = {each.config["bytes"]: _median(each) for each in found if WITHOUT not in each.config}
        return any(
            plain.get(each.config["bytes"], 0.0) >= _MATTERS * _median(each)
            for each in found
            if each.config.get(WITHOUT) == without
        )

    def _join(self) -> None:
        """Be one of the ranks that the user has launched."""
        import datetime as dt

        torch, orders = self._place.torch, self._orders()
        limit = dt.timedelta(seconds=orders["seconds"] + _START)
        with self._context.calling(f"init_process_group({self._backend})"):
            device = local_device(torch, self._backend, int(self._context.environ.get("LOCAL_RANK", "0")))
            torch.distributed.init_process_group(self._backend, timeout=limit)

        def report(row: Dict[str, Any]) -> None:
            self._keep(row)
            self.suite.tell(f"{row['op']} {row['bytes']} bytes")

        with self._context.calling("collectives"):
            exchange(torch, device, orders, report)
        torch.distributed.destroy_process_group()

    def _launch(self, orders: Dict[str, Any], without: str = "") -> None:
        """Start the ranks by torchrun and read what the first one wrote down."""
        out = os.path.join(self._folder, f"rows.{without}")
        orders = {**orders, "out": out, "probes": _home()}
        os.environ[ORDERS] = json.dumps(orders)
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ranks.py")
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all of them are here
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={self._ranks}"]
        launcher.append(f"--log_dir={self._folder}")
        if not self._place.torch.__version__.startswith("1."):
            launcher.append("--local_addr=127.0.0.1")
        ran = self._context.run([*launcher, script], self.suite.deadline.left + _START)
        rows = _rows(out)
        for row in rows:
            self._keep(row, without)
        if ran.exit_code != 0:
            end = "did not end in time" if ran.exit_code is None else f"ended with {ran.exit_code}"
            reason = f"the ranks {end}: {ran.stderr.strip()[-1500:]}"
            config = {"op": "", "bytes": "", "ranks": str(self._ranks), **({WITHOUT: without} if without else {})}
            failed = Measured("collective", "collectives", config, "fp32", "failed", reason)
            self.suite.measured.append(failed)


def _median(found: Measured) -> float:
    return quartiles(found.seconds)[1]


def _home() -> str:
    """Give the folder in which the ranks find our modules."""
    here = os.path.abspath(__file__)
    return os.path.dirname(os.path.dirname(os.path.dirname(here)))


def _rows(path: str) -> Tuple[Dict[str, Any], ...]:
    """Read whole lines; the last one may have been cut off."""
    try:
        with open(path, encoding="ascii") as file:
            lines = file.read().split("\n")[:-1]
    except FileNotFoundError:
        return ()
    return tuple(json.loads(line) for line in lines)


def measured_of(row: Dict[str, Any], ranks: int, place: Place, without: str = "") -> Measured:
    """Make a row of the exchange into a measurement: its work is S bytes, as nccl-tests counts it."""
    config = {"op": row["op"], "bytes": str(row["bytes"]), "ranks": str(ranks)}
    if without:
        config[WITHOUT] = without
    return Measured(
        row["op"], "collectives", config, "fp32", row["state"], row["reason"], tuple(row["seconds"]),
        work=float(row["bytes"]), work_unit="byte", correct=row.get("correct"),
        stopped_because="fixed-count" if row["seconds"] else "", clock="cuda-events" if place.is_cuda else "wall",
        began=row.get("began", 0.0), ended=row.get("ended", 0.0),
    )  # fmt: skip
