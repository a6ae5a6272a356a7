"""Areas of interest: what is read, computed and written."""

import numpy as np
import pytest

from ifn_plugin.tools.predict import main
from ifn_plugin.utils.configurations import find_config

rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
geopandas = pytest.importorskip('geopandas', reason='geopandas is not installed: pip install ifn_plugin[geo]')

import shapely  # noqa: E402
from rasterio.transform import from_origin  # noqa: E402

from ifn_plugin.apis.rasters import AreaOfInterest, RasterPair, predict_raster  # noqa: E402

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
# 300 × 400 pixels of half a metre: 600000 to 600200 and 3399850 to 3400000
BOX = [600030, 3399900, 600060, 3399950]
INSIDE = np.zeros((300, 400), bool)
INSIDE[100:200, 60:120] = True


class Difference:
    threshold, batch_size = 0.5, 1

    def __init__(self):
        self.seen = []

    def probabilities(self, pairs, fill_up=False):
        self.seen.append(pairs)
        return np.abs(pairs[:, 1].astype(np.float32) - pairs[:, 0]).mean(axis=-1) / 255


@pytest.fixture
def paths(tmp_path):
    images = np.random.default_rng(0).integers(1, 256, (2, 3, 300, 400), np.uint8)
    names = [tmp_path / name for name in ('a.tif', 'b.tif')]
    for path, image in zip(names, images):
        with rasterio.open(path, 'w', driver='GTiff', count=3, height=300, width=400, dtype='uint8', crs='EPSG:32614',
                           transform=from_origin(600000, 3400000, 0.5, 0.5)) as dataset:
            dataset.write(image)
    return names


def predict(paths, tmp_path, interest, window=64):
    detector = Difference()
    with RasterPair(*paths) as pair:
        pair.interest = interest(pair)
        summary = predict_raster(detector, pair, tmp_path / 'map.tif', window=window)
    with rasterio.open(tmp_path / 'map.tif') as dataset:
        return dataset.read(1), summary, detector.seen


def test_only_windows_that_meet_the_box_are_computed(paths, tmp_path):
    everything, _, every = predict(paths, tmp_path, lambda pair: None)
    found, summary, seen = predict(paths, tmp_path, lambda pair: AreaOfInterest.box(BOX, pair))
    assert np.array_equal(found, np.where(INSIDE, everything, 255)) and summary.valid == INSIDE.sum()
    assert len(seen) == 4 * 3 < len(every)  # windows of 64 pixels begin every 48
    assert all((pairs > 0).all() for pairs in seen)  # their surroundings are seen


@pytest.mark.parametrize('crs', ['EPSG:32614', 'EPSG:4326', 'EPSG:3857', 'EPSG:32615'])
@pytest.mark.parametrize('suffix', ['gpkg', 'geojson', 'shp'])
def test_a_file_in_any_system_is_the_area(paths, tmp_path, crs, suffix):
    if suffix == 'geojson' and crs != 'EPSG:4326':
        pytest.skip('GeoJSON has one system')
    frame = geopandas.GeoDataFrame(dict(a=[1]), geometry=[shapely.box(*BOX).segmentize(1)], crs='EPSG:32614')
    frame.to_crs(crs).to_file(tmp_path / f'area.{suffix}')
    found, _, seen = predict(paths, tmp_path, lambda pair: AreaOfInterest.read(tmp_path / f'area.{suffix}', pair))
    assert ((found != 255) != INSIDE).sum() <= 2 and len(seen) == 12


def test_several_shapes_holes_and_missing_ones(paths, tmp_path):
    ring = shapely.difference(shapely.box(*BOX), shapely.box(600040, 3399910, 600050, 3399940))
    geopandas.GeoDataFrame(geometry=[ring, None, shapely.box(600190, 3399990, 600300, 3400100)],
                           crs='EPSG:32614').to_file(tmp_path / 'area.gpkg')
    found, _, _ = predict(paths, tmp_path, lambda pair: AreaOfInterest.read(tmp_path / 'area.gpkg', pair))
    expected = INSIDE.copy()
    expected[120:180, 80:100] = False
    expected[:20, 380:] = True
    assert np.array_equal(found != 255, expected)


@pytest.mark.parametrize('west', [-180, -100])
def test_an_area_of_half_the_world_is_one(paths, tmp_path, west):
    """Although the raster's system has no coordinates for most of it."""
    area = geopandas.GeoSeries([shapely.box(west, -90, 180, 90)], crs=4326)
    found, _, _ = predict(paths, tmp_path, lambda pair: AreaOfInterest(area, pair))
    assert (found != 255).all()


def test_what_does_not_fit_is_refused(paths, tmp_path):
    geopandas.GeoDataFrame(geometry=[shapely.box(10, 50, 11, 51)], crs=4326).to_file(tmp_path / 'far.gpkg')
    (tmp_path / 'area.txt').write_text('nothing')
    with RasterPair(*paths) as pair:
        with pytest.raises(ValueError, match=r'far\.gpkg .* does not meet the raster \(600000, 3399850, 600200'):
            AreaOfInterest.read(tmp_path / 'far.gpkg', pair)
        with pytest.raises(ValueError, match=r'The box \(1, 2, 3, 4 .* does not meet the raster'):
            AreaOfInterest.box([1, 2, 3, 4], pair)
        with pytest.raises(ValueError, match=r'The box 3 2 1 4 is empty\. Fix: give LEFT BOTTOM'):
            AreaOfInterest.box([3, 2, 1, 4], pair)
        for name in ('area.txt', 'none.gpkg'):
            with pytest.raises(ValueError, match=rf'{name} cannot be read as an area of interest'):
                AreaOfInterest.read(tmp_path / name, pair)
        pair.crs = None
        with pytest.raises(ValueError, match=r'far\.gpkg is in WGS 84, but the raster has no coordinate system'):
            AreaOfInterest.read(tmp_path / 'far.gpkg', pair)


def test_pairs_outside_may_be_of_another_type(paths, tmp_path, checkpoint):
    far = [tmp_path / name for name in ('c.tif', 'd.tif')]
    for path in far:
        with rasterio.open(path, 'w', driver='GTiff', count=3, height=64, width=64, dtype='uint16', crs='EPSG:32614',
                           transform=from_origin(700000, 3400000, 0.5, 0.5)) as dataset:
            dataset.write(np.ones((3, 64, 64), np.uint16))
    (tmp_path / 'pairs.csv').write_text('a.tif,b.tif\nc.tif,d.tif\n')
    arguments = [str(CONFIG), str(checkpoint), str(tmp_path / 'pairs.csv'), str(tmp_path / 'out'), '--device', 'cpu']
    with pytest.raises(SystemExit, match='differ in type of values'):
        main(arguments)
    main([*arguments, '--window', '64', '--bbox', *map(str, BOX)])
    assert [path.name for path in (tmp_path / 'out' / 'map').glob('*.tif')] == ['a_b.tif']


def test_the_command_with_an_area_and_simplified_polygons(paths, tmp_path, checkpoint):
    arguments = [str(CONFIG), str(checkpoint), *map(str, paths), str(tmp_path / 'out'), '--device', 'cpu']
    with pytest.raises(SystemExit, match=r'The box .* does not meet the raster'):
        main([*arguments, '--bbox', '1', '2', '3', '4'])
    with pytest.raises(SystemExit, match=r'--simplify would have no effect .* without --polygons'):
        main([*arguments, '--simplify'])
    main([*arguments, '--window', '64', '--bbox', *map(str, BOX), '--polygons', str(tmp_path / 'out' / 'a.fgb'),
          '--simplify', '--min-area', '5'])
    with rasterio.open(tmp_path / 'out' / 'map' / 'a_b.tif') as dataset:
        assert np.array_equal(dataset.read(1) != 255, INSIDE)
    frame = geopandas.read_file(tmp_path / 'out' / 'a.fgb')
    assert frame.is_valid.all() and (frame.area_m2 >= 5).all() and set(frame.date1) == {str(paths[0])}
    assert shapely.box(*BOX).covers(frame.union_all())
