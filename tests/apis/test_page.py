"""Pages of predictions: what they show is what was predicted, at any threshold."""

import io
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.evaluation import LEVELS
from ifn_plugin.tools.predict import main
from ifn_plugin.utils.configurations import find_config

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
SIDE = 96


def slide(page, index):
    page.locator('[name=threshold]').evaluate(
        '(slider, value) => { slider.value = value; slider.dispatchEvent(new Event("input")); }', index)


@pytest.mark.slow
def test_a_page_of_images(checkpoint, levir_like, tmp_path, open_page):
    """The slider gives the share that the probabilities have above the threshold."""
    folders = [levir_like / 'test' / part for part in 'AB']
    main([*map(str, (CONFIG, checkpoint, *folders, tmp_path / 'out')), '--output', 'page', '--device', 'cpu',
          '--no-accelerate'])
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['page']  # nothing temporary stays
    detector = ChangeDetector(CONFIG, checkpoint, 'cpu')
    names = sorted(path.name for path in folders[0].iterdir())
    maps = np.stack([detector.predict(*(folder / name for folder in folders)).probability for name in names])
    page = open_page(tmp_path / 'out' / 'page' / 'index.html')
    share = page.locator('[data-score=share]').first
    assert share.inner_text() == f'{100 * (maps > 0.3).mean():.2f} %'
    for index in (60, 127, 200):
        slide(page, index)
        assert share.inner_text() == f'{100 * (maps > LEVELS[index].item()).mean():.2f} %'
    page.locator('[name=mode]').select_option('probability')  # the first pixel, in the colours of the scale
    seen = '(async () => [...document.querySelector(".pair canvas").getContext("2d").getImageData(0, 0, 1, 1).data])()'
    page.wait_for_function(f'{seen}.then(data => data[2] > 30)')  # not the map's black and white or orange
    page.locator('.pair button').first.click()
    assert page.locator('[name=left] option').all_inner_texts() == [
        'date 1', 'date 2', 'map: changes', 'probability: changes']


def test_a_page_is_not_overwritten(checkpoint, levir_like, tmp_path):
    (tmp_path / 'page').mkdir()
    (tmp_path / 'page' / 'index.html').write_text('mine')
    with pytest.raises(SystemExit, match=r'results already: \S+index\.html\. Fix: add --overwrite'):  # named once
        main([*map(str, (CONFIG, checkpoint, *(levir_like / 'test' / part for part in 'AB'), tmp_path)),
              '--output', 'page'])


@pytest.fixture
def dates(tmp_path):
    """Two folders of two tiles with coordinates; a strip of the earlier date has no data."""
    rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
    rng = np.random.default_rng(0)
    for name, grey in (('1999', 40), ('2020', 220)):
        image = cv2.resize(rng.integers(1, 90, (6, 12, 3), np.uint8), (2 * SIDE, SIDE)).transpose(2, 0, 1) + grey // 2
        image[:, :20] = 0 if name == '1999' else 9
        for tile in range(2):
            path = tmp_path / name / f'{tile}.tif'
            path.parent.mkdir(exist_ok=True)
            place = rasterio.transform.from_origin(500000 + tile * SIDE / 2, 5000000, 0.5, 0.5)
            with rasterio.open(path, 'w', 'GTiff', SIDE, SIDE, 3, 'EPSG:32633', place, 'uint8', 0) as target:
                target.write(image[..., tile * SIDE:(tile + 1) * SIDE])
    return [str(tmp_path / name) for name in ('1999', '2020')]


def see(page):
    """What the map shows of the raster, (H, W, 3), as it is at the finest level."""
    page.evaluate('([x, y]) => viewer.map.setView(L.CRS.Simple.pointToLatLng(L.point(x, y), 0), 0, {animate: false})',
                  [SIDE, SIDE // 2])
    page.wait_for_function('[...document.querySelectorAll(".leaflet-tile")].every(tile => tile.complete)')
    page.wait_for_timeout(400)
    corner = page.evaluate('(() => { const at = viewer.map.latLngToContainerPoint([0, 0]);'
                           'const box = document.getElementById("map").getBoundingClientRect();'
                           'return [Math.round(at.x + box.x), Math.round(at.y + box.y)]; })()')
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert('RGB'))
    return picture[corner[1]:corner[1] + SIDE, corner[0]:corner[0] + 2 * SIDE].astype(int)


@pytest.mark.slow
def test_a_page_of_rasters(checkpoint, dates, tmp_path, open_page):
    """The map, drawn by the browser, has the pixels of the written one; a swipe shows one date instead of the other."""
    import rasterio
    main([str(CONFIG), str(checkpoint), *dates, str(tmp_path / 'out'), '--output', 'map', 'probability', 'page',
          '--window', '64', '--device', 'cpu', '--no-accelerate'])
    found, steps = (rasterio.open(tmp_path / 'out' / kind / '1999_2020.vrt').read(1) for kind in ('map', 'probability'))
    page = open_page(tmp_path / 'out' / 'page' / 'index.html')
    share = page.locator('[data-score=share]')
    assert share.inner_text() == f'{100 * (found[found != 255] == 1).mean():.2f} % changed'
    page.locator('[name=opacity]').evaluate('slider => { slider.value = 1; slider.dispatchEvent(new Event("input")); }')
    for index in map(int, np.quantile(steps[steps != 255], (0.3, 0.8))):
        slide(page, index)
        changed = (steps > index) & (steps != 255)
        assert share.inner_text() == f'{100 * changed[steps != 255].mean():.2f} % changed'
        drawn = np.abs(see(page) - (213, 94, 0)).max(2) < 12
        covered = np.zeros_like(drawn)  # by the line, its handle, and the scale
        covered[:, SIDE - 20:SIDE + 20] = True
        assert 0.02 < changed.mean() < 0.98 and (drawn != changed)[~covered].mean() < 0.002
    page.locator('[name=mode]').select_option('')
    halves = see(page)[30:, :SIDE - 20], see(page)[30:, SIDE + 20:]
    assert halves[0].mean() < 110 < halves[1].mean()
    page.evaluate('viewer.swipe(0)')
    assert see(page)[30:, :SIDE - 20].mean() > 110 and (see(page)[:18].mean() < 20)
    page.mouse.move(*page.evaluate('(() => { const box = document.getElementById("map").getBoundingClientRect();'
                                   'return [box.x + box.width / 2, box.y + box.height / 2 + 20]; })()'))
    assert page.locator('[data-place]').inner_text().startswith('EPSG:32633: 50004')


def test_a_raster_that_is_damaged_is_named_as_such(dates, tmp_path):
    """And not the picture that could not be written because of it."""
    import rasterio

    from ifn_plugin.apis.rasters import RasterPair
    from ifn_plugin.apis.rasters.tiles import write_pictures
    first, second = (f'{date}/1.tif' for date in dates)
    with rasterio.open(tmp_path / 'steps.tif', 'w', 'GTiff', SIDE, SIDE, 1, dtype='uint8') as target:
        target.write(np.zeros((1, SIDE, SIDE), np.uint8))
    with RasterPair(first, second) as pair:
        os.truncate(second, 2000)
        with pytest.raises(ValueError, match=r'2020/1\.tif cannot be read, it seems damaged'):
            write_pictures(pair, tmp_path / 'steps.tif', [tmp_path / 'a.tif', tmp_path / 'b.tif'], lambda image: image)


def test_tiles_of_all_levels(tmp_path):
    """From afar, the highest probability is seen; a level above the limit is left out; what is empty is not written."""
    rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
    from ifn_plugin.apis.rasters.tiles import write_tiles
    steps = np.full((1100, 1600), 255, np.uint8)
    steps[:600, :500] = 3
    steps[77, 78] = 200
    dates = np.where(steps == 255, 0, 100).astype(np.uint8)
    for name, bands in dict(a=[dates] * 3, b=[dates] * 3, steps=[steps]).items():
        with rasterio.open(tmp_path / f'{name}.tif', 'w', 'GTiff', 1600, 1100, len(bands), dtype='uint8',
                           tiled=True, blockxsize=256, blockysize=256) as target:
            target.write(np.stack(bands))
    paths = [tmp_path / f'{name}.tif' for name in ('a', 'b', 'steps')]
    tiles = write_tiles(paths[:2], paths[2], tmp_path / 'fine')
    assert (tiles.levels, tiles.shrink) == (3, 1)
    assert sorted(tiles.present) == ['0/0/0', '1/0/0', '2/0/0', '2/0/1']
    assert np.array_equal(tiles.counts.nonzero()[0], [3, 200]) and tiles.counts.sum() == 600 * 500
    for level in range(3):
        tile = np.asarray(Image.open(tmp_path / 'fine' / 'probability' / str(level) / '0' / '0.webp'))
        shrink = 2**(2 - level)
        assert tile.shape == (512, 512, 4)
        assert tile[77 // shrink, 78 // shrink].tolist() == [200, 200, 200, 255]
        shown = tile[..., 3] == 255
        assert (tile[shown][:, 0] == 3).sum() == shown.sum() - 1 and shown[:, 500 // shrink:].sum() == 0
    assert len(list((tmp_path / 'fine').rglob('*.webp'))) == 3 * len(tiles.present)
    date = np.asarray(Image.open(tmp_path / 'fine' / 'date1' / '0' / '0' / '0.webp'))
    assert np.abs(date[:100, :100, 0] - 100.).max() < 4
    assert tiles.first.tolist() == [0, 0] and tiles.last.tolist() == [499, 599]
    for name in paths:  # an overview, of averages, is not looked at
        with rasterio.open(name, 'r+') as target:
            target.build_overviews([2, 4], rasterio.enums.Resampling.average)
    coarse = write_tiles(paths[:2], paths[2], tmp_path / 'coarse', largest=4)
    assert (coarse.levels, coarse.shrink, sorted(coarse.present)) == (2, 2, ['0/0/0', '1/0/0'])
    assert np.array_equal(coarse.counts, tiles.counts)
    for level in range(2):
        found = [Image.open(tmp_path / folder / 'probability' / str(level) / '0' / '0.webp')
                 for folder in ('coarse', 'fine')]
        assert np.array_equal(*map(np.asarray, found))
