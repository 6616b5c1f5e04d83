#!/usr/bin/env python3
"""A Wattrace source in Python: the host's energy, from a file in which a UPS driver counts microjoules.

    [[plugins.exec.sources]]
    name = "ups"
    command = ["/usr/local/lib/wattrace/ups.py"]
    env = { UPS_ENERGY_FILE = "/run/ups/energy_uj" }

The protocol is in docs/exec-plugins.md.
"""

import json
import os
import sys

PATH = os.environ.get("UPS_ENERGY_FILE", "/run/ups/energy_uj")


def say(message):
    print(json.dumps(message), flush=True)


def answer():
    """The answer to a poll."""
    try:
        with open(PATH) as file:
            microjoules = int(file.read())
    except (OSError, ValueError) as problem:
        # "retry": the next poll may work. "gone" would end the source, "fatal" would restart this program.
        return {"error": {"kind": "retry", "message": f"{PATH}: {problem}; is the driver of the UPS running?"}}
    point = {
        "metric": "hw.host.energy",
        "value": microjoules / 1e6,
        "attributes": {"wattrace.domain": "ups", "wattrace.origin": "measured"},
    }
    return {"points": [point]}


say({"wattrace": "exec/1"})
say({"metric": {"name": "hw.host.energy", "unit": "J", "kind": "counter"}})
for line in sys.stdin:
    if "poll" in json.loads(line):
        say(answer())
# The input has ended, because the agent stops. This program ends with status 0.
