SUMMARY = "A door: limen on a read-only system with two slots"
DESCRIPTION = "Root file system for one slot, and a whole card with both slots and a data partition."
HOMEPAGE = "file://${LIMEN_LAYER}/README.md"
LICENSE = "MIT | Apache-2.0"

IMAGE_FEATURES = "read-only-rootfs ssh-server-openssh"
IMAGE_LINGUAS = ""

inherit core-image

IMAGE_INSTALL = "packagegroup-core-boot packagegroup-limen"
IMAGE_INSTALL:append:qemuarm64 = " kernel-image libubootenv-bin u-boot-env"
BAD_RECOMMENDATIONS += "rauc-mark-good"

IMAGE_FSTYPES = "ext4 wic.zst wic.bmap"
# As large as the slot of the wks files allows: what fits into one is what a bundle may bring.
IMAGE_ROOTFS_MAXSIZE = "983040"
IMAGE_ROOTFS_EXTRA_SPACE = "0"
IMAGE_OVERHEAD_FACTOR = "1.1"
# The file system of the slot, too, has blocks of 4096 bytes.
EXTRA_IMAGECMD:ext4 = "-i 8192 -b 4096"

WKS_FILE:rpi = "limen-raspberrypi.wks"
WKS_FILE:qemuarm64 = "limen-qemuarm64.wks"
# What the card holds besides the root file system.
BOOT_PARTS = ""
BOOT_PARTS:rpi = "limen-boot-image:do_deploy"
BOOT_PARTS:qemuarm64 = "u-boot:do_deploy"
do_image_wic[depends] += "${BOOT_PARTS}"
