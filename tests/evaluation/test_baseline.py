"""The classical baseline: the difference of the dates, thresholded by Otsu's method."""

import numpy as np
import pytest

from ifn_plugin.evaluation import difference_otsu


def test_otsu_separates_a_changed_square_from_the_rest():
    rng = np.random.default_rng(0)
    date1 = rng.integers(90, 110, (32, 40, 3)).astype(np.uint8)
    date2 = date1 + rng.integers(0, 6, date1.shape).astype(np.uint8)
    date2[4:12, 20:30] = (10, 200, 90)
    expected = np.zeros((32, 40), np.uint8)
    expected[4:12, 20:30] = 1
    change_map = difference_otsu(date1, date2)
    assert change_map.dtype == np.uint8
    np.testing.assert_array_equal(change_map, expected)
    np.testing.assert_array_equal(difference_otsu(date2, date1), expected)


def test_a_uniform_difference_is_no_change():
    image = np.random.default_rng(0).integers(200, size=(8, 9, 3)).astype(np.uint8)
    assert not difference_otsu(image, image).any() and not difference_otsu(image, image + 20).any()


@pytest.mark.parametrize('shapes', [((4, 4, 3), (4, 5, 3)), ((4, 4), (4, 4))])
def test_dates_of_different_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match=r'\(4, 4'):
        difference_otsu(*(np.zeros(shape, np.uint8) for shape in shapes))
