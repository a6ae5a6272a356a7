"""Where rasters come from, what of them are red, green and blue, and what passes as an image."""

import re
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest

from ifn_plugin.apis.pairs import name_source
from ifn_plugin.apis.sources import are_rasters, find_sources
from ifn_plugin.tools import predict
from ifn_plugin.utils.configurations import find_config

rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
pytest.importorskip('geopandas', reason='geopandas is not installed: pip install ifn_plugin[geo]')

from rasterio.enums import ColorInterp  # noqa: E402
from rasterio.shutil import copy  # noqa: E402
from rasterio.transform import from_origin  # noqa: E402

from ifn_plugin.apis.rasters import RasterPair, open_raster, pair  # noqa: E402

pytestmark = pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
GRID = dict(crs='EPSG:32614', transform=from_origin(600000, 3400000, 0.5, 0.5))
FORMATS = {
    'a.dat': dict(driver='ENVI'),
    'a': dict(driver='ENVI'),
    'a.bil': dict(driver='EHdr'),
    'a.img': dict(driver='HFA'),
    'a.gpkg': dict(driver='GPKG', tile_format='PNG'),
    'a.jp2': dict(driver='JP2OpenJPEG', reversible='YES', quality=100),
    'a.vrt': dict(driver='VRT'),
    'a.nc': dict(driver='netCDF'),
}


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)


def write(path, image, colours=None, **profile):
    """An (H, W, C) image as raster; GeoTIFF if nothing else is said."""
    settings = dict(driver='GTiff', width=image.shape[1], height=image.shape[0], count=image.shape[2],
                    dtype=image.dtype, photometric='MINISBLACK')
    with rasterio.open(path, 'w', **settings | GRID | profile) as dataset:
        dataset.write(image.transpose(2, 0, 1))
        if colours:
            dataset.colorinterp = [ColorInterp[colour] for colour in colours]
    return str(path)


def read(*names, **settings):
    with RasterPair(*names, **settings) as rasters:
        return rasters.read(None)[0]


@pytest.mark.parametrize('name', FORMATS)
def test_rasters_of_any_format(image, tmp_path, name):
    settings = dict(FORMATS[name])
    with rasterio.Env() as environment:
        if settings['driver'] not in environment.drivers():
            pytest.skip(f'GDAL without {settings["driver"]}')
    path = tmp_path / name
    expected = image[..., [0] * 3] if name == 'a.nc' else image
    if name == 'a.gpkg':  # tiles, which are written in another way
        write(path, image, **settings, photometric=None)
    else:
        with rasterio.open(write(tmp_path / 'source.tif', image[..., :1] if name == 'a.nc' else image)) as source:
            copy(source, path, **settings)
    assert are_rasters(str(path), str(path))
    assert np.array_equal(read(path, path), [expected] * 2)


def test_one_of_the_rasters_of_a_file(image, tmp_path):
    with rasterio.Env() as environment:
        if 'netCDF' not in environment.drivers():
            pytest.skip('GDAL without netCDF')
    with rasterio.open(write(tmp_path / 'source.tif', image)) as source:
        copy(source, tmp_path / 'a.nc', driver='netCDF')
    with pytest.raises(ValueError, match=r'a\.nc holds 3 rasters\. .*such as netcdf:\S+a\.nc:Band1'):
        are_rasters(str(tmp_path / 'a.nc'), str(tmp_path / 'a.nc'))
    name = f'netcdf:{tmp_path}/a.nc:Band2'
    assert np.array_equal(read(name, name), [image[..., [1] * 3]] * 2)


@pytest.fixture
def sources(image, tmp_path, monkeypatch):
    """A function that gives the name of one raster by its kind."""
    path = write(tmp_path / 'a.tif', image)
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.write(path, 'inner/a.tif')
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    # in another process: GDAL waits for it without letting go of the interpreter
    command = [sys.executable, '-u', '-m', 'http.server', '0', '--bind', '127.0.0.1', '--directory', tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        url = re.search(r'http://[\d.:]+', server.stdout.readline())[0]
        yield {
            'http': f'{url}/a.tif',
            'vsicurl': f'/vsicurl/{url}/a.tif',
            'vsizip': f'/vsizip/{tmp_path}/a.zip/inner/a.tif',
            'zip': f'zip://{tmp_path}/a.zip!inner/a.tif',
            'zip by http': f'/vsizip//vsicurl/{url}/a.zip/inner/a.tif',
        }
        server.terminate()


@pytest.mark.parametrize('kind', ['http', 'vsicurl', 'vsizip', 'zip', 'zip by http'])
def test_rasters_that_are_no_plain_files(sources, image, kind):
    assert are_rasters(sources[kind], sources[kind])
    assert np.array_equal(read(sources[kind], sources[kind]), [image] * 2)
    assert name_source(sources[kind]) == 'a'


@pytest.mark.parametrize('kind, other', [('http', 'none.tif'), ('vsizip', 'none.tif'), ('zip', 'none.tif')])
def test_errors_have_the_whole_name_before_the_network_is_built(sources, tmp_path, monkeypatch, kind, other):
    monkeypatch.delattr(predict, 'build_detector')
    missing = sources[kind].replace('a.tif', other)
    for dates in ((missing, sources[kind]), (sources[kind], missing)):
        with pytest.raises(SystemExit) as error:
            predict.main([str(CONFIG), 'none.pth', *dates, str(tmp_path / 'out')])
        assert str(error.value).startswith(f'{missing} cannot be opened as an image or raster: ')
    assert not (tmp_path / 'out').exists()


def test_an_url_that_cannot_be_reached(monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with pytest.raises(FileNotFoundError, match=r'^http://127\.0\.0\.1:1/a\.tif cannot be opened .*[Cc]onnect'):
        open_raster('http://127.0.0.1:1/a.tif')


@pytest.mark.parametrize('source, name', [
    ('a/1999.tif', '1999'), ('a/2000TM', '2000TM'), ('https://host/b/2020.tif?token=a.b/c', '2020'),
    ('zip://a.zip!b/2020.tif', '2020'), ('s3://bucket/b/2020.1.tif', '2020.1'),
    ('netcdf:a/2020.nc:red', '2020_red'), ('HDF5:"a/2020.h5"://group/red', 'red')])
def test_names_of_results(source, name):
    assert name_source(source) == name


@pytest.mark.parametrize('colours, bands', [
    (['blue', 'green', 'red', 'nir'], [2, 1, 0]),
    (['nir', 'red', 'green', 'blue'], [1, 2, 3]),
    (['undefined', 'blue', 'undefined', 'green', 'red'], [4, 3, 1]),
    (['undefined'] * 5, [0, 1, 2]),
    (['gray', 'undefined', 'undefined', 'undefined'], [0, 1, 2]),
])
def test_colours_are_what_the_file_says(tmp_path, monkeypatch, colours, bands):
    said = []
    monkeypatch.setattr(pair, 'print_log', lambda message, *_: said.append(message))
    image = np.random.default_rng(0).integers(0, 256, (64, 80, len(colours)), np.uint8)
    first = write(tmp_path / 'a.tif', image, colours)
    second = write(tmp_path / 'b.tif', image[..., bands], ['red', 'green', 'blue'])
    assert np.array_equal(read(first, second), [image[..., bands]] * 2)
    line, = said  # of the second, there is nothing to choose
    numbers = ' '.join(str(band + 1) for band in bands)
    assert line.startswith(f'{first}: red, green and blue are bands {numbers} of {len(colours)}')
    assert np.array_equal(read(first, first, bands=(2, 1, 3)), [image[..., [1, 0, 2]]] * 2)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
@pytest.mark.parametrize('colours', ['argb', 'rgbna', 'axyz'])
def test_alpha_is_no_colour_but_where_there_are_data(tmp_path, colours, dtype):
    """Nor do values under it count for the stretch."""
    names = dict(a='alpha', r='red', g='green', b='blue', n='nir')
    image = np.random.default_rng(0).integers(100, 256, (64, 80, len(colours))).astype(dtype)
    alpha = colours.index('a')
    image[:20] = 0
    image[20:, :, alpha] = 255
    path = write(tmp_path / 'a.tif', image, [names.get(letter, 'undefined') for letter in colours])
    with RasterPair(path, path, dtype='float32') as rasters:
        dates, valid = rasters.read(None)
    first = 1 if alpha == 0 else 0
    expected = image[20:, :, first:first + 3].astype(np.float32)
    if dtype == 'uint16':
        low, high = np.percentile(expected, (2, 98), axis=(0, 1))
        expected = np.clip((expected - low) * 255 / (high - low), 0, 255)
    assert np.array_equal(valid, image[..., alpha] > 0)
    np.testing.assert_allclose(dates[0, 20:], expected, atol=0.01)


def test_grey_becomes_three_equal_channels(image, tmp_path):
    path = write(tmp_path / 'a.tif', image[..., :1])
    assert np.array_equal(read(path, path), [image[..., [0] * 3]] * 2)


def test_what_has_no_colours(image, tmp_path):
    two = write(tmp_path / 'two.tif', image[..., :2])
    with pytest.raises(ValueError, match=r'two\.tif has 2 bands, but red, green and blue are needed.*--bands'):
        RasterPair(two, two)
    table = write(tmp_path / 'table.tif', image[..., :1], photometric='PALETTE')
    with rasterio.open(table, 'r+') as dataset:
        dataset.write_colormap(1, {0: (255, 255, 255), 1: (0, 0, 0)})
    with pytest.raises(ValueError, match=r'table\.tif has a colour table\. Fix: .*-expand rgb'):
        RasterPair(table, table)


def test_pictures_pass_as_images(image, tmp_path):
    for name in ('a.png', 'a.jpg', 'a.bmp'):
        cv2.imwrite(str(tmp_path / name), image)
        assert not are_rasters(*[str(tmp_path / name)] * 2)
        (tmp_path / name[2:]).mkdir()
        cv2.imwrite(str(tmp_path / name[2:] / name), image)
        assert not find_sources(*[str(tmp_path / name[2:])] * 2, tmp_path).rasters


def test_pictures_with_coordinates_or_16_bits_are_rasters(image, tmp_path):
    for name in ('plain.png', 'placed.png'):
        cv2.imwrite(str(tmp_path / name), image)
    (tmp_path / 'placed.pgw').write_text('0.5\n0\n0\n-0.5\n600000\n3400000\n')
    cv2.imwrite(str(tmp_path / 'deep.png'), image.astype(np.uint16) * 257)
    for name in ('placed.png', 'deep.png'):
        for dates in ((name, 'plain.png'), ('plain.png', name)):
            assert are_rasters(*(str(tmp_path / date) for date in dates))


def test_pictures_without_rasterio(image, tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    path = write(tmp_path / 'a.tif', image)
    monkeypatch.setitem(sys.modules, 'rasterio.errors', None)
    assert not are_rasters(*[str(tmp_path / 'a.png')] * 2)
    assert are_rasters(path, path)
    with pytest.raises(FileNotFoundError, match=r'none\.png: no such file or folder'):
        are_rasters(str(tmp_path / 'a.png'), str(tmp_path / 'none.png'))


def test_two_rasters_without_suffix_by_the_command(image, checkpoint, tmp_path):
    for date in ('1999', '2020'):
        write(tmp_path / date, image, driver='ENVI', photometric=None)
    predict.main([str(CONFIG), str(checkpoint), str(tmp_path / '1999'), str(tmp_path / '2020'), str(tmp_path / 'out'),
                  '--device', 'cpu', '--window', '64'])
    with rasterio.open(tmp_path / 'out' / 'map' / '1999_2020.tif') as dataset:
        assert dataset.crs == GRID['crs'] and dataset.transform == GRID['transform'] and dataset.shape == (64, 80)


def test_results_are_named_after_links(tmp_path):
    (tmp_path / 'store').mkdir()
    (tmp_path / 'store' / 'MD5-s1.tif').touch()
    (tmp_path / '1999.tif').symlink_to(tmp_path / 'store' / 'MD5-s1.tif')
    assert name_source(str(tmp_path / '1999.tif')) == '1999'
