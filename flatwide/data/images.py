"""Encoded images to arrays, and the crops of ImageNet, on the host."""

import functools
import io
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from flatwide.data.files import DataError
from flatwide.data.splits import Streamed

SIZE = 224
CROP_PADDING = 32  # evaluation keeps the central 224 / (224 + 32) of the shorter side, as the authors' code does
AREA = (0.08, 1.0)  # of the image, and
RATIO = (3 / 4, 4 / 3)  # width over height: Szegedy et al. (2015), section 6
ATTEMPTS = 10

INSTALL = "reading images needs more packages: pip install 'flatwide[images]'"


class Encoded(NamedTuple):
    """The images of one split, not read yet.

    content: index -> the encoded image.
    location: index -> where it is, for messages.
    targets: [N] classes.
    digest: of what is known of the content without reading it.
    """

    content: Callable[[int], bytes]
    location: Callable[[int], str]
    targets: np.ndarray
    digest: str


def stream(encoded: Encoded, *, augment: bool, cache: bool, threads: int | None) -> Streamed:
    """Make a split that reads, decodes and crops images when they are needed.

    Args:
      augment: take random parts in training, else the centre.
      cache: keep the encoded images in memory once they are read.
      threads: how many are decoded at a time; None for as many as there are cores.
    """
    _decoders()  # missing packages show before the first epoch
    content = functools.cache(encoded.content) if cache else encoded.content

    def read(index: int, generator: np.random.Generator | None) -> np.ndarray:
        image = decode(content(index), location=encoded.location(index))
        return evaluation_view(image) if generator is None or not augment else training_view(image, generator)

    return Streamed(read, encoded.targets, threads=threads)


def decode(content: bytes, *, location: str) -> np.ndarray:
    """Decode a JPEG, PNG or other image.

    Args:
      content: the encoded image.
      location: where it is, for the message.
    Returns: uint8 [H, W, 3], red first. An orientation tag is not followed, as in the authors' code.
    Raises: DataError naming the location if it is no whole image.
    """
    simplejpeg, pillow = _decoders()
    if content[:2] == b"\xff\xd8":
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(content)
            if height * width <= 2 * pillow.MAX_IMAGE_PIXELS:  # Pillow refuses larger ones, which fill the memory
                return simplejpeg.decode_jpeg(content, "RGB")  # exact: its faster modes save 4 % and cost 1 of 255
        except ValueError:
            pass  # Pillow is more lenient with bytes that do no harm, and as strict with those that are missing.
    try:
        return np.asarray(pillow.open(io.BytesIO(content)).convert("RGB"))
    except Exception as error:  # a decoder fails in as many ways as a file can be broken
        raise _broken(location, str(error)) from error


def decode_small(content: bytes, *, is_color: bool, location: str) -> np.ndarray:
    """Decode an image of some hundred pixels, a third of the time that Pillow takes.

    Returns: uint8 [H, W, 3], red first, or [H, W, 1] if not `is_color`.
    Raises: DataError naming the location if it is no image.
    """
    _decoders()
    import cv2

    mode = cv2.IMREAD_COLOR if is_color else cv2.IMREAD_GRAYSCALE
    image = cv2.imdecode(np.frombuffer(content, np.uint8), mode) if content else None
    if image is None:
        raise _broken(location, "it cannot be decoded")
    return image[..., ::-1] if is_color else image[..., None]


def training_view(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Cut a random part of an image, bring it to 224 x 224, and mirror every other one.

    Where ten random shapes do not fit into the image, the part is evaluation's.

    Args:
      image: uint8 [H, W, 3].
    Returns: uint8 [224, 224, 3].
    """
    import cv2

    height, width = image.shape[:2]
    view = _resized(image, _random_box(height, width, generator))
    # Not view[:, ::-1]: what a batch is stacked from should be contiguous, which is eight times as fast.
    return cv2.flip(view, 1) if generator.random() < 0.5 else view


def evaluation_view(image: np.ndarray) -> np.ndarray:
    """Bring the central 87.5 % of the shorter side to 224 x 224.

    Args:
      image: uint8 [H, W, 3].
    Returns: uint8 [224, 224, 3].
    """
    height, width = image.shape[:2]
    return _resized(image, _central_box(height, width))


def _central_box(height: int, width: int) -> tuple[int, int, int, int]:
    side = max(1, int(SIZE / (SIZE + CROP_PADDING) * min(height, width)))
    return (height - side + 1) // 2, (width - side + 1) // 2, side, side


def _random_box(height: int, width: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw top, left, height and width: the area uniformly, the ratio uniformly in its logarithm."""
    for _ in range(ATTEMPTS):
        area = generator.uniform(*AREA) * height * width
        ratio = math.exp(generator.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        rows, columns = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < rows <= height and 0 < columns <= width:
            top, left = generator.integers((height - rows + 1, width - columns + 1))
            return int(top), int(left), rows, columns
    return _central_box(height, width)


def _resized(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    import cv2

    top, left, height, width = box
    return cv2.resize(image[top : top + height, left : left + width], (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def _broken(location: str, reason: str) -> DataError:
    return DataError(f"{location}: broken image ({reason}); expected a whole JPEG or PNG. Get it again.")


def _decoders():
    try:
        import cv2
        import simplejpeg
        from PIL import Image
    except ModuleNotFoundError as error:
        raise DataError(f"{error.name} is not installed; {INSTALL}.") from error
    cv2.setNumThreads(1)  # the images are what is parallel
    return simplejpeg, Image
