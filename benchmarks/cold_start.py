"""From `python lab.py` to the first visible slider, in a real browser.

    python lab.py --no-browser      once before, so that everything is installed; then stop it
    python benchmarks/cold_start.py [--times 3]

Each time a fresh server, a fresh kernel and an open browser with an empty cache: the clock starts
with the command, a script opens the address, waits for the kernel, runs the first cells, and stops
the clock when a slider can be seen. It uses the notebooks in my_lab/, as a learner does.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "browser"))

import jupyterlab_driver as driver  # noqa: E402

ADDRESS = re.compile(r"http://(?:localhost|127\.0\.0\.1):\d+/lab\S*")


def start() -> tuple[subprocess.Popen, str]:
    """Start the lab; return its process and its address."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "lab.py"), "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed = []
    for line in process.stdout:
        printed.append(line)
        found = ADDRESS.search(line)
        if found:
            return process, found[0]
    raise SystemExit("the lab did not start:\n" + "".join(printed))


def once(path: str) -> dict[str, float]:
    """Seconds from the command to each milestone."""
    with driver.chromium(path) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        marks, begun = {}, time.perf_counter()

        def mark(name: str) -> None:
            marks[name] = time.perf_counter() - begun

        process, address = start()
        try:
            mark("address printed")
            page.goto(f"{address}&reset", wait_until="commit")
            page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
            mark("notebook shown")
            page.locator("#jp-main-statusbar").get_by_text("Idle").wait_for(timeout=60_000)
            mark("kernel ready")
            page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
            slider = page.locator(".ql-panel [role=slider]").first
            for _ in range(20):
                page.keyboard.press("Shift+Enter")
                if slider.count() and slider.is_visible():
                    break
                page.wait_for_timeout(50)
            slider.wait_for(timeout=60_000)
            mark("first slider")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    return marks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3, help="how often (default 3)")
    times = parser.parse_args().times
    path = driver.find_browser()
    if path is None:
        raise SystemExit("no Chromium, Chrome or Edge found; `python lab.py doctor` says more")
    runs = [once(path) for _ in range(times)]
    for name in runs[0]:
        seconds = [run[name] for run in runs]
        print(
            f"{name:<16} median {statistics.median(seconds):5.1f} s "
            f"({min(seconds):.1f} to {max(seconds):.1f}, {times} runs)"
        )
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"measured on {os.cpu_count()} processors{load}")


if __name__ == "__main__":
    main()
