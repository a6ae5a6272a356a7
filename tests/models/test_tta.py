"""Test-time augmentation, as the configurations set it up."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ifn_plugin.datasets import LEVIRCDDataset, check_views
from ifn_plugin.evaluation import ChangeMetric
from ifn_plugin.models import ChangeTTAModel
from ifn_plugin.registry import DATASETS
from ifn_plugin.tools import test
from ifn_plugin.utils.configurations import find_config

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')


def test_flips_are_undone_and_averaged(levir_like):
    torch.manual_seed(0)
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.init_cfg = None
    cfg.tta_model.module = cfg.model
    cfg.test_dataloader.dataset.update(data_root=str(levir_like), pipeline=cfg.tta_pipeline)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.tta_model).eval()
        sample = DATASETS.build(cfg.test_dataloader.dataset)[0]
    detector = model.module
    pair = detector.data_preprocessor(dict(inputs=[sample['inputs'][0]]))['inputs']
    with torch.no_grad():
        probabilities = [_probability(detector, pair, axes) for axes in ([], [3], [2])]
    mean = torch.stack(probabilities).mean(0)[0]
    # in the widest gap of the middle half: the map is neither empty nor full, and rounding changes no pixel
    values = mean.flatten().sort().values
    middle = values[len(values) // 4:-len(values) // 4]
    widest = middle.diff().argmax()
    detector.decode_head.threshold = middle[widest:widest + 2].mean().item()
    result = model.test_step(pseudo_collate([sample]))[0]
    assert torch.equal(result.pred_sem_seg.data.bool(), mean > detector.decode_head.threshold)
    assert not torch.allclose(probabilities[0], probabilities[1], atol=1e-4)


@pytest.mark.parametrize('channels', [1, 2])
def test_map_and_probabilities_are_of_all_views(channels):
    views = torch.randn(3, channels, 5, 4, generator=torch.Generator().manual_seed(0))
    views = views.sigmoid() if channels == 1 else views
    model = ChangeTTAModel.__new__(ChangeTTAModel)
    torch.nn.Module.__init__(model)
    model.module = torch.nn.Module()
    model.module.decode_head = torch.nn.Module()
    model.module.decode_head.threshold, model.module.decode_head.out_channels = 0.4, channels
    samples = [SegDataSample(seg_logits=PixelData(data=view)) for view in views]
    merged = model.merge_preds([samples])[0]
    expected = (views if channels == 1 else views.softmax(1)).mean(0)
    probability = merged.seg_logits.data if channels == 1 else merged.seg_logits.data.softmax(0)
    torch.testing.assert_close(probability, expected)
    changed = expected > 0.4 if channels == 1 else expected[1:] > 0.5
    assert merged.pred_sem_seg.data.shape == (1, 5, 4)
    assert torch.equal(merged.pred_sem_seg.data.bool(), changed)


LABEL = dict(type='ifn_plugin.LoadChangeLabel')


def views(*steps, before=()):
    """A pipeline with a view for each choice of steps."""
    choices = [[step] if isinstance(step, dict) else step for step in steps]
    return [dict(type='ifn_plugin.LoadPair'), dict(type='ifn_plugin.ConcatDates'), *before,
            dict(type='TestTimeAug', transforms=[*choices, [LABEL], [dict(type='PackSegInputs')]])]


def flip(direction, prob=1.):
    return dict(type='RandomFlip', prob=prob, direction=direction)


@pytest.fixture(scope='module')
def marked(tmp_path_factory):
    """A data set of one pair that differs where its label says so."""
    folder = tmp_path_factory.mktemp('marked')
    image = np.random.default_rng(0).integers(60, 120, (64, 80, 3)).astype(np.uint8)
    label = np.zeros((64, 80), np.uint8)
    label[5:25, 8:40] = 255
    for kind, content in (('A', image), ('B', np.where(label[..., None] > 0, np.uint8(250), image)), ('label', label)):
        (folder / kind).mkdir()
        cv2.imwrite(str(folder / kind / 'a.png'), content)
    return folder


def perfect_f1(pipeline, folder):
    """F1 of a network that sees each difference of the dates."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = LEVIRCDDataset(data_root=str(folder), pipeline=pipeline)
        model = MODELS.build(dict(cfg.tta_model, module=cfg.model)).eval()
        model.module.encode_decode = lambda x, *_: torch.where((x[:, :3] - x[:, 3:]).abs().sum(1, True) > 1e-3, 9., -9.)
        metric = ChangeMetric()
        metric.process(None, [sample.to_dict() for sample in model.test_step(pseudo_collate([dataset[0]]))])
    return metric.evaluate(1)['F1']


@pytest.mark.parametrize('pipeline, least', [
    (views([flip('horizontal'), flip('vertical')]), 100),
    (views(flip('diagonal')), 100),
    (views([flip('horizontal', 0.), flip('horizontal'), flip('vertical'), flip('diagonal')]), 100),
    (views([dict(type='Resize', scale_factor=2., keep_ratio=True)], flip(['horizontal', 'vertical', 'diagonal'])), 90),
    (views(dict(type='AdjustGamma', gamma=1.5), flip('vertical')), 100),
], ids=['two flips', 'diagonal', 'all flips', 'resized', 'colours'])
def test_views_are_turned_back(marked, pipeline, least):
    assert perfect_f1(pipeline, marked) >= least


@pytest.mark.parametrize('pipeline, named', [
    (views(dict(type='RandomRotate', prob=0.5, degree=90)), 'RandomRotate'),
    (views(dict(type='RandomRotate', prob=1., degree=(180, 180))), 'RandomRotate'),
    (views(dict(type='RandomCrop', crop_size=(512, 512))), 'RandomCrop'),
    (views([flip('horizontal', 0.), flip('horizontal')], [flip('vertical', 0.), flip('vertical')]), 'RandomFlip'),
    (views(dict(type='RandomRotFlip', rotate_prob=0., flip_prob=1.)), 'RandomRotFlip'),
    (views(dict(type='ifn_plugin.EachDate', transforms=[dict(type='Pad', size_divisor=32)])), 'Pad'),
    (views(flip('vertical'), before=[dict(type='RandomCrop', crop_size=(512, 512))]), 'RandomCrop'),
    (views(dict(type='ifn_plugin.RandomRotateCropFlip', crop_size=(512, 512))), 'RandomRotateCropFlip'),
], ids=['rotation', 'half turn', 'crop', 'two flips in a row', 'rotation and flip', 'padding', 'crop before',
        'our crop'])
def test_views_that_cannot_be_turned_back_are_refused(marked, pipeline, named):
    if 'ifn_plugin.EachDate' in str(pipeline) or 'RandomRotateCropFlip' in str(pipeline):  # which take both dates
        pipeline[-1]['transforms'].insert(1, [pipeline.pop(1)])
    with pytest.raises(ValueError, match=rf'{named}.* cannot be undone.*one RandomFlip'):
        perfect_f1(pipeline, marked)


def test_label_that_the_first_view_lacks_is_refused(marked):
    late = views([flip('horizontal'), flip('horizontal', 0.)])
    assert perfect_f1(late, marked) == 100
    early = views([flip('horizontal'), flip('horizontal', 0.)], before=[LABEL])
    del early[-1]['transforms'][1]
    with pytest.raises(ValueError, match=r'RandomFlip\(.*changes the first view after its label was loaded'):
        perfect_f1(early, marked)
    early[-1]['transforms'][0].reverse()
    assert perfect_f1(early, marked) == 100


def test_views_in_wrapped_data_sets_are_checked_without_drawing_random_numbers(marked):
    class Wrapper:
        pass

    def draw(results):
        torch.rand(1)
        return results

    bad, wrapper = Wrapper(), Wrapper()
    with DefaultScope.overwrite_default_scope('mmseg'):
        bad.pipeline = Compose(views([draw], dict(type='RandomRotate', prob=1., degree=90)))
    wrapper.datasets = [LEVIRCDDataset(data_root=str(marked)), bad]
    before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with pytest.raises(ValueError, match='RandomRotate'):
        check_views(wrapper)
    assert before == (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


@pytest.mark.parametrize('setting', ["tta_model = dict(_delete_=True, type='SegTTAModel')", 'tta_model = None'])
def test_command_merges_probabilities_whatever_the_configuration_says(options, checkpoint, tmp_path, setting):
    config = tmp_path / 'own.py'
    config.write_text(f'_base_ = {str(CONFIG)!r}\n{setting}\n')
    test.main([str(config), str(checkpoint), '--tta', '--work-dir', str(tmp_path), '--cfg-options', *options])
    metrics = json.loads(next(tmp_path.glob('*/evaluation_test.json')).read_text())['protocols']['']['metrics']
    assert 0 < metrics['AP'] <= 100 and 0 < metrics['Recall'] < 100


def test_command_knows_mmsegs_model_by_its_class(options, checkpoint, tmp_path):
    config = tmp_path / 'own.py'
    imported = 'from mmseg.models import SegTTAModel\ntta_model = dict(type=SegTTAModel)\n'
    text = Config.fromfile(CONFIG).pretty_text
    config.write_text(imported.replace('tta_model', f'{text}\ntta_model', 1))
    test.main([str(config), str(checkpoint), '--tta', '--work-dir', str(tmp_path), '--cfg-options', *options])
    assert 'AP' in json.loads(next(tmp_path.glob('*/evaluation_test.json')).read_text())['protocols']['']['metrics']


def test_command_augments_each_of_several_data_sets(options, checkpoint, levir_like, tmp_path):
    config = tmp_path / 'own.py'
    config.write_text(f"""_base_ = {str(CONFIG)!r}
one = dict(type='ifn_plugin.LEVIRCDDataset', data_root={str(levir_like / 'test')!r}, pipeline=_base_.test_pipeline)
test_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[one, one]))
""")
    settings = [option for option in options if not option.startswith('test_dataloader.dataset')]
    test.main([str(config), str(checkpoint), '--tta', '--work-dir', str(tmp_path), '--cfg-options', *settings])
    record = json.loads(next(tmp_path.glob('*/evaluation_test.json')).read_text())['protocols']['']
    assert len(record['pairs']) == 4 and 0 < record['metrics']['AP'] <= 100


@pytest.mark.parametrize('setting, message', [
    ('tta_pipeline = None', 'has no tta_pipeline'),
    ("tta_pipeline = _base_.tta_pipeline\ntta_pipeline[-1].transforms[0] = [dict(type='RandomRotate', prob=1., "
     'degree=90)]', r'RandomRotate\(.*cannot be undone'),
])
def test_command_refuses_views_without_traceback(options, checkpoint, tmp_path, setting, message):
    config = tmp_path / 'own.py'
    config.write_text(f'_base_ = {str(CONFIG)!r}\n{setting}\n')
    with pytest.raises(SystemExit, match=message):
        test.main([str(config), str(checkpoint), '--tta', '--work-dir', str(tmp_path), '--cfg-options', *options])


def _probability(detector, pair, axes):
    logits = detector.decode_head(detector.backbone(pair.flip(axes)))[-1]
    return logits.sigmoid().flip(axes)


@pytest.mark.parametrize('own', [True, False])
def test_the_detectors_own_preprocessor_stays(own):
    """mmengine's runner passes one that stands beside the model, and its own wrapper takes it in any case."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.init_cfg = None
    cfg.model.data_preprocessor.mean = [1., 2., 3.]
    beside = dict(cfg.model.data_preprocessor, mean=[4., 5., 6.])
    if not own:
        del cfg.model['data_preprocessor']
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(dict(type='ifn_plugin.ChangeTTAModel', module=cfg.model, data_preprocessor=beside))
    assert model.module.data_preprocessor.mean.flatten()[:3].tolist() == ([1, 2, 3] if own else [4, 5, 6])


def test_the_last_of_several_heads_has_the_threshold():
    model = ChangeTTAModel.__new__(ChangeTTAModel)
    torch.nn.Module.__init__(model)
    model.module = torch.nn.Module()
    model.module.decode_head = torch.nn.ModuleList([torch.nn.Module(), torch.nn.Module()])
    model.module.decode_head[-1].threshold, model.module.decode_head[-1].out_channels = 0.4, 1
    samples = [SegDataSample(seg_logits=PixelData(data=torch.tensor([[[0.3, 0.5]]])))]
    assert model.merge_preds([samples])[0].pred_sem_seg.data.tolist() == [[[0, 1]]]
