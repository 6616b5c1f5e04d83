#!/bin/sh
# A Wattrace output in sh: appends every point to the file FILE.
#
#     [[plugins.exec.outputs]]
#     name = "append"
#     command = ["/usr/local/lib/wattrace/append.sh"]
#     env = { FILE = "/var/log/wattrace.jsonl" }
#
# The protocol is in docs/exec-plugins.md.

echo '{"wattrace":"exec/1"}'
points=0
while read -r line; do
    case $line in
    '{"metric":'*)
        printf '%s\n' "$line" >>"$FILE" || exit 1
        points=$((points + 1))
        echo "{\"ack\":$points}"
        ;;
    '{"flush":'*)
        number=${line#*:}
        echo "{\"flushed\":${number%\}}}"
        ;;
    esac
done
