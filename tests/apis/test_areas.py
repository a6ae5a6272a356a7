"""Changed areas of rasters as polygons: traced in blocks, simplified, and written in any format."""

import gc
import resource
import sqlite3

import cv2
import numpy as np
import pytest

rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
geopandas = pytest.importorskip('geopandas', reason='geopandas is not installed: pip install ifn_plugin[geo]')

import pyogrio  # noqa: E402
import shapely  # noqa: E402
from rasterio.features import rasterize  # noqa: E402
from rasterio.transform import from_origin  # noqa: E402

from ifn_plugin.apis.rasters import write_polygons  # noqa: E402
from ifn_plugin.apis.rasters.areas import Area, find_areas  # noqa: E402

TAGS = dict(DATE1='/data/1999.tif', DATE2='/data/2020.tif', THRESHOLD='0.5')
FORMATS = ['.gpkg', '.geojson', '.fgb', '.shp', '.parquet']


@pytest.fixture
def rasters(tmp_path):
    """A function that writes a change map and random probabilities, and gives both paths and the probabilities."""

    def make(changed, crs='EPSG:32614', transform=from_origin(600000, 3400000, 0.5, 0.5)):
        steps = np.random.default_rng(1).integers(128, 255, changed.shape).astype(np.uint8)
        paths = [tmp_path / name for name in ('map.tif', 'probability.tif')]
        for path, values in zip(paths, (changed.astype(np.uint8), steps)):
            with rasterio.open(path, 'w', driver='GTiff', height=len(values), width=values.shape[1], count=1,
                               dtype='uint8', crs=crs, transform=transform, nodata=255, tiled=True) as dataset:
                dataset.write(values, 1)
                dataset.update_tags(**TAGS)
        return *paths, steps

    return make


def read(path):
    return geopandas.read_parquet(path) if path.suffix == '.parquet' else geopandas.read_file(path, layer=path.stem)


def blobs(height, width, seed=0):
    """Changed areas of many shapes and sizes, with holes."""
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return smooth > np.quantile(smooth, 0.7)


PATTERNS = dict(
    noise=np.random.default_rng(0).random((150, 170)) < 0.3,
    blobs=blobs(150, 170),
    everything=np.ones((100, 130), bool),
    nothing=np.zeros((100, 130), bool),
    diagonal=np.eye(140, dtype=bool),
    other_diagonal=np.eye(140, dtype=bool)[:, ::-1],
    chessboard=np.indices((70, 80)).sum(axis=0) % 2 == 0,
    spiral=cv2.polylines(np.zeros((150, 150), np.uint8), [np.array(
        [(75 + (5 + 2 * t) * np.cos(t), 75 + (5 + 2 * t) * np.sin(t)) for t in np.arange(0, 30, 0.05)], np.int32)],
        False, 1) > 0,
)


@pytest.mark.parametrize('pattern', PATTERNS)
@pytest.mark.parametrize('side', [32, 50, 1000])
def test_areas_are_the_connected_components_whatever_the_blocks(rasters, pattern, side):
    changed = PATTERNS[pattern]
    *paths, steps = rasters(changed)
    with rasterio.open(paths[0]) as changes, rasterio.open(paths[1]) as probabilities:
        areas = list(find_areas(changes, probabilities, side=side))
    number, labels = cv2.connectedComponents(changed.astype(np.uint8), connectivity=8)
    outlines = [area.outline() for area in areas]
    assert len(areas) == number - 1 and all(outline.is_valid for outline in outlines)
    for area, outline in zip(areas, outlines):
        inside = rasterize([outline], changed.shape) > 0
        label = labels[inside][0]
        assert np.array_equal(inside, labels == label) and outline.area == area.pixels == inside.sum()
        assert area.total == steps[inside].sum() and area.maximum == steps[inside].max()


def test_blocks_leave_no_points_on_outlines(rasters):
    *paths, _ = rasters(blobs(150, 170))
    with rasterio.open(paths[0]) as changes, rasterio.open(paths[1]) as probabilities:
        whole, cut = ([shapely.normalize(shapely.simplify(area.outline(), 0)) for area in find_areas(
            changes, probabilities, side=side)] for side in (1000, 40))
    assert sorted(outline.wkt for outline in whole) == sorted(outline.wkt for outline in cut)


@pytest.mark.parametrize('side', [40, 1000])
@pytest.mark.parametrize('tolerance', [1, 2, 5])
@pytest.mark.parametrize('pattern', ['blobs', 'noise'])
def test_simplified_areas_are_valid_and_apart(rasters, side, tolerance, pattern):
    *paths, _ = rasters(PATTERNS[pattern])
    with rasterio.open(paths[0]) as changes, rasterio.open(paths[1]) as probabilities:
        exact, simple = ([area.outline() for area in find_areas(changes, probabilities, value, side)]
                         for value in (0, tolerance))
    assert len(exact) == len(simple) and all(outline.is_valid for outline in simple)
    assert shapely.union_all(simple).area == pytest.approx(sum(outline.area for outline in simple))  # no overlap
    assert shapely.get_num_coordinates(simple).sum() < 0.8 * shapely.get_num_coordinates(exact).sum()


def test_areas_in_memory_do_not_grow_with_the_raster(rasters):
    most = []
    for height in (300, 1500):
        *paths, _ = rasters(np.random.default_rng(0).random((height, 200)) < 0.1)
        with rasterio.open(paths[0]) as changes, rasterio.open(paths[1]) as probabilities:
            alive = [sum(isinstance(thing, Area) for thing in gc.get_objects()) for number, _ in enumerate(
                find_areas(changes, probabilities, side=50)) if number % 500 == 0]
        most.append(max(alive))
    assert most[1] < 1.3 * most[0]


def test_a_staircase_becomes_a_straight_line(rasters):
    *paths, _ = rasters(np.tri(200, dtype=bool))
    with rasterio.open(paths[0]) as changes, rasterio.open(paths[1]) as probabilities:
        area, = find_areas(changes, probabilities, 1.)
    outline = area.outline()
    assert shapely.get_num_coordinates(outline) < 10 and outline.area == pytest.approx(200 * 201 / 2, rel=0.01)


@pytest.mark.parametrize('suffix', FORMATS)
def test_columns_of_every_format(rasters, tmp_path, suffix):
    if suffix == '.parquet':
        pytest.importorskip('pyarrow', reason='pyarrow is not installed: pip install pyarrow')
    changed = np.zeros((100, 120), bool)
    changed[10:30, 20:30] = changed[40:44, 50:55] = True
    *paths, steps = rasters(changed)
    out = tmp_path / f'changes{suffix}'
    for _ in range(2):  # the second time in place of the first
        assert write_polygons(*paths, out) == 2
        frame = read(out).sort_values('id', ignore_index=True)  # FlatGeobuf sorts by place
        assert frame.iloc[:, -1].name == 'geometry' and frame.id.tolist() == [1, 2]
        columns = ['id', 'area_m2', 'mean_probability', 'max_probability', 'date1', 'date2']
        assert [name[:10] for name in frame.columns[:6]] == [name[:10] for name in columns]
        frame.columns = [*columns, 'geometry']
        assert set(frame.date1) == {TAGS['DATE1']} and set(frame.date2) == {TAGS['DATE2']}
        for row, part in ((0, steps[10:30, 20:30]), (1, steps[40:44, 50:55])):
            assert frame.area_m2[row] == pytest.approx(part.size / 4, rel=1e-3)
            assert frame.mean_probability[row] == pytest.approx(part.mean() / 254)
            assert frame.max_probability[row] == pytest.approx(part.max() / 254)
        assert frame.crs == ('EPSG:4326' if suffix == '.geojson' else 'EPSG:32614')
        assert frame.to_crs('EPSG:32614').area.tolist() == pytest.approx([50, 5], rel=1e-3)
    assert not list(tmp_path.glob('*unfinished*'))


@pytest.mark.parametrize('suffix', FORMATS)
@pytest.mark.parametrize('number', [0, 7])
def test_blocks_of_polygons_are_one_layer(rasters, tmp_path, suffix, number, monkeypatch):
    if suffix == '.parquet':
        pytest.importorskip('pyarrow', reason='pyarrow is not installed: pip install pyarrow')
    monkeypatch.setattr('ifn_plugin.apis.rasters.polygons.BLOCK', 3)
    changed = np.zeros((100, 120), bool)
    changed[10, 0:5 * number:5] = True
    *paths, _ = rasters(changed)
    assert write_polygons(*paths, tmp_path / f'out{suffix}') == number
    frame = read(tmp_path / f'out{suffix}')
    assert sorted(frame.get('id', [])) == list(range(1, number + 1))  # GeoJSON without polygons has no columns


def test_smaller_areas_are_left_out_and_smaller_holes_closed(rasters, tmp_path):
    changed = np.zeros((100, 120), bool)
    changed[10:60, 10:60] = True
    changed[15:19, 15:20] = False  # 5 m²
    changed[30:50, 30:50] = False  # 100 m²
    changed[36:42, 36:42] = True  # 9 m², in the larger hole
    changed[80:82, 80:82] = True  # 1 m²
    *paths, _ = rasters(changed)
    sizes = dict.fromkeys((0, 6, 10, 200))
    for minimum in sizes:
        write_polygons(*paths, tmp_path / 'out.gpkg', minimum)
        frame = read(tmp_path / 'out.gpkg')
        sizes[minimum] = sorted(frame.to_crs('EPSG:32614').area.round(3), reverse=True)
        assert frame.id.tolist() == list(range(1, len(frame) + 1))
    assert sizes == {0: [520, 9, 1], 6: [525, 9], 10: [525], 200: [625]}


@pytest.mark.parametrize('minimum, size', [(28, 8), (29, 8 + 28.25)])
def test_a_hole_between_pixels_that_touch_at_corners_is_closed(rasters, tmp_path, minimum, size):
    rows, columns = np.indices((60, 60))
    paths = rasters(abs(rows - 30) + abs(columns - 30) == 8)[:2]  # 32 pixels around 113
    assert write_polygons(*paths, tmp_path / 'out.gpkg', 1) == 1
    assert read(tmp_path / 'out.gpkg').area.tolist() == [8]
    write_polygons(*paths, tmp_path / 'closed.gpkg', minimum)
    frame = read(tmp_path / 'closed.gpkg')
    assert frame.area.tolist() == ([size] if size > minimum else []) and frame.is_valid.all()


def test_an_area_that_only_a_corner_joins_to_a_closed_hole_is_covered(rasters, tmp_path):
    changed = np.zeros((60, 60), bool)
    changed[10:50, 10:50] = True
    changed[20:30, 20:30] = False
    changed[20, 20] = True  # a corner of the hole, and a part of the area around it by its edges
    changed[21, 21] = True  # by a corner only
    *paths, _ = rasters(changed)
    assert write_polygons(*paths, tmp_path / 'out.gpkg', 100) == 1
    frame = read(tmp_path / 'out.gpkg')
    assert frame.is_valid.all() and frame.area.tolist() == [400]


def test_a_geopackage_holds_a_style_and_the_provenance(rasters, tmp_path):
    *paths, _ = rasters(blobs(60, 70))
    out = tmp_path / 'changes.gpkg'
    for _ in range(2):
        write_polygons(*paths, out)
    file = sqlite3.connect(out)
    rows = file.execute('SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles').fetchall()
    file.close()
    assert len(rows) == 1 and rows[0][:3] == ('changes', pyogrio.read_info(out, layer='changes')['geometry_name'], 1)
    assert 'renderer-v2' in rows[0][3]
    assert pyogrio.read_info(out, layer='changes')['layer_metadata'].items() >= TAGS.items()
    assert pyogrio.read_info(out, layer='changes')['geometry_type'] == 'MultiPolygon'


def test_tags_may_be_those_of_a_mosaic(rasters, tmp_path):
    *paths, _ = rasters(blobs(60, 70))
    write_polygons(*paths, tmp_path / 'out.gpkg', tags=dict(DATE1='folder1', DATE2='folder2'))
    assert set(read(tmp_path / 'out.gpkg').date2) == {'folder2'}


def test_parquet_without_pyarrow_is_explained(rasters, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'pyarrow', None)
    with pytest.raises(ImportError, match=r'out\.parquet: GeoParquet needs pyarrow .* pip install pyarrow'):
        write_polygons(*rasters(blobs(60, 70))[:2], tmp_path / 'out.parquet')


def test_a_file_that_cannot_be_written_is_named_and_the_former_stays(rasters, tmp_path):
    *paths, _ = rasters(PATTERNS['noise'])
    out = tmp_path / 'changes.fgb'
    out.write_text('former')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))
        with pytest.raises(OSError, match=r'changes\.fgb could not be written'):
            write_polygons(*paths, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert out.read_text() == 'former' and not list(tmp_path.glob('*unfinished*'))


def test_nothing_of_a_former_shapefile_stays(rasters, tmp_path):
    """Its spatial index, as QGIS makes it, would hide the new polygons; its system would be taken for theirs."""
    changed = np.zeros((100, 100), bool)
    changed[::4, :40:4] = True
    out = tmp_path / 'changes.shp'
    write_polygons(*rasters(changed)[:2], out)
    pyogrio.write_dataframe(geopandas.read_file(out), out, layer_options=dict(SPATIAL_INDEX='YES'))
    write_polygons(*rasters(changed[:, ::-1], crs=None)[:2], out)
    found = geopandas.read_file(out)
    assert found.crs is None and len(geopandas.read_file(out, bbox=tuple(found.total_bounds))) == len(found) == 250
    with pytest.raises(ValueError, match=r'CHANGES\.SHP: name a file that ends in \.gpkg, .*\.shp'):
        write_polygons(*rasters(changed)[:2], tmp_path / 'CHANGES.SHP')
