SUMMARY = "Runtime of the networks: LiteRT, its one library"
DESCRIPTION = "libLiteRt.so as its publisher builds it, out of the Python wheel. Building it from source takes Bazel \
and a network; the published file is what limen was measured with, and what models/manifest.toml pins."
HOMEPAGE = "https://ai.google.dev/edge/litert"
SECTION = "libs"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://ai_edge_litert-${PV}.dist-info/licenses/LICENSE;md5=86d3f3a95c324c9479bd8986968f4327"

# The same hashes as in models/manifest.toml; tests/yocto.sh compares them.
WHEEL_PLATFORM:aarch64 = "manylinux_2_27_aarch64"
WHEEL_PLATFORM:x86-64 = "manylinux_2_27_x86_64"
WHEEL_SHA256:aarch64 = "853fc608f96da87bd5f3458465dfb9abbf18d5ae6b94eceacead407146f175ae"
WHEEL_SHA256:x86-64 = "1f15078a6725d2357d9de9221664c29afa0545d807559c5f7199ce5e40b96b23"
LIBRARY_SHA256:aarch64 = "b57687dc234d2b8b0598aef5a9c961ed24263df8f8b3f56adbee1cff618e544b"
LIBRARY_SHA256:x86-64 = "eec47eb35e2924b3166015887e652a58edc9af823ae38e02bf83bef2548300bb"

# A wheel is a zip archive. Nothing in it depends on the version of Python but its name.
SRC_URI = "https://${LIMEN_WHEELS}/packages/cp311/a/ai-edge-litert/ai_edge_litert-${PV}-cp311-cp311-${WHEEL_PLATFORM}.whl;downloadfilename=${BP}-${WHEEL_PLATFORM}.zip;subdir=${BP}"
SRC_URI[sha256sum] = "${WHEEL_SHA256}"

COMPATIBLE_HOST = "(aarch64|x86_64).*-linux"
COMPATIBLE_HOST:libc-musl = "null"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    echo "${LIBRARY_SHA256}  ${S}/ai_edge_litert/libLiteRt.so" | sha256sum --check --status \
        || bbfatal "libLiteRt.so is not the file of models/manifest.toml"
    install -D -m 0644 ${S}/ai_edge_litert/libLiteRt.so ${D}${nonarch_libdir}/limen/libLiteRt.so
}

FILES:${PN} = "${nonarch_libdir}/limen"

# limen compares the file with the hash in the manifest at start: it has to stay as it was published.
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_SYSROOT_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
INSANE_SKIP:${PN} = "already-stripped ldflags"
