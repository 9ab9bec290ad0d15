#!/bin/sh
# in-root.sh PACKAGES FILES COMMAND...: runs a command in a copy of this machine with
# the unpacked packages in it, and the files over them; in namespaces of its own, with
# a pair of interfaces eth0 and peer, eth0's scatter-gather off. Nothing is left of it.
set -e
if [ "$IN_ROOT" = "" ]; then
	IN_ROOT=1 exec unshare --mount --net --pid --fork --kill-child "$0" "$@"
fi
packages=$1 files=$2
shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755 none /mnt
mkdir /mnt/work /mnt/root
cp -a "$packages" /mnt/upper # no layer may lie within another
mount -t overlay -o "lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
mount -t proc none /mnt/root/proc
mount -t sysfs none /mnt/root/sys
mount -t tmpfs none /mnt/root/run
mount --bind /dev /mnt/root/dev
mkdir -p /mnt/root/run/network /mnt/root/run/dbus
cp -a "$files/." /mnt/root/
chown -R 0:0 /mnt/root/etc/NetworkManager /mnt/root/etc/network /mnt/root/etc/udev
ip link set lo up
ip link add eth0 type veth peer name peer
ip link set peer up
exec chroot /mnt/root "$@"
