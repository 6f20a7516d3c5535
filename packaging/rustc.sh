#!/bin/sh
# Calls the compiler so that what it makes names no folder of this machine; packaging/build.sh gives it to cargo as
# RUSTC_WRAPPER. Cargo's own flags would not do: where it is told a target, it keeps them from procedural macros, whose
# hashes go into everything that uses them.
#
#   rustc.sh RUSTC ARGUMENTS...     LIMEN_BUILD_SOURCES and LIMEN_BUILD_CRATES: the folders
exec "$@" "--remap-path-prefix=$LIMEN_BUILD_SOURCES=/usr/src/limen" "--remap-path-prefix=$LIMEN_BUILD_CRATES=/usr/src/cargo"
