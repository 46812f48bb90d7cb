"""Decoding and cropping on the host, against Pillow and closed forms."""

import io
import struct
import sys

import cv2
import numpy as np
import pytest
import simplejpeg
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from flatwide.data import DataError, images


def gradient(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    planes = [rows * 255 // height, columns * 255 // width, (rows + columns) * 255 // (height + width)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def as_file(image: np.ndarray, form: str, *, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, form, quality=95)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_is_decoded_as_pillow_does(mode):
    content = as_file(gradient(60, 90), "JPEG", mode=mode)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), int)
    decoded = images.decode(content, location="x.jpg")
    assert decoded.shape == (60, 90, 3)
    # The same library below both; from other colours than RGB, Pillow converts a second time.
    assert np.abs(decoded - expected).max() <= {"RGB": 0, "L": 0, "CMYK": 2}[mode]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_png_is_decoded_exactly(mode):
    content = as_file(gradient(20, 30), "PNG", mode=mode)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert_array_equal(images.decode(content, location="x.png"), expected)


def test_harmless_extra_bytes_are_let_pass():
    content = as_file(gradient(60, 90), "JPEG")
    start = content.index(b"\xff\xda")  # bytes before the scan that belong to no segment
    decoded = images.decode(content[:start] + b"\0\0" + content[start:], location="x.jpg")
    assert_array_equal(decoded, images.decode(content, location="x.jpg"))


@pytest.mark.parametrize(
    "content",
    [
        as_file(gradient(60, 90), "JPEG")[:-600],
        as_file(gradient(60, 90), "JPEG")[:30],
        as_file(gradient(60, 90), "PNG")[:-100],
        b"",
        b"<html>",
    ],
)
def test_a_broken_image_is_named(content):
    with pytest.raises(DataError, match=r"tree/a/7.JPEG: broken image \(.*\); expected a whole JPEG or PNG"):
        images.decode(content, location="tree/a/7.JPEG")


def test_small_images_keep_their_channels():
    image = gradient(8, 9)
    assert_array_equal(images.decode_small(as_file(image, "PNG"), is_color=True, location="x"), image)
    gray = image[..., 0]
    decoded = images.decode_small(as_file(gray, "PNG", mode="L"), is_color=False, location="x")
    assert_array_equal(decoded, gray[..., None])


@pytest.mark.parametrize("content", [b"", b"\x89PNG"])
def test_a_broken_small_image_is_named(content):
    with pytest.raises(DataError, match="row 3: broken image"):
        images.decode_small(content, is_color=False, location="row 3")


def test_evaluation_keeps_the_centre():
    # The centre of 256 x 300 is 224 x 224 itself, so nothing is interpolated.
    image = gradient(256, 300)
    assert_array_equal(images.evaluation_view(image), image[16:240, 38:262])


def test_resizing_is_centred():
    # Of a straight line, view[i] is its value at (i + 1/2) * scale - 1/2 of the box; half a pixel off would be 0.4.
    line = np.broadcast_to((np.arange(320) * 0.75)[None, :, None], (320, 320, 3)).astype(np.float32)
    view = images._resized(line, (8, 20, 280, 280))
    expected = (20 + (np.arange(224) + 0.5) * 280 / 224 - 0.5) * 0.75
    assert_allclose(view[100, 3:-3, 1], expected[3:-3], atol=0.04)  # OpenCV's cubic sways by 0.03


def test_random_parts_have_the_areas_and_ratios_asked_for():
    generator = np.random.default_rng(0)
    boxes = np.array([images._random_box(400, 500, generator) for _ in range(4000)])
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 400).all()
    assert (left + width <= 500).all()
    area, ratio = height * width / 200_000, width / height
    assert 0.079 < area.min() < 0.09
    assert 0.95 < area.max() <= 1.0
    assert 0.74 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.35
    # Uniform in its logarithm where all shapes fit: the median ratio of small parts is 1, standard error 0.007.
    assert abs(np.median(np.log(ratio[area < 0.4]))) < 0.03
    # Each place is as likely: the mean of top / (free rows) is 1/2, standard error 0.005.
    free = height < 380
    assert abs(np.mean(top[free] / (400 - height[free])) - 0.5) < 0.02


def test_a_shape_that_never_fits_falls_back_to_the_centre():
    assert images._random_box(2, 1000, np.random.default_rng(0)) == images._central_box(2, 1000)


def test_a_training_view_is_its_box_resized_and_flipped_half_the_time():
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    flips = 0
    for seed in range(40):
        view = images.training_view(image, np.random.default_rng(seed))
        top, left, height, width = images._random_box(300, 400, np.random.default_rng(seed))
        part = image[top : top + height, left : left + width]
        plain = cv2.resize(part, (224, 224), interpolation=cv2.INTER_CUBIC)
        is_flipped = not np.array_equal(view, plain)
        flips += is_flipped
        assert_array_equal(view, plain[:, ::-1] if is_flipped else plain)
    assert 10 < flips < 30  # 20 expected, standard deviation 3.2


@pytest.mark.parametrize("missing", ["cv2", "simplejpeg", "PIL"])
def test_a_missing_package_is_named(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    content = simplejpeg.encode_jpeg(gradient(8, 8))
    with pytest.raises(DataError, match=rf"{missing} is not installed; .*pip install 'flatwide\[images\]'"):
        images.decode(content, location="x.jpg")


def test_an_image_whose_header_says_more_than_memory_holds_is_refused():
    header = bytearray(as_file(gradient(8, 8), "JPEG"))
    at = header.index(b"\xff\xc0") + 5  # height and width, in the frame header
    header[at : at + 4] = struct.pack(">HH", 65500, 65500)
    with pytest.raises(DataError, match=r"here: broken image \(Image size \(4290250000 pixels\) exceeds limit"):
        images.decode(bytes(header), location="here")
