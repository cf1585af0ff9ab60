#!/bin/busybox sh
# The first process of a virtual machine of the lab: brings soft-RoCE up on the link to the other
# machine, runs the scenarios of /lab/scenarios.sh one after the other and says how each rank ended.
# `lab.node` of the kernel's command line says which machine this is.
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin:/sbin:/usr/sbin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/shm /tmp
mount -t tmpfs none /tmp
# Kernel messages between the lines would break them.
dmesg -n 1

NODE="$(sed -n 's/.*lab.node=\([0-9]*\).*/\1/p' /proc/cmdline)"
RANKS_PER_NODE=2
NODES=2

say() { echo "LAB $NODE $*"; }

while read -r module; do
    insmod "/modules/$module.ko" || say "failed module $module"
done </modules/order

hostname "node$NODE"
ip link set lo up
# Two NICs on one network: each answers for its own address only.
echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore
echo 2 >/proc/sys/net/ipv4/conf/all/arp_announce
for nic in 0 1; do
    ip link set "eth$nic" mtu 9000 up
    ip addr add "10.0.0.$((10 * nic + NODE + 1))/24" dev "eth$nic"
    rdma link add "rxe$nic" type rxe netdev "eth$nic" || say "failed rdma link add rxe$nic"
done
# And a third that is down, which every scenario has to skip.
ip link add dummy0 type dummy
rdma link add rxe2 type rxe netdev dummy0 || say "failed rdma link add rxe2"
ulimit -l unlimited
ulimit -c 0
say up "$(cut -d' ' -f1 /proc/uptime)"

port=29500

# Packets that this machine has sent over RDMA.
packets() {
    echo $(($(cat /sys/class/infiniband/rxe0/ports/1/hw_counters/sent_pkts) + \
        $(cat /sys/class/infiniband/rxe1/ports/1/hw_counters/sent_pkts)))
}

# The second machine's part of a loss, so many seconds after its ranks have begun to send.
lose() {
    while [ "$(packets)" -lt $(($3 + 100)) ]; do sleep 1; done
    sleep "$2"
    say loses "$1"
    case "$1" in
        power)
            # At once: nothing is told to the peers.
            echo o >/proc/sysrq-trigger
            sleep 60
            ;;
        link)
            ip link set eth0 down
            ip link set eth1 down
            sleep 20
            ip link set eth0 up
            ip link set eth1 up
            ;;
    esac
}

# scenario NAME SECONDS LOSS AFTER COMMAND...: both ranks of this machine; with a LOSS other than
# none, it happens to the second machine.
scenario() {
    name="$1" limit="$2" loss="$3" after="$4"
    shift 4
    port=$((port + 20))
    begin="$(cut -d' ' -f1 /proc/uptime)"
    before="$(packets)"
    local_rank=0
    while [ "$local_rank" -lt "$RANKS_PER_NODE" ]; do
        rank=$((NODE * RANKS_PER_NODE + local_rank))
        (
            export RANK="$rank" WORLD_SIZE=$((NODES * RANKS_PER_NODE))
            export LOCAL_RANK="$local_rank" LOCAL_WORLD_SIZE="$RANKS_PER_NODE"
            export MASTER_ADDR=10.0.0.1 MASTER_PORT="$port" MORI_BOOTSTRAP_SECRET=lab
            export MORI_BOOTSTRAP_TIMEOUT=40 MORI_EP_DEVICE=host MORI_EP_FABRIC=verbs
            export MORI_SOCKET_IFNAME=eth0
            {
                timeout "$limit" env "$@"
                say rank "$name" "$rank" exit "$?"
            } 2>&1 | while read -r line; do
                case "$line" in
                    LAB*) echo "$line" ;;
                    *) echo "| $name $rank | $line" ;;
                esac
            done
        ) &
        local_rank=$((local_rank + 1))
    done
    if [ "$loss" != none ] && [ "$NODE" = 1 ]; then lose "$loss" "$after" "$before"; fi
    wait
    say scenario "$name" from "$begin" to "$(cut -d' ' -f1 /proc/uptime)"
}

. /lab/scenarios.sh
say done
echo o >/proc/sysrq-trigger
sleep 60
