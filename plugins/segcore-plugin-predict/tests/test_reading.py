"""Every kind of file: read by its rule, or refused by name."""

import io
import os
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from segcore_plugin_predict import read_image

from segcore import InputError, OptionValueError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (37, 52, 3), np.uint8)
GREY = COLOUR[..., 0]
SMOOTH = np.stack(np.meshgrid(np.arange(52) * 4, np.arange(37) * 6), axis=2).astype(np.uint8)
SMOOTH = np.concatenate([SMOOTH, SMOOTH[..., :1] // 2], axis=2)  # what lossy formats keep well
ORIENTATION = 274


def saved(tmp_path, picture, name, **options):
    path = tmp_path / name
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return path


def refused(path, message, *arguments, **options):
    with pytest.raises(InputError, match=message) as caught:
        read_image(path, *arguments, **options)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


class TestFormats:
    @pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
    def test_lossless_formats(self, tmp_path, name):
        assert np.array_equal(read_image(saved(tmp_path, COLOUR, name)), COLOUR)
        assert np.array_equal(read_image(saved(tmp_path, GREY, name)), GREY[..., None])

    def test_lossy_formats(self, tmp_path):
        for name, options in (("a.jpg", {"quality": 95}), ("a.webp", {"quality": 95})):
            read = read_image(saved(tmp_path, SMOOTH, name, **options)).astype(int)
            assert np.abs(read - SMOOTH).mean() < 3
        assert np.array_equal(read_image(saved(tmp_path, COLOUR, "b.webp", lossless=True)), COLOUR)

    @pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"])
    def test_compressed_tiffs(self, tmp_path, compression):
        assert np.array_equal(read_image(saved(tmp_path, COLOUR, "a.tif", compression=compression)), COLOUR)

    def test_a_suffix_that_lies(self, tmp_path):
        saved(tmp_path, COLOUR, "a.png").rename(tmp_path / "a.jpg")
        assert np.array_equal(read_image(tmp_path / "a.jpg"), COLOUR)

    @pytest.mark.parametrize("name", ["a.png", "a.tif"])
    def test_16_bits_of_grey(self, tmp_path, name):
        deep = np.arange(37 * 52, dtype=np.uint16).reshape(37, 52) * 30
        read = read_image(saved(tmp_path, deep, name))
        assert read.dtype == np.uint16
        assert np.array_equal(read[..., 0], deep)

    def test_16_bits_of_grey_in_the_other_order(self, tmp_path):
        deep = np.arange(24, dtype=np.uint16).reshape(4, 6) * 1000
        path = tmp_path / "a.tif"
        path.write_bytes(tiff(deep[..., None], order=">"))
        assert np.array_equal(read_image(path)[..., 0], deep)

    def test_16_bit_colour_png_is_read_with_8(self, tmp_path):
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in COLOUR.astype(np.uint16) * 257)
        path = tmp_path / "a.png"
        path.write_bytes(png(52, 37, 16, 2, rows))
        assert np.array_equal(read_image(path), COLOUR)

    def test_a_nearly_black_16_bit_picture_stays_nearly_black(self, tmp_path):
        read = read_image(saved(tmp_path, np.full((4, 4), 7, np.uint16), "a.png"))
        assert read.dtype == np.uint16
        assert read.max() == 7

    def test_floats_lie_between_0_and_1(self, tmp_path):
        values = RNG.random((5, 7), np.float32)
        read = read_image(saved(tmp_path, values, "a.tif"), 3)
        assert read.dtype == np.float32
        assert np.array_equal(read, np.repeat(values[..., None], 3, axis=2))
        path = saved(tmp_path, values * 255, "b.tif")
        refused(path, "not from 0 to 1.*--full-scale")
        assert np.allclose(read_image(path, full_scale=255)[..., 0], values)
        values[2, 2] = np.nan
        refused(saved(tmp_path, values, "c.tif"), "NaN or infinite")
        refused(saved(tmp_path, values, "c.tif"), "NaN or infinite", full_scale=255)

    def test_32_bit_integers_have_no_natural_scale(self, tmp_path):
        path = saved(tmp_path, np.full((3, 4), 50_000, np.int32), "a.tif")
        refused(path, "int32, which has no natural scale.*--full-scale")
        assert np.allclose(read_image(path, full_scale=100_000), 0.5)

    def test_full_scale_of_a_camera_with_12_bits(self, tmp_path):
        assert np.allclose(read_image(saved(tmp_path, np.full((3, 4), 4095, np.uint16), "a.png"), full_scale=4095), 1)


class TestOrientation:
    @pytest.mark.parametrize("number", range(1, 9))
    @pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
    def test_images_are_upright(self, tmp_path, number, name):
        exif = Image.Exif()
        exif[ORIENTATION] = number
        options = {"lossless": True} if name.endswith("webp") else {}
        path = saved(tmp_path, COLOUR, name, exif=exif, **options)
        turned = {1: COLOUR, 2: COLOUR[:, ::-1], 3: COLOUR[::-1, ::-1], 4: COLOUR[::-1], 5: COLOUR.swapaxes(0, 1),
                  6: np.rot90(COLOUR, -1), 7: np.rot90(COLOUR, 2).swapaxes(0, 1), 8: np.rot90(COLOUR)}[number]  # fmt: skip
        assert np.array_equal(read_image(path), turned)

    def test_jpeg(self, tmp_path):
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        path = saved(tmp_path, SMOOTH, "a.jpg", exif=exif, quality=95)
        assert np.abs(read_image(path).astype(int) - np.rot90(SMOOTH, -1)).mean() < 3

    @pytest.mark.parametrize("number", range(1, 9))
    def test_tiffs_of_many_bands(self, tmp_path, number):
        many = RNG.integers(0, 256, (5, 7, 6), np.uint8)
        (tmp_path / "a.tif").write_bytes(tiff(many, extra={ORIENTATION: number}))
        exif = Image.Exif()
        exif[ORIENTATION] = number
        picture = Image.fromarray(many[..., :3])
        picture.getexif()[ORIENTATION] = number
        assert np.array_equal(read_image(tmp_path / "a.tif")[..., :3], np.asarray(ImageOps.exif_transpose(picture)))

    @pytest.mark.parametrize("samples", [2, 3, 4])
    @pytest.mark.parametrize("planar", [False, True])
    def test_tiffs_of_few_bands_that_are_no_colours(self, tmp_path, samples, planar):
        few = RNG.integers(0, 256, (5, 7, samples), np.uint8)
        (tmp_path / "a.tif").write_bytes(tiff(few, planar=planar))
        assert np.array_equal(read_image(tmp_path / "a.tif"), few)


class TestModes:
    def test_grey_for_three_channels_and_colour_for_one(self, tmp_path):
        assert np.array_equal(read_image(saved(tmp_path, GREY, "a.png"), 3), np.stack([GREY] * 3, axis=2))
        read = read_image(saved(tmp_path, COLOUR, "b.png"), 1)
        assert np.abs(read[..., 0].astype(int) - np.asarray(Image.fromarray(COLOUR).convert("L"))).max() <= 1

    def test_one_bit(self, tmp_path):
        assert set(np.unique(read_image(saved(tmp_path, GREY > 99, "a.png")))) == {0, 255}

    def test_palettes(self, tmp_path):
        picture = Image.fromarray(COLOUR).quantize(16)
        assert np.array_equal(read_image(saved(tmp_path, picture, "a.png"), 3), np.asarray(picture.convert("RGB")))

    @pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
    def test_cmyk(self, tmp_path, name):
        picture = Image.fromarray(SMOOTH).convert("CMYK")
        read = read_image(saved(tmp_path, picture, name, **({"quality": 95} if name == "a.jpg" else {})))
        assert read.shape == (37, 52, 3)
        assert np.abs(read.astype(int) - SMOOTH).mean() < 6

    def test_ycbcr_tiff(self, tmp_path):
        read = read_image(saved(tmp_path, Image.fromarray(SMOOTH).convert("YCbCr"), "a.tif"))
        assert np.abs(read.astype(int) - SMOOTH).mean() < 3

    def test_lab_is_refused_by_name(self, tmp_path):
        refused(saved(tmp_path, Image.new("LAB", (4, 4)), "a.tif"), "mode 'LAB'")

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("plain", [COLOUR, GREY])
    def test_an_alpha_channel_that_is_opaque_does_not_matter(self, tmp_path, channels, plain):
        picture = Image.fromarray(plain)
        path = saved(tmp_path, picture, "plain.png")
        picture.putalpha(255)
        assert np.array_equal(read_image(saved(tmp_path, picture, "a.png"), channels), read_image(path, channels))

    def test_transparent_pixels(self, tmp_path):
        picture = Image.new("RGBA", (4, 4), (200, 100, 50, 255))
        picture.putpixel((1, 2), (200, 100, 50, 0))
        picture.putpixel((0, 0), (200, 100, 50, 128))
        path = saved(tmp_path, picture, "a.png")
        refused(path, "transparent pixels.*--alpha", 3)
        assert (read_image(path, 3, alpha="drop") == (200, 100, 50)).all()
        for alpha, ground in (("black", 0), ("white", 255)):
            read = read_image(path, 3, alpha=alpha)
            assert read[2, 1].tolist() == [ground] * 3
            assert read[3, 3].tolist() == [200, 100, 50]
            half = np.array([200, 100, 50]) * 128 / 255 + ground * 127 / 255
            assert np.abs(read[0, 0] - half).max() <= 1

    def test_four_bands_for_a_model_of_four(self, tmp_path):
        four = RNG.integers(0, 256, (5, 6, 4), np.uint8)
        path = saved(tmp_path, Image.fromarray(four, "RGBA"), "a.png")
        assert np.array_equal(read_image(path, 4), four)
        assert np.array_equal(read_image(path, 2, bands=(4, 1)), four[..., [3, 0]])

    def test_transparency_of_palettes_and_of_one_colour(self, tmp_path):
        picture = Image.fromarray(COLOUR).quantize(16)
        refused(saved(tmp_path, picture, "a.png", transparency=picture.getpixel((0, 0))), "transparent", 3)
        refused(saved(tmp_path, GREY, "b.png", transparency=int(GREY[3, 3])), "transparent", 1)
        refused(saved(tmp_path, COLOUR, "c.png", transparency=tuple(map(int, COLOUR[3, 3]))), "transparent", 3)
        assert read_image(tmp_path / "b.png", 1, alpha="drop").shape == (37, 52, 1)

    def test_alpha_beside_grey(self, tmp_path):
        picture = Image.new("LA", (4, 4), (90, 0))
        path = saved(tmp_path, picture, "a.png")
        refused(path, "transparent", 1)
        assert (read_image(path, 3, alpha="white") == 255).all()
        assert (read_image(path, 2) == (90, 0)).all()


class TestBands:
    MANY = RNG.integers(0, 2**16, (37, 52, 6)).astype(np.uint16)

    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("planar", [False, True])
    @pytest.mark.parametrize("tile", [None, (16, 32)])
    @pytest.mark.parametrize("compression", [1, 8])
    @pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
    def test_layouts(self, tmp_path, order, planar, tile, compression, kind):
        many = self.MANY / 65535 if kind == "f4" else self.MANY // (256 if kind == "u1" else 1)
        many = many.astype(kind)
        path = tmp_path / "a.tif"
        for predictor in (1, 2, 3) if compression == 8 else (1,):
            if predictor == (2 if kind == "f4" else 3):
                continue
            path.write_bytes(tiff(many, order, planar, tile, compression, predictor))
            read = read_image(path)
            assert read.dtype == many.dtype
            assert np.array_equal(read, many), predictor

    def test_16_bit_colour_keeps_its_bits(self, tmp_path):
        (tmp_path / "a.tif").write_bytes(tiff(self.MANY[..., :3]))
        assert np.array_equal(read_image(tmp_path / "a.tif", 3), self.MANY[..., :3])

    def test_lzw(self, tmp_path):
        """Written by Pillow as a picture of one band, six times as wide, and then declared to be six bands."""
        many = (self.MANY // 256).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(many.reshape(37, -1)).save(buffer, "TIFF", compression="tiff_lzw", tiffinfo={317: 1})
        content = bytearray(buffer.getvalue())
        start = struct.unpack_from("<L", content, 4)[0]
        for index in range(struct.unpack_from("<H", content, start)[0]):
            at = start + 2 + 12 * index
            tag = struct.unpack_from("<H", content, at)[0]
            if tag in {256, 284}:  # 284 says what is the default, so its place is free
                struct.pack_into("<HHLL", content, at, 256 if tag == 256 else 277, 4, 1, 52 if tag == 256 else 6)
        (tmp_path / "a.tif").write_bytes(content)
        assert np.array_equal(read_image(tmp_path / "a.tif"), many)

    def test_bands_are_chosen_and_counted_from_1(self, tmp_path):
        path = tmp_path / "a.tif"
        path.write_bytes(tiff(self.MANY))
        refused(path, "6 bands, and the model takes 3.*--bands", 3)
        assert np.array_equal(read_image(path, 3, bands=(4, 3, 2)), self.MANY[..., [3, 2, 1]])
        refused(path, "6 bands, and band 7", 3, bands=(1, 2, 7))
        assert np.array_equal(read_image(saved(tmp_path, COLOUR, "b.png"), 1, bands=[2])[..., 0], COLOUR[..., 1])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"extra": {258: [8] * 5 + [16]}}, "8, 16 bits"),
            ({"extra": {339: 2}}, "of format 2"),
            ({"extra": {262: 5}}, "neither grey nor RGB"),
            ({"extra": {259: 7}}, "compression 7"),
            ({"extra": {317: 9}}, "predictor 9"),
            ({"extra": {279: [1, 2]}}, "table of strips"),
            ({"extra": {256: 2**20, 257: 2**20}}, "1048576 x 1048576 pixels"),
            ({"extra": {273: 2**31}}, "damaged"),
        ],
    )
    def test_refusals(self, tmp_path, change, message):
        (tmp_path / "a.tif").write_bytes(tiff(self.MANY, **change))
        refused(tmp_path / "a.tif", message)

    def test_a_file_cut_short(self, tmp_path):
        content = tiff(self.MANY, compression=8)
        for length in (6, 12, 150, len(content) // 2):
            (tmp_path / "a.tif").write_bytes(content[:length])
            refused(tmp_path / "a.tif", "damaged|no PNG")


class TestRefusals:
    def test_what_is_no_file(self, tmp_path):
        refused(tmp_path / "absent.png", "no such file")
        refused(tmp_path, "no regular file")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "a.png")
        refused(tmp_path / "a.png", "no regular file")

    @pytest.mark.parametrize(
        "content", [b"", b"not an image", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
    )
    def test_what_is_no_image(self, tmp_path, content):
        (tmp_path / "a.png").write_bytes(content)
        refused(tmp_path / "a.png", "no PNG, JPEG, TIFF, WebP or BMP")

    def test_other_formats(self, tmp_path):
        refused(saved(tmp_path, GREY, "a.gif"), "no PNG, JPEG, TIFF, WebP or BMP")

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.bmp"])
    def test_files_cut_short(self, tmp_path, name):
        path = saved(tmp_path, COLOUR, name)
        content = path.read_bytes()
        for part in (0.3, 0.7):
            path.write_bytes(content[: int(len(content) * part)])
            refused(path, "damaged or cannot be decoded|no PNG")

    def test_damaged_bytes(self, tmp_path):
        path = saved(tmp_path, COLOUR, "a.png")
        content = bytearray(path.read_bytes())
        for index in range(60, 200):
            content[index] ^= 0xFF
        path.write_bytes(content)
        refused(path, "damaged or cannot be decoded")

    def test_several_frames_or_pages(self, tmp_path):
        pictures = [Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1].copy())]
        for name, options in (("a.tif", {}), ("a.webp", {"lossless": True}), ("a.png", {})):
            path = saved(tmp_path, pictures[0], name, save_all=True, append_images=pictures[1:], **options)
            refused(path, "2 pages or frames.*--frame")
            assert np.array_equal(read_image(path, frame=0), COLOUR)
            assert np.array_equal(read_image(path, 3, frame=1), COLOUR[::-1])
            refused(path, "number 2, counted from 0", frame=2)

    def test_previews_are_no_pages(self, tmp_path):
        preview = Image.fromarray(COLOUR[::2, ::2].copy())
        preview.encoderinfo = {"tiffinfo": {254: 1}}
        path = saved(tmp_path, COLOUR, "a.tif", save_all=True, append_images=[preview])
        assert np.array_equal(read_image(path), COLOUR)

    def test_the_second_picture_of_a_phone_is_a_preview(self, tmp_path):
        preview = Image.fromarray(SMOOTH[::2, ::2].copy())
        path = saved(tmp_path, SMOOTH, "a.jpg", format="MPO", save_all=True, append_images=[preview])
        assert read_image(path).shape == (37, 52, 3)


class TestSizes:
    @pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1)])
    def test_a_bomb_is_refused_before_it_is_decoded(self, tmp_path, size):
        (tmp_path / "a.png").write_bytes(png(*size, 8, 2, b"\0" * 1000))
        refused(tmp_path / "a.png", f"{size[0]} x {size[1]} pixels, more than the limit of 200000000")

    def test_the_limit_is_the_callers_and_not_pillows(self, tmp_path, monkeypatch):
        path = saved(tmp_path, COLOUR, "a.png")
        refused(path, "more than the limit of 1000.*--max-pixels", max_pixels=1000)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        assert read_image(path).shape == (37, 52, 3)
        assert Image.MAX_IMAGE_PIXELS == 10

    def test_files_are_read_in_several_threads(self, tmp_path):
        path, results = saved(tmp_path, COLOUR, "a.png"), []
        before = Image.MAX_IMAGE_PIXELS
        threads = [threading.Thread(target=lambda: results.append(read_image(path))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 8
        assert before == Image.MAX_IMAGE_PIXELS

    def test_a_text_that_unpacks_to_much_more_is_refused(self, tmp_path):
        bomb = b"k\0\0" + zlib.compress(b"x" * 200_000_000, 9)
        content = png(4, 4, 8, 0, b"\0\1\2\3\4" * 4, [(b"zTXt", bomb)])
        (tmp_path / "a.png").write_bytes(content)
        refused(tmp_path / "a.png", "damaged or cannot be decoded|no PNG")


@pytest.mark.parametrize(
    "options",
    [{"alpha": "keep"}, {"bands": (0,)}, {"bands": ()}, {"full_scale": 0}, {"max_pixels": 0}, {"frame": -1}],
)
def test_options_that_make_no_sense(tmp_path, options):
    with pytest.raises(OptionValueError):
        read_image(saved(tmp_path, COLOUR, "a.png"), **options)


def png(width, height, bits, colour, rows, chunks=()):
    """A PNG put together by hand."""

    def chunk(kind, data):
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, bits, colour, 0, 0, 0))
    body = [chunk(*extra) for extra in chunks] + [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(body)


def tiff(array, order="<", planar=False, tile=None, compression=1, predictor=1, extra=None):
    """A TIFF of any number of bands put together by hand; `tile` is (width, height), strips have 10 rows."""
    height, width, samples = array.shape
    across, down = tile or (width, 10)
    blocks = []
    for bands in np.split(array, samples, axis=2) if planar else [array]:
        for top in range(0, height, down):
            for left in range(0, width, across):
                block = bands[top : top + down, left : left + across]
                if tile:
                    block = np.pad(block, ((0, down - block.shape[0]), (0, across - block.shape[1]), (0, 0)))
                blocks.append(packed(block, order, compression, predictor))
    entries = {
        256: width, 257: height, 258: [8 * array.dtype.itemsize] * samples, 259: compression, 262: 1, 277: samples,
        284: 2 if planar else 1, 317: predictor, 339: [3 if array.dtype.kind == "f" else 1] * samples, 338: [0] * (samples - 1),
    }  # fmt: skip
    starts = [8 + sum(map(len, blocks[:index])) for index in range(len(blocks))]
    sizes = list(map(len, blocks))
    entries |= {322: across, 323: down, 324: starts, 325: sizes} if tile else {273: starts, 278: down, 279: sizes}
    entries |= extra or {}
    body = b"".join(blocks)
    start = 8 + len(body)
    table, values = b"", b""
    behind = start + 2 + 12 * len(entries) + 4
    for tag, numbers in sorted(entries.items()):
        rows = numbers if isinstance(numbers, list) else [numbers]
        kind, sign = (4, "L") if tag in {256, 257, 273, 279, 324, 325} else (3, "H")
        data = struct.pack(f"{order}{len(rows)}{sign}", *rows)
        if len(data) > 4:
            table += struct.pack(f"{order}HHLL", tag, kind, len(rows), behind + len(values))
            values += data
        else:
            table += struct.pack(f"{order}HHL", tag, kind, len(rows)) + data.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HL", 42, start)
    return head + body + struct.pack(f"{order}H", len(entries)) + table + b"\0" * 4 + values


def packed(block, order, compression, predictor):
    if predictor == 2:
        block = np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1]))
    if predictor == 3:
        rows = block.astype(">f4").reshape(len(block), -1, 1).view(np.uint8)  # (h, numbers, 4)
        planes = rows.transpose(0, 2, 1).reshape(len(block), -1, block.shape[2])
        data = np.diff(planes, axis=1, prepend=np.zeros_like(planes[:, :1])).tobytes()
    else:
        data = block.astype(block.dtype.newbyteorder(order)).tobytes()
    return zlib.compress(data) if compression == 8 else data
