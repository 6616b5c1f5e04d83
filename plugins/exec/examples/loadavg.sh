#!/bin/sh
# A Wattrace source in sh, at its own pace: the load average every PACE seconds.
#
#     [[plugins.exec.sources]]
#     name = "loadavg"
#     command = ["/usr/local/lib/wattrace/loadavg.sh"]
#     pace = "own"
#     env = { PACE = "5" }
#
# The protocol is in docs/exec-plugins.md.

echo '{"wattrace":"exec/1"}'
echo '{"metric":{"name":"system.cpu.load_average.1m","unit":"{thread}","kind":"gauge"}}'
while read -r load _ </proc/loadavg; do
    echo "{\"points\":[{\"metric\":\"system.cpu.load_average.1m\",\"value\":$load}]}"
    sleep "${PACE:-1}"
done
