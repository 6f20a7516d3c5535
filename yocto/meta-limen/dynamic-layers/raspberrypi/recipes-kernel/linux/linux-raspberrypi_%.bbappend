FILESEXTRAPATHS:prepend:limen := "${THISDIR}/files:"

SRC_URI:append:limen = " file://limen.cfg"
