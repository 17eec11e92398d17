"""Files to arrays: one rule per kind of picture, and a refusal by name for what has none.

Numbers are never scaled by the values in the picture. Nothing is decoded before its size is known and allowed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from segcore import InputError, OptionValueError
from segcore_plugin_predict.tiff import full_pages, is_tiff, read_bands

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")  # a JPEG with several pictures, MPO, is opened as a JPEG
MAX_PIXELS = 200_000_000
ALPHAS = ("refuse", "drop", "black", "white")
_FALLBACK = {"1": "L", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "La": "LA", "RGBa": "RGBA", "PA": "RGBA"}
_PLAIN = {"L", "RGB", "RGBX", "LA", "RGBA", "I", "F"}
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_limit_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a user says about images that they do not say themselves.

    Attributes:
        bands: which bands to take, counted from 1, in this order; None for all.
        alpha: what becomes of transparent pixels: ``"refuse"`` the image, ``"drop"`` the alpha channel, or put them on
            ``"black"`` or ``"white"``. An alpha channel that is opaque everywhere is dropped silently.
        full_scale: the value that counts as 1; None for that of the type, 255 or 65535, and 1 for floating point.
        frame: which page or frame to take, counted from 0; None refuses a file with several.
        max_pixels: larger images are refused before they are decoded.
    """

    bands: tuple[int, ...] | None = None
    alpha: str = "refuse"
    full_scale: float | None = None
    frame: int | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.alpha not in ALPHAS:
            raise OptionValueError(f"alpha={self.alpha!r} is unknown; it is {', '.join(map(repr, ALPHAS))}.")
        if self.bands is not None and (not self.bands or min(self.bands) < 1):
            raise OptionValueError(f"bands={self.bands!r}: bands are counted from 1.")
        if self.full_scale is not None and not self.full_scale > 0:
            raise OptionValueError(f"full_scale={self.full_scale!r} must be positive.")
        if self.max_pixels < 1 or (self.frame is not None and self.frame < 0):
            raise OptionValueError(f"max_pixels={self.max_pixels!r}, frame={self.frame!r}: too small.")


def read_image(
    path: str | os.PathLike[str],
    channels: int | None = None,
    *,
    bands: Sequence[int] | None = None,
    alpha: str = "refuse",
    full_scale: float | None = None,
    frame: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Read a PNG, JPEG, TIFF, WebP or BMP file, upright, for a model of some number of channels.

    Grey is repeated for a model of three channels, and colours become grey for one of a single channel. Palettes,
    CMYK (without colour management), YCbCr and HSV become RGB. An EXIF orientation is applied. 16-bit TIFFs of several
    bands keep their 16 bits; 16-bit colour PNGs are read with 8.

    Args:
        path: of a regular file.
        channels: of the model; None takes what is there.
        bands: which bands to take, counted from 1, in this order; None for all.
        alpha: see `ReadOptions`; so are the following.
        full_scale: the value that counts as 1.
        frame: page or frame, counted from 0.
        max_pixels: larger images are refused before they are decoded.

    Returns:
        Array (H, W, C): uint8, uint16, or float32 in [0, 1].

    Raises:
        InputError: the file is missing, broken, too large, or of a kind that has no rule; the message begins with it.
        OptionValueError: for options that make no sense.
    """
    options = ReadOptions(None if bands is None else tuple(bands), alpha, full_scale, frame, max_pixels)
    return read(Path(path), channels, options)


def read(path: Path, channels: int | None, options: ReadOptions) -> np.ndarray:
    """Read a file; the same as `read_image`."""
    try:
        _check_file(path)
        array = _bands_of_tiff(path, options)
        if array is None:
            with _open(path, options) as picture:
                array = array_of(picture, channels, options)
        return fit_channels(array, channels, options)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except UnidentifiedImageError:
        raise InputError(f"{path}: this is no PNG, JPEG, TIFF, WebP or BMP image. Convert it.") from None
    except MemoryError:
        raise InputError(f"{path}: there is not enough memory to read it.") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, KeyError and more
        raise InputError(f"{path}: it is damaged or cannot be decoded: {type(error).__name__}: {error}") from error


def _check_file(path: Path) -> None:
    if not path.is_file():  # a pipe would be waited for
        raise InputError("this is no regular file" if path.exists() else "there is no such file")


@contextlib.contextmanager
def _no_limit_of_pillow() -> Iterator[None]:
    """Leave the limit on pixels to us: Pillow's is one for the process, and below it already warns."""
    with _limit_lock:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


@contextlib.contextmanager
def _open(path: Path, options: ReadOptions) -> Iterator[Image.Image]:
    with path.open("rb") as file:
        pages = full_pages(file) if is_tiff(file) else None
        with _no_limit_of_pillow():
            picture = Image.open(file, formats=FORMATS)
            frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)  # MPO: previews, depth maps
            _choose_frame(pages if pages is not None else frames, frames, options.frame)
            if options.frame:
                picture.seek(options.frame)
        check_size(*picture.size, options)
        yield ImageOps.exif_transpose(picture)


def _choose_frame(full: int, frames: int, frame: int | None) -> None:
    """Refuse several pages or frames of which none was chosen; `full` leaves out previews."""
    if frame is not None and frame >= frames:
        raise InputError(f"it has {frames} pages or frames, and number {frame}, counted from 0, was asked for")
    if frame is None and full > 1:
        raise InputError(f"it has {full} pages or frames. Choose one with frame=0 (--frame 0), or split it")


def check_size(width: int, height: int, options: ReadOptions) -> None:
    """Refuse sizes that are absurd or larger than allowed.

    Raises:
        InputError: says the size and the limit.
    """
    if width < 1 or height < 1:
        raise InputError(f"it is {width} x {height} pixels")
    if width * height > options.max_pixels:
        raise InputError(
            f"it is {width} x {height} pixels, more than the limit of {options.max_pixels}. If it is what you "
            f"expect, raise the limit with max_pixels (--max-pixels)"
        )


def _bands_of_tiff(path: Path, options: ReadOptions) -> np.ndarray | None:
    """Return the bands of a TIFF that Pillow would refuse or shorten to 8 bits, else None."""
    with path.open("rb") as file:
        if not is_tiff(file):
            return None
        return read_bands(
            file,
            options.frame,
            lambda width, height: check_size(width, height, options),
            lambda full, frames: _choose_frame(full, frames, options.frame),
        )


def array_of(picture: Image.Image, channels: int | None = None, options: ReadOptions | None = None) -> np.ndarray:
    """Return the pixels of a picture (H, W, C): uint8, uint16, int32 or float32.

    Raises:
        InputError: its mode has no rule, or pixels are transparent and that is not allowed.
    """
    options = options or ReadOptions()
    if picture.has_transparency_data and picture.mode not in {"LA", "RGBA"}:
        picture = picture.convert("LA" if picture.mode in {"1", "L", "La"} else "RGBA")
    elif picture.mode == "P":
        picture = picture.convert("RGB")
    elif picture.mode in _FALLBACK:
        picture = picture.convert(_FALLBACK[picture.mode])
    if picture.mode.startswith("I;16"):
        return np.asarray(picture).astype(np.uint16)[..., None]
    if picture.mode not in _PLAIN:
        raise InputError(f"pictures of mode {picture.mode!r} have no rule. Convert it to RGB or grey")
    if picture.mode in {"LA", "RGBA"} and options.bands is None and channels != len(picture.getbands()):
        picture = _without_alpha(picture, options.alpha)
    array = np.asarray(picture)
    if picture.mode == "RGBX" and options.bands is None and channels != 4:
        array = array[..., :3]
    if picture.mode == "I" and picture.format == "PNG":
        array = array.astype(np.uint16)
    return array if array.ndim == 3 else array[..., None]


def _without_alpha(picture: Image.Image, rule: str) -> Image.Image:
    plain = "L" if picture.mode == "LA" else "RGB"
    alpha = picture.getchannel("A")
    if rule == "drop" or alpha.getextrema()[0] == 255:
        bands = picture.split()[:-1]
        return bands[0] if plain == "L" else Image.merge("RGB", bands)
    if rule == "refuse":
        raise InputError(
            "it has transparent pixels, and what lies under them is anybody's guess. Use alpha='black', 'white' or "
            "'drop' (--alpha)"
        )
    ground = Image.new(plain, picture.size, rule)
    ground.paste(picture.convert(plain), mask=alpha)
    return ground


def fit_channels(array: np.ndarray, channels: int | None, options: ReadOptions | None = None) -> np.ndarray:
    """Return an array (H, W, C) for a model of some number of channels, as uint8, uint16, or float32 in [0, 1].

    Raises:
        InputError: the bands do not fit, or the numbers are of a type or range that says nothing about full scale.
    """
    options = options or ReadOptions()
    if options.bands is not None:
        if max(options.bands) > array.shape[2]:
            raise InputError(f"it has {array.shape[2]} bands, and band {max(options.bands)} was asked for")
        array = array[..., [band - 1 for band in options.bands]]
    array = _scaled(array, options.full_scale)
    have = array.shape[2]
    if channels is None or have == channels:
        return array
    if have == 1 and channels == 3:
        return np.broadcast_to(array, (*array.shape[:2], 3))
    if have == 3 and channels == 1:
        grey = array.astype(np.float32) @ _LUMA
        return (grey if array.dtype == np.float32 else np.rint(grey).astype(array.dtype))[..., None]
    raise InputError(
        f"it has {have} bands, and the model takes {channels}. Choose {channels} with bands=(1, ...) (--bands 1,...)"
    )


def _scaled(array: np.ndarray, full_scale: float | None) -> np.ndarray:
    if full_scale is None and array.dtype in (np.uint8, np.uint16):
        return array
    if full_scale is None and array.dtype != np.float32:
        raise InputError(
            f"its numbers are {array.dtype}, which has no natural scale. Say what counts as 1, --full-scale"
        )
    scaled: np.ndarray = array.astype(np.float32) / np.float32(full_scale or 1)
    low, high = float(scaled.min()), float(scaled.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError("it holds NaN or infinite values")
    if full_scale is None and (low < 0 or high > 1):
        raise InputError(
            f"its floating-point values reach from {low:g} to {high:g}, not from 0 to 1. Say which value counts as 1 "
            f"with full_scale (--full-scale)"
        )
    return scaled
