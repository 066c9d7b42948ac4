"""Invented machines as fact literals: ``scripts/make-demo`` writes the recorded ones that ship from these."""

from __future__ import annotations

from tests.demo_machines import stories

MACHINES = {
    story.__name__.replace("_", "-"): story
    for story in (
        stories.h100x8_healthy,
        stories.sick_gpu,
        stories.driver_470_under_cu130,
        stories.cpu_only,
        stories.broken_import,
        stories.container_without_gpus,
        stories.wheel_drift,
    )
}
