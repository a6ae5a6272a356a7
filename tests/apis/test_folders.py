"""Folders, lists and tilings of rasters: coordinates stay, borders do not show, and several processes give the same."""

import os
import shutil
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from ifn_plugin.tools import train
from ifn_plugin.tools.predict import main
from ifn_plugin.utils.configurations import find_config

rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
pytest.importorskip('geopandas', reason='geopandas is not installed: pip install ifn_plugin[geo]')

import geopandas  # noqa: E402
from rasterio.shutil import copy  # noqa: E402
from rasterio.transform import from_origin  # noqa: E402

from ifn_plugin.apis.predict import Options, Prediction, predict_rasters  # noqa: E402
from ifn_plugin.apis.rasters import RasterPair, blended_blocks  # noqa: E402
from ifn_plugin.apis.rasters.blending import Grid  # noqa: E402
from ifn_plugin.apis.rasters.folders import list_rasters  # noqa: E402
from ifn_plugin.apis.rasters.mosaic import write_vrt  # noqa: E402
from ifn_plugin.apis.rasters.parts import joined_blocks, part_path, split_rows, store_part  # noqa: E402
from ifn_plugin.datasets import LoadPair  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
CRS = 'EPSG:32614'
SIDE, TILES = 64, 4  # of a tile, and in a row


class Difference:
    """A detector that sees one pixel at a time: the mean difference of the dates."""

    threshold, batch_size, compiled, dtype = 0.5, 2, False, 'float32'
    loader = LoadPair()
    config = ''

    def __init__(self, folder):
        self.checkpoint = str(folder / 'none.pth')
        Path(self.checkpoint).write_bytes(b'weights')
        self.cfg = {}
        self.passes = 0

    def probabilities(self, pairs, fill_up=False):
        self.passes += 1
        return np.abs(pairs[:, 1].astype(np.float32) - pairs[:, 0]).mean(axis=-1) / 255


class Config(dict):

    def to_dict(self):
        return dict(self)


@pytest.fixture
def detector(tmp_path):
    found = Difference(tmp_path)
    found.cfg = Config()
    return found


def write(path, image, left=0, top=0, **profile):
    """An (H, W, C) image as GeoTIFF, so many pixels right of and below the origin."""
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = dict(driver='GTiff', height=image.shape[0], width=image.shape[1], count=image.shape[2],
                    dtype=image.dtype, crs=CRS, transform=from_origin(600000 + left / 2, 3400000 - top / 2, 0.5, 0.5))
    with rasterio.open(path, 'w', **settings | profile) as dataset:
        dataset.write(image.transpose(2, 0, 1))
    return str(path)


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def cut(folder, image, rows, columns, **profile):
    """Cut an image into tiles."""
    for row, (top, bottom) in enumerate(pairwise(rows)):
        for column, (left, right) in enumerate(pairwise(columns)):
            write(folder / f'{row}' / f'tile{row}{column}.tif', image[top:bottom, left:right], left, top, **profile)
    return str(folder)


@pytest.fixture
def images():
    """Two dates; what changes are smooth blobs, one of them across all borders."""
    random = np.random.default_rng(0)
    first = random.integers(0, 60, (SIDE * TILES, SIDE * TILES, 3)).astype(np.uint8)
    second = first.copy()
    second[SIDE - 10:SIDE + 10, 20:SIDE * 2 + 30] = 250
    second[200:210, 200:210] = 250
    return first, second


@pytest.fixture
def dates(images, tmp_path):
    """Folders of tiles of both dates."""
    edges = range(0, SIDE * TILES + 1, SIDE)
    return [cut(tmp_path / date, image, edges, edges) for date, image in zip(('1999', '2020'), images)]


def test_a_folder_of_tiles_is_the_whole_mosaic(dates, images, detector, tmp_path):
    """One GeoTIFF each, one virtual raster and one file of polygons over all: a change across borders is one."""
    out = tmp_path / 'out'
    found = predict_rasters(detector, *dates, out, outputs=('map', 'probability', 'panel'), window=64,
                            polygons=out / 'changes.gpkg', min_area=10)
    expected = Difference(tmp_path).probabilities(np.stack(images)[None])[0]
    assert found.total == found.valid == SIDE**2 * TILES**2 and found.changed == (expected > 0.5).sum()
    with rasterio.open(out / 'map' / '1999_2020.vrt') as dataset:
        assert np.array_equal(dataset.read(1), expected > 0.5) and dataset.nodata == 255
        assert dataset.crs == CRS and dataset.transform == from_origin(600000, 3400000, 0.5, 0.5)
        assert dataset.colormap(1)[1][:3] == (215, 25, 28) and dataset.descriptions[0].startswith('change')
        assert dataset.tags()['DATE1'] == dates[0]
    with rasterio.open(out / 'map' / '2' / 'tile23.tif') as dataset:
        assert dataset.transform == from_origin(600000 + 3 * SIDE / 2, 3400000 - SIDE, 0.5, 0.5)
        assert dataset.tags()['DATE1'] == str(tmp_path / '1999' / '2' / 'tile23.tif')
    assert np.abs(read(out / 'probability' / '1999_2020.vrt') / 254 - expected).max() < 0.51 / 254
    areas = geopandas.read_file(out / 'changes.gpkg')
    assert sorted(areas.area_m2.round()) == pytest.approx([100 / 4, 20 * (SIDE * 2 + 10) / 4], abs=1)
    assert (out / 'panel' / '0' / 'tile00.png').is_file() and not list(out.glob('unfinished*'))
    out.rename(tmp_path / 'moved')
    assert np.array_equal(read(tmp_path / 'moved' / 'map' / '1999_2020.vrt'), expected > 0.5)


def test_tiles_with_names_as_long_as_the_disk_allows(images, detector, tmp_path):
    name = '变' * 82
    folders = [str(Path(write(tmp_path / date / f'{name}.tif', image[:64, :64])).parent)
               for date, image in zip(('1999', '2020'), images)]
    for dates in (folders, [f'{folder}/{name}.tif' for folder in folders]):
        predict_rasters(detector, *dates, tmp_path / 'out', window=64, outputs=('map', 'panel'), overwrite=True)
    assert len(list((tmp_path / 'out' / 'map').glob('*变*.tif'))) == 2


def test_options_mean_the_same_for_a_folder_as_for_a_pair(images, detector, tmp_path):
    """Bands, a scale for each date and a nodata value; tiles of another date that are shifted need --align."""
    deep = [np.concatenate([image[..., :1]] * 2 + [image], axis=2).astype(np.uint16) * factor
            for image, factor in zip(images, (1, 10))]
    deep[1][:, :30] = 7
    edges = range(0, SIDE * TILES + 1, SIDE)
    options = dict(bands=(3, 4, 5), scale=(0, 255), scale2=(0, 2550), nodata=7, window=64)
    folders = [cut(tmp_path / name, image, edges, edges) for name, image in zip('ab', deep)]
    whole = [write(tmp_path / f'{name}.tif', image) for name, image in zip('ab', deep)]
    found = predict_rasters(detector, *folders, tmp_path / 'tiles', **options)
    assert found == predict_rasters(detector, *whole, tmp_path / 'whole', **options) and found.valid < found.total
    tiled = read(tmp_path / 'tiles' / 'map' / 'a_b.vrt')
    assert np.array_equal(tiled, read(tmp_path / 'whole' / 'map' / 'a_b.tif')) and (tiled[:, :30] == 255).all()


def test_without_a_scale_all_tiles_get_the_same(images, detector, tmp_path):
    """Percentiles of each tile by itself would show its borders."""
    edges = range(0, SIDE * TILES + 1, SIDE)
    ramp = np.linspace(1, 3000, SIDE * TILES)[:, None, None]
    folders = [cut(tmp_path / name, (image + ramp).astype(np.uint16), edges, edges)
               for name, image in zip('ab', images)]
    plan = Prediction(*folders, tmp_path / 'out', detector.loader).plan
    assert plan.settings['scale'] == plan.settings['scale2'] and len(plan.settings['scale']) == 3
    assert plan.settings['scale'][0] == pytest.approx([90, 3000], abs=60)


def test_a_tile_of_another_type_is_named(images, detector, dates, tmp_path):
    write(tmp_path / '2020' / '2' / 'tile22.tif', images[1][:SIDE, :SIDE].astype(np.uint16), 2 * SIDE, 2 * SIDE)
    with pytest.raises(ValueError, match=r'type of values: \S+tile00\.tif has uint8 .*tile22\.tif has uint16'):
        Prediction(*dates, tmp_path / 'out', detector.loader)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
def test_tilings_that_differ_are_paired_by_place(images, detector, tmp_path, dtype):
    images = [image.astype(dtype) for image in images]
    edges = range(0, SIDE * TILES + 1, SIDE)
    first = cut(tmp_path / '1999', images[0], edges, edges)
    second = cut(tmp_path / '2020', images[1], [0, 100, 240], [0, 150, SIDE * TILES])
    with pytest.raises(FileNotFoundError, match=r'without a partner.*--pair-by place'):
        Prediction(first, second, tmp_path / 'out', detector.loader)
    options = dict(window=64, by_place=True, scale=(0, 255))
    found = predict_rasters(detector, first, second, tmp_path / 'out', **options)
    changed = Difference(tmp_path).probabilities(np.stack(images)[None])[0] > 0.5
    expected = np.where(np.arange(SIDE * TILES)[:, None] < 240, changed, 255)
    assert np.array_equal(read(tmp_path / 'out' / 'map' / '1999_2020.vrt'), expected)
    assert found.valid == 240 * SIDE * TILES
    # one raster and a folder
    whole = write(tmp_path / 'whole.tif', images[0])
    predict_rasters(detector, whole, second, tmp_path / 'one', **options)
    assert np.array_equal(read(tmp_path / 'one' / 'map' / 'whole.tif'), expected)
    # and one in an archive
    late = Path(write(tmp_path / 'late' / 'b.tif', images[1]))
    archive = shutil.make_archive(str(tmp_path / 'late'), 'zip', late.parent)
    late.unlink()
    predict_rasters(detector, first, f'zip://{archive}!b.tif', tmp_path / 'zip', **options)
    assert np.array_equal(read(tmp_path / 'zip' / 'map' / '1999_b.vrt'), changed)


def test_tiles_in_another_system_are_paired_by_place_only_aligned(images, detector, tmp_path):
    first = write(tmp_path / 'a.tif', images[0])
    write(tmp_path / 'b' / 'b.tif', images[1], crs='EPSG:32615', transform=from_origin(31000, 3420000, 0.5, 0.5))
    with pytest.raises(ValueError, match=r'differ in coordinate system.*--align'):
        Prediction(first, str(tmp_path / 'b'), tmp_path / 'out', detector.loader, Options(by_place=True))


def test_pairs_by_a_list(dates, images, detector, tmp_path):
    table = tmp_path / 'pairs.csv'
    table.write_text('date1,date2\n1999/0/tile00.tif,2020/0/tile00.tif\n1999/0/tile01.tif,2020/0/tile01.tif\n')
    predict_rasters(detector, table, None, tmp_path / 'out', window=64)
    expected = Difference(tmp_path).probabilities(np.stack(images)[None, :, :SIDE, :2 * SIDE])[0] > 0.5
    assert np.array_equal(read(tmp_path / 'out' / 'map' / 'pairs.vrt'), expected)


def test_tiles_outside_an_area_of_interest_are_left_out(dates, detector, tmp_path):
    """And the others computed as far as they lie in it."""
    bbox = (600000, 3400000 - 40, 600040, 3400000)
    predict_rasters(detector, *dates, tmp_path / 'out', window=64, bbox=bbox)
    assert len(list((tmp_path / 'out' / 'map').rglob('*.tif'))) == 4
    inside = read(tmp_path / 'out' / 'map' / '1999_2020.vrt') != 255
    assert inside[:80, :80].all() and inside.sum() == 80**2


def test_tiles_without_data_do_not_stop_the_others(images, detector, tmp_path):
    blank = images[0].copy()
    blank[:SIDE] = 0
    edges = range(0, SIDE * TILES + 1, SIDE)
    folders = [cut(tmp_path / name, image, edges, edges, nodata=0) for name, image in zip('ab', (blank + 1, images[1]))]
    cut(tmp_path / 'a', np.zeros_like(blank[:SIDE]), [0, SIDE], edges, nodata=0)
    predict_rasters(detector, *folders, tmp_path / 'out', window=64)
    found = read(tmp_path / 'out' / 'map' / 'a_b.vrt')
    assert (found[:SIDE] == 255).all() and (found[SIDE:] != 255).mean() > 0.9
    cut(tmp_path / 'a', np.zeros_like(blank), edges, edges, nodata=0)
    with pytest.raises(ValueError, match=r'a and \S+b have no pixel with data in both dates'):
        predict_rasters(detector, *folders, tmp_path / 'none', window=64)


def test_tiles_in_two_systems_have_no_virtual_raster(images, detector, dates, tmp_path):
    for date, image in zip(('1999', '2020'), images):
        write(tmp_path / date / 'far.tif', image[:SIDE, :SIDE], crs='EPSG:32615')
    predict_rasters(detector, *dates, tmp_path / 'out', window=64)
    assert not list((tmp_path / 'out').rglob('*.vrt')) and (tmp_path / 'out' / 'map' / 'far.tif').is_file()
    with pytest.raises(ValueError, match=r'no one file|one file of polygons: .*far\.tif .*differ in coordinate system'):
        predict_rasters(detector, *dates, tmp_path / 'other', window=64, polygons=tmp_path / 'a.gpkg')


def test_rasters_of_a_folder_are_found_by_what_they_are(images, tmp_path):
    """Whatever their names; files beside them, hidden ones, links in circles and texts are none."""
    folder = tmp_path / 'a'
    with rasterio.open(write(folder / 'sub' / 'one.tif', images[0])) as source:
        copy(source, folder / 'plain', driver='ENVI')
        copy(source, folder / '2020.bil', driver='EHdr')
        copy(source, folder / 'v1.5', driver='ENVI')
        copy(source, folder / 'e\u0301.tif')  # as some systems write é
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(folder / 'sub' / 'one.tif', 'r+') as dataset:
        dataset.build_overviews([2])
    (folder / 'notes.txt').write_text('none')
    (folder / '.hidden.tif').write_text('none')
    (folder / 'circle').symlink_to(folder)
    assert sorted(list_rasters(str(folder))) == ['2020', 'plain', 'sub/one', 'v1.5', '\u00e9']
    (folder / 'bad.tif').write_text('none')
    with pytest.raises(ValueError, match=r'bad\.tif cannot be opened'):
        list_rasters(str(folder))


def test_a_zarr_folder_is_a_raster(images, detector, tmp_path):
    with rasterio.Env() as environment:
        if 'Zarr' not in environment.drivers():
            pytest.skip('GDAL without Zarr')
    for name, image in zip('ab', images):
        with rasterio.open(write(tmp_path / f'{name}.tif', image)) as source:
            copy(source, tmp_path / f'{name}.zarr', driver='Zarr')
    predict_rasters(detector, tmp_path / 'a.zarr', tmp_path / 'b.zarr', tmp_path / 'out', window=64)
    assert read(tmp_path / 'out' / 'map' / 'a_b.tif').sum() > 100
    with pytest.raises(ValueError, match=r'one is a folder and one is not'):
        Prediction(str(tmp_path), str(tmp_path / 'b.zarr'), tmp_path / 'out', detector.loader)


@pytest.mark.parametrize('kind', ['nodata', 'none', 'alpha'])
def test_virtual_rasters_know_where_there_are_no_data(tmp_path, kind):
    image = np.full((20, 30, 4 if kind == 'alpha' else 3), 255, np.uint8)
    profile = dict(nodata=9) if kind == 'nodata' else {}
    if kind == 'alpha':
        profile = dict(photometric='RGB', alpha='YES')
    paths = [write(tmp_path / 'a.tif', image, **profile), write(tmp_path / 'b.tif', image, 40, 10, **profile)]
    write_vrt(paths, tmp_path / 'all.vrt')
    with RasterPair(tmp_path / 'all.vrt', tmp_path / 'all.vrt') as pair:
        valid = pair.read(None)[1]
    expected = np.zeros((30, 70), bool)
    expected[:20, :30] = expected[10:, 40:] = True
    assert np.array_equal(valid, expected)


@pytest.mark.parametrize('kind', ['nodata', 'mask', 'alpha', 'nodata and mask'])
def test_what_has_no_data_hides_no_other_tile(images, detector, tmp_path, kind):
    """Tiles that overlap, the later ones with a collar; neither on the maps nor on the page."""
    collar = np.zeros((128, 96), bool)
    collar[:, :48] = True

    def scene(path, image, left=0, hidden=np.zeros((128, 96), bool)):
        image = np.where(hidden[..., None], 0, np.maximum(image, 9)).astype(np.uint8)
        if kind == 'alpha':
            image = np.dstack([image, np.where(hidden, 0, 255).astype(np.uint8)])
        profile = dict(alpha=dict(photometric='RGB', alpha='YES'), mask={}).get(kind, dict(nodata=0))
        if 'and' in kind:
            image[hidden] = 7
        with rasterio.open(write(path, image, left, **profile), 'r+') as dataset:
            if 'mask' in kind:
                dataset.write_mask(~hidden)

    for date, image in zip(('1999', '2020'), images):
        scene(tmp_path / date / 'x.tif', image[:128, :96])
        scene(tmp_path / date / 'y.tif', image[:128, 32:128], 32, collar)
    whole = write(tmp_path / 'whole.tif', np.maximum(images[0][:128, :128], 9))
    found = predict_rasters(detector, whole, tmp_path / '2020', tmp_path / 'place', window=64, by_place=True)
    assert found.valid == 128**2 and found.changed > 100
    folders = [tmp_path / date for date in ('1999', '2020')]
    predict_rasters(detector, *folders, tmp_path / 'out', outputs=('map', 'page'), window=64)
    assert np.array_equal(*map(read, (tmp_path / 'out' / 'map' / '1999_2020.vrt',
                                      tmp_path / 'place' / 'map' / 'whole.tif')))
    with Image.open(tmp_path / 'out' / 'page' / 'tiles' / 'date2' / '0' / '0' / '0.webp') as picture:
        shown = np.asarray(picture.convert('RGB'))[:128, :128].astype(int)
    assert np.abs(shown - np.maximum(images[1][:128, :128], 9)).mean() < 12


@pytest.mark.parametrize('what, one, other', [
    ('nodata', dict(nodata=0), {}), ('nodata', dict(nodata=0), dict(nodata=255)),
    ('bands', {}, dict(dtype='uint16')), ('colours', dict(photometric='RGB'), dict(photometric='MINISBLACK')),
    ('scales', {}, {})])
def test_later_tiles_whose_values_mean_something_else_are_refused(images, detector, tmp_path, what, one, other):
    first = write(tmp_path / '1999.tif', images[0])
    for name, left, profile in (('x', 0, one), ('y', 128, other)):
        write(tmp_path / '2020' / f'{name}.tif', images[1][:, left:left + 128], left, **profile)
    if what == 'scales':
        with rasterio.open(tmp_path / '2020' / 'y.tif', 'r+') as dataset:
            dataset.offsets = (-1000, ) * 3
    with pytest.raises(ValueError, match=rf'x\.tif and \S+y\.tif differ in {what}: '):
        predict_rasters(detector, first, tmp_path / '2020', tmp_path / 'out', window=64, by_place=True)


def test_pairs_that_differ_in_bands_have_one_virtual_raster_nevertheless(images, detector, tmp_path):
    for date, image in zip(('1999', '2020'), images):
        write(tmp_path / date / 'x.tif', image[:, :128])
        opaque = np.full((*image.shape[:2], 1), 255, np.uint8)
        write(tmp_path / date / 'y.tif', np.dstack([image, opaque])[:, 128:], 128, photometric='RGB', alpha='YES')
    predict_rasters(detector, tmp_path / '1999', tmp_path / '2020', tmp_path / 'out', window=64,
                    polygons=tmp_path / 'out' / 'a.gpkg')
    expected = Difference(tmp_path).probabilities(np.stack(images)[None])[0] > 0.5
    assert np.array_equal(read(tmp_path / 'out' / 'map' / '1999_2020.vrt'), expected)
    assert len(geopandas.read_file(tmp_path / 'out' / 'a.gpkg')) == 2


@pytest.mark.parametrize('again, later, message', [
    ('2010', 0, r'2010\.tif is the later raster of one pair and the earlier of another'),
    ('2010', 150, r'2010\.tif is the later raster of one pair and the earlier of another'),
    ('1999', 0, r'1999\.tif and \S+1999\.tif show the same ground, so that one would hide')])
def test_a_time_series_has_one_map_for_each_pair(images, detector, tmp_path, again, later, message):
    """One virtual raster, or one file of polygons, would show the last pair alone."""
    for name, image, left in (('1999', images[0], 0), ('2010', images[1], later), ('2020', images[0], 40)):
        write(tmp_path / f'{name}.tif', image[:, left:], left)
    table = tmp_path / 'series.csv'
    table.write_text(f'1999.tif,2010.tif\n{again}.tif,2020.tif\n')
    found = predict_rasters(detector, table, None, tmp_path / 'out', window=64, align=True)
    maps = [read(tmp_path / 'out' / 'map' / f'{name}.tif') for name in ('1999_2010', f'{again}_2020')]
    assert (maps[0] == 1).any() and found.changed == sum((each == 1).sum() for each in maps)
    assert not list((tmp_path / 'out').rglob('*.vrt'))
    for options in (dict(polygons=tmp_path / 'a.gpkg'), dict(outputs='page')):
        with pytest.raises(ValueError, match=message):
            predict_rasters(detector, table, None, tmp_path / 'other', window=64, align=True, **options)


def test_results_may_lie_behind_a_link(images, detector, tmp_path):
    """And what lies beside its target is not taken for a tile."""
    first = write(tmp_path / 'home' / '1999.tif', images[0])
    for folder, image in (('home', images[1]), ('disk', images[0])):
        for name, left in (('x', 0), ('y', 128)):
            write(tmp_path / folder / '2020' / f'{name}.tif', image[:, left:left + 128], left)
    (tmp_path / 'disk' / 'results').mkdir()
    (tmp_path / 'home' / 'results').symlink_to(tmp_path / 'disk' / 'results')
    out = tmp_path / 'home' / 'results'
    assert predict_rasters(detector, first, tmp_path / 'home' / '2020', out, window=64, by_place=True).changed > 100


@pytest.mark.parametrize('crs, pixel', [('EPSG:4326', 1e-5), ('EPSG:27572', 2.), ('EPSG:3067', 0.5), (None, 1.)])
def test_virtual_rasters_keep_the_coordinate_system(tmp_path, crs, pixel):
    """Whatever the order of its axes."""
    image = np.random.default_rng(0).integers(0, 256, (20, 60, 3), np.uint8)
    grid = from_origin(10, 50, pixel, pixel)
    write(tmp_path / 'whole.tif', image, crs=crs, transform=grid)
    paths = [write(tmp_path / f'{left}.tif', image[:, left:left + 20], crs=crs,
                   transform=from_origin(10 + left * pixel, 50, pixel, pixel)) for left in (40, 0, 20)]
    write_vrt(paths, tmp_path / 'all.vrt')
    with rasterio.open(tmp_path / 'all.vrt') as dataset:
        assert dataset.crs == (None if crs is None else rasterio.crs.CRS.from_user_input(crs))
        assert dataset.transform.almost_equals(grid, 1e-9) and np.array_equal(dataset.read(), image.transpose(2, 0, 1))


@pytest.mark.parametrize('side, window', [(64, 64), (200, 64), (333, 128)])
def test_parts_are_joined_to_the_bit(tmp_path, detector, side, window):
    """In whatever order they are predicted, and wherever a run was broken off."""
    rng = np.random.default_rng(0)
    paths = [write(tmp_path / name, rng.integers(0, 256, (side, side + 50, 3), np.uint8))
             for name in ('a.tif', 'b.tif')]
    detector.batch_size = 1
    with RasterPair(*paths) as pair:
        grid = Grid(pair.height, pair.width, window, window // 4)
        rows = split_rows(grid, detector.batch_size)
        expected = list(blended_blocks(detector, pair, window, window // 4))
        for number in reversed(range(0, len(rows), 2)):
            store_part(detector, pair, grid, rows[number], part_path(tmp_path / 'parts', number))
        for _ in range(2):  # predicted in part, then read
            found = list(joined_blocks(detector, pair, grid, tmp_path / 'parts'))
            passes = detector.passes
            for (place, block, valid), (place2, block2, valid2) in zip(found, expected, strict=True):
                assert place == place2 and np.array_equal(block, block2) and np.array_equal(valid, valid2)
        assert detector.passes == passes and sum(map(len, rows)) == grid.rows.number


def test_results_stay_unless_they_may_be_overwritten(dates, detector, tmp_path):
    out = tmp_path / 'out'
    for folder in (dates, [f'{date}/0/tile00.tif' for date in dates]):
        predict_rasters(detector, *folder, out, window=64, polygons=out / 'a.gpkg', overwrite=True)
        for options in (dict(), dict(outputs=('probability', ), polygons=out / 'a.gpkg')):
            with pytest.raises(FileExistsError, match=r'results already: .*Fix: add --overwrite'):
                predict_rasters(detector, *folder, out, window=64, **options)
    assert (out / 'map' / '1999_2020_tile00.tif').is_file() or list((out / 'map').glob('*tile00*'))
    predict_rasters(detector, *dates, out, window=64, outputs=('probability', ), polygons=out / 'b.gpkg')


@pytest.mark.parametrize('by_place', [False, True])
def test_a_run_that_was_broken_off_goes_on(dates, detector, tmp_path, monkeypatch, by_place):
    """What is finished is not computed again; with other settings or files, nothing is mixed."""
    monkeypatch.chdir(tmp_path)  # where OUT appears must not count
    out, whole, options = Path('out'), Path('whole'), dict(window=64, by_place=by_place)
    predict_rasters(detector, *dates, whole, **options)
    passes, detector.passes = detector.passes, 0
    own = Difference.probabilities

    def broken(self, pairs, fill_up=False):
        if self.passes == 7:
            raise RuntimeError('power cut')
        return own(self, pairs, fill_up)

    monkeypatch.setattr(Difference, 'probabilities', broken)
    with pytest.raises(RuntimeError, match='power cut'):
        predict_rasters(detector, *dates, out, **options)
    monkeypatch.setattr(Difference, 'probabilities', own)
    for change in (dict(threshold=0.4), dict(batch_size=3)):
        former = {name: getattr(detector, name) for name in change}
        vars(detector).update(change)
        name, = change
        with pytest.raises(FileExistsError, match=rf'broken off, with other settings: {name} was {former[name]} and'):
            predict_rasters(detector, *dates, out, **options)
        vars(detector).update(former)
    # what is not computed yet may have been mended; of what is, every pair meets all rasters by place
    later, first = Path(dates[1], '3', 'tile33.tif'), Path(dates[0], '0', 'tile00.tif')
    former = later.stat().st_mtime_ns
    os.utime(later, ns=(former, former + 1))
    if by_place:
        with pytest.raises(FileExistsError, match='broken off, with other settings: files was'):
            predict_rasters(detector, *dates, out, **options)
        os.utime(later, ns=(former, former))
    else:
        os.utime(first, ns=(former, former + 1))
    predict_rasters(detector, *dates, out, **options)
    assert detector.passes == passes + (not by_place)
    for path in (whole / 'map').rglob('*.tif'):
        assert np.array_equal(read(path), read(out / 'map' / path.relative_to(whole / 'map')))


@pytest.mark.parametrize('by_place', [False, True])
@pytest.mark.parametrize('kind', ['vrt', 'nested', 'mask'])
def test_what_a_raster_consists_of_may_have_been_mended(images, detector, tmp_path, monkeypatch, kind, by_place):
    """The files that virtual rasters show, and masks beside rasters, between a run that was broken off and the next."""
    for date, image in zip(('1999', '2020'), images):
        (tmp_path / date).mkdir()
        for name, left in (('x', 0), ('y', 128)):
            source = write(tmp_path / 'sources' / date / f'{name}.tif', image[:, left:left + 128], left)
            if kind == 'mask':
                copy(source, tmp_path / date / f'{name}.tif')
            else:
                write_vrt([source], tmp_path / 'inner' / date / f'{name}.vrt')
                shown = tmp_path / 'inner' / date / f'{name}.vrt' if kind == 'nested' else source
                write_vrt([str(shown)], tmp_path / date / f'{name}.vrt')
    mended = tmp_path / 'sources' / '2020' / 'x.tif'
    if kind == 'mask':
        mended = tmp_path / '2020' / 'x.tif.msk'
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(tmp_path / '2020' / 'x.tif', 'r+') as dataset:
            dataset.write_mask(np.full((256, 128), 255, np.uint8))
    options = dict(window=64, by_place=by_place)
    folders = [tmp_path / date for date in ('1999', '2020')]
    predict_rasters(detector, *folders, tmp_path / 'whole', **options)
    own, passes, detector.passes = Difference.probabilities, detector.passes, 0

    def broken(self, pairs, fill_up=False):
        if self.passes == passes - 1:
            raise RuntimeError('power cut')
        return own(self, pairs, fill_up)

    monkeypatch.setattr(Difference, 'probabilities', broken)
    with pytest.raises(RuntimeError, match='power cut'):
        predict_rasters(detector, *folders, tmp_path / 'out', **options)
    monkeypatch.setattr(Difference, 'probabilities', own)
    detector.passes, former = 0, mended.stat().st_mtime_ns
    os.utime(mended, ns=(former, former + 1))
    if by_place:
        with pytest.raises(FileExistsError, match='broken off, with other settings: files was'):
            predict_rasters(detector, *folders, tmp_path / 'out', **options)
        return
    predict_rasters(detector, *folders, tmp_path / 'out', **options)
    assert detector.passes == passes


def test_a_damaged_geopackage_is_named(dates, detector, tmp_path):
    (tmp_path / 'a.gpkg').write_bytes(b'')
    with pytest.raises(ValueError, match=r'a\.gpkg exists, but is not a GeoPackage that can be read: '):
        predict_rasters(detector, *dates, tmp_path / 'out', window=64, polygons=tmp_path / 'a.gpkg')


def test_a_run_goes_on_only_with_its_own_file_of_polygons(dates, detector, tmp_path, monkeypatch):
    geopandas.GeoDataFrame(dict(owner=['me']), geometry=geopandas.points_from_xy([0], [0]), crs=CRS).to_file(
        tmp_path / 'mine.gpkg')

    def broken(self, pairs, fill_up=False):
        raise RuntimeError('power cut')

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match='power cut'):
        patch.setattr(Difference, 'probabilities', broken)
        (tmp_path / 'out' / 'unfinished-predict' / 'finished').mkdir(parents=True)
        predict_rasters(detector, *dates, tmp_path / 'out', window=64, polygons=tmp_path / 'first.gpkg')
    with pytest.raises(FileExistsError, match=r'other settings: polygons was \S+first\.gpkg and is \S+mine\.gpkg'):
        predict_rasters(detector, *dates, tmp_path / 'out', window=64, polygons=tmp_path / 'mine.gpkg')
    assert geopandas.read_file(tmp_path / 'mine.gpkg').owner.tolist() == ['me']


def launch(processes, arguments, environment=None):
    """Start the command in some processes, by torchrun."""
    environment = dict(os.environ, PYTHONPATH=str(REPOSITORY), OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore') | (
        environment or {})
    command = [sys.executable, '-m']
    if processes > 1:
        command += ['torch.distributed.run', '--standalone', '--nproc-per-node', str(processes), '-m']
        arguments = [*arguments, '--launcher', 'pytorch']
    return subprocess.Popen([*command, 'ifn_plugin.tools.predict', *map(str, arguments)], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process):
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 0, said
    return said


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['folder', 'raster'])
def test_processes_and_kills_change_nothing(dates, images, checkpoint, tmp_path, kind):
    """A network's maps by one process, by two, and by two that are killed once: equal files, but for their times."""
    if kind == 'raster':
        dates = [write(tmp_path / f'{name}.tif', image) for name, image in zip(('1999', '2020'), images)]
    else:
        dates = [str(Path(date) / '0') for date in dates]
    outs = [tmp_path / name for name in ('one', 'two', 'killed')]
    common = [CONFIG, checkpoint, *dates]
    options = ['--window', '64', '--device', 'cpu', '--no-accelerate', '--output', 'map', 'probability', 'page']

    def arguments(out):
        return [*common, out, *options, '--polygons', out / 'changes.fgb']

    finish(launch(1, arguments(outs[0])))
    said = finish(launch(2, arguments(outs[1])))
    assert said.count('with data changed') == 1
    process = launch(2, arguments(outs[2]))
    unfinished = outs[2] / 'unfinished-predict'
    while not any(path.name[0].isdigit() or 'finished' in path.parts for path in unfinished.rglob('*.*')):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    max(psutil.Process(process.pid).children(), key=lambda child: child.pid).kill()  # of which the others hear
    process.communicate()
    assert process.returncode and not (outs[2] / 'changes.fgb').exists()
    finish(launch(2, arguments(outs[2])))
    names = sorted(path.relative_to(outs[0]) for path in outs[0].rglob('*') if path.suffix in ('.tif', '.vrt'))
    assert len(names) == (2 * (TILES + 1) if kind == 'folder' else 2)
    for name in names:
        found = []
        for out in outs:
            with rasterio.open(out / name) as dataset:
                tags = {key: value for key, value in dataset.tags().items() if key != 'TIFFTAG_DATETIME'}
                found.append((dataset.read(1), tags, dataset.profile))
        for each in found[1:]:
            assert np.array_equal(each[0], found[0][0]) and each[1:] == found[0][1:]
    areas = [geopandas.read_file(out / 'changes.fgb') for out in outs]
    assert len(areas[0]) and all(area.geometry.equals(areas[0].geometry) for area in areas)
    tiles = [{path.relative_to(out): path.read_bytes() for path in out.rglob('*.webp')} for out in outs]
    assert tiles[0] and tiles[0] == tiles[1] == tiles[2]
    assert not [path for out in outs for path in out.rglob('unfinished*')]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='with a GPU, mmengine takes one for each process')
@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_other_launchers_share_the_work_as_torchrun_does(dates, checkpoint, tmp_path, launcher):
    """On CPUs; with the environment that srun or Open MPI gives to each of two processes."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        environment = dict(MASTER_PORT=str(free.getsockname()[1]))
    if launcher == 'slurm':
        scontrol = tmp_path / 'bin' / 'scontrol'
        scontrol.parent.mkdir()
        scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames node[1-2]" ] && echo 127.0.0.1 && echo 127.0.0.2\n')
        scontrol.chmod(0o755)
        environment |= dict(PATH=f'{scontrol.parent}:{os.environ["PATH"]}', SLURM_NODELIST='node[1-2]',
                            SLURM_NTASKS='2')
        names = 'SLURM_PROCID', 'SLURM_LOCALID'
    else:
        environment |= dict(MASTER_ADDR='127.0.0.1', OMPI_COMM_WORLD_SIZE='2')
        names = 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK'
    arguments = [CONFIG, checkpoint, *(Path(date) / '0' for date in dates), tmp_path / 'out', '--launcher', launcher,
                 '--window', '64', '--no-accelerate']
    processes = [launch(1, arguments, environment | dict.fromkeys(names, str(number))) for number in range(2)]
    said = [finish(process) for process in processes]
    assert f'{TILES} pairs, ' in said[0] and 'pairs' not in said[1]
    assert len(list((tmp_path / 'out' / 'map').glob('*.tif'))) == TILES


@pytest.mark.parametrize('launcher, starter', [('pytorch', 'torchrun'), ('slurm', 'srun'), ('mpi', 'mpirun')])
def test_a_launcher_that_did_not_start_the_process_is_named(monkeypatch, tmp_path, launcher, starter):
    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(name, raising=False)
    for command in (main, train.main):
        arguments = [str(tmp_path)] * 3 if command is main else []
        with pytest.raises(SystemExit, match=rf'--launcher {launcher}, but .*Fix: start the command by .*{starter}'):
            command([str(CONFIG), *arguments, *(['none.pth'] if command is main else []), '--launcher', launcher])


def test_processes_without_a_launcher_are_refused(monkeypatch, tmp_path):
    """They would all write the same files."""
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    with pytest.raises(SystemExit, match=r'several processes.* Fix: add --launcher pytorch'):
        main([str(CONFIG), 'none.pth', str(tmp_path), str(tmp_path), str(tmp_path / 'out')])


def test_the_command_on_folders(dates, checkpoint, tmp_path, capsys):
    folders = [str(Path(date) / '0') for date in dates]
    main([str(CONFIG), str(checkpoint), *folders, str(tmp_path / 'out'), '--device', 'cpu', '--window', '64'])
    said = capsys.readouterr().out
    assert f'{TILES} pairs, ' in said and 'with data changed' in said


def test_other_rasters_are_not_written_over_by_the_virtual_one(dates, images, detector, tmp_path):
    options = dict(window=64, by_place=True)
    vrt = tmp_path / 'out' / '2020.vrt'
    write_vrt(map(str, Path(dates[0]).rglob('*.tif')), vrt)
    before = vrt.read_bytes()
    with pytest.raises(FileExistsError, match=r'2020\.vrt exists, and is not the raster over .* Fix: name another'):
        predict_rasters(detector, *dates, tmp_path / 'out', **options)
    assert vrt.read_bytes() == before
    # a single raster needs none, even where it would lie
    predict_rasters(detector, dates[0], vrt, tmp_path / 'out', **options)
    assert vrt.read_bytes() == before
    predict_rasters(detector, *dates, tmp_path / 'out', overwrite=True, **options)
    assert vrt.read_bytes() != before
    predict_rasters(detector, *dates, tmp_path / 'out', overwrite=True, **options)


@pytest.mark.parametrize('outputs', ['map', ('map', ), (kind for kind in ['map'])], ids=['text', 'tuple', 'generator'])
def test_outputs_and_files_may_be_named_in_any_way(dates, detector, tmp_path, outputs):
    predict_rasters(detector, *dates, str(tmp_path / 'out'), window=64, outputs=outputs,
                    polygons=str(tmp_path / 'changes.gpkg'))
    assert (tmp_path / 'out' / 'map' / '1999_2020.vrt').is_file() and (tmp_path / 'changes.gpkg').is_file()


def test_outputs_that_do_not_exist_are_refused(dates, detector, tmp_path):
    with pytest.raises(ValueError, match=r"no 'maps'\. Did you mean map\? There are map, probability"):
        predict_rasters(detector, *dates, tmp_path / 'out', outputs=('maps', ))
