"""The library between ExecuTorch's QNN backend and the host's HTP, with a stand-in for both."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nestling.targets.qnn

SOURCE = Path(nestling.targets.qnn.__file__).with_name("htp_host.c")

# What the host's library does with a device's records: it reads a SoC's number behind eight bytes.
LIBRARY = r"""
#include <stdint.h>
#include <stddef.h>
typedef struct { uint32_t option; void *custom; } config;
typedef struct {
    uint32_t id;
    const char *name;
    uint32_t version[6];
    void *functions[70];
} interface;
static uint64_t create(void *log, const config **configs, void **device) {
    uint64_t socs = 0;
    for (size_t i = 0; configs != NULL && configs[i] != NULL; i++) {
        const uint32_t *record = configs[i]->custom;
        if (configs[i]->option == 0 && record[0] == 0) {
            socs = socs * 1000 + record[2];
        } else {
            socs = socs * 1000 + 900 + configs[i]->option;
        }
    }
    *device = log;
    return socs;
}
static uint64_t other(void) { return 5; }
static interface provider = {6, "HTP", {0}, {0}};
uint64_t QnnInterface_getProviders(const interface ***out, uint32_t *count) {
    static const interface *list[1] = {&provider};
    provider.functions[39] = (void *)other;
    provider.functions[40] = (void *)create;
    *out = list;
    *count = 1;
    return 0;
}
"""

# What the backend does: the number stands right behind the record's kind.
BACKEND = r"""
#include <stdint.h>
#include <stdio.h>
typedef struct { uint32_t option; void *custom; } config;
typedef struct {
    uint32_t id;
    const char *name;
    uint32_t version[6];
    void *functions[70];
} interface;
uint64_t QnnInterface_getProviders(const interface ***out, uint32_t *count);
typedef uint64_t (*create)(void *, const config **, void **);
int main(void) {
    const interface **list;
    uint32_t count;
    if (QnnInterface_getProviders(&list, &count) != 0) return 3;
    uint32_t soc[2] = {0, 57}, arch[2] = {1, 75}, platform[2] = {0, 0};
    config a = {0, soc}, b = {1, platform}, c = {0, arch};
    const config *all[] = {&a, &b, &c, NULL};
    void *device = NULL;
    create make = (create)list[0]->functions[40];
    uint64_t given = make(&soc, all, &device), none = make(NULL, NULL, &device);
    printf("%u %s %llu %llu %llu\n", count, list[0]->name, (unsigned long long)given,
           (unsigned long long)none,
           (unsigned long long)((uint64_t(*)(void))list[0]->functions[39])());
    return 0;
}
"""


def build(folder: Path) -> tuple[Path, Path]:
    warnings = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"]
    (folder / "library.c").write_text(LIBRARY)
    (folder / "backend.c").write_text(BACKEND)
    library, host, backend = folder / "real.so", folder / "libQnnHtp.so", folder / "backend"
    shared = ["-fPIC", "-shared"]
    for command in (
        ["cc", *shared, "-o", library, folder / "library.c"],
        ["cc", *warnings, *shared, "-o", host, SOURCE, "-ldl"],
        ["cc", "-o", backend, folder / "backend.c", f"-L{folder}", "-l:libQnnHtp.so"],
    ):
        subprocess.run(command, check=True)
    return library, backend


def run(backend: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"LD_LIBRARY_PATH": str(backend.parent), **variables}
    return subprocess.run([backend], env=environment, capture_output=True, text=True)


def test_a_soc_reaches_the_library_and_everything_else_stays(tmp_path: Path) -> None:
    library, backend = build(tmp_path)
    result = run(backend, NESTLING_QNN_HTP=str(library))
    assert result.returncode == 0, result.stderr
    # One provider; the SoC's number, then the two other records as they were; a device without
    # records; another function.
    assert result.stdout.split() == ["1", "HTP", "57901900", "0", "5"]


def test_a_library_that_is_not_there_is_named(tmp_path: Path) -> None:
    _, backend = build(tmp_path)
    result = run(backend, NESTLING_QNN_HTP="/nowhere/libQnnHtp.so")
    assert result.returncode == 3
    assert "/nowhere/libQnnHtp.so" in result.stderr
    assert "NESTLING_QNN_HTP is not set" in run(backend).stderr
