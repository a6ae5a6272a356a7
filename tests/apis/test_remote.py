"""Rasters on servers and in archives: how much is read, what a broken connection does, and who is named."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from ifn_plugin.datasets import LoadBands, LoadPair
from ifn_plugin.fileio import complete_answers

rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
pytest.importorskip('geopandas', reason='geopandas is not installed: pip install ifn_plugin[geo]')

from rasterio.shutil import copy  # noqa: E402
from rasterio.transform import from_origin  # noqa: E402

from ifn_plugin.apis.predict import Prediction, predict_rasters  # noqa: E402
from ifn_plugin.apis.rasters import RasterPair  # noqa: E402
from ifn_plugin.apis.rasters.opening import reading_environment  # noqa: E402

SIDE, TILE = 2048, 256


class Difference:
    """A detector that sees one pixel at a time: the mean difference of the dates."""

    threshold, batch_size, compiled, dtype, config = 0.5, 1, False, 'float32', ''
    loader = LoadPair()

    def __init__(self, folder):
        self.checkpoint = str(folder / 'none.pth')
        Path(self.checkpoint).write_bytes(b'weights')
        self.cfg = type('Config', (), dict(to_dict=dict))()

    def probabilities(self, pairs, fill_up=False):
        return np.abs(pairs[:, 1].astype(np.float32) - pairs[:, 0]).mean(axis=-1) / 255


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)


def write(path, image, driver='GTiff', **options):
    profile = dict(driver='GTiff', height=image.shape[0], width=image.shape[1], count=image.shape[2],
                   dtype=image.dtype, crs='EPSG:32614', transform=from_origin(600000, 3400000, 0.5, 0.5))
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.write(image.transpose(2, 0, 1))
        with memory.open() as dataset:
            copy(dataset, path, driver=driver, **options)
    return str(path)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that is served, its URL, and a function that lists how many bytes each answer had of a file."""
    folder = tmp_path / 'served'
    folder.mkdir()
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setenv('GDAL_HTTP_RETRY_DELAY', '0.1')
    monkeypatch.setenv('CPL_VSIL_CURL_NON_CACHED', '/vsicurl/http://127.0.0.1')
    script = Path(__file__).parents[1] / 'helpers' / 'range_server.py'
    log = tmp_path / 'log'
    log.touch()

    def sent(name):
        lines = [line.split() for line in log.read_text().splitlines()]
        return [int(size) for path, size in lines if path == f'/{name}']

    with subprocess.Popen([sys.executable, script, folder, log], stdout=subprocess.PIPE, text=True) as server:
        yield folder, server.stdout.readline().strip(), sent
        server.terminate()


def bytes_of_tiles(path, rows, columns):
    """The bytes of the tiles of a COG that lie in rows and columns of pixels."""
    with rasterio.open(path) as dataset:
        return sum(int(dataset.get_tag_item(f'BLOCK_SIZE_{column}_{row}', 'TIFF', bidx=1))
                   for row in range(rows[0] // TILE, -(-rows[1] // TILE))
                   for column in range(columns[0] // TILE, -(-columns[1] // TILE)))


@pytest.mark.parametrize('compress, bbox, end', [
    ('deflate', None, SIDE),
    # pixels 400 to 1500, so windows of 512 that start at 0, 384, 768 and 1152
    ('deflate', (600000 + 200, 3400000 - 750, 600000 + 750, 3400000 - 200), 1664),
    # a single window of four small tiles, beside which the head of the file counts
    ('jpeg', (600000 + 10, 3400000 - 50, 600000 + 50, 3400000 - 10), 512),
])
def test_of_a_cog_little_more_than_the_windows_is_read(served, tmp_path, monkeypatch, compress, bbox, end):
    folder, url, sent = served
    monkeypatch.delenv('CPL_VSIL_CURL_NON_CACHED')
    rng = np.random.default_rng(0)
    for name in ('a.tif', 'b.tif'):
        image = cv2.GaussianBlur(rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8), (0, 0), 1)
        write(folder / name, image, 'COG', compress=compress, blocksize=TILE)
    found = predict_rasters(Difference(tmp_path), f'{url}/a.tif', f'{url}/b.tif', tmp_path / 'out', window=512,
                            bbox=bbox)
    assert found.valid == (SIDE**2 if bbox is None else (2 * (bbox[2] - bbox[0]))**2)
    windows = ((end - 128) // 384)**2
    for name in ('a.tif', 'b.tif'):
        needed = bytes_of_tiles(folder / name, (0, end), (0, end))
        assert needed < sum(sent(name)) <= 1.3 * needed
        assert len(sent(name)) <= 2 * windows + 6  # and the head of the file


def test_a_connection_that_breaks_is_retried_and_then_named(served, image, tmp_path, monkeypatch):
    folder, url, _ = served
    paths = [write(folder / name, np.tile(image, (8, 8, 1)), 'COG') for name in ('a.tif', 'b.tif')]
    names = [f'{url}/{name}' for name in ('a.tif', 'b.tif')]
    with reading_environment(), RasterPair(*names) as pair, RasterPair(*paths) as local:
        (folder / 'break').write_text('2')
        assert np.array_equal(pair.read(None)[0], local.read(None)[0])
        assert (folder / 'break').read_text() == '0'
    monkeypatch.setenv('GDAL_HTTP_MAX_RETRY', '1')
    with reading_environment(), RasterPair(*names) as pair:
        (folder / 'break').write_text('1000')
        with pytest.raises(ValueError, match=r'^http://\S+a\.tif cannot be read any more: .*Fix: check the connection'):
            pair.read(None)


@pytest.mark.parametrize('driver, fault', [('COG', 'cut'), ('ENVI', 'cut'), ('PNG', 'cut'), ('JP2OpenJPEG', 'cut'),
                                           ('ENVI', 'break'), ('PNG', 'break'),
                                           pytest.param('ENVI', 'stall', marks=pytest.mark.slow)])
def test_what_does_not_arrive_is_never_taken_for_zeros(served, image, capfd, monkeypatch, driver, fault):
    """Also by drivers of GDAL that read on after an answer that failed, ended early or stands still."""
    folder, url, _ = served
    monkeypatch.setenv('GDAL_HTTP_MAX_RETRY', '0')
    monkeypatch.setenv('GDAL_HTTP_LOW_SPEED_TIME', '1')
    options = dict(quality=100, reversible='YES') if driver == 'JP2OpenJPEG' else {}
    paths = [write(folder / name, np.tile(image, (4, 4, 1)), driver, **options) for name in 'ab']
    with reading_environment(), RasterPair(*paths) as local:
        expected = local.read(None)[0]
        with RasterPair(f'{url}/a', f'{url}/b') as pair:
            (folder / fault).write_text('1')
            assert np.array_equal(pair.read(None)[0], expected)
            assert (folder / fault).read_text() == '0'
        if fault == 'stall':
            return
        with RasterPair(f'{url}/a', f'{url}/b') as pair:
            (folder / fault).write_text('1000')
            with pytest.raises(ValueError, match=r'/a cannot be read any more: .* failed or ended early \(status'):
                pair.read(None)
        (folder / fault).write_text('1')
        with RasterPair(f'{url}/a', f'{url}/b') as pair:  # the head of the file
            assert np.array_equal(pair.read(None)[0], expected)
    assert 'VSICURL' not in ''.join(capfd.readouterr())


def test_what_does_not_arrive_of_a_source_of_a_virtual_raster_is_named(served, image, tmp_path):
    folder, url, _ = served
    write(folder / 'a', np.tile(image, (4, 4, 1)), 'ENVI')
    copy(f'/vsicurl/{url}/a', tmp_path / 'a.vrt', driver='VRT')
    with reading_environment(), RasterPair(tmp_path / 'a.vrt', tmp_path / 'a.vrt') as pair:
        (folder / 'cut').write_text('1')
        with pytest.raises(ValueError, match=r'a\.vrt cannot be read any more: .* ended early'):
            pair.read(None)


def test_bands_for_training_are_complete(served, image):
    folder, url, _ = served
    write(folder / 'a', image, 'ENVI')
    (folder / 'cut').write_text('2')
    with pytest.raises(FileNotFoundError, match=r'/a: .*cannot be reached \(.* ended early'):
        LoadBands((1, 2, 3))(dict(img_path=[f'{url}/a'] * 2))
    (folder / 'cut').write_text('0')
    assert np.array_equal(LoadBands((1, 2, 3))(dict(img_path=[f'{url}/a'] * 2))['img'][0], image)


def test_a_server_without_ranges_is_said_to_be_one(image, tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    write(tmp_path / 'a.tif', np.tile(image, (8, 8, 1)))
    command = [sys.executable, '-u', '-m', 'http.server', '0', '--bind', '127.0.0.1', '--directory', tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        url = re.search(r'http://[\d.:]+', server.stdout.readline())[0]
        with pytest.raises(FileNotFoundError, match=r'a\.tif cannot be opened .*Range downloading not supported'):
            RasterPair(f'{url}/a.tif', f'{url}/a.tif')
        server.terminate()


def test_settings_of_the_environment_take_precedence(monkeypatch):
    monkeypatch.setenv('GDAL_CACHEMAX', '1234567')
    monkeypatch.setenv('GDAL_HTTP_RETRY_DELAY', '7')
    monkeypatch.delenv('GDAL_HTTP_MAX_RETRY', raising=False)
    with reading_environment(), rasterio.Env(GDAL_HTTP_CONNECTTIMEOUT=9), complete_answers():
        settings = rasterio.env.getenv()
    assert settings['GDAL_HTTP_MAX_RETRY'] == '5' and settings['GDAL_HTTP_CONNECTTIMEOUT'] == 9
    assert not {'GDAL_CACHEMAX', 'GDAL_HTTP_RETRY_DELAY'} & set(settings)


def test_pictures_on_servers_and_in_archives_are_read_as_rasters(served, image, tmp_path):
    """Only what lies on a disk can be read by Pillow and OpenCV."""
    folder, url, _ = served
    for name in ('a.png', 'b.png'):
        cv2.imwrite(str(folder / name), image[..., ::-1])
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.write(folder / 'a.png', 'a.png')
    for date1, date2 in ((f'{url}/a.png', f'{url}/b.png'), (f'zip://{tmp_path}/a.zip!a.png', str(folder / 'b.png'))):
        prediction = Prediction(date1, date2, tmp_path / 'out', LoadPair())
        with prediction.plan.open('a_b') as pair:
            assert np.array_equal(pair.read(None)[0], [image] * 2)


@pytest.mark.parametrize('name', ['s3://no-such-bucket-here/a.tif', 'https://127.0.0.1:1/a%20b.tif?key=a/b',
                                  '/vsicurl/http://127.0.0.1:1/a.tif', '/vsizip/none.zip/a.tif'])
def test_names_arrive_as_they_are(name, tmp_path, monkeypatch):
    for key, value in dict(no_proxy='*', AWS_NO_SIGN_REQUEST='YES', AWS_S3_ENDPOINT='127.0.0.1:1', AWS_HTTPS='NO',
                           AWS_VIRTUAL_HOSTING='FALSE', GDAL_HTTP_MAX_RETRY='0').items():
        monkeypatch.setenv(key, value)
    with pytest.raises(FileNotFoundError) as error:
        Prediction(name, name, tmp_path / 'out', LoadPair())
    assert str(error.value).startswith(f'{name} cannot be opened as an image or raster: ')
    with pytest.raises(FileNotFoundError) as error:
        LoadBands((1, 2, 3))(dict(img_path=[name] * 2))
    assert str(error.value).startswith(f'{name}: no such file, or it cannot be reached (')


@pytest.mark.parametrize('kind', ['http', 'vsicurl', 'vsizip', 'zip', 'plain'])
def test_bands_for_training_come_from_wherever_gdal_reads(served, image, tmp_path, kind):
    folder, url, _ = served
    path = write(folder / 'a.tif', image)
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.write(path, 'inner/a.tif')
    name = dict(http=f'{url}/a.tif', vsicurl=f'/vsicurl/{url}/a.tif', vsizip=f'/vsizip/{tmp_path}/a.zip/inner/a.tif',
                zip=f'zip://{tmp_path}/a.zip!inner/a.tif', plain=path)[kind]
    assert np.array_equal(LoadBands((3, 1))(dict(img_path=[name] * 2))['img'][0], image[..., [2, 0]])
