# Finds the executorch wheel of the running Python and loads its CMake package.
#
# The folder is asked of the interpreter's installation scheme and not of `import executorch`: inside pip's isolated
# build environment nothing but the build requirements can be imported, while the folder is still there.
#
# Input:  EXECUTORCH_WHEEL_DIR (cache, optional): the package folder, e.g. of a wheel for another architecture.
# Result: the targets executorch::runtime, ::kernels_optimized, ::backend_xnnpack, ::threadpool, ...

set(EXECUTORCH_WHEEL_DIR "" CACHE PATH "Folder of the executorch package; found through Python when empty")

if(NOT EXECUTORCH_WHEEL_DIR)
    find_package(Python 3.11 REQUIRED COMPONENTS Interpreter)
    execute_process(
        COMMAND "${Python_EXECUTABLE}" -c
                "import sysconfig; print(sysconfig.get_path('platlib') + '/executorch', end='')"
        OUTPUT_VARIABLE EXECUTORCH_WHEEL_DIR
        COMMAND_ERROR_IS_FATAL ANY)
endif()

if(NOT EXISTS "${EXECUTORCH_WHEEL_DIR}/share/cmake/executorch-config.cmake")
    message(FATAL_ERROR
        "No executorch package in ${EXECUTORCH_WHEEL_DIR}.\n"
        "Run `make setup` in a checkout; or install torch==2.13.0 (CPU) and executorch==1.5.1 into the Python "
        "that builds nestling; or name the package folder with -DEXECUTORCH_WHEEL_DIR=...")
endif()

list(PREPEND CMAKE_PREFIX_PATH "${EXECUTORCH_WHEEL_DIR}")
find_package(executorch REQUIRED CONFIG)

# The targets bring the package's absolute folder as a runtime path into everything that links them, which
# installing does not take out again. A build tree finds the libraries through CMake's own build path and an
# installed library through $ORIGIN, so what is shipped need not name a folder of the machine that built it.
get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
list(FILTER targets INCLUDE REGEX "^executorch::")
foreach(target IN LISTS targets)
    get_target_property(options ${target} INTERFACE_LINK_OPTIONS)
    if(options)
        list(FILTER options EXCLUDE REGEX "^LINKER:-rpath,/")
        set_target_properties(${target} PROPERTIES INTERFACE_LINK_OPTIONS "${options}")
    endif()
endforeach()
