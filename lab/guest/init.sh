#!/bin/sh
# Runs in the host's root just before systemd: mounts the cgroup hierarchies as seen from the host's own cgroup namespace.
mount --make-rshared /   # credentials and private mounts of units need propagation

if [ "$(wc -l < /proc/self/cgroup)" = 1 ]; then
  umount /sys/fs/cgroup
  mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate cgroup2 /sys/fs/cgroup \
    || mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
else
  while IFS=: read -r _ controllers _; do
    case $controllers in
      '')           directory=unified type=cgroup2 options=nsdelegate ;;
      name=systemd) directory=systemd type=cgroup options=none,name=systemd,xattr ;;
      name=* | cpuset | *net_cls* | *net_prio* | perf_event | hugetlb) continue ;;
      *)            directory=$controllers type=cgroup options=$controllers ;;
    esac
    mkdir -p "/sys/fs/cgroup/$directory"
    mount -t "$type" -o "nosuid,nodev,noexec,$options" cgroup "/sys/fs/cgroup/$directory" \
      || echo "lab: cannot mount the cgroup hierarchy $directory" >&2
  done < /proc/self/cgroup
  # Writable, systemd would mount further v1 hierarchies, and those belong to the whole machine.
  mount -o remount,ro /sys/fs/cgroup
fi

# Without devtmpfs systemd listens to udev only when udev seems to be there already.
mkdir -p /run/udev
: > /run/udev/control
exec /sbin/init
