"""Shared by all tests: few threads, and property tests that repeat."""

import os

from hypothesis import HealthCheck, settings

# torch reads it when it is first imported. Several test processes share the processors.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")

settings.register_profile(
    "lab",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lab")


def pytest_terminal_summary(terminalreporter):
    """Print the mutation score: how many typical wrong answers the exercises rejected."""
    verdicts = [
        rejected
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for name, rejected in getattr(report, "user_properties", [])
        if name == "wrong_answer_rejected" and report.when == "call"
    ]
    if verdicts:
        terminalreporter.write_line(
            f"Mutation score of the exercises: {sum(verdicts)} of {len(verdicts)} wrong answers "
            "rejected"
        )
