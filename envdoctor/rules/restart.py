"""Was the driver renewed without a restart: what only a text can say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import NvidiaSmi
from envdoctor.facts.host import Host
from envdoctor.facts.text import ErrorText
from envdoctor.facts.torch import TorchCuda
from envdoctor.finding import Finding, Severity
from envdoctor.remedy import driver as ways
from envdoctor.rule import NotApplicable, Rule, rule
from envdoctor.rules.cards import gpu_names
from envdoctor.rules.presence import windows_driver
from envdoctor.rules.said import hear, lead, mention, quote

SUSPENDED = r"\b(?:suspend|resum|hibernat|woke|wak(?:e|ing) up|sleep mode|(?:after|from) sleep|lid)"
RENEWED = (
    r"\b(?:re-?install|upgrad|updat|install)\w{0,5}\b.{0,60}\bdriver|\bdriver\b.{0,60}\b(?:re-?install|upgrad|updat|install)"
    r"|\breboot|\brestart(?:ed|ing)? (?:the |my )?(?:machine|server|computer|pc)"
)
SERVERS = re.compile(
    r"\b(?:A100|A800|H100|H200|H800|H20|B200|GB200|GH200|V100|P100|A10G?|A30|A40|T4|L4|L20|L40S?|DGX)\b"
)
NO_TEXT = "no error text was given"


def never_sleeps(smi: NvidiaSmi | None) -> bool:
    """Tell whether every card is one of servers, which nobody suspends."""
    names = gpu_names(None, smi, None)
    return bool(names) and all(SERVERS.search(each) for each in names)


@rule(severity=Severity.ERROR, group="driver", explained_by=("driver-library-mismatch",))
def driver_needs_reboot(
    words: ErrorText | None, smi: NvidiaSmi | None, host: Host | None, cuda: TorchCuda | None
) -> Iterator[Finding]:
    """The driver was installed or renewed, and the machine still runs the old state.

    ## What it means
    Kernel modules of the driver stay loaded until they are reloaded or the machine restarts. Until then parts of two
    drivers are at work, and nvidia-smi may look as usual.

    ## Why it matters
    CUDA does not start: "CUDA unknown error", error 999.

    ## How it is detected
    Only a text can say it: CUDA's unknown error, and that the driver was installed, upgraded or reinstalled. On cards
    of servers, which do not sleep, the unknown error alone is a lead. After a suspend it is
    `uvm-broken-after-suspend`. Where the versions of module and libraries are known to differ it is
    `driver-library-mismatch`, and where the module on disk is newer, `driver-upgrade-pending`.

    ## What to do
    Restart the machine, or reload the modules once nothing uses the GPUs.

    ## Sources
    https://github.com/pytorch/pytorch/issues/49081
    """
    if words is None:
        raise NotApplicable(NO_TEXT)
    heard = hear(words, "driver-needs-reboot")
    renewed = mention(words, RENEWED)
    if heard is None or mention(words, SUSPENDED) or not (renewed or never_sleeps(smi)):
        return
    if windows_driver(host) or (cuda and cuda.available):
        return
    yield lead(
        heard,
        "CUDA answers 'unknown error': the driver was probably renewed and the machine not restarted",
        ways.reboot("Restart, so that the kernel loads the driver that is installed"),
        ways.reload_uvm(),
        also=(quote(renewed),) if renewed and renewed != heard.line else (),
        confirmed=True if renewed else None,
    )


RULES: tuple[Rule, ...] = (driver_needs_reboot,)
