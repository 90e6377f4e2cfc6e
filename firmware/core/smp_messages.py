"""Turns smp.cddl into smp_messages.h and smp_messages.c: a struct and a table for each message.

Run by CMake: `smp_messages.py smp.cddl FOLDER`. The CDDL is read by zcbor's own parser. The
decoders that zcbor generates would take members in the order of the CDDL only, and need a few
hundred bytes of code a message; with tables, one decoder and one encoder (smp_codec.c, on zcbor's
runtime) serve all of them.

Numbers, texts, bytes and booleans are what they look like; an optional member `x` is accompanied
by `has_x`. Lists of requests are bounded arrays. A list or map of an answer is a callback that
gives out its entries.

A struct with optional members begins with a word of flags: bit i is `has_...` of member i.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zcbor import DataTranslator  # type: ignore[import-untyped]

SCALARS = {
    "UINT": ("uint64_t", "NST_SMP_UINT"),
    "BOOL": ("bool", "NST_SMP_BOOL"),
    "FLOAT": ("double", "NST_SMP_FLOAT"),
    "TSTR": ("nst_text", "NST_SMP_TEXT"),
    "BSTR": ("nst_smp_bytes", "NST_SMP_BYTES"),
}
HASH_BYTES = 32
FLAGS = 32  # in a word; no message has as many members
MOST_ELEMENTS = 256  # NST_SMP_MOST_ELEMENTS


@dataclass(frozen=True)
class Member:
    """One member of a message."""

    key: str
    field: str  # its declaration in C
    kind: str
    optional: bool


def name_of(message: str) -> str:
    """Name of a message in C."""
    return "nst_smp_" + message.replace("-", "_")


def fixed_size(node: Any) -> int:
    """The `.size` of a member, or 0."""
    return int(node.max_size) if node.min_size == node.max_size and node.max_size else 0


def member_of(message: str, node: Any) -> Member:
    """One member, as zcbor parsed it."""
    key = str(node.key.value)
    optional = node.min_qty == 0
    is_request = message.endswith("-request")
    if node.type == "UINT" and node.max_value is not None and node.max_value <= 0xFFFFFFFF:
        return Member(key, f"uint32_t {key}", "NST_SMP_UINT32", optional)
    if node.type in SCALARS:
        declaration, kind = SCALARS[node.type]
        size = fixed_size(node)
        if size not in (0, HASH_BYTES):
            raise SystemExit(f"{message}: {key} is of {size} bytes, which the tables do not know")
        kind = "NST_SMP_HASH" if size else kind
        return Member(key, f"{declaration} {key}", kind, optional)
    if node.type == "LIST" and is_request:
        element = node.value[0]
        if element.type != "UINT" or element.max_qty != MOST_ELEMENTS:
            raise SystemExit(f"{message}: {key} is not a list of up to {MOST_ELEMENTS} numbers")
        field = f"uint32_t {key}[NST_SMP_MOST_ELEMENTS]"
        return Member(key, field, "NST_SMP_ARRAY", optional)
    if node.type in ("LIST", "MAP") and not is_request:
        kind = "NST_SMP_LIST" if node.type == "LIST" else "NST_SMP_MAP"
        return Member(key, f"nst_smp_entries {key}", kind, optional)
    raise SystemExit(f"{message}: {key} has type {node.type}, which the tables do not know")


def struct_of(message: str, members: list[Member]) -> str:
    """The struct of a message."""
    lines = []
    if any(member.optional for member in members):
        flags = (f" has_{member.key}" if member.optional else "" for member in members)
        lines = [f"    uint32_t{flag} : 1;" for flag in flags]
        lines.append(f"    uint32_t : {FLAGS - len(members)};")  # nothing else lies in the word
    for member in members:
        if member.kind == "NST_SMP_ARRAY":
            # The decoder finds the count in front of the elements.
            lines.append(f"    uint32_t {member.key}_count;")
        lines.append(f"    {member.field};")
    lines = lines or ["    char nothing;"]
    name = name_of(message)
    return "\n".join([f"typedef struct {name} {{", *lines, f"}} {name};"])


def table_of(message: str, members: list[Member]) -> str:
    """The table of a message, and the message's record of it."""
    name = name_of(message)
    rows = []
    for member in members:
        at = f"offsetof({name}, {member.key})"
        optional = "true" if member.optional else "false"
        rows.append(f'    {{"{member.key}", {at}, {member.kind}, {optional}}},')
    if not rows:
        return f"const nst_smp_message {name}_message = {{NULL, 0, false}};"
    flags = "true" if any(member.optional for member in members) else "false"
    return "\n".join(
        [
            f"static const nst_smp_member {name}_members[] = {{",
            *rows,
            "};",
            f"const nst_smp_message {name}_message = {{{name}_members, {len(rows)}, {flags}}};",
        ]
    )


def main(cddl: Path, folder: Path) -> None:
    """Write both files."""
    types = DataTranslator.from_cddl(cddl.read_text(encoding="utf-8"), 0xFFFF).my_types
    messages = {
        str(name): [member_of(str(name), node) for node in parsed.value]
        for name, parsed in types.items()
        if parsed.type == "MAP"
    }
    warning = f"/* Made from {cddl.name} by smp_messages.py. */"
    header = [warning, "#ifndef NESTLING_SMP_MESSAGES_H", "#define NESTLING_SMP_MESSAGES_H", ""]
    header += ['#include "smp_codec.h"', ""]
    header += [struct_of(name, messages[name]) for name in messages]
    header += [f"extern const nst_smp_message {name_of(name)}_message;" for name in messages]
    header += ["", "#endif", ""]
    source = [warning, '#include "smp_messages.h"', "", "#include <stddef.h>", ""]
    source += [table_of(name, messages[name]) for name in messages]
    (folder / "smp_messages.h").write_text("\n".join(header), encoding="utf-8")
    (folder / "smp_messages.c").write_text("\n".join(source) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
