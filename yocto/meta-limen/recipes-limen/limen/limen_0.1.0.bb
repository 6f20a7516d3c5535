SUMMARY = "Local face recognition for a mounted door or kiosk camera"
DESCRIPTION = "Finds the faces in front of a camera, tells home automation over MQTT who is there, and opens the door \
by a policy of its own. Everything is computed on the device."
HOMEPAGE = "file://${LIMEN_REPOSITORY}/README.md"
SECTION = "multimedia"
# limen itself, and what is linked into it: the crates, by the list of deny.toml, and SQLCipher.
LICENSE = "(MIT | Apache-2.0) & Apache-2.0 & Apache-2.0-with-LLVM-exception & BSD-3-Clause & IJG & ISC & MIT & Unicode-3.0 & Zlib & blessing & WTFPL"
LIC_FILES_CHKSUM = "file://LICENSE-MIT;md5=44898bc5a7cc6167264b76ba1d57d12d \
                    file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57"

# SQLCipher is built from source inside a crate and takes libcrypto from the system.
DEPENDS = "openssl"

SRC_URI = "${LIMEN_SRC_URI} \
           file://limen.toml"
SRCREV = "${LIMEN_SRCREV}"

require limen-crates.inc

inherit cargo pkgconfig systemd useradd

export OPENSSL_LIB_DIR = "${STAGING_LIBDIR}"
export OPENSSL_INCLUDE_DIR = "${STAGING_INCDIR}"

SYSTEMD_SERVICE:${PN} = "limen.service"

# Numbers that stay the same from image to image: the files on the data partition carry them.
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system --gid 881 limen; --system --gid 882 gpio; --system --gid 883 i2c; --system --gid 884 spi"
USERADD_PARAM:${PN} = "--system --uid 881 --gid limen --groups video,gpio,i2c,spi --home-dir ${localstatedir}/lib/limen \
                       --no-create-home --shell /sbin/nologin --comment 'limen face recognition' limen"

# The class would install libraries of the build as well.
do_install() {
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/limen ${D}${bindir}/limen
    install -D -m 0644 ${S}/systemd/limen.service ${D}${systemd_system_unitdir}/limen.service
    install -D -m 0644 ${S}/systemd/limen.sysusers ${D}${nonarch_libdir}/sysusers.d/limen.conf
    install -D -m 0644 ${S}/systemd/limen.tmpfiles ${D}${nonarch_libdir}/tmpfiles.d/limen.conf
    install -D -m 0644 ${S}/systemd/limen.rules ${D}${nonarch_base_libdir}/udev/rules.d/60-limen.rules
    # Every setting is commented out: what stands in docs/config.md holds until somebody decides otherwise.
    install -D -m 0644 ${UNPACKDIR}/limen.toml ${D}${sysconfdir}/limen/limen.toml
    install -d ${D}${sysconfdir}/limen/limen.toml.d
    # For the first start of a device, whose /etc/limen lies on its data partition.
    install -D -m 0644 ${UNPACKDIR}/limen.toml ${D}${datadir}/limen/etc/limen.toml
}

FILES:${PN} += "${nonarch_libdir}/sysusers.d ${nonarch_libdir}/tmpfiles.d ${nonarch_base_libdir}/udev/rules.d"
CONFFILES:${PN} = "${sysconfdir}/limen/limen.toml"

RDEPENDS:${PN} = "limen-models litert"
# Backups over SFTP call the program of OpenSSH; QR codes, time zones and certificates are built in.
RRECOMMENDS:${PN} = "openssh-sftp ca-certificates"
