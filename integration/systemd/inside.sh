#!/bin/sh
# What run-tests does inside of the container. Any line that fails ends it.
set -eu
touch /started
step() { echo "systemd: $*"; }
fail() {
    echo "systemd: FAILED: $*"
    systemctl --no-pager --full status 'quorate-*' 2>&1 | tail -n 60
    exit 1
}
# Waits for a command to succeed.
until_true() {
    tries=0
    while ! "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 150 ] || fail "waited too long for: $*"
        sleep 0.2
    done
}
is() { [ "$(systemctl show --property "$2" --value "$1")" = "$3" ] || fail "$2 of $1 is not '$3'"; }
has() { printf '%s\n' "$1" | grep -q -- "$2" || fail "no '$2' in: $1"; }
# An address that every node of a network would have.
ip link set lo up
ip address add 192.0.2.11/32 dev lo

step "the package installs, and starts nothing before this node is configured"
dpkg --install /quorate.deb || fail "dpkg --install"
UNITS="$(dpkg --listfiles quorate | sed -n 's|^/lib/systemd/system/\(.*\)\.service$|\1|p')"
[ "$(echo "$UNITS" | wc -l)" -ge 4 ] || fail "services are missing: $UNITS"
systemctl start quorate.target
for unit in $UNITS; do is $unit ActiveState inactive; is $unit UnitFileState enabled; done
pvecm --version
[ "$(command -v membershipd)" = /usr/sbin/membershipd ]
for unit in quorate.target $(for unit in $UNITS; do echo "$unit.service"; done); do set -- "$@" "$unit"; done
systemd-analyze verify --man=no "$@" || fail "systemd-analyze verify"

step "configured, all services start, and say when they are ready"
printf 'name = "hp1"\naddress = "192.0.2.11"\n' >/etc/quorate/node.toml
systemctl start quorate.target
for unit in $UNITS; do until_true systemctl is-active $unit; done
until_true pvecm create lab
until_true pvecm status
systemctl is-active corosync pve-cluster

step "systemctl status corosync, pve-cluster"
has "$(systemctl --no-pager status corosync)" 'active (running)'
has "$(systemctl --no-pager status corosync)" 'Status: "serving"'
has "$(systemctl --no-pager status pve-cluster)" 'active (running)'

step "journalctl -b -u corosync has the log of the ring, as under its own name"
has "$(journalctl --no-pager -b -u corosync)" 'membershipd'
has "$(journalctl --no-pager -b -u pve-cluster)" 'configd'
has "$(journalctl --no-pager -b -u quorate-membershipd)" 'membershipd'

step "/etc/pve is mounted for everybody"
until_true grep -q 'cluster_name: lab' /etc/pve/corosync.conf

step "systemctl restart corosync: a new process, and the node is quorate again"
before="$(systemctl show --property MainPID --value corosync)"
systemctl restart corosync
systemctl --no-pager status corosync >/dev/null
[ "$(systemctl show --property MainPID --value corosync)" != "$before" ] || fail "the same process"
until_true pvecm status
is quorate-configd NRestarts 0

step "systemctl stop pve-cluster, stop corosync, start pve-cluster"
systemctl stop pve-cluster
! systemctl is-active quorate-configd >/dev/null || fail "configd runs on"
! mountpoint -q /etc/pve || fail "/etc/pve is still mounted"
systemctl is-active quorate-membershipd >/dev/null || fail "stopping pve-cluster stopped the ring"
systemctl stop corosync
! systemctl is-active quorate-membershipd >/dev/null || fail "membershipd runs on"
systemctl start pve-cluster
until_true pvecm status
until_true grep -q 'cluster_name: lab' /etc/pve/corosync.conf

step "a daemon that is killed is started again"
systemctl kill --signal KILL quorate-quorumd
until_true sh -c '[ "$(systemctl show --property NRestarts --value quorate-quorumd)" = 1 ]'
until_true pvecm status

step "a daemon that hangs is noticed by the watchdog and started again"
systemctl kill --signal STOP quorate-gatewayd
until_true sh -c '[ "$(systemctl show --property NRestarts --value quorate-gatewayd)" = 1 ]'
has "$(journalctl --no-pager -b -u quorate-gatewayd)" 'Watchdog timeout'
until_true pvecm status

step "a configuration that makes no sense is told once, and tried no more"
echo 'address = "nowhere"' >/etc/quorate/node.toml
systemctl restart quorate-quorumd && fail "it started"
is quorate-quorumd ActiveState failed
is quorate-quorumd ExecMainStatus 64
has "$(systemctl --no-pager --full status quorate-quorumd || true)" 'no IP address'
printf 'name = "hp1"\naddress = "192.0.2.11"\n' >/etc/quorate/node.toml
systemctl start quorate-quorumd
until_true pvecm status

step "how exposed each service is, of 10"
for unit in $UNITS; do systemd-analyze --no-pager security $unit | tail -n 1; done

step "installed again over itself, the services run again"
before="$(systemctl show --property MainPID --value quorate-quorumd)"
dpkg --install /quorate.deb || fail "dpkg --install, again"
[ "$(systemctl show --property MainPID --value quorate-quorumd)" != "$before" ] || fail "the same process"
until_true pvecm status

step "removed, it keeps what the node knows; purged, nothing stays"
dpkg --remove quorate
! systemctl is-active quorate-membershipd >/dev/null || fail "membershipd runs on"
[ -d /var/lib/quorate/configd ] && [ -e /etc/quorate/node.toml ] || fail "removal took more than programs"
dpkg --purge quorate
for path in /var/lib/quorate /etc/quorate /etc/default/quorate /etc/corosync /run/quorate /etc/systemd/system/corosync.service; do
    [ ! -e $path ] && [ ! -L $path ] || fail "$path is still there"
done
touch /passed
step "passed"
