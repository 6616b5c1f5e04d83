#!/usr/bin/env python3
"""A Wattrace output in Python: keeps the latest value of every open series in a JSON file.

    [[plugins.exec.outputs]]
    name = "latest"
    command = ["/usr/local/lib/wattrace/latest.py", "/run/wattrace/latest.json"]

The protocol is in docs/exec-plugins.md.
"""

import json
import os
import sys
import time

PATH = sys.argv[1]
WRITE_INTERVAL = 1.0


def say(message):
    print(json.dumps(message), flush=True)


def key(series):
    """What names a series."""
    labels = {name: series.get(name) for name in ("metric", "resource", "consumer", "attributes")}
    return json.dumps(labels, sort_keys=True)


def write(latest):
    """Replaces the file in one step, so that no reader sees half of it."""
    with open(PATH + ".new", "w") as file:
        json.dump(list(latest.values()), file, indent=1)
    os.replace(PATH + ".new", PATH)


latest, points, written = {}, 0, time.monotonic()
say({"wattrace": "exec/1"})
for line in sys.stdin:
    message = json.loads(line)
    if "metric" in message:
        latest[key(message)] = message
        points += 1
        say({"ack": points})
    for ended in message.get("end", []):
        latest.pop(key(ended), None)
    if "flush" in message or time.monotonic() - written >= WRITE_INTERVAL:
        write(latest)
        written = time.monotonic()
    if "flush" in message:
        say({"flushed": message["flush"]})
write(latest)
