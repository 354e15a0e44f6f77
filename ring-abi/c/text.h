/* What tap.c and replay.c share: JSON texts and the CRC-32 of payloads. */
#ifndef TEXT_H
#define TEXT_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

/* A JSON string of `len` bytes of UTF-8: escapes what JSON asks for, the rest raw. */
static inline void print_text(FILE *out, const uint8_t *text, size_t len)
{
    static const char shorts[] = "btn?fr"; /* 8 to 13; 11 has none */
    size_t n;
    putc('"', out);
    for (n = 0; n < len; n++) {
        uint8_t byte = text[n];
        if (byte == '"' || byte == '\\')
            fprintf(out, "\\%c", byte);
        else if (byte >= 8 && byte <= 13 && byte != 11)
            fprintf(out, "\\%c", shorts[byte - 8]);
        else if (byte < 0x20)
            fprintf(out, "\\u%04x", byte);
        else
            putc(byte, out);
    }
    putc('"', out);
}

/* Tables of CRC-32 (ISO-HDLC), eight bytes a step. */
struct crc32 {
    uint32_t table[8][256];
};

static inline void crc32_init(struct crc32 *crc)
{
    uint32_t n, k;
    for (n = 0; n < 256; n++) {
        uint32_t value = n;
        for (k = 0; k < 8; k++)
            value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
        crc->table[0][n] = value;
    }
    for (n = 0; n < 256; n++)
        for (k = 1; k < 8; k++)
            crc->table[k][n] = crc->table[k - 1][n] >> 8 ^ crc->table[0][crc->table[k - 1][n] & 0xff];
}

static inline uint32_t crc32_of(const struct crc32 *crc, const unsigned char *bytes, size_t len)
{
    uint32_t value = 0xffffffffu;
    for (; len >= 8; len -= 8, bytes += 8) {
        uint32_t low = value ^ (bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24);
        value = crc->table[7][low & 0xff] ^ crc->table[6][low >> 8 & 0xff] ^ crc->table[5][low >> 16 & 0xff] ^
                crc->table[4][low >> 24] ^ crc->table[3][bytes[4]] ^ crc->table[2][bytes[5]] ^ crc->table[1][bytes[6]] ^
                crc->table[0][bytes[7]];
    }
    for (; len > 0; len--)
        value = value >> 8 ^ crc->table[0][(value ^ *bytes++) & 0xff];
    return ~value;
}

#endif
