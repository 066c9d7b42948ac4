"""[payload] The patient's side: one supervisor process, and the forks in which probes run.

The supervisor runs in the patient's interpreter and never runs patient code in itself. It forks a process for each
group of probes, drains what that prints, keeps its deadlines, watches its progress, and says what became of it.
"""

TOKEN = "ENVDOCTOR_RUN"  # noqa: S105 - the environment variable by which the runner knows its own processes
