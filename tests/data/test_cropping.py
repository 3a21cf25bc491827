"""How pictures are cut: buckets cover, fill and never stretch."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from llmdiff.data import FolderData
from llmdiff.data.cropping import Cropping, buckets, cut
from llmdiff.errors import LLMDiffError


def cropping(side: int = 512, **settings: object) -> Cropping:
    return Cropping(FolderData.model_validate({"kind": "folder", "path": "."} | settings), side)


def test_the_buckets_of_a_thousand_pixels():
    """SDXL's own (Podell et al. 2023, appendix I), as far as twice as wide as high."""
    sizes = buckets(1024, 64, 2.0)
    for size in [(768, 1344), (832, 1216), (896, 1152), (1024, 1024), (1152, 896), (1344, 768)]:
        assert size in sizes


@settings(deadline=None)
@given(st.integers(1, 16), st.sampled_from([8, 16, 64]), st.floats(1, 4))
def test_buckets_are_as_large_as_their_area_allows(count, step, ratio):
    side = count * step
    sizes = buckets(side, step, ratio)
    assert (side, side) in sizes
    assert {(width, height) for height, width in sizes} == set(sizes)
    for height, width in sizes:
        assert height % step == width % step == 0
        assert height * width <= side * side < (max(height, width) + step) * min(height, width)
        assert max(height, width) / min(height, width) <= ratio


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000))
def test_a_picture_goes_where_least_of_it_is_cut_off(height, width):
    one = cropping(crop="buckets")
    frame = one.size_conditioning((height, width))
    wanted = math.log(height / width)
    assert abs(math.log(frame.target_size[0] / frame.target_size[1]) - wanted) == pytest.approx(
        min(abs(math.log(h / w) - wanted) for h, w in one.sizes)
    )
    scale = max(frame.target_size[0] / height, frame.target_size[1] / width)
    for corner, whole, part in zip(frame.crops_coords_top_left, (height, width), frame.target_size, strict=True):
        assert corner == pytest.approx((whole * scale - part) / 2, abs=0.51)
    assert min(frame.crops_coords_top_left) == 0


def test_squares_by_default_and_small_steps_for_small_pictures():
    assert cropping(64).sizes == [(64, 64)]
    assert cropping(64, resolution=32).sizes == [(32, 32)]
    assert (48, 80) in cropping(64, crop="buckets").sizes
    assert (448, 576) in cropping(512, crop="buckets").sizes
    assert (160, 248) in cropping(200, crop="buckets").sizes
    assert all(side % 32 == 0 for size in cropping(64, crop="buckets", bucket_step=32).sizes for side in size)


def test_a_resolution_that_no_bucket_has_is_told():
    with pytest.raises(LLMDiffError, match="500 is not a multiple of the bucket_step 64"):
        cropping(500, crop="buckets", bucket_step=64)


def test_a_cut_picture_is_its_middle():
    image = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8) * 6, (10, 1)))
    middle = cut(image, (10, 20))
    assert middle.shape == (10, 20)
    assert np.array_equal(middle, np.asarray(image)[:, 10:30])
