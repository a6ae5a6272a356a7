"""xarray in, xarray out."""

import numpy as np
import pytest

from ifn_plugin.datasets import LoadPair

rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
pytest.importorskip('geopandas', reason='geopandas is not installed: pip install ifn_plugin[geo]')
rioxarray = pytest.importorskip('rioxarray', reason='rioxarray is not installed: pip install ifn_plugin[xarray]')

from rasterio.transform import from_origin  # noqa: E402

from ifn_plugin.apis.rasters import predict_xarray  # noqa: E402


class Difference:
    """A detector that sees one pixel at a time: the mean difference of the dates."""

    threshold, batch_size, loader = 0.5, 2, LoadPair()

    def probabilities(self, pairs, fill_up=False):
        return np.abs(pairs[:, 1].astype(np.float32) - pairs[:, 0]).mean(axis=-1) / 255


@pytest.fixture
def dates(tmp_path):
    images = np.random.default_rng(0).integers(1, 256, (2, 3, 100, 150), np.uint8)
    images[0, :, :20] = 0
    for name, image in zip('ab', images):
        with rasterio.open(tmp_path / f'{name}.tif', 'w', driver='GTiff', height=100, width=150, count=3, dtype='uint8',
                           nodata=0, crs='EPSG:32614', transform=from_origin(600000, 3400000, 0.5, 0.5)) as dataset:
            dataset.write(image)
    return images, [rioxarray.open_rasterio(tmp_path / f'{name}.tif') for name in 'ab']


def test_arrays_keep_their_coordinates(dates, tmp_path):
    images, (date1, date2) = dates
    found = predict_xarray(Difference(), date1, date2, window=64)
    expected = Difference().probabilities(images.transpose(0, 2, 3, 1)[None])[0]
    expected[:20] = np.nan
    assert found.probability.dims == ('y', 'x') and found.rio.crs == 'EPSG:32614'
    assert np.array_equal(found.x, date1.x) and np.array_equal(found.y, date1.y)
    np.testing.assert_allclose(found.probability, expected, atol=1e-6)
    assert np.array_equal(found.changed, np.where(np.isnan(expected), 255, expected > 0.5))
    found.changed.rio.to_raster(tmp_path / 'map.tif')
    with rasterio.open(tmp_path / 'map.tif') as dataset:
        assert dataset.nodata == 255 and dataset.transform == from_origin(600000, 3400000, 0.5, 0.5)


def test_windows_of_arrays_suit_the_network(dates):
    with pytest.raises(ValueError, match=r'window=100 is invalid\. Fix: choose'):
        predict_xarray(Difference(), *dates[1], window=100)


def test_arrays_of_other_grids_are_aligned(dates):
    _, (date1, date2) = dates
    with pytest.raises(ValueError, match=r'differ in size.*--align'):
        predict_xarray(Difference(), date1, date2[:, 10:], window=64)
    found = predict_xarray(Difference(), date1, date2[:, 10:], window=64, align=True, scale=(0, 255))
    assert (found.changed[:20] == 255).all() and (found.changed[20:] < 255).all()


def test_values_that_a_file_scales_are_taken_as_they_are(dates, tmp_path):
    """Opened as reflectances, or as the integers that they are stored as."""
    files = []
    for name in 'ab':
        with rasterio.open(tmp_path / f'{name}.tif', 'r+') as dataset:
            dataset.scales = [1e-3] * 3
        files.append(tmp_path / f'{name}.tif')
    expected = predict_xarray(Difference(), *map(rioxarray.open_rasterio, files), window=64, scale=(0, 255))
    scaled = [rioxarray.open_rasterio(file, mask_and_scale=True) for file in files]
    found = predict_xarray(Difference(), *scaled, window=64, scale=(0, 0.255))
    np.testing.assert_allclose(found.probability, expected.probability, atol=0.005)
    for number, result in enumerate((expected, found)):
        for name in ('changed', 'probability'):
            result[name].rio.to_raster(tmp_path / f'{name}{number}.tif')
            with rasterio.open(tmp_path / f'{name}{number}.tif') as dataset:
                assert dataset.scales == (1,) and dataset.crs == 'EPSG:32614'
                np.testing.assert_array_equal(dataset.read(1), result[name])


def test_arrays_of_one_band_may_lack_its_dimension(dates):
    bands = [date.isel(band=0) for date in dates[1]]
    found = predict_xarray(Difference(), *bands, window=64)
    assert found.probability.shape == (100, 150) and (found.changed[:20] == 255).all()
