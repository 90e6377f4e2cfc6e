/* What OpenBSD's sha2.c takes from the headers of its system, for a little-endian processor and any
 * libc; it stands in for the pycabcrypt.h of the distribution that the file comes from. */
#ifndef NESTLING_BOARDS_SMALL_CRYPTO_OPENBSD_TYPES_H
#define NESTLING_BOARDS_SMALL_CRYPTO_OPENBSD_TYPES_H

#define PYCABCRYPT

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define u_int8_t uint8_t
#define u_int32_t uint32_t
#define u_int64_t uint64_t
#define htobe64(value) __builtin_bswap64(value)
#define be64toh(value) __builtin_bswap64(value)
#define le32toh(value) (value)
#define explicit_bzero(at, bytes) memset((at), 0, (bytes))
#define DEF_WEAK(name)

#endif
