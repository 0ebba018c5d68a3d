#!/bin/sh
# Looks for what a make target needs from Debian and installs what is missing, saying what.
# Usage: needs.sh GROUP…   groups: python, lab (virtual machines with real firmware), test (peers for the tests)
# Not root and no password-less sudo: prints the command for somebody who is, and fails.
set -eu

missing=""
want() { # want PACKAGE CHECK…: the package is missing if the check fails
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
has() { want "$2" command -v "$1"; }
file() { want "$2" test -e "$1"; }

for group in "$@"; do
    case $group in
    python)
        has python3 python3
        want python3-venv python3 -c 'import ensurepip, venv'
        ;;
    lab)
        has qemu-system-x86_64 qemu-system-x86
        file /usr/share/OVMF/OVMF_CODE_4M.fd ovmf
        file /usr/lib/ipxe/snponly.efi ipxe
        file /usr/lib/ipxe/qemu/pxe-virtio.rom ipxe-qemu
        file /usr/lib/PXELINUX/pxelinux.0 pxelinux
        file /usr/lib/syslinux/modules/bios/ldlinux.c32 syslinux-common
        has dnsmasq dnsmasq-base
        file /usr/lib/ISOLINUX/isolinux.bin isolinux
        has grub-mkstandalone grub-common
        file /usr/lib/grub/x86_64-efi/modinfo.sh grub-efi-amd64-bin
        file /usr/lib/grub/i386-pc/modinfo.sh grub-pc-bin
        has mcopy mtools
        has gcc gcc
        has ip iproute2
        ;;
    test)
        has busybox busybox-static
        has dash dash
        has nc netcat-openbsd
        has shellcheck shellcheck
        has curl curl
        has tftp tftp-hpa
        has atftp atftp
        file /usr/sbin/sshd openssh-server
        file /usr/sbin/dropbear dropbear-bin
        has xorriso xorriso
        has cpio cpio
        has zip zip
        has openssl openssl
        has ar binutils
        has strace strace
        has tcpdump tcpdump
        has unshare util-linux
        ;;
    *)
        echo "needs.sh: unknown group $group" >&2
        exit 2
        ;;
    esac
done

[ -n "$missing" ] || exit 0
echo "missing from this machine:$missing"
if ! command -v apt-get >/dev/null; then
    echo "this is no Debian: install what these packages hold, by your system's own names" >&2
    exit 1
fi
as_root=""
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root="sudo"
    else
        echo "run this as root, then try again:  apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
fi
# Services that come with a package (openssh-server) are not started by a test's set-up.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi
echo "installing:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
