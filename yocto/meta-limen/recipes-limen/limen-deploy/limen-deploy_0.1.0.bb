SUMMARY = "The device's end of updates over SSH"
DESCRIPTION = "What fleet/ of limen's repository talks to: an account with a forced command that receives signed \
releases, gives their bundles to RAUC and tells how the device is."
HOMEPAGE = "file://${LIMEN_REPOSITORY}/fleet/README.md"
SECTION = "admin"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE-MIT;md5=44898bc5a7cc6167264b76ba1d57d12d \
                    file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = "${LIMEN_SRC_URI}"
SRCREV = "${LIMEN_SRCREV}"

inherit systemd useradd

SYSTEMD_SERVICE:${PN} = "limen-deploy-recover.service limen-deploy-recover.timer"

# sshd takes no account whose password is locked with "!"; no password fits "*".
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system --gid 885 limen-deploy"
USERADD_PARAM:${PN} = "--system --uid 885 --gid limen-deploy --home-dir / --no-create-home --shell /bin/sh \
                       --password '*' --comment 'limen fleet updates' limen-deploy"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    ${S}/fleet/device/install.sh ${D}
    # Account and folders are this recipe's and the data partition's (limen-system), as the root cannot be written.
    rm -r ${D}${nonarch_libdir}/sysusers.d ${D}${nonarch_libdir}/tmpfiles.d
    install -d ${D}${localstatedir}/lib
    ln -s /data/limen-deploy ${D}${localstatedir}/lib/limen-deploy
    if [ -n "${LIMEN_DEPLOY_KEYS}" ]; then
        install -m 0644 "${LIMEN_DEPLOY_KEYS}" ${D}${sysconfdir}/limen-deploy/authorized_keys
    else
        bbnote "LIMEN_DEPLOY_KEYS names no file: nobody can update this image over SSH by fleet/"
    fi
    if [ -n "${LIMEN_RELEASE_SIGNERS}" ]; then
        install -m 0644 "${LIMEN_RELEASE_SIGNERS}" ${D}${sysconfdir}/limen-deploy/allowed_signers
    else
        bbnote "LIMEN_RELEASE_SIGNERS names no file: no release is taken over SSH by fleet/"
    fi
}
# A changed file makes a new image.
do_install[file-checksums] += "${@' '.join(d.getVar(each) + ':True' for each in ('LIMEN_DEPLOY_KEYS', 'LIMEN_RELEASE_SIGNERS') if d.getVar(each))}"

FILES:${PN} += "${systemd_system_unitdir}"
CONFFILES:${PN} = "${sysconfdir}/limen-deploy/limen-deploy.conf"

# Programs of coreutils and findutils, with options that busybox has not.
RDEPENDS:${PN} = "bash coreutils curl findutils gawk grep jq limen limen-system limen-update openssh-keygen openssh-sshd \
                  openssl-bin rauc sed sudo util-linux-flock util-linux-setpriv"
