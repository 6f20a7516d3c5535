# Starts the first slot of BOOT_ORDER that has attempts left, as RAUC's U-Boot backend expects. An attempt is counted
# before the kernel is started, so that one which hangs is counted too.
test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 0

setenv limen_slot
for candidate in ${BOOT_ORDER}; do
    if test -n "${limen_slot}"; then
        true
    elif test "${candidate}" = A && test ${BOOT_A_LEFT} -gt 0; then
        setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1
        setenv limen_slot A
        setenv limen_partition 2
    elif test "${candidate}" = B && test ${BOOT_B_LEFT} -gt 0; then
        setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1
        setenv limen_slot B
        setenv limen_partition 3
    fi
done

if test -z "${limen_slot}"; then
    # Nothing has attempts left: better the first slot again than none. B may never have been written.
    setenv BOOT_ORDER "A B"
    setenv BOOT_A_LEFT 3
    saveenv
    reset
fi

setenv bootargs "console=ttyAMA0 root=/dev/vda${limen_partition} rootfstype=ext4 rootwait ro panic=10 init=/sbin/limen-preinit rauc.slot=${limen_slot}"
saveenv
load virtio 0:${limen_partition} ${kernel_addr_r} /boot/Image && booti ${kernel_addr_r} - ${fdt_addr}
# Only reached when there is no kernel to start.
reset
