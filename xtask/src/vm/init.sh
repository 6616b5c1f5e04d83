#!/bin/busybox sh
# The first process of a virtual machine: makes it look like a system, runs the tests, powers off. Programs of this
# image come before busybox's. $second_port is a parameter of the kernel: see architecture.rs.
/bin/busybox mkdir -p /applets /proc /sys /dev /tmp
/bin/busybox --install -s /applets
export PATH=/bin:/usr/bin:/applets HOME=/
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t securityfs securityfs /sys/kernel/security
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo +cpu >/sys/fs/cgroup/cgroup.subtree_control
ip link set lo up
sh /tests.sh >"$second_port" 2>&1
poweroff -f
