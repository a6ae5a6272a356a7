"""Rasters of any size: windows and their blending, what is written, and what is refused."""

import json
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from ifn_plugin.apis.pairs import name_pair
from ifn_plugin.inference import ChangeDetector
from ifn_plugin.tools.predict import main
from ifn_plugin.utils.configurations import find_config

rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
pytest.importorskip('geopandas', reason='geopandas is not installed: pip install ifn_plugin[geo]')

import geopandas  # noqa: E402
import pyogrio  # noqa: E402
from rasterio.control import GroundControlPoint  # noqa: E402
from rasterio.enums import ColorInterp  # noqa: E402
from rasterio.transform import from_origin  # noqa: E402

from ifn_plugin.apis.rasters import RasterPair, blended_blocks, predict_raster, write_polygons  # noqa: E402
from ifn_plugin.apis.rasters.blending import WindowAxis  # noqa: E402

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
GRID = dict(crs='EPSG:32614', transform=from_origin(600000, 3400000, 0.5, 0.5))
POINTS = [GroundControlPoint(row, col, 10 + col / 1000, 50 - row / 1000) for row, col in ((0, 0), (0, 99), (99, 0))]


class Difference:
    """A detector that sees one pixel at a time: the mean difference of the dates; it counts its passes."""

    threshold = 0.5
    batch_size = 3

    def __init__(self):
        self.shapes = []

    def probabilities(self, pairs, fill_up=False):
        self.shapes.append(pairs.shape)
        return np.abs(pairs[:, 1].astype(np.float32) - pairs[:, 0]).mean(axis=-1) / 255


class Smooth(Difference):
    """Its result depends on where a pixel lies in its window, as with a network, above all at the borders."""

    def probabilities(self, pairs, fill_up=False):
        height, width = pairs.shape[2:4]
        y, x = np.mgrid[:height, :width]
        border = np.minimum.reduce([y, x, height - 1 - y, width - 1 - x])
        return np.broadcast_to(0.5 + 0.1 * np.exp(-border / 20.), (len(pairs), height, width)).astype(np.float32)


def write(path, image, **profile):
    """An (H, W, C) image as GeoTIFF."""
    with rasterio.open(path, 'w', driver='GTiff', width=image.shape[1], height=image.shape[0], count=image.shape[2],
                       **GRID | dict(dtype=image.dtype) | profile) as dataset:
        dataset.write(image.transpose(2, 0, 1))
    return path


@pytest.fixture
def files(tmp_path):
    """A function that writes a pair of random rasters and gives paths and images."""

    def make(height=200, width=300, bands=3, seed=0, **profile):
        images = np.random.default_rng(seed).integers(0, 256, (2, height, width, bands), np.uint8)
        return [write(tmp_path / name, image, **profile) for name, image in zip(('a.tif', 'b.tif'), images)], images

    return make


@pytest.mark.parametrize('length', [1, 15, 63, 64, 65, 111, 112, 113, 160, 161, 1000])
@pytest.mark.parametrize('window, overlap', [(64, 16), (64, 0), (64, 31), (128, 32)])
def test_weights_of_windows_sum_to_one(length, window, overlap):
    axis = WindowAxis(length, window, overlap)
    total = np.zeros(length)
    for index in range(axis.number):
        total[axis.start(index):axis.stop(index)] += axis.weights(index)
        first = axis.read_from(index)
        assert 0 <= first <= axis.start(index) <= axis.stop(index) <= first + axis.window
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert axis.final(axis.number - 1) == length


@pytest.mark.parametrize('height, width', [(1, 1), (40, 300), (300, 40), (64, 64), (65, 63), (201, 333)])
@pytest.mark.parametrize('overlap', [0, 16, 30])
def test_blocks_cover_every_pixel_once(files, height, width, overlap):
    paths, images = files(height, width)
    result, count = np.zeros((height, width)), np.zeros((height, width))
    with RasterPair(*paths) as pair:
        for place, probability, valid in blended_blocks(Difference(), pair, 64, overlap):
            rows, columns = place.toslices()
            result[rows, columns] = probability
            count[rows, columns] += 1
            assert valid.all() and valid.shape == probability.shape
    assert (count == 1).all()
    np.testing.assert_allclose(result, Difference().probabilities(images[None])[0], atol=1e-6)


def test_no_seams_where_windows_disagree(files):
    paths, _ = files(256, 256)
    result = np.zeros((256, 256))
    with RasterPair(*paths) as pair:
        for place, probability, _ in blended_blocks(Smooth(), pair, 128, 32):
            result[place.toslices()] = probability
    steps = max(np.abs(np.diff(result, axis=0)).max(), np.abs(np.diff(result, axis=1)).max())
    unblended = 0.1 * (1 - np.exp(-1 / 20))  # the network's own slope at a border
    assert steps < 2 * unblended


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1), dataset.profile, dataset.overviews(1)


def test_what_is_written(files, tmp_path):
    paths, images = files(300, 520)
    with RasterPair(*paths) as pair:
        summary = predict_raster(Difference(), pair, f'{tmp_path}/out/map.tif', tmp_path / 'out' / 'p.tif', 128)
    expected = Difference().probabilities(images[None])[0]
    found, profile, overviews = read(tmp_path / 'out' / 'map.tif')
    assert np.array_equal(found, expected > 0.5) and summary.changed == (expected > 0.5).sum()
    assert profile['crs'] == GRID['crs'] and profile['transform'] == GRID['transform'] and profile['nodata'] == 255
    assert profile['tiled'] and profile['compress'] == 'deflate' and overviews == [2]
    steps, profile, _ = read(tmp_path / 'out' / 'p.tif')
    assert np.abs(steps / 254 - expected).max() < 0.51 / 254
    with rasterio.open(tmp_path / 'out' / 'p.tif') as dataset:
        assert dataset.scales == (pytest.approx(1 / 254), )
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['map.qml', 'map.tif', 'p.qml', 'p.tif']
    assert summary.valid == summary.total == 300 * 520


def test_pixels_without_data_in_either_date(tmp_path):
    first = np.full((100, 150, 3), 100, np.uint8)
    second = np.full((100, 150, 3), 250, np.uint8)
    first[:70, :80] = 0
    second[:, 140:] = 0
    paths = [write(tmp_path / name, image, nodata=0) for name, image in (('a.tif', first), ('b.tif', second))]
    detector = Difference()
    with RasterPair(*paths) as pair:
        summary = predict_raster(detector, pair, tmp_path / 'map.tif', tmp_path / 'p.tif', window=64)
    found = read(tmp_path / 'map.tif')[0]
    valid = np.ones((100, 150), bool)
    valid[:70, :80] = valid[:, 140:] = False
    assert np.array_equal(found == 255, ~valid) and summary.valid == valid.sum()
    assert np.array_equal(read(tmp_path / 'p.tif')[0] == 255, ~valid)
    # six windows, of which the first has no data at all
    assert [shape[0] for shape in detector.shapes] == [3, 2]


@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
def test_what_has_no_data_is_zero_in_both_dates(tmp_path, dtype):
    """Or else the channel attention would let it change the rest of the window."""
    images = np.random.default_rng(0).integers(1, 255, (2, 40, 50, 3), np.uint8)
    images[1, :, :10] = 255
    paths = [write(tmp_path / name, image, nodata=255) for name, image in zip(('a.tif', 'b.tif'), images)]
    with RasterPair(*paths, dtype=dtype) as pair:
        dates, valid = pair.read(None)
    assert not valid[:, :10].any() and (dates[:, :, :10] == 0).all()
    assert np.array_equal(dates[:, :, 10:], images[:, :, 10:])


@pytest.mark.parametrize('dtype', ['complex64', 'complex_int16'])
@pytest.mark.parametrize('scale', [None, (0, 100)])
def test_complex_values_are_refused(tmp_path, dtype, scale):
    path = write(tmp_path / 'a.tif', np.ones((40, 50, 3), np.complex64), dtype=dtype)
    with pytest.raises(ValueError, match=rf'a\.tif has complex values \({dtype}\)\. Fix: save their amplitude'):
        RasterPair(path, path, scale=scale)


def test_16_bits_and_chosen_bands(tmp_path):
    images = np.random.default_rng(0).integers(1000, 3000, (2, 60, 50, 5), np.uint16)
    paths = [write(tmp_path / name, image) for name, image in zip(('a.tif', 'b.tif'), images)]
    with RasterPair(*paths, bands=(4, 2, 1), scale=(1000, 3000)) as pair:
        dates, _ = pair.read(None)
    expected = np.clip(((images[..., [3, 1, 0]] - 1000.) * 255 / 2000).round(), 0, 255)
    assert np.array_equal(dates, expected)
    with RasterPair(*paths) as pair:
        dates, _ = pair.read(None)
    for channel in range(3):  # both dates by the same percentiles of both
        low, high = np.percentile(images[..., channel], (2, 98))
        scaled = np.clip((images[..., channel] - low) * 255 / (high - low), 0, 255)
        assert np.abs(dates[..., channel] - scaled).max() <= 0.51


SCENE = np.random.default_rng(0).integers(30, 220, (40, 50, 3))


@pytest.mark.parametrize('first, second, what', [
    (SCENE.astype(np.uint8), (SCENE * 10).astype(np.uint16), r'type of values: .*a\.tif has uint8 .*b\.tif has uint16'),
    (SCENE.astype(np.int16), SCENE.astype(np.uint16), r'type of values: .*a\.tif has int16 .*b\.tif has uint16'),
    ((SCENE / 255).astype(np.float32), (SCENE * 39.).astype(np.float32),
     r'range .*a\.tif has 0\.\d+ to 0.*b\.tif has \d{4}'),
    (SCENE.astype(np.uint16), (SCENE * 8).astype(np.uint16), 'range '),
    # radar: decibels and amplitudes
    ((20 * np.log10(SCENE / 255)).astype(np.float32), (SCENE / 255).astype(np.float32), 'range '),
])
def test_dates_of_different_types_or_ranges_need_a_scale(tmp_path, first, second, what):
    """And with one for each, both are alike."""
    paths = [write(tmp_path / name, image) for name, image in (('a.tif', first), ('b.tif', second))]
    for pair in (paths, paths[::-1]):
        with pytest.raises(ValueError, match=what if pair is paths else r'b\.tif .*a\.tif .*--scale LOW1 HIGH1 LOW2'):
            RasterPair(*pair)
    scales = [(float(image.min()), float(image.max())) for image in (first, second)]
    with RasterPair(*paths, scale=scales[0], scale2=scales[1], dtype='float32') as pair:
        dates = pair.read(None)[0]
    for date, image, (low, high) in zip(dates, (first, second), scales):
        np.testing.assert_allclose(date, (image.astype(float) - low) / (high - low) * 255, atol=1e-3)
    with RasterPair(*paths, scale=(0, 2000)) as pair:  # one for both, if somebody says so
        assert pair.read(None)[0].shape == (2, 40, 50, 3)


def test_dates_whose_files_scale_values_differently_need_a_scale(tmp_path):
    paths = [write(tmp_path / name, SCENE.astype(np.int16)) for name in ('a.tif', 'b.tif')]
    with rasterio.open(paths[1], 'r+') as dataset:
        dataset.scales, dataset.offsets = [1e-4] * 3, [-0.1] * 3
    with pytest.raises(ValueError, match=r'a\.tif has int16 \(factor 1, .*b\.tif has int16 \(factor 0\.0001, '):
        RasterPair(*paths)


@pytest.mark.parametrize('change', ['clouds', 'brighter', 'vegetation', 'half'])
def test_what_changes_in_a_scene_needs_no_scale(tmp_path, change):
    later = SCENE.copy()
    if change == 'clouds':
        later[:8] = 4000
    elif change == 'brighter':
        later = later * 2
    elif change == 'vegetation':
        later[..., 2] = later[..., 2] * 6 + 1000
    else:
        later[:18] = 1000
    paths = [write(tmp_path / name, image.astype(np.uint16)) for name, image in (('a.tif', SCENE), ('b.tif', later))]
    with RasterPair(*paths) as pair:
        assert pair.read(None)[1].all()


def test_a_scale_of_the_later_date_alone_is_refused(files):
    with pytest.raises(ValueError, match=r'scale2=\(0, 9\) without scale'):
        RasterPair(*files()[0], scale2=(0, 9))


def test_limits_are_those_of_finite_values(tmp_path):
    """Radar in decibels is -inf where nothing came back."""
    images = np.random.default_rng(0).normal(-12, 4, (2, 60, 50, 3)).astype(np.float32)
    finite = np.percentile(images[:, 10:], (2, 98), axis=(0, 1, 2)).T
    images[:, :10] = -np.inf
    paths = [write(tmp_path / name, image) for name, image in zip(('a.tif', 'b.tif'), images)]
    with RasterPair(*paths) as pair:
        dates, valid = pair.read(None)
    assert not valid[:10].any() and valid[10:].all()
    for channel, (low, high) in enumerate(finite):
        scaled = np.clip((images[:, 10:, :, channel] - low) * 255 / (high - low), 0, 255)
        assert np.abs(dates[:, 10:, :, channel] - scaled).max() <= 0.51


def test_a_band_of_one_value(tmp_path):
    images = np.full((2, 60, 50, 3), 1000, np.uint16)
    images[1, :5, :5] = 1500
    paths = [write(tmp_path / name, image) for name, image in zip(('a.tif', 'b.tif'), images)]
    with RasterPair(*paths, dtype='float32') as pair:
        assert np.isfinite(pair.read(None)[0]).all()


@pytest.mark.parametrize('crs', [GRID['crs'], None])
def test_align(tmp_path, crs):
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    a = write(tmp_path / 'a.tif', image, crs=crs)
    # the same ground, shifted by ten pixels each way and in rows turned upside down: another grid
    b = write(tmp_path / 'b.tif', image[10:70, 10:90], crs=crs, transform=from_origin(600005, 3399995, 0.5, 0.5))
    with pytest.raises(ValueError, match=r'differ in size.*a\.tif has \(80, 100\).*b\.tif has \(60, 80\).*--align'):
        RasterPair(a, b)
    with RasterPair(a, b, align=True) as pair:
        dates, valid = pair.read(None)
    inside = np.zeros((80, 100), bool)
    inside[10:70, 10:90] = True
    assert np.array_equal(valid, inside) and np.array_equal(dates[0][inside], dates[1][inside])


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
@pytest.mark.parametrize('profile, what', [
    (dict(crs=None), r'no coordinate system, so .*gdal_edit\.py -a_srs'),
    (dict(crs=None, transform=None), 'no coordinate system, so .*or leave out --align'),
    (dict(crs='EPSG:4326', transform=None, gcps=POINTS), 'only ground control points, so .*gdalwarp'),
])
def test_align_needs_coordinate_systems(files, tmp_path, profile, what):
    paths, images = files(100, 100)
    nowhere = write(tmp_path / 'nowhere.tif', images[1], **profile)
    for pair in ((paths[0], nowhere), (nowhere, paths[0])):
        with pytest.raises(ValueError, match=rf'^\S*nowhere\.tif has {what}'):
            RasterPair(*pair, align=True)


def test_no_way_between_two_coordinate_systems(files, tmp_path):
    paths, images = files(100, 100)
    site = write(tmp_path / 'site.tif', images[1], crs='LOCAL_CS["site", UNIT["metre", 1]]')
    with pytest.raises(ValueError, match=r'site\.tif \(LOCAL_CS.* cannot be aligned with \S+a\.tif \(EPSG.*-a_srs'):
        RasterPair(paths[0], site, align=True)


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
@pytest.mark.parametrize('profile', [
    dict(crs=None), dict(crs=None, transform=None), dict(crs='EPSG:4326', transform=None, gcps=POINTS)])
def test_what_lies_on_each_other_needs_no_alignment(files, profile):
    paths, images = files(100, 100, **profile)
    with RasterPair(*paths, align=True) as pair:
        dates, valid = pair.read(None)
    assert valid.all() and np.array_equal(dates, images)


def test_nothing_in_common_leaves_no_map(files, tmp_path):
    paths, images = files(100, 100)
    far = write(tmp_path / 'far.tif', images[1], transform=from_origin(700000, 3400000, 0.5, 0.5))
    out = tmp_path / 'out'
    with RasterPair(paths[0], far, align=True) as pair, pytest.raises(
            ValueError, match=r'a\.tif and \S+far\.tif have no pixel with data in both dates'):
        predict_raster(Difference(), pair, out / 'map.tif', out / 'p.tif', window=64)
    assert not list(out.iterdir())


@pytest.mark.parametrize('dtype', ['uint16', 'int16', 'uint32', 'int32', 'float32', 'float64'])
def test_what_an_aligned_raster_does_not_cover_has_no_data(tmp_path, dtype):
    image = np.random.default_rng(0).integers(1000, 2000, (80, 100, 3)).astype(dtype)
    a = write(tmp_path / 'a.tif', image)
    b = write(tmp_path / 'b.tif', image[10:70, 10:90], transform=from_origin(600005, 3399995, 0.5, 0.5))
    inside = np.zeros((80, 100), bool)
    inside[10:70, 10:90] = True
    for scale in (None, (1000, 2000)):
        with RasterPair(a, b, align=True, scale=scale) as pair:
            dates, valid = pair.read(None)
        assert np.array_equal(valid, inside) and np.array_equal(dates[0][inside], dates[1][inside])
        assert dates[0][inside].std() > 70  # stretched by values, not by what is not there


def test_align_a_raster_with_alpha(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 4), np.uint8)
    image[..., 3] = 255
    image[:10, :, 3] = 0
    a = write(tmp_path / 'a.tif', image[..., :3])
    b = write(tmp_path / 'b.tif', image)
    with rasterio.open(b, 'r+') as dataset:
        dataset.colorinterp = [ColorInterp[name] for name in ('red', 'green', 'blue', 'alpha')]
    with RasterPair(a, b, align=True) as pair:
        dates, valid = pair.read(None)
    assert np.array_equal(valid, image[..., 3] > 0) and np.array_equal(dates[0][valid], dates[1][valid])


@pytest.mark.parametrize('settings', [dict(align=True), dict(crop=True)])
def test_a_band_that_is_to_be_read_is_no_alpha(tmp_path, settings):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 4), np.uint8)
    image[:10, :, 3] = 0
    a = write(tmp_path / 'a.tif', image)
    with RasterPair(a, a, bands=[1, 2, 3, 4]) as pair:
        dates, valid = pair.read(None)
    assert valid.all() and np.array_equal(dates, [image] * 2)
    b = write(tmp_path / 'b.tif', image, transform=from_origin(600001, 3400000, 0.5, 0.5))
    with pytest.raises(ValueError, match=r'b\.tif says that its band 4 is alpha, but it is to be read as data'):
        RasterPair(a, b, bands=[1, 2, 3, 4], **settings)
    with rasterio.open(b, 'r+') as dataset:  # as the message says
        dataset.colorinterp = [ColorInterp[name] for name in ('red', 'green', 'blue', 'undefined')]
    with RasterPair(a, b, bands=[1, 2, 3, 4], **settings) as pair:
        assert pair.read(None)[1][:, 2:].all()


@pytest.mark.parametrize('alpha', [False, True])
def test_nodata_is_added_to_what_an_aligned_raster_declares(tmp_path, alpha):
    image = np.random.default_rng(0).integers(1, 255, (40, 50, 3), np.uint8)
    a = write(tmp_path / 'a.tif', image)
    image[:10] = 0
    profile = dict(photometric='RGB', alpha='YES') if alpha else dict(nodata=0)
    if alpha:
        image = np.dstack([image, np.where(np.arange(40) < 10, 0, 255)[:, None].repeat(50, 1).astype(np.uint8)])
    b = write(tmp_path / 'b.tif', image, transform=from_origin(600001, 3400000, 0.5, 0.5), **profile)
    with RasterPair(a, b, align=True, nodata=255) as pair:
        valid = pair.read(None)[1]
    expected = np.zeros((40, 50), bool)
    expected[10:, 2:] = True
    assert np.array_equal(valid, expected)


def test_no_data_in_the_bands_that_are_read(tmp_path):
    """Numbers that are none, and bands of their own, whatever other bands have."""
    image = np.random.default_rng(0).random((40, 50, 4)).astype(np.float32)
    plain = write(tmp_path / 'plain.tif', image)
    image[:10, :, :3] = -9999
    image[30:, :, 1] = np.nan
    gaps = write(tmp_path / 'gaps.tif', image, nodata=-9999)
    with RasterPair(plain, gaps, scale=(0, 1)) as pair:
        _, valid = pair.read(None)
    expected = np.zeros((40, 50), bool)
    expected[10:30] = True
    assert np.array_equal(valid, expected)


@pytest.mark.parametrize('dtype, value', [('uint8', 0), ('uint16', 65535), ('float32', -9999)])
@pytest.mark.parametrize('align', [False, True])
def test_collars_that_no_file_declares_are_named(tmp_path, dtype, value, align):
    """By ``nodata``; a pixel with this value in some bands only has data. Nor does a collar count for the stretch."""
    images = np.random.default_rng(0).integers(100, 200, (2, 60, 50, 3)).astype(dtype)
    inner = images[:, 10:50, 10:40].astype(np.float32)
    collar = np.ones((60, 50), bool)
    collar[10:50, 10:40] = False
    images[:, collar] = value
    images[:, 20, 20, 0] = value
    inner[:, 10, 10, 0] = value
    paths = [write(tmp_path / name, image) for name, image in zip(('a.tif', 'b.tif'), images)]
    if align:
        paths[1] = write(tmp_path / 'c.tif', images[1][5:], transform=from_origin(600000, 3399997.5, 0.5, 0.5))
    with RasterPair(*paths, align=align, nodata=value, dtype='float32') as pair:
        dates, valid = pair.read(None)
    assert np.array_equal(valid, ~collar) and (dates[:, collar] == 0).all()
    if dtype == 'uint8':
        np.testing.assert_allclose(dates[:, 10:50, 10:40], inner, atol=1)
    else:
        assert dates[:, 10:50, 10:40].std() > 50  # stretched by the data's own values


def test_other_coordinate_system(tmp_path):
    image = np.zeros((40, 40, 3), np.uint8)
    a = write(tmp_path / 'a.tif', image)
    b = write(tmp_path / 'b.tif', image, crs='EPSG:32615')
    with pytest.raises(ValueError, match=r'in coordinate system: .*a\.tif has EPSG:32614, .*b\.tif has EPSG:32615'):
        RasterPair(a, b)
    c = write(tmp_path / 'c.tif', image, transform=from_origin(600000.1, 3400000, 0.5, 0.5))
    with pytest.raises(ValueError, match=r'differ in grid: .*a\.tif has .*c\.tif has'):
        RasterPair(a, c)


def test_wrong_bands(files):
    with pytest.raises(ValueError, match=r'a\.tif has 3 bands, but bands \[1, 2, 7\]'):
        RasterPair(*files()[0], bands=(1, 2, 7))
    with pytest.raises(ValueError, match='once for all or for each of the 2 bands'):
        RasterPair(*files()[0], bands=(1, 2), scale=[(0, 1)] * 3)


def test_wrong_files(files, tmp_path):
    (tmp_path / 'bad.tif').write_bytes(b'II*\0 no raster')
    with pytest.raises(ValueError, match=r'bad\.tif cannot be opened as an image or raster: .*TIFF'):
        RasterPair(tmp_path / 'bad.tif', tmp_path / 'bad.tif')
    with pytest.raises(FileNotFoundError, match=r'none\.tif cannot be opened as an image or raster: No such file'):
        RasterPair(tmp_path / 'none.tif', tmp_path / 'none.tif')
    with RasterPair(*files()[0]) as pair, pytest.raises(ValueError, match=r'window=100 is invalid\. Fix: choose'):
        predict_raster(Difference(), pair, window=100)


def test_what_was_there_stays_until_the_new_one_is_finished(files, tmp_path):

    class Broken(Difference):

        def probabilities(self, pairs, fill_up=False):
            raise RuntimeError('out of memory')

    (tmp_path / 'map.tif').write_text('former')
    with RasterPair(*files()[0]) as pair, pytest.raises(RuntimeError, match='out of memory'):
        predict_raster(Broken(), pair, tmp_path / 'map.tif', window=64)
    assert (tmp_path / 'map.tif').read_text() == 'former' and not list(tmp_path.glob('*unfinished*'))


@pytest.mark.parametrize('room', [0.2, 0.8, 0.97])
def test_a_full_disk_is_said_and_the_former_stays(files, tmp_path, room):
    """GDAL writes the last blocks and the overviews without a word about those that find no room."""
    resource = pytest.importorskip('resource', reason='no limits on the size of files on this system')
    paths, _ = files(700, 900)
    target = tmp_path / 'p.tif'
    with RasterPair(*paths) as pair:
        predict_raster(Difference(), pair, None, target, window=256)
    former, limits = target.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(room * len(former)), limits[1]))
        with RasterPair(*paths) as pair, pytest.raises(OSError, match=r'p\.tif could not be written: .*disk full'):
            predict_raster(Difference(), pair, None, target, window=256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_bytes() == former and not list(tmp_path.glob('*unfinished*'))


def test_files_are_closed_once_they_have_been_read(files):
    """Where writing fails, a thread still reads ahead."""
    pair, begun, go_on, order = RasterPair(*files()[0]), threading.Event(), threading.Event(), []

    def read(dataset, bands):
        begun.set()
        go_on.wait(10)
        order.append(dataset.read(1, window=((0, 1), (0, 1))).shape)

    reader = threading.Thread(target=pair.read_each, args=(read,))
    reader.start()
    assert begun.wait(10)
    threading.Timer(0.2, go_on.set).start()
    pair.close()
    order.append('closed')
    reader.join(10)
    assert order == [(1, 1), (1, 1), 'closed']


def test_a_damaged_raster_is_named(files):
    paths, _ = files(300, 300, compress='deflate')
    content = bytearray(paths[1].read_bytes())
    content[len(content) // 2:len(content) // 2 + 5000] = bytes(5000)
    paths[1].write_bytes(content)
    with RasterPair(*paths) as pair, pytest.raises(ValueError, match=r'b\.tif cannot be read, it seems damaged'):
        pair.read(None)


def test_ground_control_points_are_kept(files, tmp_path):
    paths, _ = files(100, 100, transform=None, gcps=POINTS, crs='EPSG:4326')
    with RasterPair(*paths) as pair:
        predict_raster(Difference(), pair, tmp_path / 'map.tif', window=64)
    with rasterio.open(tmp_path / 'map.tif') as dataset:
        found, system = dataset.gcps
    assert [(point.row, point.x, point.y) for point in found] == [(point.row, point.x, point.y) for point in POINTS]
    assert system == 'EPSG:4326'
    other = write(tmp_path / 'c.tif', np.zeros((100, 100, 3), np.uint8), transform=None, gcps=POINTS[::-1],
                  crs='EPSG:4326')
    with pytest.raises(ValueError, match=r'differ in ground control points'):
        RasterPair(paths[0], other)


def test_what_belongs_to_a_former_map_goes_with_it(files, tmp_path):
    """Statistics, overviews and masks that other programs have put beside it."""
    paths, _ = files(100, 100)
    for _ in range(2):
        with RasterPair(*paths) as pair:
            predict_raster(Difference(), pair, tmp_path / 'out' / 'map.tif', window=64)
        assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['map.qml', 'map.tif']
        for kind in ('aux.xml', 'ovr', 'msk'):
            (tmp_path / 'out' / f'map.tif.{kind}').write_text('former')


def test_a_system_that_geotiff_cannot_hold_lies_beside(files, tmp_path):
    system = '+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39 +lon_0=18 +R=6371229'
    paths, _ = files(100, 100, crs=system)
    with RasterPair(*paths) as pair:
        predict_raster(Difference(), pair, tmp_path / 'out' / 'map.tif', window=64)
    with rasterio.open(tmp_path / 'out' / 'map.tif') as dataset, rasterio.open(paths[0]) as source:
        assert dataset.crs == source.crs is not None
    assert not list(tmp_path.rglob('*unfinished*'))


@pytest.mark.parametrize('crs, origin, pixel, tolerance', [
    ('EPSG:32614', (600000, 3400000), (0.5, 0.5), 1e-3),  # 0.9997 of the length on the ground, so far from its meridian
    ('EPSG:27572', (600000, 2200000), (0.5, 0.5), 1e-3),  # whose longitudes are in grads
    ('EPSG:2277', (3000000, 10000000), (0.5 / 0.3048006096012192, ) * 2, 1e-3),  # in US survey feet
    # a degree at the equator has 111 319.49 m along it and 110 574.28 m across
    ('EPSG:4326', (0, 0), (0.5 / 111_319.49, 0.5 / 110_574.28), 1e-4),
    ('EPSG:3857', (0, 8399737.89), (1, 1), 1e-2),  # at 60° north, where this projection doubles lengths
])
def test_polygons(tmp_path, crs, origin, pixel, tolerance):
    """Areas against a case made by hand: 20 × 10 and 4 × 5 + 1 pixels of half a metre."""
    transform = from_origin(*origin, *pixel)
    first = np.zeros((60, 80, 3), np.uint8)
    second = first.copy()
    second[10:30, 20:30] = 200
    second[40:44, 50:55] = 255
    second[44, 55] = 255  # touches at a corner: one area
    paths = [write(tmp_path / name, image, crs=crs, transform=transform)
             for name, image in (('a.tif', first), ('b.tif', second))]
    with RasterPair(*paths) as pair:
        predict_raster(Difference(), pair, tmp_path / 'map.tif', tmp_path / 'p.tif', window=64)
    files = tmp_path / 'map.tif', tmp_path / 'p.tif'
    assert write_polygons(*files, tmp_path / 'out.gpkg') == 2
    frame = geopandas.read_file(tmp_path / 'out.gpkg').sort_values('area_m2')
    assert frame.crs == crs
    assert frame.area_m2.tolist() == pytest.approx([21 / 4, 200 / 4], rel=tolerance)
    assert frame.mean_probability.tolist() == pytest.approx([1, 200 / 255], abs=1 / 254)
    west, _, _, north = frame.total_bounds
    assert (west, north) == pytest.approx((origin[0] + 20 * pixel[0], origin[1] - 10 * pixel[1]))
    assert pyogrio.list_layers(tmp_path / 'out.gpkg')[0][0] == 'out'
    assert write_polygons(*files, tmp_path / 'out.geojson', min_area=10) == 1
    content = json.loads((tmp_path / 'out.geojson').read_text())
    longitude, latitude = content['features'][0]['geometry']['coordinates'][0][0]
    assert -180 <= longitude <= 180 and -90 <= latitude <= 90
    with pytest.raises(ValueError, match=r'out\.kml: name a file that ends in \.gpkg, .* or \.parquet'):
        write_polygons(*files, tmp_path / 'out.kml')


def test_polygons_that_touch_at_corners_are_valid(tmp_path):
    """And their number and areas those of the pixels."""
    changed = np.random.default_rng(0).random((60, 80)) < 0.4
    first = np.zeros((60, 80, 3), np.uint8)
    second = first.copy()
    second[changed] = 255
    paths = [write(tmp_path / name, image) for name, image in (('a.tif', first), ('b.tif', second))]
    with RasterPair(*paths) as pair:
        predict_raster(Difference(), pair, tmp_path / 'map.tif', tmp_path / 'p.tif', window=64)
    number, _, statistics, _ = cv2.connectedComponentsWithStats(changed.astype(np.uint8), connectivity=8)
    pixels = sorted(statistics[1:, cv2.CC_STAT_AREA])
    for name in ('out.gpkg', 'out.geojson'):
        assert write_polygons(tmp_path / 'map.tif', tmp_path / 'p.tif', tmp_path / name) == number - 1
        frame = geopandas.read_file(tmp_path / name)
        assert frame.is_valid.all() and (frame.mean_probability == 1).all()
        assert sorted(frame.area_m2) == pytest.approx([count / 4 for count in pixels], rel=1e-3)
        assert sorted(frame.to_crs(GRID['crs']).area) == pytest.approx([count / 4 for count in pixels], rel=1e-3)


def test_polygons_in_a_sites_own_system(tmp_path):
    system = 'LOCAL_CS["site",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    first = np.zeros((60, 80, 3), np.uint8)
    second = first.copy()
    second[10:30, 20:30] = 200
    paths = [write(tmp_path / name, image, crs=system) for name, image in (('a.tif', first), ('b.tif', second))]
    with RasterPair(*paths) as pair:
        predict_raster(Difference(), pair, tmp_path / 'map.tif', tmp_path / 'p.tif', window=64)
    for name in ('out.gpkg', 'out.geojson'):
        assert write_polygons(tmp_path / 'map.tif', tmp_path / 'p.tif', tmp_path / name) == 1
        frame = geopandas.read_file(tmp_path / name)
        assert frame.area_m2.tolist() == pytest.approx([200 * abs(GRID['transform'].a * GRID['transform'].e)])


@pytest.mark.parametrize('name', ['blocks.gpkg', 'unfinished.gpkg', 'areas.geojson'])
def test_polygons_of_any_name(files, tmp_path, name):
    paths, _ = files(70, 70)
    with RasterPair(*paths) as pair:
        predict_raster(Difference(), pair, tmp_path / 'map.tif', tmp_path / 'p.tif', window=64)
    before = {path.name for path in tmp_path.iterdir()}
    number = write_polygons(tmp_path / 'map.tif', tmp_path / 'p.tif', tmp_path / name)
    assert number == len(geopandas.read_file(tmp_path / name, layer=Path(name).stem)) > 0
    assert {path.name for path in tmp_path.iterdir()} == before | {name}


def test_other_layers_of_a_geopackage_stay(files, tmp_path):
    paths, _ = files(70, 70)
    out = tmp_path / 'own.gpkg'
    points = geopandas.points_from_xy([0], [0])
    geopandas.GeoDataFrame(dict(a=[1]), geometry=points, crs=4326).to_file(out, layer='mine')
    with RasterPair(paths[0], paths[1]) as pair:
        predict_raster(Difference(), pair, tmp_path / 'map.tif', tmp_path / 'p.tif', window=64)
    for _ in range(2):  # the areas of before are written over
        number = write_polygons(tmp_path / 'map.tif', tmp_path / 'p.tif', out)
        assert number == len(geopandas.read_file(out, layer='own')) > 0
    assert geopandas.read_file(out, layer='mine').a.tolist() == [1]
    assert not list(tmp_path.glob('*unfinished*'))


def test_no_change_gives_a_file_without_polygons(files, tmp_path):
    paths, _ = files(70, 70)
    with RasterPair(paths[0], paths[0]) as pair:
        predict_raster(Difference(), pair, tmp_path / 'map.tif', tmp_path / 'p.tif', window=64)
    assert write_polygons(tmp_path / 'map.tif', tmp_path / 'p.tif', tmp_path / 'none.gpkg') == 0
    assert len(geopandas.read_file(tmp_path / 'none.gpkg')) == 0


def test_the_command(files, checkpoint, tmp_path, capsys):
    """A raster of one window is what the detector finds in the whole image."""
    paths, images = files(60, 50)
    out = tmp_path / 'out'
    main([str(CONFIG), str(checkpoint), *map(str, paths), str(out), '--output', 'map', 'panel', '--window', '64',
          '--device', 'cpu', '--no-accelerate', '--polygons', str(out / 'changes.gpkg')])
    expected = ChangeDetector(CONFIG, checkpoint, device='cpu').predict(*images)
    found, profile, _ = read(out / 'map' / 'a_b.tif')
    assert np.array_equal(found == 1, expected.changed) and profile['crs'] == GRID['crs']
    areas = geopandas.read_file(out / 'changes.gpkg')
    assert areas.area_m2.sum() == pytest.approx(expected.changed.sum() / 4, rel=1e-3)
    assert sorted(path.name for path in out.iterdir()) == ['changes.gpkg', 'map', 'panel']
    assert (out / 'panel' / 'a_b.png').is_file()
    said = capsys.readouterr().out
    assert f'{len(areas)} changed areas' in said and '100.00% have data' in said


def test_a_scale_for_each_date_by_the_command(files, checkpoint, tmp_path):
    """8 and 16 bits of a scene give what 8 bits give."""
    paths, images = files(60, 50)
    deep = write(tmp_path / 'deep.tif', images[1].astype(np.uint16) * 10)
    arguments = ['--output', 'probability', '--window', '64', '--device', 'cpu']
    main([str(CONFIG), str(checkpoint), *map(str, paths), str(tmp_path / 'out'), *arguments])
    with pytest.raises(SystemExit, match=r'differ in type of values: .*a\.tif has uint8 .*deep\.tif has uint16'):
        main([str(CONFIG), str(checkpoint), str(paths[0]), str(deep), str(tmp_path / 'out'), *arguments])
    main([str(CONFIG), str(checkpoint), str(paths[0]), str(deep), str(tmp_path / 'out'), *arguments,
          '--scale', '0', '255', '0', '2550'])
    found = [read(tmp_path / 'out' / 'probability' / name)[0] for name in ('a_b.tif', 'a_deep.tif')]
    assert np.array_equal(*found)


@pytest.mark.parametrize('arguments, message', [
    (['--scale', '1', '2', '3'], 'give two values, or two for each date'),
    (['--pair-by', 'place'], 'name both dates')])
def test_wrong_arguments(capsys, arguments, message):
    with pytest.raises(SystemExit):
        main(['config', 'checkpoint', 'a.tif', 'out', *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('window', ['0', '-64', '100'])
def test_windows_suit_the_network(files, tmp_path, window):
    with pytest.raises(SystemExit, match=rf'^window={window} is invalid. Fix: choose a multiple of 64 \(--window\)'):
        main([str(CONFIG), 'none.pth', *map(str, files()[0]), str(tmp_path / 'out'), '--window', window])
    assert not (tmp_path / 'out').exists()


def test_names_of_pairs_leave_room_for_suffixes(tmp_path):
    """Each may be as long as the disk allows; two of them together are cut, and stay different."""
    names = [tmp_path / f'{letter * 82}.tif' for letter in '变化改']
    pairs = [name_pair(str(names[0]), str(other)) for other in names[1:]]
    assert len({*pairs}) == 2 and all(len(name.encode()) <= 240 for name in pairs)
    assert name_pair('a.tif', 'b.tif') == 'a_b' and name_pair(str(names[0]), str(names[0])) == '变' * 82


def test_names_as_long_as_the_disk_allows(files, tmp_path):
    paths, _ = files(70, 70)
    name = 'x' * 240
    with RasterPair(*paths) as pair:
        predict_raster(Difference(), pair, tmp_path / f'm{name}.tif', tmp_path / f'p{name}.tif', window=64)
    assert write_polygons(tmp_path / f'm{name}.tif', tmp_path / f'p{name}.tif', tmp_path / f'{name}.gpkg')
    assert len(list(tmp_path.iterdir())) == 7


def test_the_command_without_rasterio(files, checkpoint, tmp_path, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, 'rasterio', None)
    for name in [name for name in sys.modules if name.startswith('ifn_plugin.apis.rasters')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr('ifn_plugin.apis.rasters')
    with pytest.raises(SystemExit, match=r'Rasters need rasterio.*pip install "ifn_plugin\[geo\]"'):
        main([str(CONFIG), str(checkpoint), *map(str, files()[0]), str(tmp_path / 'out')])
