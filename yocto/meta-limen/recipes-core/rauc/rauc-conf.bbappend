FILESEXTRAPATHS:prepend:limen := "${THISDIR}/files:"

# The certificate that bundles are checked against is the builder's; there is no default that would let somebody else in.
RAUC_KEYRING_FILE:limen = "${@os.path.basename(d.getVar('LIMEN_RAUC_KEYRING') or '')}"
RAUC_KEYRING_URI:limen = "${@'file://' + d.getVar('LIMEN_RAUC_KEYRING') if d.getVar('LIMEN_RAUC_KEYRING') else ''}"

PACKAGE_ARCH:limen = "${MACHINE_ARCH}"

do_install:prepend:limen() {
    if [ -z "${RAUC_KEYRING_FILE}" ]; then
        bbfatal "LIMEN_RAUC_KEYRING names no certificate to check bundles against; README.md of meta-limen says how to make one"
    fi
}

do_install:append:limen() {
    sed -i -e 's/@MACHINE@/${MACHINE}/' -e 's/@KEYRING@/${RAUC_KEYRING_FILE}/' ${D}${sysconfdir}/rauc/system.conf
}
