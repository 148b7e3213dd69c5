#!/usr/bin/env bash
# A laboratory for the ssh provider: three real sshd's, each in a network namespace of its own, joined by a bridge in
# another one, and a namespace for the controller. Nothing of it touches the network of the host. Needs root.
#
# Node i has 10.88.0.i, and 10.89.0.i in a network that the controller has no way into. On each, DIR/root is a folder of its own, DIR/small a
# file system of 1 MB, DIR/noexec one that runs no programs, `op` a login that DIR/sudoers makes root by sudo, and `old` one as root where
# there is busybox and nothing else.
#
#   ssh_lab.sh up DIR            makes it; DIR/hosts.yaml lists the hosts
#   ssh_lab.sh exec DIR CMD…     runs a command as the controller would
#   ssh_lab.sh down DIR          ends it: its own sshd's by their pid files, and its own namespaces
set -euo pipefail

command=$1
dir=$(realpath -m "$2")
nodes="1 2 3"
lab=${SQUALL_LAB:-squall-lab}

up() {
    mkdir -p "$dir" /run/sshd
    mkdir -p "$dir/root" "$dir/small" "$dir/noexec"
    # The key of `op` is read as `op`.
    chmod 755 "$dir"
    { cat /etc/passwd; echo "op:x:4242:4242::/tmp:/bin/sh"; echo "old:x:0:0::/:/bin/sh"; } >"$dir/passwd"
    { cat /etc/shadow; echo "op:*:19000:0:99999:7:::"; echo "old:*:19000:0:99999:7:::"; } >"$dir/shadow"
    echo "op ALL=(ALL) NOPASSWD: ALL" >"$dir/sudoers"
    chmod 600 "$dir/shadow"
    chmod 440 "$dir/sudoers"
    ssh-keygen -q -t ed25519 -N '' -f "$dir/host_key"
    ssh-keygen -q -t ed25519 -N '' -f "$dir/login"
    ip netns add "$lab-net"
    ip -n "$lab-net" link add br0 type bridge
    ip -n "$lab-net" link set br0 up
    ip -n "$lab-net" link add br1 type bridge
    ip -n "$lab-net" link set br1 up
    join "$lab-ctl" 100
    echo "hosts:" >"$dir/hosts.yaml"
    for i in $nodes; do
        join "$lab-n$i" "$i"
        ip -n "$lab-net" link add "inner$i" type veth peer name eth1 netns "$lab-n$i"
        ip -n "$lab-net" link set "inner$i" master br1 up
        ip -n "$lab-n$i" address add "10.89.0.$i/24" dev eth1
        ip -n "$lab-n$i" link set eth1 up
        mkdir -p "$dir/n$i"
        cat >"$dir/sshd$i.conf" <<EOF
HostKey $dir/host_key
AuthorizedKeysFile $dir/login.pub
PidFile $dir/sshd$i.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
Match User old
    ChrootDirectory /mnt
EOF
        # `ip netns exec` has made a mount namespace, which ends with its processes.
        ip netns exec "$lab-n$i" bash -c "
            mount --bind '$dir/n$i' '$dir/root'
            mount -t tmpfs -o size=1m squall '$dir/small'
            mount -t tmpfs -o noexec squall '$dir/noexec'
            if command -v busybox >/dev/null; then
                mkdir -p '$dir/old$i'/{bin,proc,dev,tmp}
                cp \$(command -v busybox) '$dir/old$i/bin/busybox'
                chroot '$dir/old$i' /bin/busybox --install -s /bin
                # sshd wants a path to it that nobody else may write.
                mount --bind '$dir/old$i' /mnt
                mount --rbind /proc /mnt/proc
                mount --rbind /dev /mnt/dev
            fi
            mount --bind '$dir/passwd' /etc/passwd
            mount --bind '$dir/shadow' /etc/shadow
            [ ! -e /etc/sudoers ] || mount --bind '$dir/sudoers' /etc/sudoers
            exec /usr/sbin/sshd -f '$dir/sshd$i.conf' -E '$dir/sshd$i.log'"
        echo "10.88.0.$i,10.89.0.$i $(cut -d' ' -f1,2 "$dir/host_key.pub")" >>"$dir/known_hosts"
        echo "  - { host: 10.88.0.$i, user: root, identity: login, root: $dir/n$i, known_hosts_file: known_hosts }" >>"$dir/hosts.yaml"
    done
    echo "$dir/hosts.yaml"
}

# A namespace with one leg in the bridge.
join() {
    ip netns add "$1"
    ip -n "$lab-net" link add "leg$2" type veth peer name eth0 netns "$1"
    ip -n "$lab-net" link set "leg$2" master br0 up
    ip -n "$1" address add "10.88.0.$2/24" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" link set lo up
}

down() {
    for i in $nodes; do
        # Only what runs in our own namespaces: sshd's, their sessions, and whatever a killed run may have left.
        for pid in $(ip netns pids "$lab-n$i" 2>/dev/null || true); do
            kill -9 "$pid" 2>/dev/null || true
        done
    done
    for name in $lab-n1 $lab-n2 $lab-n3 "$lab-ctl" "$lab-net"; do
        ip netns delete "$name" 2>/dev/null || true
    done
}

case $command in
    up) up ;;
    exec) shift 2; exec ip netns exec "$lab-ctl" "$@" ;;
    down) down ;;
    *) echo "usage: $0 up|exec|down DIR" >&2; exit 64 ;;
esac
