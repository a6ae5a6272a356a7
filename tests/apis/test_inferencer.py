"""Change maps by the detector in Python."""

import copy
import re
from concurrent.futures import ThreadPoolExecutor

import cv2
import hostile
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from ifn_plugin.datasets import ConcatDates, LoadPair
from ifn_plugin.fileio import load_checkpoint_file
from ifn_plugin.inference import ChangeDetector, find_pairs
from ifn_plugin.models.conversion import convert_to_opencd
from ifn_plugin.utils.configurations import find_config

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')


@pytest.fixture(scope='module')
def detector(checkpoint):
    return ChangeDetector(CONFIG, checkpoint, device='cpu', batch_size=2)


def pair(seed=0, height=48, width=40):
    return np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), np.uint8)


def test_probabilities_are_those_of_testing(detector, levir_like):
    paths = [str(sorted((levir_like / 'test' / date).iterdir())[0]) for date in 'AB']
    results = ConcatDates().transform(LoadPair().transform(dict(img_path=paths)))
    image = torch.from_numpy(results['img'].transpose(2, 0, 1).copy())
    with torch.no_grad(), DefaultScope.overwrite_default_scope('mmseg'):
        sample = detector.model.data_preprocessor(dict(inputs=[image]))
        logits = detector.model.encode_decode(sample['inputs'], [dict(img_shape=image.shape[1:])])
    expected = logits[0, 0].sigmoid().numpy()
    from_files = detector.predict(*paths)
    np.testing.assert_allclose(from_files.probability, expected, rtol=0, atol=1e-6)
    assert from_files.probability.dtype == np.float32 and from_files.changed.dtype == bool
    assert np.array_equal(from_files.changed, from_files.probability > 0.3) and 0 < from_files.changed.mean() < 1
    from_arrays = detector.predict(*(cv2.imread(path)[..., ::-1] for path in paths))
    assert np.array_equal(from_arrays.probability, from_files.probability)


def test_arrays_may_be_filled_again(detector):
    """As by a reader of videos, while their maps are computed."""
    buffers = [np.empty((48, 40, 3), np.uint8) for _ in range(2)]

    def fill():
        for seed in range(5):
            for buffer, image in zip(buffers, pair(seed)):
                buffer[:] = image
            yield buffers

    expected = detector.predict_all(pair(seed) for seed in range(5))
    for one, other in zip(detector.predict_all(fill()), expected, strict=True):
        assert np.array_equal(one.probability, other.probability)


def test_threads_leave_the_default_scope_alone(detector):
    with ThreadPoolExecutor(4) as pool:
        maps = list(pool.map(lambda seed: detector.predict(*pair(seed)).probability, [0, 1] * 4))
    assert all(np.array_equal(found, maps[number % 2]) for number, found in enumerate(maps))
    assert not [name for name in DefaultScope._instance_dict if name.startswith('overwrite')]


@pytest.mark.parametrize('height, width', [(1, 1), (17, 33), (5, 300)])
def test_any_size(detector, height, width):
    change = detector.predict(*pair(height=height, width=width))
    assert change.probability.shape == change.changed.shape == (height, width)
    assert np.isfinite(change.probability).all()


@pytest.mark.slow
def test_compiled_the_last_batch_is_filled_up(detector, checkpoint):
    """Otherwise it would be compiled by itself."""
    compiled = []

    def compiler(graph, inputs):
        compiled.append(graph)
        return graph.forward

    fast = ChangeDetector(CONFIG, checkpoint, 'cpu', batch_size=2, acceleration=dict(compile=dict(backend=compiler)))
    pairs = [pair(number, 32) for number in range(5)]
    for found, expected in zip(fast.predict_all(pairs), detector.predict_all(pairs), strict=True):
        np.testing.assert_allclose(found.probability, expected.probability, rtol=0, atol=1e-5)
    assert len(compiled) == 1
    # not without full batches before it
    fast.predict(*pairs[0])
    assert len(compiled) == 2


def test_many_pairs_come_in_order_in_batches_of_their_size(detector):
    pairs = [pair(number, height) for number, height in enumerate([32, 32, 32, 48, 48, 32, 16])]
    sizes = []
    handle = detector.model.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    together = list(detector.predict_all(iter(pairs)))
    handle.remove()
    assert sizes == [2, 1, 2, 1, 1]
    for (date1, date2), change in zip(pairs, together):
        np.testing.assert_allclose(change.probability, detector.predict(date1, date2).probability, rtol=0, atol=1e-5)


def test_pairs_of_a_batch_are_preprocessed_one_by_one(detector, monkeypatch):
    """As open-cd's preprocessor needs it; the network sees them together."""
    preprocess, seen = detector.model.data_preprocessor.forward, []

    def forward(data, training=False):
        seen.append((len(data['inputs']), training))
        return preprocess(data, training)

    monkeypatch.setattr(detector.model.data_preprocessor, 'forward', forward)
    assert len(list(detector.predict_all([pair(0), pair(1)]))) == 2
    assert seen == [(1, False)] * 2


def test_errors_come_when_their_pair_does(detector, tmp_path):
    (tmp_path / 'bad.png').write_bytes(b'no image')
    results = detector.predict_all([pair(), (tmp_path / 'bad.png', tmp_path / 'bad.png'), pair(1)])
    with pytest.raises(ValueError, match=r'bad\.png is not a readable image'):
        list(results)


@pytest.mark.parametrize('dates, message', [
    ((np.zeros((4, 4, 3)), np.zeros((4, 4, 3))), r'date 1 is float64 \(4, 4, 3\), but an RGB image, uint8'),
    ((np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)), r'date 2 is uint8 \(4, 4\)'),
    ((np.zeros((4, 4, 3), np.uint8), 'file.png'), r"date 2 is 'file\.png'.*or a file for both"),
    ((np.zeros((4, 4, 3)).tolist(), ) * 2, '^date 1 is list, but'),
    ((torch.zeros(4, 4, 3, dtype=torch.uint8), ) * 2, r'date 1 is torch\.uint8 torch\.Size\(\[4, 4, 3\]\), but'),
    ((np.zeros((0, 4, 3), np.uint8), ) * 2, r'date 1 is uint8 \(0, 4, 3\), but'),
    ((np.ma.masked_equal(np.zeros((4, 4, 3), np.uint8), 0), ) * 2, 'date 1 has masked pixels, but LoadPair'),
    ((np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)), r'differ in size: \(4, 4, 3\) and \(4, 5, 3\)'),
])
def test_wrong_images(detector, dates, message):
    with pytest.raises(ValueError, match=message):
        detector.predict(*dates)


@pytest.mark.parametrize('pairs, given', [
    (('1.png', '2.png'), r'got 1\.png'), ([pair()[:1]], 'got 1 items'), ([[*pair(), 7]], 'got 3 items')])
def test_what_is_no_pair_is_refused(detector, pairs, given):
    with pytest.raises(ValueError, match=rf'needs pairs, but {given}. Fix: predict_all\(\[\(date1, date2\)'):
        list(detector.predict_all(pairs))


@pytest.mark.parametrize('threshold', [50, 1, -0.1, float('nan')])
def test_thresholds_are_probabilities(checkpoint, threshold):
    with pytest.raises(ValueError, match='use a probability from 0 to below 1'):
        ChangeDetector(CONFIG, checkpoint, threshold=threshold)


def test_the_threshold_that_validation_chose(checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r'\.pth has no threshold from validation\. Fix: name one'):
        ChangeDetector(CONFIG, checkpoint, device='cpu', threshold='val')
    content = load_checkpoint_file(checkpoint)
    content['message_hub'] = dict(runtime_info=dict(change_threshold=0.07))
    torch.save(content, tmp_path / 'chosen.pth')
    assert ChangeDetector(CONFIG, tmp_path / 'chosen.pth', device='cpu', threshold='val').threshold == 0.07
    assert ChangeDetector(CONFIG, tmp_path / 'chosen.pth', device='cpu').threshold == 0.3  # the configuration's


def test_weights_that_are_not_finite_give_no_map(checkpoint, tmp_path):
    content = load_checkpoint_file(checkpoint)
    content['state_dict']['decode_head.levels.4.logit.bias'].fill_(torch.nan)
    torch.save(content, tmp_path / 'nan.pth')
    with pytest.raises(ValueError, match=r'nan\.pth: the detector gives probabilities that are not finite'):
        ChangeDetector(CONFIG, tmp_path / 'nan.pth', device='cpu').predict(*pair())


def test_weights_for_rgb_do_not_fit_other_bands(checkpoint):
    with pytest.raises(ValueError, match=r'backbone\.features\.0\.weight is \(64, 3, 3, 3\), not \(64, 4, 3, 3\)'):
        ChangeDetector('ifn_256x256_40k_4bands.py', checkpoint)


def test_a_detector_draws_no_random_numbers(checkpoint):
    state = torch.get_rng_state()
    ChangeDetector(CONFIG, checkpoint)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_has_a_pair(checkpoint):
    with pytest.raises(ValueError, match='batch_size=0: use at least 1'):
        ChangeDetector(CONFIG, checkpoint, batch_size=0)


def test_a_configuration_by_name_and_a_threshold(checkpoint):
    change = ChangeDetector(CONFIG.name, checkpoint, device='cpu', threshold=0.6).predict(*pair())
    assert np.array_equal(change.changed, change.probability > 0.6)


def test_acceleration(detector, checkpoint):
    faster = ChangeDetector(CONFIG, checkpoint, device='cpu', acceleration=dict(dtype='bfloat16'))
    assert faster.dtype == torch.bfloat16
    a, b = (each.predict(*pair()).probability for each in (detector, faster))
    assert not np.array_equal(a, b) and np.abs(a - b).max() < 0.05


def test_sliding_windows_and_two_classes(tmp_path):
    """Whatever mmseg builds: here a plain head of two classes, in windows."""
    cfg = Config(dict(default_scope='mmseg', model=dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='ifn_plugin.PairDataPreprocessor', mean=[127.5] * 3, std=[60.] * 3),
        backbone=dict(type='ifn_plugin.IFN', init_cfg=None),
        decode_head=dict(type='FCNHead', in_channels=128, channels=8, num_convs=1, in_index=0, num_classes=2,
                         norm_cfg=dict(type='SyncBN')),
        test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(24, 24)))))
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.save(MODELS.build(cfg.model).state_dict(), tmp_path / 'weights.pth')
    change = ChangeDetector(cfg, tmp_path / 'weights.pth', device='cpu').predict(*pair())
    assert change.probability.shape == (48, 40) and 0 < change.probability.min() < change.probability.max() < 1
    assert np.array_equal(change.changed, change.probability > 0.5)


def test_one_configuration_builds_several_detectors(tmp_path):
    """mmseg's detectors move ``pretrained`` into the settings of their backbone."""
    cfg = Config(dict(default_scope='mmseg', model=dict(
        type='EncoderDecoder', pretrained='none.pth',
        data_preprocessor=dict(type='ifn_plugin.PairDataPreprocessor', mean=[127.5] * 3, std=[60.] * 3),
        backbone=dict(type='ResNet', depth=18, in_channels=6, norm_cfg=dict(type='BN')),
        decode_head=dict(type='FCNHead', in_channels=512, channels=8, num_classes=2),
        test_cfg=dict(mode='whole'))))
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.save(MODELS.build(copy.deepcopy(cfg.model)).state_dict(), tmp_path / 'weights.pth')
    maps = [ChangeDetector(cfg, tmp_path / 'weights.pth', device='cpu').predict(*pair()) for _ in range(2)]
    assert np.array_equal(maps[0].probability, maps[1].probability)
    assert cfg.model.pretrained == 'none.pth' and 'pretrained' not in cfg.model.backbone


def test_weights_of_open_cds_ifn_fit(detector, checkpoint, tmp_path):
    torch.save(dict(state_dict=convert_to_opencd(torch.load(checkpoint))), tmp_path / 'opencd.pth')
    other = ChangeDetector(CONFIG, tmp_path / 'opencd.pth', device='cpu')
    assert np.array_equal(other.predict(*pair()).probability, detector.predict(*pair()).probability)


def test_weights_that_do_not_fit(checkpoint, tmp_path):
    state = torch.load(checkpoint)['state_dict']
    state.pop('decode_head.levels.0.norm.weight')
    state['decode_head.levels.1.norm.weight'] = torch.zeros(3)
    state['more'] = torch.zeros(3)
    torch.save(state, tmp_path / 'other.pth')
    level = r'decode_head\.levels\.'
    with pytest.raises(ValueError, match=r'other\.pth does not fit the configuration: '
                       rf'{level}0\.norm\.weight is missing; '
                       rf'{level}1\.norm\.weight is \(3,\), not \(256,\); more is unknown\.'):
        ChangeDetector(CONFIG, tmp_path / 'other.pth')
    with pytest.raises(FileNotFoundError, match=r"none\.py: no such file, and none of the plugin's own"):
        ChangeDetector('none.py', tmp_path / 'other.pth')
    with pytest.raises(FileNotFoundError, match=r'none\.pth: no such checkpoint'):
        ChangeDetector(CONFIG, tmp_path / 'none.pth')


def test_checkpoints_that_run_code_are_refused(tmp_path):
    path, mark = tmp_path / 'evil.pth', tmp_path / 'executed'
    hostile.CONTAINERS['zip'](hostile.PLACES['weights'](hostile.payloads(mark)['eval']), path, 2)
    with pytest.raises(ValueError, match=r'evil\.pth is not a checkpoint that can be read safely'):
        ChangeDetector(CONFIG, path)
    assert not mark.exists()


def test_pairs_of_folders(tmp_path):
    for name in ('1/b.webp', '1/sub/a 变.jpg', '1/\u00e9.png',
                 '2/b.tif', '2/sub/a 变.png', '2/e\u0301.png', '2/notes.txt'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list(find_pairs(tmp_path / '1', tmp_path / '2')) == ['b', 'sub/a 变', '\u00e9']
    (tmp_path / '1' / 'c.png').touch()
    with pytest.raises(FileNotFoundError, match=rf"Missing: {re.escape(str(tmp_path / '2'))}/c\.\*\. Fix: add these"):
        find_pairs(tmp_path / '1', tmp_path / '2')
    with pytest.raises(FileNotFoundError, match='3: no such folder'):
        find_pairs(tmp_path / '1', tmp_path / '3')
    (tmp_path / '4').mkdir()
    with pytest.raises(FileNotFoundError, match='hold no images'):
        find_pairs(tmp_path / '4', tmp_path / '4')


def test_what_a_test_does_to_images_besides_is_said(checkpoint, monkeypatch):
    """As open-cd's pipelines, which enlarge; a detector takes images as they are."""
    said = []
    monkeypatch.setattr('ifn_plugin.apis.inferencer.print_log', lambda message, *_: said.append(message))
    cfg = Config.fromfile(CONFIG)
    ChangeDetector(cfg, checkpoint, device='cpu')
    assert not said
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='MultiImgResize', scale=(1024, 1024)))
    ChangeDetector(cfg, checkpoint, device='cpu')
    assert len(said) == 1 and 'passes its images through MultiImgResize' in said[0]


def test_a_preprocessor_beside_the_model(detector, checkpoint):
    """As mmengine's runner takes it; and the configuration that a test with augmentation has written."""
    cfg = Config.fromfile(CONFIG)
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    cfg.model = dict(type='ifn_plugin.ChangeTTAModel', module=cfg.model)
    other = ChangeDetector(cfg, checkpoint, device='cpu', threshold=np.float32(0.25))
    np.testing.assert_array_equal(other.predict(*pair()).probability, detector.predict(*pair()).probability)
    assert other.threshold == 0.25 and type(other.threshold) is float


def test_a_configuration_without_a_model_is_named(checkpoint):
    with pytest.raises(ValueError, match=r'levircd\.py has no model'):
        ChangeDetector(CONFIG.parents[1] / '_base_' / 'datasets' / 'levircd.py', checkpoint)
