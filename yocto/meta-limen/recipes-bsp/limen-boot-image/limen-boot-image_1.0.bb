SUMMARY = "What Raspberry Pi's firmware starts, as file systems"
DESCRIPTION = "limen-select.vfat holds autoboot.txt and is written once. limen-boot-A.vfat holds firmware, kernel and \
both command lines, and is what a bundle brings for either slot."
HOMEPAGE = "file://${LIMEN_LAYER}/README.md"
SECTION = "bootloaders"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302 \
                    file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

DEPENDS = "dosfstools-native mtools-native"

SRC_URI = "file://autoboot.txt"

S = "${UNPACKDIR}"

inherit deploy nopackages

COMPATIBLE_MACHINE = "^rpi$"
PACKAGE_ARCH = "${MACHINE_ARCH}"
INHIBIT_DEFAULT_DEPS = "1"

# A panic restarts the board after ten seconds, and a trial that panics is over.
CMDLINE = "console=serial0,115200 console=tty1 rootfstype=ext4 rootwait ro panic=10 init=/sbin/limen-preinit"

do_configure[noexec] = "1"
do_compile[noexec] = "1"
do_install[noexec] = "1"

python limen_boot_files() {
    import shutil
    from oe.bootfiles import get_boot_files

    source, into = d.getVar("DEPLOY_DIR_IMAGE"), os.path.join(d.getVar("B"), "boot")
    bb.utils.remove(into, recurse=True)
    for name, wanted in get_boot_files(source, d.getVar("IMAGE_BOOT_FILES")):
        target = os.path.join(into, wanted)
        bb.utils.mkdirhier(os.path.dirname(target))
        if os.path.isdir(os.path.join(source, name)):
            shutil.copytree(os.path.join(source, name), target, dirs_exist_ok=True)
        else:
            shutil.copyfile(os.path.join(source, name), target)
    for slot, partition in (("A", 5), ("B", 6)):
        with open(os.path.join(into, "cmdline-%s.txt" % slot), "w") as line:
            line.write("%s root=/dev/mmcblk0p%d rauc.slot=%s\n" % (d.getVar("CMDLINE"), partition, slot))
    shutil.copyfile(os.path.join(into, "cmdline-A.txt"), os.path.join(into, "cmdline.txt"))
}

do_deploy() {
    # Slightly smaller than the partitions of limen-raspberrypi.wks.
    truncate --size=31M ${B}/select.vfat
    mkfs.vfat -n LIMENSELECT ${B}/select.vfat
    mcopy -i ${B}/select.vfat ${S}/autoboot.txt ::autoboot.txt
    truncate --size=127M ${B}/boot.vfat
    mkfs.vfat -F 32 -n LIMENBOOT ${B}/boot.vfat
    mcopy -s -i ${B}/boot.vfat ${B}/boot/* ::
    install -m 0644 ${B}/select.vfat ${DEPLOYDIR}/limen-select.vfat
    install -m 0644 ${B}/boot.vfat ${DEPLOYDIR}/limen-boot-A.vfat
}
do_deploy[prefuncs] += "limen_boot_files"
do_deploy[cleandirs] += "${B}"
do_deploy[depends] += "rpi-bootfiles:do_deploy rpi-config:do_deploy virtual/kernel:do_deploy"

addtask deploy after do_install before do_build
