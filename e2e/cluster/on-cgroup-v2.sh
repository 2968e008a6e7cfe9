#!/usr/bin/env bash
# Runs the cluster's tests on a host with cgroup version 2, on a machine that need not be one: inside a User Mode Linux, which is a
# kernel that runs as a process and needs no hardware support. The root file system is a fresh Debian, so systemd sets up its cgroups as it
# does for anybody, and its kernel loads modules on demand, as most do.
#
#   e2e/cluster/on-cgroup-v2.sh [TEST...]      names of tests in e2e/cluster/tests, or parts of them
#
# As root on Debian 12 or newer, with Go, mmdebstrap and e2fsprogs, and after `cargo xtask cluster build`. It installs nothing, leaves nothing, and takes some ten
# minutes: starting a process costs a hundred times what it costs elsewhere. The guest has one CPU and no network.
set -euo pipefail
cd "$(dirname "$0")/../.."
tree=$PWD
tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=(an_up_and_a_down_leave_nothing a_pod_is_reached_from_every_side)

need() { command -v "$1" >/dev/null || { echo "error: $1 is missing: apt-get install $2" >&2; exit 1; }; }
need mmdebstrap mmdebstrap
need mke2fs e2fsprogs
need go golang-go
[ "$(id -u)" = 0 ] || { echo "error: the guest's files need root: run the same command with sudo" >&2; exit 1; }

binaries=$(cargo test --package pilotlight-cluster --locked --no-run --message-format json |
    grep -o '"executable":"[^"]*/\(runs_pods\|leaves_host_as_it_was\)-[0-9a-f]*"' | cut -d'"' -f4)
cargo build --package pilotlight-cluster --locked

scratch=$(mktemp -d /var/tmp/pilotlight-v2.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root

echo "▶ a Debian for the guest"
mmdebstrap --quiet --variant=minbase --include=systemd-sysv,udev,kmod,procps,iproute2,iptables,containerd,runc,crun,containernetworking-plugins bookworm "$root"
# This kernel has no nf_tables for IPv4.
for tool in iptables ip6tables; do chroot "$root" update-alternatives --quiet --set $tool /usr/sbin/$tool-legacy; done
(cd "$scratch" && apt-get --quiet=2 download user-mode-linux && dpkg-deb -x user-mode-linux_*.deb uml)
mkdir -p "$root/lib/modules"
cp -a "$scratch"/uml/usr/lib/uml/modules/* "$root/lib/modules/"

echo "▶ this tree, and what was built, for the guest"
mkdir -p "$root$tree" "$root/usr/local/go/bin" "$root/root/.cache"
git ls-files -z e2e/cluster | xargs -0 cp --parents -t "$root$tree"
cp --parents $binaries "$tree/target/debug/pilotlight-cluster" "$root"
cp -a "${XDG_CACHE_HOME:-$HOME/.cache}/pilotlight" "$root/root/.cache/"
# `up` asks for Go's version; nothing is left to build.
cp "$(go env GOROOT)/bin/go" "$root/usr/local/go/bin/"
# Debian empties /tmp when it starts, and the tree may be there.
: > "$root/etc/tmpfiles.d/tmp.conf"
ln -s /dev/null "$root/etc/systemd/system/containerd.service"
cat > "$root/root/run" <<EOF
set -u
exec 2>&1
# cAdvisor wants to know a clock speed, which this kernel does not tell.
mount -t tmpfs -o mode=755 cpu /sys/devices/system/cpu
mkdir -p /sys/devices/system/cpu/cpu0/cpufreq
echo 1000000 > /sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq
echo 0 | tee /sys/devices/system/cpu/{online,possible,present} > /dev/null
echo "kernel \$(uname -r), /sys/fs/cgroup is \$(stat -fc %T /sys/fs/cgroup) with \$(cat /sys/fs/cgroup/cgroup.controllers)"
cd $tree/e2e/cluster
verdict=0
for test in ${tests[*]}; do
    for binary in $(echo $binaries); do
        \$binary --ignored --test-threads 1 --nocapture \$test || verdict=1
    done
done
echo "verdict \$verdict"
EOF
cat > "$root/etc/systemd/system/tests.service" <<EOF
[Service]
Type=oneshot
Environment=HOME=/root GOROOT=/usr/local/go GOTOOLCHAIN=local PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/bin/bash /root/run
ExecStopPost=/bin/systemctl poweroff --force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
TimeoutStartSec=infinity
EOF
mke2fs -q -t ext4 -d "$root" "$scratch/disk" 6G
rm -rf "$root"

echo "▶ the guest: ${tests[*]}"
TMPDIR=/dev/shm "$scratch"/uml/usr/bin/linux.uml mem=3072M ubd0="$scratch/disk" root=/dev/ubda rw con=null con0=null,fd:1 \
    quiet systemd.show_status=0 systemd.unit=tests.service </dev/null | tee "$scratch/said"
grep -q '^verdict 0' "$scratch/said"
