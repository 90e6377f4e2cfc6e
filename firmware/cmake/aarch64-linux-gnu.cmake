# Toolchain file: 64-bit Arm Linux (Raspberry Pi 3 and newer, Android's shell) with Debian's cross compiler.
#
# NESTLING_SYSROOT (cache): a folder with usr/include and usr/lib/aarch64-linux-gnu of libraries that the cross
# compiler does not bring (libsodium, zlib). scripts/build_arm64.sh fills one.

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

# Libraries and headers come from there alone: those of this computer are for another processor. Programs that
# run while building (Python, zcbor) are this computer's.
set(NESTLING_SYSROOT "/" CACHE PATH "Root of libsodium's and zlib's files for arm64")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES NESTLING_SYSROOT)
set(CMAKE_FIND_ROOT_PATH "${NESTLING_SYSROOT}" "${EXECUTORCH_WHEEL_DIR}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)

# Inside the libraries, so that a device needs nothing but what is copied there.
set(ZLIB_USE_STATIC_LIBS ON)
