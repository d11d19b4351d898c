#!/bin/busybox sh
# PID 1 of a guest. Mounts the usual file systems, loads the modules in /etc/xtask/modules, runs
# /etc/xtask/command as root, and ends the machine with its status.
#
# The kernel's console is ttyS0, on arm64 ttyAMA0. ttyS1 is the command's stdout, ttyS2 its stderr. Its status leaves as
# one byte on ttyS3 before the reset that stops QEMU.

/bin/busybox --install -s /bin
export PATH=/root:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for dir in /dev/shm /run /tmp; do mount -t tmpfs tmpfs $dir; done
chmod 1777 /tmp /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs securityfs /sys/kernel/security
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
ln -s /proc/self/fd /dev/fd
hostname pinwatch
ulimit -l unlimited

for module in $(cat /etc/xtask/modules); do
    insmod "/etc/xtask/$module.ko" || echo "<3>xtask: cannot load $module" >/dev/kmsg
done
ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
    ip addr add 10.0.2.15/24 dev eth0
    ip link set eth0 up
fi

# Raw: the host gets the command's output unchanged.
for tty in /dev/ttyS1 /dev/ttyS2 /dev/ttyS3; do stty -F $tty raw -echo 115200; done
cd /root
setsid sh /etc/xtask/command </dev/null >/dev/ttyS1 2>/dev/ttyS2
status=$?
# stty waits until all earlier output has left the port.
for tty in /dev/ttyS1 /dev/ttyS2; do stty -F $tty raw; done
printf "\\$(printf %o $status)" >/dev/ttyS3
echo b >/proc/sysrq-trigger
