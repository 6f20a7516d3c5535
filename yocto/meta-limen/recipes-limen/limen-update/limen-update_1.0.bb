SUMMARY = "Which of two systems is started, and whether it is kept"
DESCRIPTION = "RAUC's bootloader backend for Raspberry Pi over tryboot, and the check after which a slot is marked \
good: camera frames, a known face, the broker."
HOMEPAGE = "file://${LIMEN_LAYER}/README.md"
SECTION = "admin"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302 \
                    file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

SRC_URI = "file://limen-mark-good \
           file://limen-mark-good.service \
           file://limen-fall-back.service \
           file://limen-fall-back.timer"
SRC_URI:append:rpi = " file://limen-tryboot \
                       file://limen-tryboot.service \
                       file://boot-select.mount"
SRC_URI:append:qemuarm64 = " file://boot-uboot.mount"

S = "${UNPACKDIR}"

inherit systemd

SYSTEMD_SERVICE:${PN} = "limen-mark-good.service limen-fall-back.timer"
SYSTEMD_SERVICE:${PN}:append:rpi = " limen-tryboot.service boot-select.mount"
SYSTEMD_SERVICE:${PN}:append:qemuarm64 = " boot-uboot.mount"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -D -m 0755 ${S}/limen-mark-good ${D}${libexecdir}/limen/limen-mark-good
    for unit in limen-mark-good.service limen-fall-back.service limen-fall-back.timer; do
        install -D -m 0644 ${S}/$unit ${D}${systemd_system_unitdir}/$unit
    done
    # RAUC's own unit marks every slot good that comes up at all.
    install -d ${D}${sysconfdir}/systemd/system
    ln -s /dev/null ${D}${sysconfdir}/systemd/system/rauc-mark-good.service
}

do_install:append:rpi() {
    install -D -m 0755 ${S}/limen-tryboot ${D}${libexecdir}/limen/limen-tryboot
    for unit in limen-tryboot.service boot-select.mount; do
        install -D -m 0644 ${S}/$unit ${D}${systemd_system_unitdir}/$unit
    done
    install -d ${D}/boot/select
}

do_install:append:qemuarm64() {
    install -D -m 0644 ${S}/boot-uboot.mount ${D}${systemd_system_unitdir}/boot-uboot.mount
    install -d ${D}/boot/uboot
}

PACKAGE_ARCH = "${MACHINE_ARCH}"

FILES:${PN} += "${systemd_system_unitdir} /boot"

RDEPENDS:${PN} = "curl jq limen rauc util-linux-setpriv"
RDEPENDS:${PN}:append:rpi = " util-linux-flock"
