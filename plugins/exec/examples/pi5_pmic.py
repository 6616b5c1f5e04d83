#!/usr/bin/env python3
"""A Wattrace source in Python: the energy of a Raspberry Pi 5's rails, from its power management chip.

    [[plugins.exec.sources]]
    name = "pmic"
    command = ["/usr/local/lib/wattrace/pi5_pmic.py"]

The chip reports current and voltage of each rail (`vcgencmd pmic_read_adc`), which no driver shows. Their
products are integrated from poll to poll: VDD_CORE is the processor, DDR_* the memory, and the sum of all rails
the board, without what the chip itself and the USB ports use. PMIC_COMMAND is run instead of vcgencmd, for
tests. The protocol is in docs/exec-plugins.md.
"""

import json
import os
import re
import shlex
import subprocess
import sys

COMMAND = shlex.split(os.environ.get("PMIC_COMMAND", "vcgencmd pmic_read_adc"))
ORIGIN = "simulated" if "PMIC_COMMAND" in os.environ else "measured"
LINE = re.compile(r"\s*(\w+)_([AV]) (?:current|volt)\(\d+\)=([0-9.]+)[AV]")


def say(message):
    print(json.dumps(message), flush=True)


def watts(text):
    """Watts by domain. EXT5V and BATT have a voltage and no current: they are inputs, and left out."""
    rails = {}
    for rail, unit, value in LINE.findall(text):
        rails.setdefault(rail, {})[unit] = float(value)
    power = {rail: of["A"] * of["V"] for rail, of in rails.items() if len(of) == 2}
    if "VDD_CORE" not in power:
        raise ValueError(f"{COMMAND[0]} reports no current and voltage of VDD_CORE")
    memory = sum(of for rail, of in power.items() if rail.startswith("DDR_"))
    return {"pmic-board": sum(power.values()), "package-0": power["VDD_CORE"], "dram-0": memory}


class Meter:
    """Joules since the start, by the trapezoid rule."""

    METRICS = {"pmic-board": "hw.host.energy", "package-0": "hw.energy", "dram-0": "hw.energy"}
    RESOURCES = {"package-0": {"type": "package", "id": "0"}, "dram-0": {"type": "dram", "id": "0"}}

    def __init__(self):
        self.joules = dict.fromkeys(self.METRICS, 0.0)
        self.last = None

    def point(self, domain):
        attributes = {"wattrace.domain": domain, "wattrace.origin": ORIGIN}
        point = {"metric": self.METRICS[domain], "value": round(self.joules[domain], 6), "attributes": attributes}
        if domain in self.RESOURCES:
            point["resource"] = self.RESOURCES[domain]
        return point

    def answer(self, end):
        """The answer to a poll that ends at `end`, in nanoseconds."""
        try:
            done = subprocess.run(COMMAND, capture_output=True, text=True, check=True, timeout=2)
            now = watts(done.stdout)
        except (OSError, ValueError, subprocess.SubprocessError) as problem:
            return {"error": {"kind": "retry", "message": f"{problem}; is this a Raspberry Pi 5?"}}
        if self.last:
            before, then = self.last
            for domain, value in now.items():
                self.joules[domain] += (before[domain] + value) / 2 * (end - then) / 1e9
        self.last = now, end
        return {"points": [self.point(domain) for domain in self.METRICS]}


say({"wattrace": "exec/1"})
for metric in sorted(set(Meter.METRICS.values())):
    say({"metric": {"name": metric, "unit": "J", "kind": "counter"}})
meter = Meter()
for line in sys.stdin:
    poll = json.loads(line).get("poll")
    if poll is not None:
        say(meter.answer(poll["end_unix_nano"]))
