"""mmsegmentation's own parts in a test of pairs."""

import json
import os
import pickle
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from ifn_plugin.datasets import LoadPair
from ifn_plugin.inference import ChangeDetector
from ifn_plugin.tools import test
from ifn_plugin.utils.configurations import find_config

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')


@pytest.fixture
def run(options, checkpoint, tmp_path):
    """A function that tests with more settings, as text, and more arguments."""

    def run(text, *arguments):
        config = tmp_path / 'own.py'
        config.write_text(f'_base_ = {str(CONFIG)!r}\n{text}\n')
        test.main([str(config), str(checkpoint), '--work-dir', str(tmp_path / 'run'), *arguments, '--cfg-options',
                   *options])

    return run


@pytest.mark.parametrize('metric', ["'mmseg.IoUMetric'", "'mmseg.IoUMetric', format_only=True",
                                    "'ifn_plugin.ChangeMetric', keep_results=True"])
def test_metrics_write_masks(run, levir_like, checkpoint, tmp_path, metric):
    """As ``--out`` of mmseg's test script sets it."""
    masks = tmp_path / 'masks'
    run(f'test_evaluator = dict(_delete_=True, type={metric}, output_dir={str(masks)!r})')
    assert sorted(path.stem for path in masks.iterdir()) == ['0000', '0001']
    detector = ChangeDetector(CONFIG, checkpoint, device='cpu')
    for path in masks.iterdir():
        expected = detector.predict(*(levir_like / 'test' / date / path.name for date in 'AB')).changed
        assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), expected)


def test_iou_metric_writes_masks_beside_the_plugins_metric_under_tta(run, tmp_path):
    run(f"""test_evaluator = [dict(type='ifn_plugin.ChangeMetric'), dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'],
            output_dir={str(tmp_path / 'masks')!r})]""", '--tta')
    assert len(list((tmp_path / 'masks').iterdir())) == 2
    record = json.loads(next((tmp_path / 'run').glob('*/evaluation_test.json')).read_text())['protocols']['']
    assert all(len(pair['files']) == 3 for pair in record['pairs'])


def test_paths_of_a_pair_are_a_list_and_one_path(levir_like):
    paths = [str(levir_like / 'test' / date / '0000.png') for date in 'AB']
    loaded = LoadPair().transform(dict(img_path=paths))['img_path']
    for each in (loaded, pickle.loads(pickle.dumps(loaded))):
        assert each == paths and os.fspath(each) == paths[1]


def test_show_dir_draws_pairs_in_place_of_mmsegs_hook(run, tmp_path):
    hook = "dict(_delete_=True, type='mmseg.SegVisualizationHook', interval=1, backend_args=None)"
    run(f'default_hooks = dict(visualization={hook})', '--show-dir', str(tmp_path / 'panels'))
    panels = list((tmp_path / 'panels').glob('*.png'))
    assert len(panels) == 2 and cv2.imread(str(panels[0])).shape[1] > 4 * 64


@pytest.mark.parametrize('visualizer', ['None', "dict(_delete_=True, type='Visualizer', vis_backends=None)",
                                        'dict(vis_backends=[])'])
def test_show_dir_needs_no_visualizer(run, tmp_path, visualizer):
    run(f'visualizer = {visualizer}', '--show-dir', str(tmp_path / 'panels'))
    assert len(list((tmp_path / 'panels').glob('*.png'))) == 2


def test_show_dir_with_a_configuration_in_pure_python(tmp_path):
    """Which the runner writes into the work dir."""
    config = tmp_path / 'lazy.py'
    config.write_text('from mmengine.visualization import LocalVisBackend, Visualizer\n'
                      'from ifn_plugin.engine import ChangePanelHook\n'
                      'default_hooks = dict(visualization=dict(type=ChangePanelHook))\n'
                      'visualizer = dict(type=Visualizer, vis_backends=[dict(type=LocalVisBackend)])\n')
    cfg = Config.fromfile(config)
    test._draw_panels(cfg, SimpleNamespace(show=False, show_dir=tmp_path / 'panels'))
    cfg.dump(tmp_path / 'written.py')
    backend, = Config.fromfile(tmp_path / 'written.py').visualizer.vis_backends
    assert backend.img_save_dir == str(tmp_path / 'panels')


def test_mmsegs_hook_is_refused_where_it_is_to_draw(options, checkpoint, tmp_path):
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.init_cfg = None
    cfg.default_hooks.visualization = dict(type='mmseg.SegVisualizationHook', draw=True)
    cfg.update(work_dir=str(tmp_path), load_from=str(checkpoint))
    data_root = next(option for option in options if option.startswith('test_dataloader.dataset.data_root'))
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.data_root = data_root.partition('=')[2]
    with pytest.raises(ValueError, match=r"draws one image.*Fix: .*type='ifn_plugin\.ChangePanelHook'"):
        Runner.from_cfg(cfg).test()
