SUMMARY = "What a door's system keeps, and how it is reached"
DESCRIPTION = "The data partition and what is laid over the read-only root from it, the machine's id, sshd with keys \
only, a journal in memory, the hardware watchdog, wired network."
HOMEPAGE = "file://${LIMEN_LAYER}/README.md"
SECTION = "base"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302 \
                    file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

MOUNTS = "data.mount var-lib-limen.mount var-lib-systemd.mount etc-limen.mount etc-credstore.encrypted.mount"
SRC_URI = "file://limen-preinit \
           ${@' '.join('file://' + unit for unit in d.getVar('MOUNTS').split())} \
           file://limen-data.service \
           file://data.conf \
           file://limen-image.conf \
           file://sshd-limen.conf \
           file://sshdgenkeys-limen.conf \
           file://journald-limen.conf \
           file://watchdog-limen.conf \
           file://80-limen-wired.network"

S = "${UNPACKDIR}"

inherit systemd

SYSTEMD_SERVICE:${PN} = "${MOUNTS} limen-data.service"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -D -m 0755 ${S}/limen-preinit ${D}${base_sbindir}/limen-preinit
    for unit in ${MOUNTS} limen-data.service; do
        install -D -m 0644 ${S}/$unit ${D}${systemd_system_unitdir}/$unit
    done
    install -D -m 0644 ${S}/data.conf ${D}${datadir}/limen/data.conf
    install -D -m 0644 ${S}/limen-image.conf ${D}${systemd_system_unitdir}/limen.service.d/10-image.conf
    install -D -m 0644 ${S}/sshdgenkeys-limen.conf ${D}${systemd_system_unitdir}/sshdgenkeys.service.d/10-limen.conf
    install -D -m 0644 ${S}/journald-limen.conf ${D}${nonarch_libdir}/systemd/journald.conf.d/10-limen.conf
    install -D -m 0644 ${S}/watchdog-limen.conf ${D}${nonarch_libdir}/systemd/system.conf.d/10-limen.conf
    install -D -m 0644 ${S}/80-limen-wired.network ${D}${nonarch_libdir}/systemd/network/80-limen-wired.network
    install -D -m 0644 ${S}/sshd-limen.conf ${D}${sysconfdir}/ssh/sshd_config.d/10-limen.conf
    if [ -n "${LIMEN_AUTHORIZED_KEYS}" ]; then
        install -D -m 0644 "${LIMEN_AUTHORIZED_KEYS}" ${D}${sysconfdir}/ssh/authorized_keys.d/root
    else
        bbnote "LIMEN_AUTHORIZED_KEYS names no file: nobody can sign in until a key lies on the data partition"
    fi
    # Where things are laid over.
    install -d ${D}/data ${D}${sysconfdir}/credstore.encrypted ${D}${localstatedir}/lib/limen
}
# A changed key makes a new image.
do_install[file-checksums] += "${@(d.getVar('LIMEN_AUTHORIZED_KEYS') + ':True') if d.getVar('LIMEN_AUTHORIZED_KEYS') else ''}"

FILES:${PN} += "${systemd_system_unitdir} ${nonarch_libdir}/systemd ${datadir}/limen /data"

RDEPENDS:${PN} = "e2fsprogs-e2fsck limen systemd util-linux-findfs util-linux-mount util-linux-mountpoint"
