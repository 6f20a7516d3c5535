SUMMARY = "Update of a door, signed"
DESCRIPTION = "A RAUC bundle in verity format with the root file system, and on Raspberry Pi what the firmware starts."
HOMEPAGE = "file://${LIMEN_LAYER}/README.md"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302 \
                    file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

SRC_URI = "file://hook.sh"

inherit bundle

RAUC_BUNDLE_FORMAT = "verity"
RAUC_BUNDLE_COMPATIBLE = "limen-${MACHINE}"
RAUC_BUNDLE_VERSION = "${DISTRO_VERSION}"
RAUC_BUNDLE_DESCRIPTION = "limen for ${MACHINE}"

RAUC_BUNDLE_SLOTS = "rootfs"
RAUC_BUNDLE_SLOTS:rpi = "rootfs boot"
RAUC_SLOT_rootfs = "limen-image"
RAUC_SLOT_rootfs[fstype] = "ext4"
RAUC_SLOT_boot = "limen-boot-image"
RAUC_SLOT_boot[type] = "file"
RAUC_SLOT_boot[file] = "limen-boot-A.vfat"
RAUC_SLOT_boot[rename] = "boot.vfat"
RAUC_SLOT_boot[hooks] = "post-install"
RAUC_BUNDLE_HOOKS[file] = "hook.sh"

RAUC_KEY_FILE = "${LIMEN_RAUC_KEY}"
RAUC_CERT_FILE = "${LIMEN_RAUC_CERT}"
RAUC_KEYRING_FILE = "${LIMEN_RAUC_KEYRING}"

# Before anything is signed: are there keys, and may they sign a release.
python limen_check_keys() {
    import subprocess

    found = subprocess.run(
        [os.path.join(d.getVar("LIMEN_LAYER"), "scripts", "check-keys"),
         "--release" if d.getVar("LIMEN_RELEASE") == "1" else "--development",
         d.getVar("LIMEN_RAUC_KEY"), d.getVar("LIMEN_RAUC_CERT"), d.getVar("LIMEN_RAUC_KEYRING")],
        capture_output=True, text=True)
    if found.returncode:
        bb.fatal(found.stderr.strip())
}
do_bundle[prefuncs] += "limen_check_keys"
