"""Other bands than red, green and blue, from the file to the change map."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from mmseg.registry import TRANSFORMS

from ifn_plugin.apis.export import ChangeNetwork
from ifn_plugin.datasets import BandDistortion, LoadBands, LoadChangeLabel, LoadPair, find_loaders
from ifn_plugin.inference import ChangeDetector
from ifn_plugin.models import IFN, PairEncoder
from ifn_plugin.models.backbones.pretrained import spread_channels
from ifn_plugin.tools import test
from ifn_plugin.tools.check_dataset import main as check_dataset
from ifn_plugin.tools.predict import main as predict

rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
pytestmark = pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
RESNET = dict(type='mmseg.ResNetV1c', depth=18, norm_cfg=dict(type='BN'))


def write(path, image, **profile):
    """An (H, W, C) image as GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, 'w', driver='GTiff', width=image.shape[1], height=image.shape[0], count=image.shape[2],
                       dtype=image.dtype, **profile) as dataset:
        dataset.write(image.transpose(2, 0, 1))
    return str(path)


@pytest.fixture
def values():
    """Both dates, (2, 40, 50, 5), uint16."""
    return np.random.default_rng(0).integers(1, 5000, (2, 40, 50, 5), np.uint16)


def pair_of(tmp_path, dates, **profile):
    return dict(img_path=[write(tmp_path / name, date, **profile) for name, date in zip(('a.tif', 'b.tif'), dates)],
                seg_fields=[])


@pytest.mark.parametrize('dtype', ['uint16', 'int16', 'float32', 'float64'])
def test_bands_are_chosen_and_scaled(values, tmp_path, dtype):
    results = LoadBands((5, 1, 2), scale=(1000, 3000))(pair_of(tmp_path, values.astype(dtype)))
    expected = ((values[..., [4, 0, 1]].astype(float) - 1000) * 255 / 2000).clip(0, 255)
    for image, wanted in zip(results['img'], expected):
        assert image.dtype == np.float32 and (image == 0).any() and (image == 255).any()
        np.testing.assert_allclose(image, wanted, atol=1e-3)
    assert results['ori_shape'] == (40, 50) and results['valid'].all()


def test_a_scale_for_each_band(values, tmp_path):
    image = LoadBands((1, 2), scale=((0, 5000), (1000, 2000)))(pair_of(tmp_path, values))['img'][0]
    np.testing.assert_allclose(image[..., 0], values[0, ..., 0] * 0.051, atol=1e-3)
    np.testing.assert_allclose(image[..., 1], ((values[0, ..., 1] - 1000.) * 0.255).clip(0, 255), atol=1e-3)


def test_eight_bits_need_no_scale(values, tmp_path):
    dates = (values % 256).astype(np.uint8)
    loader = LoadBands((1, 2, 3, 4, 5))
    for image, date in zip(loader(pair_of(tmp_path, dates))['img'], dates):
        assert image.dtype == np.float32 and np.array_equal(image, date)
        assert np.array_equal(loader.picture(image), date[..., :3])


@pytest.mark.parametrize('bands, shown, expected', [
    ((1, 2, 3, 4), (3, 1, 0), (3, 1, 0)), ((1, ), None, (0, 0, 0)), ((4, 5), None, (0, 0, 0)),
    ((2, 3, 4), None, (0, 1, 2))])
def test_pictures_show_the_chosen_bands(values, tmp_path, bands, shown, expected):
    loader = LoadBands(bands, scale=(0, 5000), shown=shown)
    image = loader(pair_of(tmp_path, values))['img'][0]
    picture = loader.picture(image)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, image[..., expected].round())


def test_nodata_is_ignored(values, tmp_path):
    values[0, :5], values[1, :, :7] = 0, 0
    pair = pair_of(tmp_path, values, nodata=0)
    label = write(tmp_path / 'label.tif', np.full((40, 50, 1), 255, np.uint8))
    results = LoadChangeLabel()(LoadBands((1, 2), scale=(-1000, 5000))(dict(pair, seg_map_path=label)))
    missing = np.zeros((40, 50), bool)
    missing[:5], missing[:, :7] = True, True
    assert np.array_equal(results['gt_seg_map'], np.where(missing, 255, 1))
    assert all((image[missing] == 0).all() and (image[~missing] > 0).all() for image in results['img'])
    assert 'valid' not in results


def test_nan_is_nodata(values, tmp_path):
    values = values.astype(np.float32)
    values[0, 3, 4, 1], values[1, 5, 6, 0] = np.nan, np.inf
    results = LoadBands((1, 2), scale=(0, 5000))(pair_of(tmp_path, values))
    assert np.argwhere(~results['valid']).tolist() == [[3, 4], [5, 6]]
    assert np.isfinite(results['img']).all()


@pytest.mark.parametrize('arguments, message', [
    (dict(bands=(1, 6), scale=(0, 1)), r'a\.tif has 5 bands, but LoadBands needs bands=\[1, 6\]'),
    (dict(bands=(1, 2)), r'a\.tif has uint16 values, so LoadBands needs to know .* 2 and 98 of this image are \d+'),
])
def test_files_that_do_not_fit_are_refused(values, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        LoadBands(**arguments)(pair_of(tmp_path, values))


def test_error_about_the_scale_tells_of_the_values_that_count(values, tmp_path):
    values[:, :20] = 60000
    pair = pair_of(tmp_path, values, nodata=60000)
    low, high = np.percentile(values[0, 20:, :, :2], (2, 98))
    with pytest.raises(ValueError, match=f'2 and 98 of this image are {low:g} and {high:g}'):
        LoadBands((1, 2))(pair)
    with pytest.raises(ValueError, match='This image has no valid data'):
        LoadBands((1, 2))(pair_of(tmp_path, np.full_like(values, 60000), nodata=60000))


def test_complex_values_are_refused(values, tmp_path):
    with pytest.raises(ValueError, match=r'a\.tif has complex values \(complex64\)\. Fix: save their amplitude'):
        LoadBands((1, 2), scale=(0, 5000))(pair_of(tmp_path, values.astype(np.complex64)))


@pytest.mark.parametrize('bands', [2, 3, 4])
@pytest.mark.parametrize('profile', [
    dict(interleave='pixel'), dict(interleave='band'), dict(interleave='pixel', BIGTIFF='YES'), dict(ENDIANNESS='BIG')])
def test_one_of_several_bands_is_not_taken_for_all(values, tmp_path, bands, profile):
    pair = pair_of(tmp_path, (values % 256).astype(np.uint8)[..., :bands], photometric='MINISBLACK', **profile)
    with pytest.raises(ValueError, match=rf'a\.tif has {bands} channels, of which OpenCV reads one.*PHOTOMETRIC=RGB'):
        LoadPair()(pair)
    with pytest.raises(ValueError, match=rf'b\.tif has {bands} channels'):
        LoadChangeLabel()(dict(seg_map_path=pair['img_path'][1]))


def test_more_bands_than_opencv_decodes(values, tmp_path):
    pair = pair_of(tmp_path, (values % 256).astype(np.uint8))
    with pytest.raises(ValueError, match=r'a\.tif has 5 channels, but an image needs 3 .*ifn_plugin\.LoadBands loads'):
        LoadPair()(pair)


@pytest.mark.parametrize('compress', ['zstd', 'lzma'])
def test_a_compression_that_opencv_does_not_know(values, tmp_path, compress):
    pair = pair_of(tmp_path, (values % 256).astype(np.uint8)[..., :3], compress=compress)
    if cv2.imread(pair['img_path'][0]) is not None:
        pytest.skip(f'this OpenCV knows {compress}')
    with pytest.raises(ValueError, match=r'a\.tif is an image \(G?TIFF?\) that OpenCV cannot read \(.*'
                       r'Fix: save it .* with another compression \(gdal_translate -co COMPRESS=DEFLATE\)'):
        LoadPair()(pair)


def test_labels_of_signed_bytes_are_refused(values, tmp_path):
    label = write(tmp_path / 'label.tif', np.full((40, 50, 1), -1, np.int8))
    with pytest.raises(ValueError, match=r'label\.tif has int8 values, but those of a change label must fit'):
        LoadChangeLabel()(dict(seg_map_path=label))


def test_missing_damaged_and_mismatched_files_are_named(values, tmp_path):
    loader, pair = LoadBands((1, ), scale=(0, 1)), pair_of(tmp_path, values)
    with pytest.raises(FileNotFoundError, match=r'none\.tif: no such file'):
        loader(dict(img_path=[str(tmp_path / 'none.tif')] * 2))
    (tmp_path / 'bad.tif').write_bytes(b'II*\0 not much of a raster')
    with pytest.raises(ValueError, match=r'bad\.tif is not a raster that rasterio can open \(.*\)\. Fix: replace it'):
        loader(dict(img_path=[str(tmp_path / 'bad.tif')] * 2))
    write(tmp_path / 'small.tif', values[0, :30])
    with pytest.raises(ValueError, match=r'differ in size .*a\.tif is \(40, 50\), .*small\.tif is \(30, 50\)'):
        loader(dict(img_path=[pair['img_path'][0], str(tmp_path / 'small.tif')]))
    content = (tmp_path / 'a.tif').read_bytes()
    (tmp_path / 'a.tif').write_bytes(content[:len(content) // 2])
    with pytest.raises(ValueError, match=r'a\.tif is damaged \(.*\)\. Fix: replace it'):
        loader(pair)


@pytest.mark.parametrize('arguments, message', [
    (dict(bands=()), 'name at least one'), (dict(bands=(0, 1)), 'counted from 1'),
    (dict(bands=(1, 2), scale=(5, 5)), 'the lower first'), (dict(bands=(1, 2), scale=[(0, 1)] * 3), 'each of the 2'),
    (dict(bands=(1, 2), shown=(0, 1)), 'name three indices'),
    (dict(bands=(1, 2), shown=(0, 1, 2)), 'name three indices'),
])
def test_invalid_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LoadBands(**arguments)


def test_a_mask_in_a_file_beside(values, tmp_path):
    pair = pair_of(tmp_path, values)
    masked = np.ones((40, 50), bool)
    masked[:, 20:30] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(pair['img_path'][1], 'r+') as dataset:
        dataset.write_mask(masked)
    assert (tmp_path / 'b.tif.msk').exists()
    assert np.array_equal(LoadBands((1, 2), scale=(0, 5000))(pair)['valid'], masked)


def test_distortion():
    np.random.seed(0)
    rng = np.random.default_rng(0)
    image = rng.uniform(60, 120, (20, 30, 6)).astype(np.float32)
    image[:4] = 0
    settings = dict(brightness_delta=10, contrast_range=(0.8, 1.2), band_range=(0.9, 1.1), prob=1)
    distorted = [BandDistortion(**settings)(dict(img=[image, image]))['img'] for _ in range(20)]
    for dates in distorted:
        for date in dates:
            assert date.dtype == np.float32 and (date[:4] == 0).all()
            for band in range(6):  # a line through the values, for each band
                factor, offset = np.polyfit(image[4:, :, band].ravel(), date[4:, :, band].ravel(), 1)
                assert 0.72 <= factor <= 1.32 and abs(offset) <= 10.01
                np.testing.assert_allclose(date[4:, :, band], factor * image[4:, :, band] + offset, atol=0.01)
        assert not np.allclose(*dates)  # each date on its own
        assert np.ptp(dates[0][4:].mean(axis=(0, 1)) / image[4:].mean(axis=(0, 1))) > 0.01  # and each band
    assert all(np.array_equal(date, image) for date in BandDistortion(prob=0)(dict(img=[image] * 2))['img'])
    bright = BandDistortion(100, prob=1)(dict(img=[np.full((9, 9, 2), 250, np.uint8)] * 9))['img']
    assert all(date.dtype == np.uint8 for date in bright) and max(date.max() for date in bright) == 255


@pytest.mark.parametrize('channels', [1, 2, 4, 13])
def test_the_first_convolution_is_spread(channels, tmp_path):
    torch.manual_seed(0)
    rgb = IFN(frozen=False, init_cfg=None)
    torch.save(dict(rgb.state_dict()), tmp_path / 'vgg16.pth')
    encoder = IFN(channels, frozen=False, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'vgg16.pth')))
    encoder.init_weights()
    # grey images give the same features
    grey = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        pairs = zip(encoder(*grey.repeat(1, channels, 1, 1)[:, None]), rgb(*grey.repeat(1, 3, 1, 1)[:, None]))
        for one, other in pairs:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    weight = encoder.features[0].weight
    assert weight.shape == (64, channels, 3, 3) and torch.equal(weight[:, 0], weight[:, -1])
    # a checkpoint of a detector likewise, and one for the same bands as it is
    fresh = IFN(channels, frozen=False, init_cfg=None)
    fresh.load_state_dict(rgb.state_dict())
    assert torch.equal(fresh.features[0].weight, weight)
    with torch.no_grad():
        weight.normal_()
    fresh.load_state_dict(encoder.state_dict())
    assert torch.equal(fresh.features[0].weight, weight)
    assert torch.equal(spread_channels(weight, channels), weight)


def test_other_encoders_are_spread_by_mmengines_loading(tmp_path):
    torch.manual_seed(0)
    rgb = PairEncoder(RESNET)
    torch.save(dict(state_dict=rgb.encoder.state_dict()), tmp_path / 'resnet.pth')
    backbone = dict(RESNET, in_channels=4, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'resnet.pth')))
    encoder = PairEncoder(backbone, in_channels=4)
    encoder.init_weights()
    expected = rgb.encoder.stem[0].weight.mean(dim=1) * 0.75
    for band in range(4):
        torch.testing.assert_close(encoder.encoder.stem[0].weight[:, band], expected)
    assert torch.equal(encoder.encoder.stem[3].weight, rgb.encoder.stem[3].weight)


@pytest.fixture
def four_bands(tmp_path, levir_like):
    """A detector of four bands in a configuration file, its checkpoint, and a data set for it."""
    import layouts

    name = 'ifn_256x256_40k_4bands.py'
    cfg = Config.fromfile(layouts.Path(__file__).parents[3] / 'configs' / 'ifn' / name)
    layouts.lay_out(cfg, levir_like, tmp_path / 'data')
    cfg.dump(tmp_path / name)
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(cfg.model, type='mmseg.EncoderDecoder'))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    return tmp_path / name, tmp_path / 'weights.pth', tmp_path / 'data'


def test_detector_takes_arrays_of_bands(four_bands):
    config, weights, data = four_bands
    detector = ChangeDetector(config, weights, 'cpu')
    paths = [sorted((data / 'test' / kind).iterdir())[0] for kind in 'AB']
    change = detector.predict(*paths)
    with rasterio.open(paths[0]) as date1, rasterio.open(paths[1]) as date2:
        arrays = [dataset.read().transpose(1, 2, 0) for dataset in (date1, date2)]
    assert np.array_equal(detector.predict(*arrays).probability, change.probability)
    # the runner's own pipeline gives the same
    cfg = Config.fromfile(config)
    dataset = cfg.test_dataloader.dataset
    from mmengine.registry import DATASETS
    sample = DATASETS.build(dataset)[0]
    with torch.no_grad():
        output = detector.model.test_step(dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]))[0]
    np.testing.assert_allclose(output.seg_logits.data[0], change.probability, atol=1e-6)
    # and so does the network that is exported, from the files' own values
    raw = [torch.from_numpy(array.astype(np.float32))[None] for array in arrays]
    network = ChangeNetwork(detector.model, detector.loader)
    np.testing.assert_allclose(network(*raw)[0], change.probability, atol=1e-5)
    # NaN in an array is nodata in both dates, as in a file
    gap = [array.astype(np.float32) for array in arrays]
    gap[1][10:20, 5:30, 2] = np.nan
    files = [write(data / name, array) for name, array in zip(('a.tif', 'b.tif'), gap)]
    expected = detector.predict(*files).probability
    assert np.array_equal(detector.predict(*gap).probability, expected) and np.isfinite(expected).all()
    np.testing.assert_allclose(network(*(torch.from_numpy(array)[None] for array in gap))[0], expected, atol=1e-5)
    mask = np.isnan(gap[1]).any(axis=2, keepdims=True).repeat(4, axis=2)
    masked = np.ma.masked_array(arrays[1], mask)
    assert np.array_equal(detector.predict(arrays[0], masked).probability, expected)
    # the nodata value in one band alone is data, as in a file
    masked.mask[..., 0] = False
    assert np.array_equal(detector.predict(arrays[0], masked).probability, change.probability)
    # bands that the preprocessor turns round
    detector.model.data_preprocessor.reverse_channels = True
    np.testing.assert_allclose(ChangeNetwork(detector.model, detector.loader)(*raw)[0],
                               detector.predict(*arrays).probability, atol=1e-5)
    assert [date.shape for date in network.example(2, 8, 9)] == [(2, 8, 9, 4)] * 2
    with pytest.raises(ValueError, match=r'date 1 is uint16 \(64, 64, 3\), but an image \(H, W, 4\) with the values'):
        detector.predict(arrays[0][..., :3], arrays[1][..., :3])
    with pytest.raises(ValueError, match='loads 3 channels per date, but its backbone takes 4'):
        ChangeNetwork(detector.model)


def test_weights_for_rgb_are_not_tested_on_other_bands(four_bands, checkpoint, tmp_path):
    with pytest.raises(SystemExit, match=r'features\.0\.weight is \(64, 3, 3, 3\), not \(64, 4, 3, 3\)'):
        test.main([str(four_bands[0]), str(checkpoint), '--work-dir', str(tmp_path / 'run')])


def test_commands_predict_and_check_bands(four_bands, tmp_path, capsys):
    pytest.importorskip('geopandas', reason='geopandas is not installed: pip install ifn_plugin[geo]')
    config, weights, data = four_bands
    paths = [sorted((data / 'test' / kind).iterdir())[0] for kind in 'AB']
    common = [str(config), str(weights), *map(str, paths), str(tmp_path / 'out'), '--device', 'cpu']
    predict([*common, '--output', 'map', 'panel', 'probability', '--no-accelerate'])
    expected = ChangeDetector(config, weights, 'cpu').predict(*paths).probability
    with rasterio.open(tmp_path / 'out' / 'probability' / f'A_B_{paths[1].name}') as written:
        np.testing.assert_allclose(written.read(1) / 254, expected, atol=0.002 + 1 / 254)
    assert (tmp_path / 'out' / 'panel' / f'A_B_{paths[1].stem}.png').exists()
    with pytest.raises(SystemExit, match='--bands 1 2 3: the detector takes 4 bands'):
        predict([*common, '--bands', '1', '2', '3'])
    predict([*common[:2], str(data / 'test' / 'A'), str(data / 'test' / 'B'), *common[4:], '--output', 'panel'])
    capsys.readouterr()
    check_dataset([str(config), '--out', str(tmp_path / 'check.html')])
    output = capsys.readouterr().out
    loader = find_loaders(Config.fromfile(config))[0]
    images = [image for number in range(2) for image in loader(dict(
        img_path=[str(sorted((data / 'test' / kind).iterdir())[number]) for kind in 'AB']))['img']]
    for name, function in (('mean', np.mean), ('std', np.std)):
        expected = function(np.concatenate([image.reshape(-1, 4) for image in images]), axis=0)
        found = output.split('split: test')[1].split(f'{name}: ')[1].splitlines()[0].split(', ')[:4]
        np.testing.assert_allclose([float(value) for value in found], expected, atol=0.06)


def test_a_band_marked_as_alpha_is_data_where_it_is_asked_for(tmp_path):
    """GDAL marks the last of four 8-bit bands unless told otherwise."""
    image = np.full((40, 50, 4), 100, np.uint8)
    image[:10, :, 3] = 0
    paths = [write(tmp_path / name, image) for name in ('a.tif', 'b.tif')]
    with rasterio.open(paths[0]) as dataset:
        assert dataset.colorinterp[3].name == 'alpha'
    results = LoadBands(bands=(4, 1)).transform(dict(img_path=list(paths)))
    assert results['valid'].all() and np.array_equal(results['img'][0], image[..., [3, 0]])
    results = LoadBands(bands=(1, 2, 3)).transform(dict(img_path=list(paths)))
    assert np.array_equal(results['valid'], image[..., 3] > 0)


def test_the_loaders_of_a_configuration(monkeypatch):
    load = dict(type='ifn_plugin.LoadBands', bands=(1, 2), scale=(0, 1))
    label = dict(type='ifn_plugin.LoadChangeLabel', threshold=127)
    nested = dict(type='RepeatDataset', dataset=dict(pipeline=[load, label]))
    dates, labels = find_loaders(Config(dict(train_dataloader=dict(dataset=nested))))
    assert isinstance(dates, LoadBands) and dates.bands == [1, 2] and labels.threshold == 127
    monkeypatch.setitem(TRANSFORMS.module_dict, 'OwnBands', type('OwnBands', (LoadBands, ), {}))
    own = dict(type='OwnBands', bands=(4, 2), scale=(0, 1))
    assert find_loaders(Config(dict(test_dataloader=dict(dataset=dict(pipeline=[own])))))[0].bands == [4, 2]
    for cfg in (dict(), dict(test_dataloader=None),
                dict(test_dataloader=dict(dataset=dict(pipeline=[dict(type='MultiImgLoadImageFromFile')])))):
        dates, labels = find_loaders(Config(cfg))
        assert type(dates) is LoadPair and labels.threshold is None
