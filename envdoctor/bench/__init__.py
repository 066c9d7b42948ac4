"""The doctor's side of ``envdoctor bench``: raw samples in; rates, limits, verdicts, causes and a projection out.

Everything here is pure. The samples are taken in the patient by ``probes/envdoctor_probes/bench/``.
"""
