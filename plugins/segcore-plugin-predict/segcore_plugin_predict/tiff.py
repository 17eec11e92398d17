"""TIFFs of many bands, or of several with more than 8 bits, for which Pillow has no mode.

The directory of the file is rewritten so that the same bytes describe a grey picture of single bytes, each row as long
as all bands together; libtiff, through Pillow, unpacks it, whatever the compression, and the bytes are read as what
they are. Layout: TIFF Revision 6.0 (Adobe, 1992) and its Technical Note 3 on the floating-point predictor.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from segcore import InputError

MAX_PAGES = 10_000
MAX_BANDS = 1_000
COMPRESSIONS = {1, 5, 8, 32773, 32946, 34925, 50000}  # none, LZW, Deflate, PackBits, Deflate, LZMA, Zstandard
DTYPES = {(1, 8): "u1", (1, 16): "u2", (3, 32): "f4"}
_REDUCED_OR_MASK = 1 | 4
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 258, 259, 262, 274, 277
_STRIPS, _STRIP_SIZES, _ROWS, _TILES, _TILE_SIZES, _TILE_WIDTH, _TILE_HEIGHT = 273, 279, 278, 324, 325, 322, 323
_PLANAR, _PREDICTOR, _FORMAT, _KIND, _EXTRA = 284, 317, 339, 254, 338
_TRANSPARENCY = {1, 2}


_PLACE = {33550, 33922, 34264, 34735, 50844}  # pixel scale, tie points, transformation, keys of GeoTIFF; RPCs


def georeferenced(path: Path) -> bool:
    """Return whether a file is a TIFF, large ones included, of one page that says where on the earth it lies."""
    try:
        with path.open("rb") as file:
            if file.read(4) not in {b"II*\0", b"MM\0*", b"II+\0"}:
                return False
            pages = [page for page in _pages(file) if not page.get(_KIND, 0) & _REDUCED_OR_MASK]
    except Exception:  # whatever is wrong with it is told where it is read
        return False
    return len(pages) == 1 and not _PLACE.isdisjoint(pages[0])


def is_tiff(file: BinaryIO) -> bool:
    """Return whether a file is a TIFF with addresses of 32 bits; the file is left at its start."""
    head = file.read(4)
    file.seek(0)
    return head in {b"II*\0", b"MM\0*"}


def full_pages(file: BinaryIO) -> int:
    """Return how many pages there are, without previews and masks; the file is left at its start."""
    return sum(not page.get(_KIND, 0) & _REDUCED_OR_MASK for page in _pages(file))


def _pages(file: BinaryIO) -> list[ImageFileDirectory_v2]:
    file.seek(0)
    head = file.read(8)
    head += file.read(8) if 43 in head[2:4] else b""  # a BigTIFF's is longer
    found: list[ImageFileDirectory_v2] = []
    address, seen = ImageFileDirectory_v2(head).next, set()
    while address and address not in seen and len(found) < MAX_PAGES:
        seen.add(address)
        page = ImageFileDirectory_v2(head)
        file.seek(address)
        page.load(file)
        found.append(page)
        address = page.next
    file.seek(0)
    return found


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a page says about its bytes."""

    width: int
    height: int
    samples: int
    dtype: np.dtype
    planar: bool
    predictor: int
    tile: tuple[int, int] | None  # width, height

    @property
    def together(self) -> int:
        """Bands that lie side by side."""
        return 1 if self.planar else self.samples


def read_bands(
    file: BinaryIO,
    frame: int | None,
    check_size: Callable[[int, int], None],
    check_frames: Callable[[int, int], None],
) -> np.ndarray | None:
    """Return the bands (H, W, C) of a page, upright, as uint8, uint16 or float32; None for what Pillow reads well.

    Raises:
        InputError: the page is of a kind that has no rule.
    """
    pages = _pages(file)
    if not pages:
        return None
    check_frames(sum(not page.get(_KIND, 0) & _REDUCED_OR_MASK for page in pages), len(pages))
    page = pages[frame or 0]
    samples, bits = page.get(_SAMPLES, 1), page.get(_BITS, (1,))
    if samples < 2 or (samples <= 4 and set(bits) == {8} and not _is_bare(page, samples)):
        return None
    check_size(page.get(_WIDTH, 0), page.get(_HEIGHT, 0))
    layout = _layout(page, samples, bits)
    file.seek(0)
    content = file.read()
    order = content[:2]
    addresses = page.get(_TILES if layout.tile else _STRIPS, ())
    sizes = page.get(_TILE_SIZES if layout.tile else _STRIP_SIZES, ())
    planes = samples if layout.planar else 1
    each = len(addresses) // planes
    if not each or len(addresses) != len(sizes) or len(addresses) % planes:
        raise InputError("its table of strips or tiles is damaged")
    bands = [
        _decode(content, order, page, layout, addresses[start : start + each], sizes[start : start + each])
        for start in range(0, len(addresses), each)
    ]
    return np.ascontiguousarray(_upright(np.concatenate(bands, axis=2), page.get(_ORIENTATION, 1)))


def _is_bare(page: ImageFileDirectory_v2, samples: int) -> bool:
    """Return whether the bands are neither colours nor grey with transparency, for which Pillow has modes."""
    extra = page.get(_EXTRA, ())
    return page.get(_PHOTOMETRIC, 1) in {0, 1} and not (samples == 2 and extra and extra[0] in _TRANSPARENCY)


def _layout(page: ImageFileDirectory_v2, samples: int, bits: tuple[int, ...]) -> _Layout:
    formats = page.get(_FORMAT, (1,))
    kind = (formats[0], bits[0])
    if len({*bits}) > 1 or len({*formats}) > 1 or kind not in DTYPES:
        raise InputError(
            f"its {samples} bands have {', '.join(map(str, sorted({*bits})))} bits of format "
            f"{', '.join(map(str, sorted({*formats})))}; unsigned 8 and 16 bits and 32-bit floats are read"
        )
    if page.get(_PHOTOMETRIC, 1) not in {1, 2}:
        raise InputError(f"its {samples} bands are neither grey nor RGB (photometric {page.get(_PHOTOMETRIC)})")
    if page.get(_COMPRESSION, 1) not in COMPRESSIONS:
        raise InputError(f"its {samples} bands have compression {page.get(_COMPRESSION)}. Save it with Deflate or LZW")
    if page.get(_PREDICTOR, 1) not in {1, 2, 3} or samples > MAX_BANDS:
        raise InputError(f"it has {samples} bands and predictor {page.get(_PREDICTOR, 1)}, which are not read")
    dtype = np.dtype(DTYPES[kind]).newbyteorder("<" if page.prefix == b"II" else ">")
    tile = (page[_TILE_WIDTH], page[_TILE_HEIGHT]) if _TILES in page else None
    planar = page.get(_PLANAR, 1) == 2
    return _Layout(page[_WIDTH], page[_HEIGHT], samples, dtype, planar, page.get(_PREDICTOR, 1), tile)


def _decode(
    content: bytes,
    order: bytes,
    page: ImageFileDirectory_v2,
    layout: _Layout,
    addresses: tuple[int, ...],
    sizes: tuple[int, ...],
) -> np.ndarray:
    """Return (H, W, bands that lie together) out of some strips or tiles."""
    together = layout.together
    scale = together * layout.dtype.itemsize
    length = layout.tile[0] if layout.tile else layout.width
    count = -(-layout.width // length)
    entries: dict[int, tuple[int, ...]] = {
        _WIDTH: (count * length * scale,),  # the padding of the last tiles too, which predictors need
        _HEIGHT: (layout.height,),
        _BITS: (8,),
        _COMPRESSION: (page.get(_COMPRESSION, 1),),
        _PHOTOMETRIC: (1,),
        _SAMPLES: (1,),
    }
    if layout.tile:
        entries |= {_TILE_WIDTH: (layout.tile[0] * scale,), _TILE_HEIGHT: (layout.tile[1],)}
        entries |= {_TILES: addresses, _TILE_SIZES: sizes}
    else:
        entries |= {_ROWS: (min(page.get(_ROWS, layout.height), layout.height),)}
        entries |= {_STRIPS: addresses, _STRIP_SIZES: sizes}
    with Image.open(io.BytesIO(_rewritten(content, order, entries)), formats=("TIFF",)) as picture:
        rows = np.asarray(picture)
    parts = [_undone(rows[:, left : left + length * scale], layout) for left in range(0, rows.shape[1], length * scale)]
    return np.concatenate(parts, axis=1)[:, : layout.width]


def _undone(part: np.ndarray, layout: _Layout) -> np.ndarray:
    """Return the numbers (h, w, bands) of bytes (h, ...), the predictor undone; rows start afresh in each part."""
    together = layout.together
    if layout.predictor == 3:
        differences = part.reshape(len(part), -1, together)
        added = np.cumsum(differences, axis=1, dtype=np.uint8).reshape(len(part), layout.dtype.itemsize, -1)
        values = np.ascontiguousarray(added.transpose(0, 2, 1)).view(layout.dtype.newbyteorder(">"))
        return values.astype(layout.dtype.newbyteorder("=")).reshape(len(part), -1, together)
    values = np.ascontiguousarray(part).view(layout.dtype).astype(layout.dtype.newbyteorder("="))
    values = values.reshape(len(part), -1, together)
    return np.cumsum(values, axis=1, dtype=values.dtype) if layout.predictor == 2 else values


def _rewritten(content: bytes, order: bytes, entries: dict[int, tuple[int, ...]]) -> bytes:
    """Return the file with one new directory, all of whose entries are 32-bit numbers, and no other."""
    sign = "<" if order == b"II" else ">"
    padding = b"\0" * (-len(content) % 2)
    start = len(content) + len(padding)
    behind = start + 2 + 12 * len(entries) + 4
    table: list[bytes] = [struct.pack(f"{sign}H", len(entries))]
    values: list[bytes] = []
    for tag, numbers in sorted(entries.items()):
        packed = struct.pack(f"{sign}{len(numbers)}L", *numbers)
        if len(numbers) == 1:
            table.append(struct.pack(f"{sign}HHL", tag, 4, 1) + packed)
        else:
            table.append(struct.pack(f"{sign}HHLL", tag, 4, len(numbers), behind + sum(map(len, values))))
            values.append(packed)
    head = content[:4] + struct.pack(f"{sign}L", start)
    return b"".join(itertools.chain([head, content[8:], padding], table, [b"\0" * 4], values))


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return an array as it is meant to be seen, by the TIFF and EXIF number of its orientation."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in {2, 3, 6, 7}:
        array = array[:, ::-1]
    return array[::-1] if orientation in {3, 4, 7, 8} else array
