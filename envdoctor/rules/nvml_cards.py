"""Cards as NVML answers for them: which did, what their words are as evidence, what is done about one."""

from __future__ import annotations

from envdoctor.facts.host import Environment
from envdoctor.facts.nvml import Gpu, GpuState
from envdoctor.finding import Command, Evidence, Fix, Safety
from envdoctor.rule import NotApplicable, Unknown
from envdoctor.rules.visibility import read_mask


def of_card(gpu: Gpu, field: str, label: str, value: object = None) -> Evidence:
    """Make a field of one card evidence."""
    shown = getattr(gpu, field) if value is None else value
    return Evidence(f"gpu_state.gpus[{gpu.index}].{field}", shown, f"NVML, GPU {gpu.index}", "", label)


def answering(state: GpuState) -> tuple[Gpu, ...]:
    """Give the cards that NVML answered for, or end the rule with the reason."""
    if state.init_code != 0:
        raise Unknown(f"NVML does not start: {state.init_words}")
    if not state.gpus:
        raise NotApplicable("NVML lists no GPU")
    return state.gpus


def asked(state: GpuState, field: str) -> tuple[Gpu, ...]:
    """Give the cards whose ``field`` is known; none known ends the rule in NVML's own words."""
    cards = answering(state)
    known = tuple(gpu for gpu in cards if getattr(gpu, field) is not None)
    if known:
        return known
    words = next((gpu.unknown[field] for gpu in cards if field in gpu.unknown), "no card answered")
    if "not supported" in words.lower():
        raise NotApplicable(f"{field}: {words}")
    raise Unknown(f"{field}: {words}")


def name_of(gpu: Gpu) -> str:
    """Name a card by its number and model."""
    return f"GPU {gpu.index}" + (f" ({gpu.name})" if gpu.name else "")


def look_at(title: str, command: str, *, root: bool = False) -> Fix:
    """Give a command that only looks: where the card's state has no cure but a person's."""
    return Fix(title, (Command(None, command),), Safety.ADMIN, "nothing: it only looks", needs_root=root)


def set_as_root(title: str, command: str, changes: str) -> Fix:
    """Give a command that puts a setting of a card, as root."""
    return Fix(title, (Command(None, command),), Safety.ADMIN, changes, needs_root=True)


def drain_and_reset(gpu: Gpu) -> Fix:
    """Reset a card once nothing uses it."""
    commands = (
        Command(None, f"nvidia-smi -i {gpu.index} --query-compute-apps=pid,name --format=csv"),
        Command(None, f"sudo nvidia-smi --gpu-reset -i {gpu.index}"),
    )
    title = f"Stop what uses GPU {gpu.index}, then reset it"
    return Fix(title, commands, Safety.DISRUPTIVE, "every process on this GPU must end first", needs_root=True)


def hidden_cards(state: GpuState, environment: Environment | None) -> frozenset[int]:
    """Give the cards that CUDA_VISIBLE_DEVICES keeps from programs here; none where that is not sure.

    NVML counts by the bus. CUDA does so too when all cards are alike, or when it is told to.
    """
    value = (environment.get("CUDA_VISIBLE_DEVICES") if environment else None) or ""
    alike = len({gpu.name for gpu in state.gpus}) == 1
    by_bus = alike or (environment is not None and environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID")
    taken = read_mask(value, len(state.gpus)).taken if value else ()
    numbers = {int(each) for each in taken if each.isdigit()}
    if not taken or (numbers and not by_bus) or any(each.startswith("MIG-") for each in taken):
        return frozenset()
    named = {gpu.index for gpu in state.gpus if any((gpu.uuid or "").startswith(each) for each in taken)}
    return frozenset(gpu.index for gpu in state.gpus) - (numbers | named) if numbers | named else frozenset()
