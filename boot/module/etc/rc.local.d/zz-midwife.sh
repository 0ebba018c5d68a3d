#!/bin/sh
# Start script of midwife's boot module. ESXi's /etc/rc.local runs what lies in /etc/rc.local.d, sorted, late in
# the boot (not under UEFI Secure Boot); on Linux the initial RAM disk's own init has to run it.
#
# It lets midwife in (the service's public key, for root) and starts pbconnect, which calls midwife. It returns
# at once: the boot must not wait for the network.
#
# Environment, for tests: PBROOT is put before every file name.

ROOT=${PBROOT:-}
HOME_OF_MIDWIFE=$ROOT/opt/midwife

# Adds the line $2 to the file $1 unless it is there. What others put there stays.
add_key() {
    directory=${1%/*}
    if [ ! -d "$directory" ]; then
        mkdir -p "$directory" || return 1
        chmod 700 "$directory"
    fi
    if [ ! -e "$1" ]; then
        (umask 077 && : >"$1") || return 1
    fi
    # "go-rwx", not "600": on ESXi the sticky bit marks files that may be changed and are kept.
    chmod go-rwx "$1"
    if KEY=$2 awk '$0 == ENVIRON["KEY"] { found = 1 } END { exit !found }' "$1"; then return 0; fi
    # A last line without its end would swallow ours.
    if [ -s "$1" ] && [ -n "$(tail -c 1 "$1")" ]; then echo >>"$1"; fi
    printf '%s\n' "$2" >>"$1"
}

while read -r key; do
    case $key in '' | '#'*) continue ;; esac
    # ESXi's sshd reads /etc/ssh/keys-<user>/authorized_keys.
    add_key "$ROOT/etc/ssh/keys-root/authorized_keys" "$key"
    if [ "$(uname -s)" = Linux ]; then add_key "$ROOT/root/.ssh/authorized_keys" "$key"; fi
done <"$HOME_OF_MIDWIFE/authorized_key"

# "sh FILE", because execInstalledOnly refuses to execute a file that came in no VIB. A session of its own,
# because rc.local's end must not take pbconnect with it.
if command -v setsid >/dev/null 2>&1; then
    setsid sh "$HOME_OF_MIDWIFE/pbconnect" </dev/null >/dev/null 2>&1 &
else
    sh "$HOME_OF_MIDWIFE/pbconnect" </dev/null >/dev/null 2>&1 &
fi
exit 0
