# midwife: the installer tells that the installation is complete. Make it the last %post.
# Paste this into the kickstart file below a line
#     %post --interpreter=busybox --ignorefailure=true
# It works under Secure Boot. Nothing in it fails the installation, and it waits for midwife for two minutes
# at most. PBHOST= and PBTOKEN= come from the boot command line (kernelopt= in boot.cfg), as midwife writes it.
if [ -r /opt/midwife/pbconnect ]; then
    # midwife's boot module is on board
    sh /opt/midwife/pbconnect -p installed -r 4 || true
else
    pbhost='' pbtoken=''
    for word in $(/sbin/bootOption -roC 2>/dev/null || cat /proc/cmdline); do
        case $word in
        PBHOST=*) pbhost=${word#PBHOST=} ;;
        PBTOKEN=*) pbtoken=${word#PBTOKEN=} ;;
        esac
    done
    host=${pbhost%:*} host=${host#[} host=${host%]}
    if [ -n "$pbhost" ]; then
        for try in 1 2 3; do
            reply=$(printf 'MIDWIFE/1 token=%s phase=installed\n' "$pbtoken" | nc -w 15 "$host" "${pbhost##*:}")
            case $reply in "MIDWIFE/1 ok"*) break ;; esac
            sleep "$try"
        done
    fi
fi
true # the installer gives up on a failing %post, unless --ignorefailure=true
