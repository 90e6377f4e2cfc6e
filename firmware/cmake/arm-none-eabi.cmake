# Toolchain file: bare-metal Cortex-M with Debian's gcc-arm-none-eabi and newlib.
#
# NESTLING_CPU: cortex-m55, cortex-m7, cortex-m4 or cortex-m33.

set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR arm)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_CXX_COMPILER arm-none-eabi-g++)
set(CMAKE_ASM_COMPILER arm-none-eabi-gcc)
# Programs need a board's start-up code and linker script to link.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES NESTLING_CPU)

set(NESTLING_CPU "cortex-m55" CACHE STRING "The processor")
set(nestling_cpu_flags "-mcpu=${NESTLING_CPU} -mthumb -mfloat-abi=hard -ffunction-sections -fdata-sections")
if(NESTLING_CPU STREQUAL "cortex-m7")
    string(APPEND nestling_cpu_flags " -mfpu=fpv5-d16")
elseif(NESTLING_CPU STREQUAL "cortex-m4")
    string(APPEND nestling_cpu_flags " -mfpu=fpv4-sp-d16")
elseif(NESTLING_CPU STREQUAL "cortex-m33")
    string(APPEND nestling_cpu_flags " -mfpu=fpv5-sp-d16")
endif()
set(CMAKE_C_FLAGS_INIT "${nestling_cpu_flags}")
set(CMAKE_ASM_FLAGS_INIT "${nestling_cpu_flags}")
set(CMAKE_C_FLAGS_RELEASE "-O2 -DNDEBUG" CACHE STRING "Size counts: all of it has to fit into a few hundred KB")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-nostartfiles --specs=nano.specs -Wl,--gc-sections -Wl,--fatal-warnings")

set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
