"""OUCH 5.0 out: Enter, Replace and Cancel, each in a SoupBinTCP Unsequenced packet, written straight into the send buffer.

An Enter starts as a copy of a 64-byte image made once for each instrument and side (packet header, symbol, capacity, firm …);
what differs from order to order is stored over it, byte-swapped, a word at a time:

    byte  0    3    4    8    9   13       21      29   30   31   32   33    34         48            50
         | len 'U' | 'O' ref | side qty | symbol | px | tif  disp cap  iso cross | ClOrdID 14 | app. len | elements |

ClOrdID carries our 63-bit order id as 13 base-32 digits and a space, so that anybody who reads the wire, the venue's own
records or another dissector finds the order again. A Cancel never has an appendage (the genuine ones are 9 bytes); Enter and
Replace always carry its length. Spec: Nasdaq OUCH 5.0, April 2023.
"""

from hftd.core.jit import leaf
from hftd.core.layout import layout
from hftd.core.memory import copy_bytes, store8, store16, store32, store64, swap16, swap32, swap64
from hftd.msg.enums import Side, Tif
from hftd.msg.records import INTENT_POST_ONLY, INTENT_SHORT

image_dtype = layout("order_image", 64, [("bytes", ("u1", (64,)))])  # one Enter, ready to be patched
IMAGE = 64
"""Bytes of an image; also room that must be free in the send buffer for any one message."""

IMAGES_PER_INSTRUMENT = 4
"""Rows of the image table for each instrument: buy, sell, (unused), sell short."""

ENTER_SIZE, REPLACE_SIZE, CANCEL_SIZE, QUERY_SIZE = 50, 43, 12, 4
"""Bytes on the wire without appendage, packet header included."""

QTY_MAX = 999_999
PX_MAX = 1_999_999_900
"""The venue's bounds; px from 2,000,000,000 on would be a market order."""

_SELL, _IOC = int(Side.SELL), int(Tif.IOC)
_TYPE_U, _TYPE_O, _YES, _NO, _POST = (ord(code) for code in "UOYNP")
_TIF_DAY, _TIF_IOC = ord("0"), ord("3")
_FIRM_ELEMENT, _POST_ONLY_ELEMENT = 6, 3
_POST_ONLY_TAG, _FIRM_TAG = 12, 2


@leaf
def _digits(value):
    """Return the eight base-32 digits (0-9, A-V) of a 40-bit value as ASCII, most significant in the lowest byte."""
    value = ((value & 0xFFFFF00000) << 12) | (value & 0xFFFFF)
    value = ((value & 0x000FFC00000FFC00) << 6) | (value & 0x000003FF000003FF)
    value = ((value & 0x03E003E003E003E0) << 3) | (value & 0x001F001F001F001F)
    above = value + 0x0606060606060606  # 16 to 37 in each byte of 10 or more
    letters = ((above >> 4) | (above >> 5)) & 0x0101010101010101
    return swap64(value + 0x3030303030303030 + letters * 7)


@leaf
def id_text_head(cl_ord_id):
    """Return the first eight characters of an order id's ClOrdID, as a word to be stored."""
    return (_digits(cl_ord_id >> 40) >> 24) | (_digits(cl_ord_id & 0xFFFFFFFFFF) << 40)


@leaf
def id_text_tail(cl_ord_id):
    """Return the last six characters of an order id's ClOrdID (five digits and a space)."""
    return (_digits(cl_ord_id & 0xFFFFFFFFFF) >> 24) | (0x20 << 40)


@leaf
def image_index(instrument, side, flags):
    """Return which image an order is made from. flags: INTENT_…"""
    return instrument * IMAGES_PER_INSTRUMENT + side + (2 if side == _SELL and flags & INTENT_SHORT else 0)


@leaf
def make_image(at, symbol, side_code, capacity, firm):
    """Write the image of an instrument and side to address `at` (64 bytes).

    symbol: eight ASCII bytes as on the wire. side_code: 'B', 'S', 'T'. capacity: 'P', 'A', … firm: four ASCII bytes, 0: none.
    """
    size = ENTER_SIZE + (_FIRM_ELEMENT if firm != 0 else 0)
    for i in range(0, IMAGE, 8):
        store64(at + i, 0)
    store16(at, swap16(size - 2))
    store8(at + 2, _TYPE_U)
    store8(at + 3, _TYPE_O)
    store8(at + 8, side_code)
    store64(at + 13, symbol)
    store8(at + 29, _TIF_DAY)
    store8(at + 30, _YES)
    store8(at + 31, capacity)
    store8(at + 32, _NO)
    store8(at + 33, _NO)
    if firm != 0:
        store16(at + 48, swap16(_FIRM_ELEMENT))
        store8(at + 50, _FIRM_ELEMENT - 1)
        store8(at + 51, _FIRM_TAG)
        store32(at + 52, firm)


@leaf
def encode_enter(at, image, size, user_ref, qty, px, tif_code, text_head, text_tail):
    """Write an Enter Order to `at` from the image at address `image`; `size`: bytes of that image in use. Returns `size`.

    64 bytes must be free at `at`. tif_code: '0' day, '3' IOC. text_head, text_tail: `id_text_head`, `id_text_tail`.
    """
    copy_bytes(at, image, IMAGE)
    store32(at + 4, swap32(user_ref))
    store32(at + 9, swap32(qty))
    store64(at + 21, swap64(px))
    store8(at + 29, tif_code)
    store64(at + 34, text_head)
    store32(at + 42, text_tail)
    store16(at + 46, text_tail >> 32)
    return size


@leaf
def add_post_only(at, size):
    """Make the Enter or Replace of `size` bytes at `at` post-only: one element more. Returns the new size."""
    fixed = ENTER_SIZE if size == ENTER_SIZE or size == ENTER_SIZE + _FIRM_ELEMENT else REPLACE_SIZE
    store8(at + size, _POST_ONLY_ELEMENT - 1)
    store8(at + size + 1, _POST_ONLY_TAG)
    store8(at + size + 2, _POST)
    store16(at + fixed - 2, swap16(size - fixed + _POST_ONLY_ELEMENT))
    store16(at, swap16(size + _POST_ONLY_ELEMENT - 2))
    return size + _POST_ONLY_ELEMENT


@leaf
def encode_order(at, image, size, user_ref, qty, px, tif, flags, cl_ord_id):
    """Write the Enter Order of one of our orders. tif: Tif; flags: INTENT_…; the rest as `encode_enter`. Returns its bytes."""
    code = _TIF_IOC if tif == _IOC else _TIF_DAY
    done = encode_enter(at, image, size, user_ref, qty, px, code, id_text_head(cl_ord_id), id_text_tail(cl_ord_id))
    if flags & INTENT_POST_ONLY:
        done = add_post_only(at, done)
    return done


@leaf
def encode_replace(at, orig_ref, user_ref, qty, px, tif, flags, cl_ord_id):
    """Write a Replace Order to `at`; qty is the chain's total, executed shares included. Returns its bytes (43 or 46)."""
    store16(at, swap16(REPLACE_SIZE - 2))
    store8(at + 2, _TYPE_U)
    store8(at + 3, _TYPE_U)
    store32(at + 4, swap32(orig_ref))
    store32(at + 8, swap32(user_ref))
    store32(at + 12, swap32(qty))
    store64(at + 16, swap64(px))
    store8(at + 24, _TIF_IOC if tif == _IOC else _TIF_DAY)
    store8(at + 25, _YES)
    store8(at + 26, _NO)
    text = id_text_tail(cl_ord_id)
    store64(at + 27, id_text_head(cl_ord_id))
    store32(at + 35, text)
    store16(at + 39, text >> 32)
    store16(at + 41, 0)
    if flags & INTENT_POST_ONLY:
        return add_post_only(at, REPLACE_SIZE)
    return REPLACE_SIZE


@leaf
def encode_cancel(at, user_ref, qty):
    """Write a Cancel Order to `at`; qty is the new intended total, 0: cancel all that is open. Returns its bytes (12)."""
    store64(at, 0x58550A00 | (swap32(user_ref) << 32))  # 00 0a 'U' 'X' ref
    store32(at + 8, swap32(qty))
    return CANCEL_SIZE


@leaf
def encode_query(at):
    """Write an Account Query to `at`. Returns its bytes (4)."""
    store32(at, 0x51550200)  # 00 02 'U' 'Q'
    return QUERY_SIZE


# ---------------------------------------------------------------- cold


def image_size(firm: str) -> int:
    """Return the bytes in use of an image made with this firm ('' for none)."""
    return ENTER_SIZE + (_FIRM_ELEMENT if firm else 0)


def firm_word(firm: str) -> int:
    """Return a firm as the word `make_image` wants; 0 for none. Raises ValueError where it is not 1 to 4 capital letters."""
    if not firm:
        return 0
    if len(firm) > 4 or not firm.isascii() or not firm.isupper():
        raise ValueError(f"firm must be 1 to 4 capital letters, was {firm!r}")
    return int.from_bytes(firm.ljust(4).encode("ascii"), "little")


def id_text(cl_ord_id: int) -> str:
    """Return the ClOrdID (13 digits) of an order id."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
    return "".join(digits[(cl_ord_id >> 5 * place) & 31] for place in range(12, -1, -1))


def id_of_text(text: str) -> int:
    """Return the order id of a ClOrdID; 0 where it is not one of ours."""
    text = text.strip()
    try:
        value = int(text, 32) if len(text) == 13 and text.upper() == text else 0
    except ValueError:
        return 0
    return value if value >> 63 == 0 else 0
