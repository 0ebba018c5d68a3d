#!/bin/sh
# Called by udhcpc with what the DHCP server said, in variables.
# shellcheck disable=SC2154 # udhcpc sets them
case $1 in
    bound | renew)
        ip addr flush dev "$interface" scope global
        ip addr add "$ip/${mask:-24}" dev "$interface"
        for gateway in $router; do
            ip route add default via "$gateway" dev "$interface"
            break
        done
        for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
        [ -z "$hostname" ] || hostname "$hostname"
        ;;
esac
