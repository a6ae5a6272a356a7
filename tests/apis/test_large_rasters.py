"""What predicting large rasters costs, and whether its windows can be seen. By hand: commands in docs/rasters.md.

``IFN_PLUGIN_RASTERS`` names the longest side of a raster in pixels, a multiple of 1000 from 4000 on.
``IFN_PLUGIN_MOSAIC`` names a folder with A and B whose images are put together to rasters (all of one size, square;
drawn ones without it), and ``IFN_PLUGIN_TRAINED`` configuration and checkpoint of a trained network, between a colon.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ifn_plugin.datasets.drawn import write_dataset
from ifn_plugin.inference import ChangeDetector, find_pairs
from ifn_plugin.models import ChannelAttention
from ifn_plugin.utils.configurations import resolve_config

rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
pytest.importorskip('geopandas', reason='geopandas is not installed: pip install ifn_plugin[geo]')

from rasterio.transform import from_origin  # noqa: E402
from rasterio.windows import Window  # noqa: E402

from ifn_plugin.apis.rasters import RasterPair, blended_blocks, predict_raster  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
SIDE = int(os.environ.get('IFN_PLUGIN_RASTERS', '0'))
WINDOW, OVERLAP = 1024, 256
BFLOAT16 = dict(dtype='bfloat16', compile=False)
pytestmark = pytest.mark.skipif(SIDE < 4000, reason='takes long: set IFN_PLUGIN_RASTERS to 4000 pixels or more')


@pytest.fixture(scope='module')
def trained():
    """Configuration and checkpoint; they have to be real, for random weights have no opinion that a window changes."""
    if not os.environ.get('IFN_PLUGIN_TRAINED'):
        pytest.skip('IFN_PLUGIN_TRAINED=CONFIG:CHECKPOINT names no trained network')
    config, checkpoint = os.environ['IFN_PLUGIN_TRAINED'].split(':')
    return resolve_config(config), checkpoint


@pytest.fixture(scope='module')
def mosaic(tmp_path_factory):
    """A function that puts images together, turned and mirrored at random, to two square rasters of a side."""
    folder = Path(os.environ.get('IFN_PLUGIN_MOSAIC') or tmp_path_factory.mktemp('drawn'))
    if not os.environ.get('IFN_PLUGIN_MOSAIC'):
        write_dataset(folder, dict(train=8), size=1024)
        folder /= 'train'
    images = [np.stack([cv2.imread(str(path))[..., ::-1] for path in pair])
              for pair in find_pairs(folder / 'A', folder / 'B').values()]
    tile = images[0].shape[1]

    def make(side):
        random = np.random.default_rng(0)
        paths = [tmp_path_factory.mktemp('mosaic') / f'{side}-{date}.tif' for date in 'AB']
        profile = dict(driver='GTiff', width=side, height=side, count=3, dtype='uint8', tiled=True, compress='deflate',
                       zlevel=1, crs='EPSG:32614', transform=from_origin(600000, 3400000, 0.5, 0.5), BIGTIFF='IF_SAFER')
        with rasterio.open(paths[0], 'w', **profile) as first, rasterio.open(paths[1], 'w', **profile) as second:
            for top in range(0, side, tile):
                row = [np.rot90(images[random.integers(len(images))], random.integers(4), axes=(1, 2))[
                    :, ::random.choice([-1, 1])] for _ in range(0, side, tile)]
                dates = np.concatenate(row, axis=2)[:, :side - top, :side].transpose(0, 3, 1, 2)
                for dataset, strip in zip((first, second), dates):
                    dataset.write(strip, window=Window(0, top, side, strip.shape[1]))
        return paths

    return make


def blended(detector, pair):
    probability = np.zeros((pair.height, pair.width), np.float32)
    for place, block, _ in blended_blocks(detector, pair, WINDOW, OVERLAP):
        probability[place.toslices()] = block
    return probability


def test_seams(mosaic, trained, monkeypatch):
    detector = ChangeDetector(*trained, 'cpu', batch_size=1, acceleration=BFLOAT16)
    scales, own_scale = [], ChannelAttention.scale
    with RasterPair(*mosaic(4096)) as pair:
        images = pair.read(None)[0]
        tiled = blended(detector, pair)
        monkeypatch.setattr(ChannelAttention, 'scale',
                            lambda *arguments: scales.append(own_scale(*arguments)) or scales[-1])
        whole = detector.probabilities(images[None])[0]
        # the windows once more, each channel weighed as in the whole image
        known = iter(scales * 10000)
        monkeypatch.setattr(ChannelAttention, 'scale', lambda *_: next(known))
        weighed_alike = blended(detector, pair)
        monkeypatch.undo()

    # windows that are centred where four others meet
    half, stride, changes = WINDOW // 2, WINDOW - OVERLAP, []
    for y, x in np.ndindex(4, 4):
        y, x = (number * stride + stride + OVERLAP // 2 for number in (y, x))
        part = slice(y - half, y + half), slice(x - half, x + half)
        if y + half > 4096 or x + half > 4096:
            continue
        centred = detector.probabilities(images[:, part[0], part[1]][None])[0]
        seam = np.zeros((WINDOW, WINDOW), bool)
        seam[half - OVERLAP // 2:half + OVERLAP // 2, WINDOW // 4:-WINDOW // 4] = True
        seam |= seam.T
        changes.append(np.stack([tiled[part], centred])[:, seam])
    both = np.concatenate(changes, axis=1)

    def compare(what, first, second):
        difference = np.abs(first - second)
        differs = 100 * ((first > detector.threshold) != (second > detector.threshold)).mean()
        print(f'{what}: probabilities differ by {difference.max():.3f} at most, {difference.mean():.5f} in the mean, '
              f'{np.percentile(difference, 99.9):.3f} in 99.9 % of the pixels; of the map, {differs:.4f} % differ')
        return differs

    inner = slice(OVERLAP, -OVERLAP), slice(OVERLAP, -OVERLAP)
    print(f'\n{100 * (whole > detector.threshold).mean():.2f} % changed')
    seams = compare(f'{len(changes)} windows centred on seams', *both)
    compare('whole image', whole[inner], tiled[inner])
    alike = compare('whole image, channels weighed alike', whole[inner], weighed_alike[inner])
    edges = [number * stride - 1 + more for number in range(1, 5) for more in (0, OVERLAP)]
    for axis, name in enumerate(('rows', 'columns')):
        steps = [np.abs(np.diff(probability, axis=axis)).mean(axis=1 - axis)[edges].mean()
                 for probability in (tiled, whole)]
        print(f'mean step between the {name} where a window begins or ends: {steps[0]:.5f}, in the whole image there '
              f'{steps[1]:.5f}')
        assert steps[0] < 1.05 * steps[1]
    assert seams < 0.1 and alike < 0.1


def test_memory_is_flat_and_time_linear(mosaic, trained, tmp_path):
    results = []
    for side in (2000, SIDE):
        rasters = mosaic(side)
        begin = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, '-m', 'ifn_plugin.tools.predict', *trained, *rasters, tmp_path / str(side),
             '--output', 'map', 'probability'],
            env=dict(os.environ, PYTHONPATH=str(REPOSITORY)), stdout=subprocess.DEVNULL)
        status, usage = os.wait4(process.pid, 0)[1:]
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        results.append((time.monotonic() - begin, usage.ru_maxrss))
        print(f'\n{side}×{side}: {results[-1][0]:.1f} s, {results[-1][1] / 2**20:.3f} GiB at most')
    (_, small), (_, large) = results
    assert large < 1.1 * small


def test_memory_is_flat_for_a_folder_of_tiles(mosaic, trained, tmp_path):
    """Against a folder of 4 tiles; with 20000 pixels and tiles of 1000, 400."""
    peaks = []
    for side in (2000, SIDE):
        folders = [tmp_path / f'{side}-{date}' for date in 'AB']
        for raster, folder in zip(mosaic(side), folders):
            folder.mkdir()
            with rasterio.open(raster) as dataset:
                for top, left in np.ndindex(side // 1000, side // 1000):
                    window = Window(1000 * left, 1000 * top, 1000, 1000)
                    profile = dict(dataset.profile, width=1000, height=1000,
                                   transform=dataset.window_transform(window))
                    with rasterio.open(folder / f'{top}-{left}.tif', 'w', **profile) as tile:
                        tile.write(dataset.read(window=window))
            Path(raster).unlink()
        process = subprocess.Popen(
            [sys.executable, '-m', 'ifn_plugin.tools.predict', *trained, *folders, tmp_path / f'out-{side}',
             '--polygons', tmp_path / f'{side}.gpkg'],
            env=dict(os.environ, PYTHONPATH=str(REPOSITORY)), stdout=subprocess.DEVNULL)
        status, usage = os.wait4(process.pid, 0)[1:]
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss)
        print(f'\n{(side // 1000) ** 2} tiles: {peaks[-1] / 2**20:.3f} GiB at most')
    assert peaks[1] < 1.1 * peaks[0]


def test_time_is_linear_and_close_to_plain_batches(mosaic, trained, tmp_path):
    detector = ChangeDetector(*trained, 'cpu', batch_size=1, acceleration=dict(dtype='bfloat16'))
    images = np.random.default_rng(0).integers(0, 256, (1, 2, WINDOW, WINDOW, 3), np.uint8)
    rates = {}
    sides = [WINDOW + number * (WINDOW - OVERLAP) for number in (1, 3)]
    with RasterPair(*mosaic(sides[0])) as small, RasterPair(*mosaic(sides[1])) as large:
        tasks = {
            'plain': lambda: [detector.probabilities(images) for _ in range(4)],
            'small': lambda: predict_raster(detector, small, tmp_path / 'map.tif', tmp_path / 'probability.tif'),
            'large': lambda: predict_raster(detector, large, tmp_path / 'map.tif', tmp_path / 'probability.tif'),
        }
        windows = dict(plain=4, small=4, large=16)
        detector.probabilities(images)  # compiles
        for _ in range(3):
            for name, task in tasks.items():
                begin = time.monotonic()
                task()
                rates.setdefault(name, []).append(windows[name] / (time.monotonic() - begin))
    medians = {name: statistics.median(rate) for name, rate in rates.items()}
    for name in medians:
        print(f'{name}: {windows[name]} windows, {medians[name]:.4f} a second ({min(rates[name]):.4f}–'
              f'{max(rates[name]):.4f}), {medians[name] / medians["plain"]:.3f} of plain batches')
    assert min(medians['small'], medians['large']) > 0.9 * medians['plain']
