# What the projects of all bare-metal boards share. Set NESTLING_FIRMWARE to the folder firmware/
# before.

option(NESTLING_WERROR "Treat warnings as errors" ON)

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_EXECUTABLE_SUFFIX ".elf")

add_compile_options("$<$<COMPILE_LANGUAGE:C>:-Wall;-Wextra;-Wshadow;-Wundef;-Wvla;-Wstrict-prototypes>"
                    "-ffile-prefix-map=${NESTLING_FIRMWARE}/=firmware/")
if(NESTLING_WERROR)
    add_compile_options("$<$<COMPILE_LANGUAGE:C>:-Werror>")
endif()

# nestling_add_board(SOURCE LINKER_SCRIPT): the library nestling_board; a program that links it
# starts at reset and may use boards/cortex_m/board.h.
function(nestling_add_board source linker_script)
    cmake_path(ABSOLUTE_PATH linker_script BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
    set(memory "${NESTLING_FIRMWARE}/boards/cortex_m/memory.c")
    add_library(nestling_board OBJECT "${NESTLING_FIRMWARE}/boards/cortex_m/startup.c" "${memory}" "${source}")
    # A compiler that knows what memset does makes a call of memset of its loop.
    set_property(SOURCE "${memory}" PROPERTY COMPILE_OPTIONS -Os -fno-builtin -fno-tree-loop-distribute-patterns -fno-lto)
    target_include_directories(nestling_board PUBLIC "${NESTLING_FIRMWARE}")
    target_link_options(nestling_board PUBLIC "-T${linker_script}")
    set_target_properties(nestling_board PROPERTIES INTERFACE_LINK_DEPENDS "${linker_script}")
endfunction()
