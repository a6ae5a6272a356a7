"""Written rasters: cloud-optimized, with colours, names, styles and provenance."""

import hashlib
from xml.etree import ElementTree

import numpy as np
import pytest

from ifn_plugin.inference import ChangeDetector
from ifn_plugin.tools.predict import main
from ifn_plugin.utils.configurations import find_config
from ifn_plugin.version import __version__

rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
pytest.importorskip('geopandas', reason='geopandas is not installed: pip install ifn_plugin[geo]')

from rasterio.enums import ColorInterp  # noqa: E402
from rasterio.transform import from_origin  # noqa: E402

from ifn_plugin.apis.rasters import describe_run, write_cog  # noqa: E402
from ifn_plugin.apis.rasters.provenance import strip_secrets  # noqa: E402

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
GRID = dict(driver='GTiff', dtype='uint8', crs='EPSG:32614', transform=from_origin(600000, 3400000, 0.5, 0.5))


def write(path, bands, **profile):
    with rasterio.open(path, 'w', count=len(bands), height=bands.shape[1], width=bands.shape[2],
                       **GRID | profile) as dataset:
        dataset.write(bands)
    return path


@pytest.fixture
def source(tmp_path):
    """A raster of values 0, 1 and 255 in tiles of an odd size."""
    values = np.random.default_rng(0).choice([0, 1, 255], (1, 1300, 1100)).astype(np.uint8)
    return write(tmp_path / 'source.tif', values, nodata=255, tiled=True, blockxsize=64, blockysize=64)


def test_a_map_has_colours_a_description_tags_and_overviews(source, tmp_path):
    write_cog(source, tmp_path / 'map.tif', 'map', dict(DATE1='a.tif', NOTE='Größe'))
    with rasterio.open(tmp_path / 'map.tif') as dataset, rasterio.open(source) as former:
        assert np.array_equal(dataset.read(), former.read()) and dataset.profile['nodata'] == 255
        assert dataset.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG' and dataset.overviews(1) == [2, 4]
        assert dataset.colorinterp == (ColorInterp.palette, )
        colours = dataset.colormap(1)
        assert len({colours[value] for value in (0, 1, 255)}) == 3 and colours[255][3] == 0
        assert dataset.descriptions == ('change (0 unchanged, 1 changed, 255 no data)', )
        assert dataset.tags()['DATE1'] == 'a.tif' and dataset.tags()['NOTE'] == 'Größe'


@pytest.mark.parametrize('kind, levels, expected', [
    ('map', [[1, 1], [1, 0]], 1), ('map', [[0, 0], [255, 0]], 0),
    ('probability', [[0, 100], [200, 100]], 100), ('probability', [[255, 100], [200, 255]], 150)])
def test_overviews_show_the_mode_or_the_average_of_what_has_data(tmp_path, kind, levels, expected):
    values = np.tile(np.array(levels, np.uint8), (300, 300))[None]
    write_cog(write(tmp_path / 'source.tif', values, nodata=255), tmp_path / 'out.tif', kind)
    with rasterio.open(tmp_path / 'out.tif', overview_level=0) as dataset:
        assert (dataset.read(1) == expected).all()


def test_probabilities_carry_their_scale(source, tmp_path):
    write_cog(source, tmp_path / 'probability.tif', 'probability')
    with rasterio.open(tmp_path / 'probability.tif') as dataset:
        assert dataset.scales == (pytest.approx(1 / 254), ) and dataset.descriptions == ('probability of change', )


@pytest.mark.parametrize('kind', ['map', 'probability'])
def test_an_independent_reader_finds_a_valid_cog(source, tmp_path, kind):
    rio_cogeo = pytest.importorskip('rio_cogeo', reason='rio-cogeo is not installed: pip install rio-cogeo')
    write_cog(source, tmp_path / 'out.tif', kind)
    assert rio_cogeo.cog_validate(tmp_path / 'out.tif', strict=True) == (True, [], [])


def test_a_mosaic_of_parts_becomes_one_file(tmp_path):
    values = np.random.default_rng(0).choice([0, 1], (1, 300, 600)).astype(np.uint8)
    for number in range(2):
        write(tmp_path / f'{number}.tif', values[..., 300 * number:][..., :300], nodata=255,
              transform=GRID['transform'] @ rasterio.Affine.translation(300 * number, 0))
    parts = ''.join(f'<SimpleSource><SourceFilename relativeToVRT="1">{number}.tif</SourceFilename><SourceBand>1'
                    '</SourceBand><SrcRect xOff="0" yOff="0" xSize="300" ySize="300"/>'
                    f'<DstRect xOff="{300 * number}" yOff="0" xSize="300" ySize="300"/></SimpleSource>'
                    for number in range(2))
    (tmp_path / 'all.vrt').write_text(
        '<VRTDataset rasterXSize="600" rasterYSize="300"><GeoTransform>600000, 0.5, 0, 3400000, 0, -0.5</GeoTransform>'
        f'<VRTRasterBand dataType="Byte" band="1"><NoDataValue>255</NoDataValue>{parts}</VRTRasterBand></VRTDataset>')
    write_cog(tmp_path / 'all.vrt', tmp_path / 'out' / 'map.tif', 'map')
    with rasterio.open(tmp_path / 'out' / 'map.tif') as dataset:
        assert np.array_equal(dataset.read(), values) and dataset.transform == GRID['transform']
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['map.qml', 'map.tif']


def test_a_damaged_source_leaves_the_former_file(source, tmp_path):
    content = bytearray(source.read_bytes())
    source.write_bytes(content[:len(content) // 2])
    (tmp_path / 'map.tif').write_text('former')
    with pytest.raises(OSError, match=r'map\.tif could not be written'):
        write_cog(source, tmp_path / 'map.tif', 'map')
    assert (tmp_path / 'map.tif').read_text() == 'former' and not list(tmp_path.glob('*unfinished*'))


@pytest.mark.parametrize('kind, renderer', [('map', 'paletted'), ('probability', 'singlebandpseudocolor')])
def test_a_style_for_qgis_lies_beside_each_raster(source, tmp_path, kind, renderer):
    write_cog(source, tmp_path / 'out.tif', kind)
    root = ElementTree.parse(tmp_path / 'out.qml').getroot()
    assert root.tag == 'qgis' and root.find('pipe/rasterrenderer').get('type') == renderer


def test_results_name_what_they_are_made_from(tmp_path, checkpoint):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 60, 50), np.uint8)
    paths = [str(write(tmp_path / name, image)) for name, image in zip(('a.tif', 'b.tif'), images)]
    main([str(CONFIG), str(checkpoint), *paths, str(tmp_path / 'out'), '--output', 'map', 'probability', '--device',
          'cpu', '--threshold', '0.25', '--no-accelerate'])
    for kind in ('map', 'probability'):
        with rasterio.open(tmp_path / 'out' / kind / 'a_b.tif') as dataset:
            tags = dataset.tags()
        assert [tags['DATE1'], tags['DATE2'], tags['CONFIGURATION'], tags['CHECKPOINT']] == [
            *paths, str(CONFIG), str(checkpoint)]
        assert tags['CHECKPOINT_SHA256'] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        assert tags['THRESHOLD'] == '0.25' and tags['PRECISION'] == 'float32'
        assert tags['TIFFTAG_SOFTWARE'] == f'ifn_plugin {__version__}' and len(tags['TIFFTAG_DATETIME']) == 19


def test_the_precision_is_that_of_the_computation(checkpoint):
    detector = ChangeDetector(CONFIG, checkpoint, device='cpu', acceleration=dict(dtype='bfloat16'))
    assert describe_run(detector, ('a.tif', 'b.tif'))['PRECISION'] == 'bfloat16'


@pytest.mark.parametrize('source, expected', [
    ('/data/what?.tif', '/data/what?.tif'),
    ('https://me:key@host/a.tif?sig=key', 'https://host/a.tif'),
    ('/vsicurl/https://host/a.tif?token=key', '/vsicurl/https://host/a.tif'),
    ('s3://bucket/a@b.tif', 's3://bucket/a@b.tif')])
def test_keys_in_urls_are_not_written(source, expected):
    assert strip_secrets(source) == expected
