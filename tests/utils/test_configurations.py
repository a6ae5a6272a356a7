"""Types in configurations are recognized however they are written."""

import pytest
import torch
from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS

from ifn_plugin.analysis.comparison import settings as comparison
from ifn_plugin.analysis.dataset_check import find_splits
from ifn_plugin.engine import AccelerationHook
from ifn_plugin.tools import test, train
from ifn_plugin.utils.configurations import find_config, is_type, merge_options, read_config, resolve_type, type_name

# mmengine's pure Python style
PURE = """
from mmengine.config import read_base
from mmengine.dataset import InfiniteSampler
from mmengine.optim import OptimWrapper, AmpOptimWrapper
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.models import SegTTAModel
from ifn_plugin.engine import AccelerationHook
from ifn_plugin.datasets import LEVIRCDDataset, LoadPair
from ifn_plugin.engine import EvaluationHook
model = dict(type='mmseg.EncoderDecoder')
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type='SGD', lr=0.1))
custom_hooks = [dict(type=AccelerationHook, dtype='float32', compile=False)]
default_hooks = dict(evaluation=dict(type=EvaluationHook))
test_evaluator = dict(type='ifn_plugin.ChangeMetric')
tta_model = dict(type=SegTTAModel)
tta_pipeline = [dict(type=LoadPair)]
pipeline = [dict(type=LoadPair), dict(type=LoadAnnotations)]
train_dataloader = dict(dataset=dict(type=LEVIRCDDataset, data_root='data', pipeline=pipeline))
test_dataloader = dict(dataset=dict(type=LEVIRCDDataset, data_root='data', pipeline=pipeline))
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / 'config.py').write_text(PURE)
    return tmp_path / 'config.py'


@pytest.fixture
def built(monkeypatch):
    """The configurations of the runners that are built, which do nothing."""
    class Stop(Exception):
        pass

    found = []

    def keep(cfg):
        found.append(cfg)
        raise Stop

    monkeypatch.setattr('mmengine.runner.Runner.from_cfg', keep)
    found.append(Stop)
    return found


@pytest.mark.parametrize('kind', [
    AccelerationHook, 'ifn_plugin.AccelerationHook', 'ifn_plugin.engine.hooks.acceleration_hook.AccelerationHook',
    type('Mine', (AccelerationHook, ), {})])
def test_types_are_recognized_by_class_name_and_path(kind):
    assert is_type(kind, HOOKS, AccelerationHook) and not is_type(kind, HOOKS, EMAHook)
    assert type_name(kind) in ('AccelerationHook', 'Mine')


def test_lazy_types_are_resolved(config):
    for lazy in (LazyObject('mmengine.optim', 'OptimWrapper'), LazyAttr('OptimWrapper', LazyObject('mmengine.optim'))):
        assert resolve_type(lazy, OPTIM_WRAPPERS) is OptimWrapper and type_name(lazy) == 'OptimWrapper'
    cfg = Config.fromfile(config)
    assert resolve_type(cfg.to_dict()['optim_wrapper']['type'], OPTIM_WRAPPERS) is OptimWrapper


def test_unknown_types_resolve_to_none():
    assert resolve_type('opencd.NoSuchHook', HOOKS) is None and not is_type(None, HOOKS, EMAHook)
    assert type_name('opencd.MultiImgLoadAnnotations') == 'MultiImgLoadAnnotations'


def test_train_uses_amp_on_a_gpu(config, built, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    for wrapper in ('OptimWrapper', 'AmpOptimWrapper'):
        config.write_text(PURE.replace('type=OptimWrapper', f'type={wrapper}'))
        with pytest.raises(built[0]):
            train.main([str(config), '--amp', '--work-dir', str(tmp_path)])
        assert built[-1].optim_wrapper.type == 'AmpOptimWrapper'
    config.write_text(PURE.replace('type=OptimWrapper', "type='ApexOptimWrapper'"))
    with pytest.raises(SystemExit, match=r'--amp works with optim_wrapper.type=OptimWrapper, but .* has Apex'):
        train.main([str(config), '--amp', '--work-dir', str(tmp_path)])


def test_tta_replaces_mmsegs_model_by_the_plugins(config, built, tmp_path):
    (tmp_path / 'weights.pth').touch()
    with pytest.raises(built[0]):
        test.main([str(config), str(tmp_path / 'weights.pth'), '--tta', '--work-dir', str(tmp_path)])
    assert built[-1].model.type == 'ifn_plugin.ChangeTTAModel'


def test_check_dataset_finds_its_folders_and_loader(config):
    split = find_splits(Config.fromfile(config))[0]
    assert [folder.name for folder in split.folders] == ['A', 'B', 'label']
    assert split.stock_loader == 'LoadAnnotations'


def test_compare_finds_its_record_and_the_weights_to_leave_out(config):
    comparison.check_protocol(Config.fromfile(config))
    settings = dict(norm_cfg=dict(type=torch.nn.SyncBatchNorm), init_cfg=[
        dict(type='mmengine.model.PretrainedInit', checkpoint='a'), dict(type='Pretrained', checkpoint='b'),
        dict(type='Kaiming', layer='Conv2d')], other=dict(norm_cfg=dict(type='SyncBN')))
    model = comparison.combine(
        Config.fromfile(config), Config(dict(model=settings)), seed=0, from_scratch=True).model
    assert model.pop('test_cfg') == dict(mode='whole')
    assert model == dict(norm_cfg=dict(type='BN'), init_cfg=[dict(type='Kaiming', layer='Conv2d')],
                         other=dict(norm_cfg=dict(type='BN')))


@pytest.mark.parametrize('option, message', [
    ({'param_scheduler[1].end': 5}, r'param_scheduler\[1\]\.end=5: no such setting in .*levircd\.py\. '
                                    r'Fix: an element of a list is param_scheduler\.NUMBER, counted from 0\.'),
    ({'train_cgf.max_iters': 5}, r'train_cgf\.max_iters=5: no such setting in .*levircd\.py\. Did you mean train_cfg'),
    ({'param_scheduler.7.end': 5}, 'levircd.py: Index 7 exceeds the length of list'),
    ({'param_scheduler.last.end': 5}, 'levircd.py: list indices must be integers'),
    ({'train_cfg.max_iters.x': 5}, 'levircd.py: max_iters.* cannot inherit'),
    ({'data_root': 'x'}, r'data_root=x changes nothing: data_root is a variable of .*levircd\.py, .* Fix: set '
                         r'test_dataloader\.dataset\.data_root, train_dataloader\.dataset\.data_root, val_data'),
    ({'train_pipeline.2.transforms.0.degree': 90},
     r'Fix: set train_dataloader\.dataset\.pipeline\.2\.transforms\.0\.degree\.$'),
])
def test_options_that_change_nothing_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        merge_options(read_config('ifn_mmseg_256x256_40k_levircd.py'), option)


def test_options_that_only_own_code_may_read_are_warned_of(monkeypatch):
    said = []
    monkeypatch.setattr('ifn_plugin.utils.configurations.print_log', lambda text, *_: said.append(text))
    cfg = read_config('ifn_demo.py')
    cfg.own = 3
    merge_options(cfg, {'own': 4, 'train_cfg.max_iters': 5})
    assert cfg.own == 4 and said == [said[0]] and said[0].startswith('own=4 has an effect only if code of yours reads')


def test_options_override_settings_and_add_those_that_runners_read():
    cfg = read_config('ifn_mmseg_256x256_40k_levircd.py')
    merge_options(cfg, {'param_scheduler.1.end': 5, 'sync_bn': 'torch', 'experiment_name': 'x'})
    assert (cfg.param_scheduler[1].end, cfg.sync_bn, cfg.experiment_name) == (5, 'torch', 'x')


def test_a_preprocessor_that_the_runner_leaves_alone_is_named():
    with pytest.raises(ValueError, match=r'data_preprocessor\.mean=.* Fix: set model\.data_preprocessor\.mean\.'):
        merge_options(read_config('ifn_mmseg_256x256_40k_levircd.py'), {'data_preprocessor.mean': [1, 2, 3]})


def test_resume_among_the_options(config, built, tmp_path):
    for options, resume in (([], False), (['--cfg-options', 'resume=True'], True)):
        with pytest.raises(built[0]):
            train.main([str(config), '--work-dir', str(tmp_path), *options])
        assert built[-1].resume is resume


def test_a_test_with_augmentation_keeps_the_trainings_configuration(config, built, tmp_path):
    """The runner writes it into the work dir under its own name."""
    (tmp_path / 'weights.pth').touch()
    for options, name in (([], 'config.py'), (['--tta'], 'config-tta.py')):
        with pytest.raises(built[0]):
            test.main([str(config), str(tmp_path / 'weights.pth'), *options, '--work-dir', str(tmp_path)])
        assert built[-1].filename == str(tmp_path / name)


def test_panels_where_the_only_backend_is_no_list(built, tmp_path):
    (tmp_path / 'weights.pth').touch()
    own = tmp_path / 'own.py'
    own.write_text(f"_base_ = [{str(find_config('ifn_demo.py'))!r}]\n"
                   "visualizer = dict(type='Visualizer', vis_backends=dict(type='LocalVisBackend', _delete_=True))\n")
    with pytest.raises(built[0]):
        test.main([str(own), str(tmp_path / 'weights.pth'), '--show-dir', str(tmp_path / 'panels')])
    assert built[-1].visualizer.vis_backends == [dict(type='LocalVisBackend', img_save_dir=str(tmp_path / 'panels'))]
