#!/bin/busybox sh
# PID 1 in the initrd of the install test: loads the drivers of the disk and starts the Debian on it.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
for module in $(cat /etc/xtask/modules); do
    insmod "/etc/xtask/$module.ko" || echo "<3>xtask: cannot load $module" >/dev/kmsg
done
mkdir -p /disk
mount -t ext4 /dev/vda /disk || echo "<2>xtask: no disk" >/dev/kmsg
cp -r /install_test /disk/
# A minimal Debian has no /etc/hosts.
echo '127.0.0.1 localhost' >/disk/etc/hosts
# Runs the test once the system is up.
cat >/disk/etc/systemd/system/install_test.service <<UNIT
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /install_test/install_test.sh
StandardOutput=null
StandardError=null
UNIT
mkdir -p /disk/etc/systemd/system/graphical.target.wants
ln -sf ../install_test.service /disk/etc/systemd/system/graphical.target.wants/
ln -sf /dev/null /disk/etc/systemd/system/serial-getty@ttyS0.service
umount /proc
exec switch_root /disk /lib/systemd/systemd systemd.log_level=warning systemd.show_status=no
