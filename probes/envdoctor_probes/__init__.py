"""[payload] Probes: what runs in the patient. Standard library only; torch and pynvml inside functions.

A probe reads, parses and returns a fact; it never judges. ``PROBES`` is loaded by name, one subject at a time.
"""

from __future__ import annotations

PROBES = (
    "envdoctor_probes.devices:device_nodes",
    "envdoctor_probes.host:host",
    "envdoctor_probes.resources:resources",
    "envdoctor_probes.environment:environment",
    "envdoctor_probes.pci:pci_bus",
    "envdoctor_probes.kernel_module:kernel_module",
    "envdoctor_probes.driver_files:driver_files",
    "envdoctor_probes.packages:packages",
    "envdoctor_probes.torch_path:torch_path",
    "envdoctor_probes.torch_build:torch_build",
    "envdoctor_probes.torch_files:torch_files",
    "envdoctor_probes.compile_tools:compile_tools",
    "envdoctor_probes.libraries:libraries",
    "envdoctor_probes.extensions:extensions",
    "envdoctor_probes.toolkit:toolkit",
    "envdoctor_probes.kernel_log:kernel_log",
    "envdoctor_probes.nvidia_container:container",
    "envdoctor_probes.fabric:fabric",
    "envdoctor_probes.job:job",
    "envdoctor_probes.storage:storage",
    "envdoctor_probes.nvml:gpu_state",
    "envdoctor_probes.nvml_fabric:gpu_fabric",
    "envdoctor_probes.cuda_driver:cuda_driver",
    "envdoctor_probes.cuda_runtime:cuda_runtime",
    "envdoctor_probes.nvidia_smi:nvidia_smi",
    "envdoctor_probes.torch_import:torch_import",
    "envdoctor_probes.torch_settings:torch_settings",
    "envdoctor_probes.torch_cuda:torch_cuda",
    "envdoctor_probes.mapped:mapped_libraries",
)
