SUMMARY = "The networks of limen"
DESCRIPTION = "Detection (BlazeFace), landmarks (face mesh) and embedding (SFace), with the manifest that pins them \
and a card each."
HOMEPAGE = "file://${LIMEN_REPOSITORY}/models/README.md"
SECTION = "multimedia"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = "${LIMEN_SRC_URI}"
SRCREV = "${LIMEN_SRCREV}"

inherit allarch

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${datadir}/limen/models
    install -m 0644 ${S}/models/manifest.toml ${S}/models/*.tflite ${S}/models/*.md ${D}${datadir}/limen/models/
}

FILES:${PN} = "${datadir}/limen/models"
