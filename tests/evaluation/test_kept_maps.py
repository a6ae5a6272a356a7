import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from ifn_plugin.evaluation import LEVELS, THRESHOLDS
from ifn_plugin.evaluation.kept_maps import MAPS, count_levels, level_of, map_name, read_map, write_map
from ifn_plugin.fileio import pillow
from ifn_plugin.utils.configurations import find_config


def test_levels_are_thresholds_of_the_metric_and_fit_into_a_byte():
    assert len(LEVELS) <= 255 and torch.isin(LEVELS, THRESHOLDS).all()
    assert torch.isin(torch.arange(1, 100) / 100, LEVELS).all()


def test_a_map_says_exactly_which_pixels_are_above_each_level(tmp_path):
    probability = torch.cat((torch.rand(40, 50), LEVELS[:200].reshape(4, 50), torch.zeros(1, 50), torch.ones(1, 50)))
    label = torch.randint(0, 2, probability.shape)
    label[0], label[1] = 255, 7
    write_map(tmp_path / 'map.png', probability, label)
    levels, kept = read_map(tmp_path / 'map.png')
    assert np.array_equal(levels, level_of(probability)) and (kept[:2] == 255).all()
    assert np.array_equal(kept[2:], label[2:])
    for index in (0, 100, len(LEVELS) - 1):
        assert np.array_equal(levels > index, probability > LEVELS[index])
    assert count_levels(levels, kept).sum() == label[2:].numel()


def test_two_processes_may_write_one_map_at_the_same_moment(tmp_path, monkeypatch):
    probability, label = torch.rand(4, 5), torch.ones(4, 5)
    fsync = os.fsync

    def other_process_writes(file):
        monkeypatch.setattr(os, 'fsync', fsync)
        monkeypatch.setattr(pillow, 'get_rank', lambda: 1)
        write_map(tmp_path / 'a.png', probability, label)
        fsync(file)

    monkeypatch.setattr(os, 'fsync', other_process_writes)
    write_map(tmp_path / 'a.png', probability, label)
    assert pillow.get_rank() == 1 and [path.name for path in tmp_path.iterdir()] == ['a.png']
    assert np.array_equal(read_map(tmp_path / 'a.png')[0], level_of(probability))


def test_pairs_of_one_name_have_maps_of_different_names():
    names = {map_name([f'{folder}/A/1.png', f'{folder}/B/1.png', None]) for folder in ('train', 'test')}
    assert len(names) == 2 and all(name.startswith('1-') for name in names)
    assert map_name(['\udcb3.png']).encode()  # not UTF-8


def run_test(options, checkpoint, work_dir, *changes):
    cfg = Config.fromfile(find_config('ifn_mmseg_256x256_40k_levircd.py'))
    with DefaultScope.overwrite_default_scope('mmseg'):
        cfg.merge_from_dict({key: value for key, value in (option.split('=', 1) for option in options)
                             if key.startswith('test') and 'workers' not in key})
        cfg.test_dataloader.num_workers, cfg.test_dataloader.persistent_workers = 0, False
        cfg.model.backbone.init_cfg = None
        cfg.work_dir, cfg.load_from = str(work_dir), str(checkpoint)
        for change in changes:
            change(cfg)
        runner = Runner.from_cfg(cfg)
        runner.test()
    return Path(runner.log_dir), json.loads(Path(runner.log_dir, 'evaluation_test.json').read_text())


def augment(cfg):
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(type='ifn_plugin.ChangeTTAModel', module=cfg.model)


def use_tiles(cfg):
    cfg.model.test_cfg = dict(mode='slide', crop_size=(32, 32), stride=(32, 32))


def use_protocols(cfg):
    cfg.test_cfg = dict(type='ifn_plugin.ProtocolsTestLoop', protocols=dict(
        whole=dict(mode='whole'), tiles=dict(mode='slide', crop_size=(32, 32), stride=(32, 32))))


@pytest.mark.parametrize('change', [lambda cfg: None, augment, use_tiles, use_protocols])
def test_kept_maps_give_the_counts_of_the_record(options, checkpoint, tmp_path, change):
    """Plain, augmented, in windows and by two protocols."""
    folder, content = run_test(options, checkpoint, tmp_path, change)
    assert content['tta'] == (change is augment) and content['maps'] and content['checkpoint'] == str(checkpoint)
    assert {'ifn_plugin', 'torch', 'mmengine'} <= content['versions'].keys() and content['date']
    for protocol, record in content['protocols'].items():
        total, index = np.zeros((2, 256), int), int(torch.searchsorted(LEVELS, record['threshold']))
        for pair in record['pairs']:
            counts = count_levels(*read_map(folder / MAPS / protocol / map_name(pair['files'])))
            total += counts
            (fp, tp), (unchanged, changed) = counts[:, index + 1:].sum(1), counts.sum(1)
            assert pair['counts'] == [tp, fp, changed - tp, unchanged - fp]
        places = torch.searchsorted(THRESHOLDS, LEVELS)
        above = np.cumsum(total[:, ::-1], 1)[:, ::-1][:, 1:len(LEVELS) + 1]
        assert np.array_equal(above[1], np.array(record['curve']['tp'])[places])
        assert np.array_equal(above[0], np.array(record['curve']['fp'])[places])


def test_maps_are_kept_only_if_asked(options, checkpoint, tmp_path):
    def keep_none(cfg):
        cfg.default_hooks.evaluation.keep_maps = False

    folder, content = run_test(options, checkpoint, tmp_path, keep_none)
    assert not content['maps'] and not (folder / MAPS).exists()
