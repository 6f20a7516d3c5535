SUMMARY = "Everything that makes an image a door"
DESCRIPTION = "limen with its runtime and networks, updates by RAUC, and the system around them."
HOMEPAGE = "file://${LIMEN_LAYER}/README.md"
SECTION = "multimedia"
LICENSE = "MIT | Apache-2.0"

PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

# No broker: the door talks to the one of the house, and a second one would be another thing to keep safe.
# The time comes from systemd-timesyncd, since its mark is what limen's door trusts (docs/door.md).
RDEPENDS:${PN} = "limen \
                  limen-deploy \
                  limen-models \
                  limen-system \
                  limen-update \
                  litert \
                  rauc \
                  rauc-conf \
                  v4l-utils"
