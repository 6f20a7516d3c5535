# The emulated machine only: Raspberry Pi starts its kernel without U-Boot.
FILESEXTRAPATHS:prepend:qemuarm64 := "${THISDIR}/files:"

SRC_URI:append:qemuarm64 = " file://limen.cfg file://boot.cmd file://fw_env.config"

UBOOT_ENV:qemuarm64 = "boot"
UBOOT_ENV_SUFFIX:qemuarm64 = "scr"
