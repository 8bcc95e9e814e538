#!/bin/sh
# enter.sh DIR ROOT NAME UID INIT: first process of a host's new namespaces. Builds the file systems that a machine has at
# power-on, moves into ROOT and becomes INIT. Standard input delivers one line when the network cable is plugged in.
set -eu
dir=$1 root=$2 name=$3 uid=$4 init=$5

# /proc is still the machine's, so this is our process number out there.
read -r pid _ < /proc/self/stat
echo "$pid" > "$dir/pid.boot.new"
mv "$dir/pid.boot.new" "$dir/pid.boot"
read -r _ || exit 1

mount --bind "$root" "$root"
mount --make-private "$root"
cd "$root"
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
# A writable /sys makes udev work, but most of it is the machine's: writable are block devices and interfaces.
for tree in kernel module power firmware bus devices; do
  [ -d "sys/$tree" ] || continue
  mount --bind "sys/$tree" "sys/$tree"
  mount -o remount,bind,ro,nosuid,nodev,noexec "sys/$tree"
done
for tree in block net; do
  mount --bind "sys/devices/virtual/$tree" "sys/devices/virtual/$tree"
  mount -o remount,bind,rw,nosuid,nodev,noexec "sys/devices/virtual/$tree"
done
mount -t tmpfs -o mode=755,nosuid,nodev,noexec,size=4m tmpfs sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mount -t tmpfs -o mode=755,nosuid,size=8m tmpfs dev

# Own nodes, never the machine's: something inside may well change their mode.
while read -r node major minor; do
  mknod -m 666 "dev/$node" c "$major" "$minor"
done <<'NODES'
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
fuse 10 229
NODES
mkdir -p dev/pts dev/shm dev/mqueue dev/hugepages dev/net
mknod -m 666 dev/net/tun c 10 200
mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue

# Only this host's own disks have a node, so no other loop device of the machine can be opened from inside.
for file in /sys/block/loop*/loop/backing_file; do
  read -r backing < "$file" 2>/dev/null || continue
  case $backing in
    */disk-"$uid"-*)
      block=${file%/loop/backing_file}
      IFS=: read -r major minor < "$block/dev"
      mknod -m 660 "dev/${block##*/}" b "$major" "$minor"
      ;;
  esac
done

# Kernel settings are the machine's, except those of the network namespace.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro,nosuid,nodev,noexec proc/sys
mkdir run/.proc
mount -t proc proc run/.proc
mount --bind run/.proc/sys/net proc/sys/net
umount -l run/.proc
rmdir run/.proc
for file in kmsg sysrq-trigger; do
  [ ! -e "proc/$file" ] || mount --bind dev/null "proc/$file"
done
# A new boot id at each boot, as on metal: that is how a reboot is recognised.
cat proc/sys/kernel/random/uuid > dev/.boot_id
mount --bind dev/.boot_id proc/sys/kernel/random/boot_id

mkdir run/lab
cp "$init" run/lab/init
hostname "$name"
mkdir -p .old
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=lab sh /run/lab/init < /dev/null
