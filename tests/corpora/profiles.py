"""ICC profiles that nobody has, so that it is seen whether they were applied (format: ICC.1:2001-04)."""

import struct

_D50 = (0.9642, 1.0, 0.8249)
_RED, _GREEN, _BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139)
_WHITE_LAB, _RED_LAB = (255, 128, 128), (135, 208, 195)
"""Of 8 bits: L * 255 / 100, a + 128, b + 128."""


def red_is_blue() -> bytes:
    """For RGB: sRGB's primaries with red and blue in each other's place."""
    gamma = b"curv" + struct.pack(">IIH", 0, 1, int(2.2 * 256)) + bytes(2)
    tags = {b"rXYZ": _xyz(_BLUE), b"gXYZ": _xyz(_GREEN), b"bXYZ": _xyz(_RED)}
    return _profile(b"RGB ", b"XYZ ", tags | {b"rTRC": gamma, b"gTRC": gamma, b"bTRC": gamma})


def every_ink_is_red() -> bytes:
    """For CMYK: paper is white, and all inks are red."""
    table = b"".join(bytes(_RED_LAB if node else _WHITE_LAB) for node in range(16))  # two levels of four inks
    identity = [65536, 0, 0, 0, 65536, 0, 0, 0, 65536]
    lut = b"mft1" + bytes(4) + struct.pack(">BBBB9i", 4, 3, 2, 0, *identity)
    return _profile(b"CMYK", b"Lab ", {b"A2B0": lut + bytes(range(256)) * 4 + table + bytes(range(256)) * 3})


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"made for tests\0"
    described = b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(78)
    everything = {b"desc": described, b"cprt": b"text" + bytes(4) + text, b"wtpt": _xyz(_D50)} | tags
    place, directory, data = 128 + 4 + 12 * len(everything), b"", b""
    for name, value in everything.items():
        directory += name + struct.pack(">II", place + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    header = bytearray(128)
    header[8:12] = b"\x02\x40\0\0"
    header[12:24] = (b"prtr" if space == b"CMYK" else b"mntr") + space + connection
    header[36:40] = b"acsp"
    header[68:80] = _xyz(_D50)[8:]
    header[0:4] = struct.pack(">I", place + len(data))
    return bytes(header) + struct.pack(">I", len(everything)) + directory + data


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))
