#!/usr/bin/env bash
# A laboratory for the ssh provider: three real sshd's, each in a network namespace of its own, joined by a bridge in
# another one, and a namespace for the controller. Nothing of it touches the network of the host. Needs root.
#
#   ssh_lab.sh up DIR            makes it; DIR/hosts.yaml lists the hosts
#   ssh_lab.sh exec DIR CMD…     runs a command as the controller would
#   ssh_lab.sh down DIR          ends it: its own sshd's by their pid files, and its own namespaces
set -euo pipefail

command=$1
dir=$(realpath -m "$2")
nodes="1 2 3"

up() {
    mkdir -p "$dir" /run/sshd
    ssh-keygen -q -t ed25519 -N '' -f "$dir/host_key"
    ssh-keygen -q -t ed25519 -N '' -f "$dir/login"
    ip netns add squall-lab-net
    ip -n squall-lab-net link add br0 type bridge
    ip -n squall-lab-net link set br0 up
    join squall-lab-ctl 100
    echo "hosts:" >"$dir/hosts.yaml"
    for i in $nodes; do
        join "squall-lab-n$i" "$i"
        cat >"$dir/sshd$i.conf" <<EOF
ListenAddress 10.88.0.$i:22
HostKey $dir/host_key
AuthorizedKeysFile $dir/login.pub
PidFile $dir/sshd$i.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
EOF
        ip netns exec "squall-lab-n$i" /usr/sbin/sshd -f "$dir/sshd$i.conf" -E "$dir/sshd$i.log"
        echo "10.88.0.$i $(cut -d' ' -f1,2 "$dir/host_key.pub")" >>"$dir/known_hosts"
        echo "  - { host: 10.88.0.$i, user: root, identity: login, root: $dir/n$i, known_hosts_file: known_hosts }" >>"$dir/hosts.yaml"
    done
    echo "$dir/hosts.yaml"
}

# A namespace with one leg in the bridge.
join() {
    ip netns add "$1"
    ip -n squall-lab-net link add "leg$2" type veth peer name eth0 netns "$1"
    ip -n squall-lab-net link set "leg$2" master br0 up
    ip -n "$1" address add "10.88.0.$2/24" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" link set lo up
}

down() {
    for i in $nodes; do
        # Only what runs in our own namespaces: sshd's, their sessions, and whatever a killed run may have left.
        for pid in $(ip netns pids "squall-lab-n$i" 2>/dev/null || true); do
            kill -9 "$pid" 2>/dev/null || true
        done
    done
    for name in squall-lab-n1 squall-lab-n2 squall-lab-n3 squall-lab-ctl squall-lab-net; do
        ip netns delete "$name" 2>/dev/null || true
    done
}

case $command in
    up) up ;;
    exec) shift 2; exec ip netns exec squall-lab-ctl "$@" ;;
    down) down ;;
    *) echo "usage: $0 up|exec|down DIR" >&2; exit 64 ;;
esac
