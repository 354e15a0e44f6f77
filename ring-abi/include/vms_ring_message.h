/* The messages of the vms-media ring ABI's socket (SPEC.md §5): bytes to structs. Pure: no socket, no memory of its own. */
#ifndef VMS_RING_MESSAGE_H
#define VMS_RING_MESSAGE_H

#include "vms_ring_core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A message of either side. `head.type` (enum vms_ring_message) says which. */
union vms_ring_any_message {
    struct vms_ring_message_head head;
    struct vms_ring_hello hello;
    struct vms_ring_welcome welcome;
    struct vms_ring_attach attach;
    struct vms_ring_attached attached;
    struct vms_ring_refused refused;
    struct vms_ring_detach detach;
    struct vms_ring_detached detached;
    struct vms_ring_evicted evicted;
    struct vms_ring_closed closed;
    struct vms_ring_bye bye;
};

/* 1 if these bytes are UTF-8: no overlong form, no surrogate, nothing above U+10FFFF. */
static inline int vms_ring_i_is_utf8(const uint8_t *bytes, size_t len)
{
    size_t n = 0;
    while (n < len) {
        uint8_t lead = bytes[n++];
        size_t more = lead < 0x80 ? 0 : lead >= 0xc2 && lead < 0xe0 ? 1 : lead >= 0xe0 && lead < 0xf0 ? 2 : 3;
        uint8_t low = 0x80, high = 0xbf; /* of the byte behind the lead */
        if (more == 3 && (lead < 0xf0 || lead > 0xf4))
            return 0;
        if (lead == 0xe0)
            low = 0xa0;
        else if (lead == 0xed)
            high = 0x9f;
        else if (lead == 0xf0)
            low = 0x90;
        else if (lead == 0xf4)
            high = 0x8f;
        for (; more > 0; more--, n++) {
            if (n == len || bytes[n] < low || bytes[n] > high)
                return 0;
            low = 0x80;
            high = 0xbf;
        }
    }
    return 1;
}

/* Bytes of the message of this type; 0: unknown. */
static inline size_t vms_ring_message_size(uint32_t type)
{
    switch (type) {
    case VMS_RING_MESSAGE_HELLO: return sizeof(struct vms_ring_hello);
    case VMS_RING_MESSAGE_WELCOME: return sizeof(struct vms_ring_welcome);
    case VMS_RING_MESSAGE_ATTACH: return sizeof(struct vms_ring_attach);
    case VMS_RING_MESSAGE_ATTACHED: return sizeof(struct vms_ring_attached);
    case VMS_RING_MESSAGE_REFUSED: return sizeof(struct vms_ring_refused);
    case VMS_RING_MESSAGE_DETACH: return sizeof(struct vms_ring_detach);
    case VMS_RING_MESSAGE_DETACHED: return sizeof(struct vms_ring_detached);
    case VMS_RING_MESSAGE_EVICTED: return sizeof(struct vms_ring_evicted);
    case VMS_RING_MESSAGE_CLOSED: return sizeof(struct vms_ring_closed);
    case VMS_RING_MESSAGE_BYE: return sizeof(struct vms_ring_bye);
    default: return 0;
    }
}

/* 0 if a text of `len` bytes fits its place and is UTF-8. */
static inline int vms_ring_i_text(const uint8_t *text, uint32_t len, size_t place)
{
    return len <= place && vms_ring_i_is_utf8(text, len) ? 0 : VMS_RING_E_FIELD;
}

/* The message in a packet of `len` bytes, checked: every text is UTF-8 and fits its place, and numbers that SPEC gives a
 * meaning when they are unknown ("others: …") have that number. The message is the packet's first head.length bytes; of those
 * that are behind the known fields, and of what follows, nothing is looked at.
 * The type (enum vms_ring_message), or VMS_RING_E_SHORT, VMS_RING_E_UNKNOWN or VMS_RING_E_FIELD. */
static inline int vms_ring_message_decode(const void *packet, size_t len, union vms_ring_any_message *message)
{
    size_t size;
    int error = 0;
    memset(message, 0, sizeof *message);
    if (len < sizeof message->head)
        return VMS_RING_E_SHORT;
    memcpy(&message->head, packet, sizeof message->head);
    if (message->head.length > len || message->head.length < sizeof message->head)
        return VMS_RING_E_SHORT;
    size = vms_ring_message_size(message->head.type);
    if (size == 0)
        return VMS_RING_E_UNKNOWN;
    if (message->head.length < size)
        return VMS_RING_E_SHORT;
    memcpy(message, packet, size);
    switch (message->head.type) {
    case VMS_RING_MESSAGE_HELLO:
        error = vms_ring_i_text(message->hello.name, message->hello.name_len, sizeof message->hello.name);
        if (error == 0)
            error = vms_ring_i_text(message->hello.token, message->hello.token_len, sizeof message->hello.token);
        break;
    case VMS_RING_MESSAGE_ATTACH:
        error = vms_ring_i_text(message->attach.id, message->attach.id_len, sizeof message->attach.id);
        if (message->attach.from_kind < VMS_RING_FROM_LIVE || message->attach.from_kind > VMS_RING_FROM_AFTER)
            error = VMS_RING_E_FIELD;
        if (message->attach.reader_class != VMS_RING_CLASS_ARCHIVE)
            message->attach.reader_class = VMS_RING_CLASS_LIVE;
        break;
    case VMS_RING_MESSAGE_REFUSED:
        error = vms_ring_i_text(message->refused.text, message->refused.text_len, sizeof message->refused.text);
        if (message->refused.code < VMS_RING_REFUSAL_UNKNOWN_STREAM || message->refused.code > VMS_RING_REFUSAL_UNAVAILABLE)
            message->refused.code = VMS_RING_REFUSAL_UNAVAILABLE;
        break;
    default:
        break;
    }
    return error != 0 ? error : (int)message->head.type;
}

/* Makes an empty message of this type; the caller fills in the fields. Its size. */
static inline size_t vms_ring_message_init(union vms_ring_any_message *message, uint32_t type)
{
    size_t size = vms_ring_message_size(type);
    memset(message, 0, sizeof *message);
    message->head.type = type;
    message->head.length = (uint32_t)size;
    return size;
}

#ifdef __cplusplus
}
#endif

#endif
