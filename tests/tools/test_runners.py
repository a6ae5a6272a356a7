"""Training, resuming and testing through the commands, in processes of their own."""

import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock
from urllib.error import URLError

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.engine import AccelerationHook
from ifn_plugin.fileio import load_checkpoint_file
from ifn_plugin.models.conversion import convert_to_opencd
from ifn_plugin.tools import check_dataset, compare, demo, export, pack_dataset, predict, report, test, train
from ifn_plugin.tools._common import add_acceleration
from ifn_plugin.utils.configurations import find_config

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')


@pytest.fixture(scope='module')
def trained(tmp_path_factory, python, options):
    """Work dir of a run of two iterations."""
    work_dir = tmp_path_factory.mktemp('run')
    python('-m', 'ifn_plugin.tools.train', CONFIG, '--work-dir', work_dir, '--cfg-options', *options,
           'train_cfg.max_iters=2')
    return work_dir


def test_training_logs_and_keeps_the_best(scalars, trained):
    log = scalars(trained)
    names = {f'decode.level{number}.loss_ce' for number in range(1, 6)}
    assert names <= log[0].keys() and 'decode.acc_seg' in log[0]
    assert log[0]['loss'] == pytest.approx(sum(log[0][name] for name in names), rel=1e-4)
    assert {'Precision', 'Recall', 'F1', 'IoU'} <= log[-1].keys()
    assert (trained / 'best_F1_iter_2.pth').is_file()


def test_checkpoint_has_one_encoder_and_an_optimizer_without_it(trained):
    checkpoint = load_checkpoint_file(trained / 'iter_2.pth')
    weights = checkpoint['state_dict']
    assert sum(value.numel() for key, value in weights.items() if key.startswith('backbone.')) == 14_714_688
    assert all(key.startswith(('backbone.features.', 'decode_head.levels.')) for key in weights)
    state = checkpoint['optimizer']
    assert len(state['param_groups'][0]['params']) == len(state['state']) == 111


def test_all_that_mmengine_writes_is_loaded_safely(scalars, trained, tmp_path):
    content = load_checkpoint_file(trained / 'iter_2.pth')
    assert content.keys() >= {'state_dict', 'optimizer', 'param_schedulers', 'message_hub', 'meta'}
    log = content['message_hub']['log_scalars']['train/loss'].data[0]
    assert log.mean() == pytest.approx(scalars(trained)[1]['loss'], rel=1e-4)
    # written again, it is numpy's own
    torch.save(log, tmp_path / 'log.pth')
    again = torch.load(tmp_path / 'log.pth', weights_only=False)
    assert type(again) is np.ndarray and again.tolist() == log.tolist()


@pytest.mark.slow
def test_resume_goes_on_also_from_a_checkpoint_that_was_loaded_and_written_again(scalars, trained, python, options,
                                                                                 tmp_path):
    work_dir = tmp_path / 'resumed'
    work_dir.mkdir()
    torch.save(load_checkpoint_file(trained / 'iter_2.pth'), work_dir / 'iter_2.pth')
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_2.pth'))
    python('-m', 'ifn_plugin.tools.train', CONFIG, '--work-dir', work_dir, '--resume', '--cfg-options', *options,
           'train_cfg.max_iters=3')
    assert [entry['iter'] for entry in scalars(work_dir) if 'loss' in entry] == [3]


@pytest.mark.slow
def test_resume_goes_on_from_the_runs_own_checkpoint(scalars, trained, python, options, tmp_path):
    """Though it had started from another's weights."""
    work_dir, config = tmp_path / 'resumed', tmp_path / 'config.py'
    config.write_text(f'_base_ = [{str(CONFIG)!r}]\nload_from = {str(trained / "iter_2.pth")!r}\n')
    arguments = ('-m', 'ifn_plugin.tools.train', config, '--work-dir', work_dir, '--resume', '--cfg-options', *options,
                 'default_hooks.checkpoint.max_keep_ckpts=-1', 'train_cfg.val_interval=1',
                 'default_hooks.checkpoint.interval=1')
    python(*arguments, 'train_cfg.max_iters=1')
    assert [entry['iter'] for entry in scalars(work_dir) if 'loss' in entry] == [1]
    output = python(*arguments, 'train_cfg.max_iters=3')
    assert sorted(entry['iter'] for entry in scalars(work_dir) if 'loss' in entry) == [1, 2, 3]
    assert {path.name for path in work_dir.glob('iter_*')} == {'iter_1.pth', 'iter_2.pth', 'iter_3.pth'}
    assert 'is not defined' not in output and 'last_validation' not in output
    # where no checkpoint is left, only their list, it starts from the other's weights once more
    for path in work_dir.glob('*.pth'):
        path.unlink()
    output = python(*arguments, 'train_cfg.max_iters=1')
    assert 'there is no other complete one, starting a new training' in output
    assert f'Load checkpoint from {trained / "iter_2.pth"}' in output
    assert {path.name for path in work_dir.glob('iter_*')} == {'iter_1.pth'}


def test_resume_goes_on_from_a_checkpoint_that_is_named(tmp_path, monkeypatch):
    """On the command line, as in OpenMMLab's own scripts."""
    seen = []
    monkeypatch.setattr(Runner, 'from_cfg', lambda cfg: seen.append(cfg) or SimpleNamespace(train=lambda: None))
    (tmp_path / 'last_checkpoint').write_text('own.pth')
    train.main([str(CONFIG), '--work-dir', str(tmp_path), '--resume', '--cfg-options', 'load_from=other.pth'])
    assert seen[0].resume and seen[0].load_from == 'other.pth'


def test_testing_gives_the_validations_figures_and_panels(scalars, trained, python, options, tmp_path):
    output = python('-m', 'ifn_plugin.tools.test', CONFIG, trained / 'best_F1_iter_2.pth', '--work-dir', tmp_path,
                    '--show-dir', tmp_path / 'panels', '--cfg-options', *options,
                    'train_dataloader.dataset.data_root=none', 'val_dataloader.dataset.data_root=none',
                    'test_dataloader.dataset.data_prefix.img_path_from=val/A',
                    'test_dataloader.dataset.data_prefix.img_path_to=val/B',
                    'test_dataloader.dataset.data_prefix.seg_map_path=val/label')
    found, expected = figures(output), scalars(trained)[-1]
    # not of the map alone, which such a young network fills
    for name in ('F1', 'AP', 'F1@val', 'threshold@val'):
        assert float(found[name]) == pytest.approx(expected[name], abs=1e-3), name
    panels = sorted((tmp_path / 'panels').glob('*.png'))
    assert len(panels) == 2
    image = cv2.imread(str(panels[0]))
    assert image.shape[1] > 5 * 64 and image.std() > 10


def figures(output):
    return dict(re.findall(r'(\S+): +([\d.]+)', output.split('Iter(test)')[-1]))


@pytest.mark.slow
def test_both_protocols_in_one_test(trained, python, options, levir_like, tmp_path):
    # tiles as others test on them: cut and written
    for path in (levir_like / 'test').rglob('*.png'):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        for y, x in np.ndindex(2, 2):
            name = tmp_path / 'cut' / path.parent.relative_to(levir_like) / f'{path.stem}_{y}_{x}.png'
            name.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(name), image[32 * y:32 * y + 32, 32 * x:32 * x + 32])

    def tested(config, *more):
        return figures(python('-m', 'ifn_plugin.tools.test', config, trained / 'best_F1_iter_2.pth', '--work-dir',
                              tmp_path / 'test', '--cfg-options', *options, *more))

    both = tested(
        CONFIG.with_name('ifn_256x256_40k_levircd-whole-and-tiles.py'), 'test_cfg.protocols.tiles.crop_size=(32,32)',
        'test_cfg.protocols.tiles.stride=(32,32)', 'default_hooks.visualization.draw=True',
        f'test_evaluator.output_dir={tmp_path / "maps"}')
    assert sorted(path.parent.name for path in (tmp_path / 'maps').rglob('*.png')) == ['tiles'] * 2 + ['whole'] * 2
    kept = set((tmp_path / 'test').glob('*/maps/*/*.png'))
    assert {path.name for path in set((tmp_path / 'test').rglob('*.png')) - kept} == {
        f'{name}_{protocol}_0.png' for name in ('0000', '0001') for protocol in ('whole', 'tiles')}
    assert sorted((path.parent.name, path.name[:4]) for path in kept) == [
        (protocol, name) for protocol in ('tiles', 'whole') for name in ('0000', '0001')]
    expected = dict(whole=tested(CONFIG), tiles=tested(CONFIG, f'test_dataloader.dataset.data_root={tmp_path / "cut"}'))
    for protocol, alone in expected.items():
        for name in ('F1', 'IoU', 'OA', 'Kappa', 'F1@0.5', 'F1@val', 'threshold@val', 'AP'):
            assert float(both[f'{protocol}/{name}']) == pytest.approx(float(alone[name]), abs=0.011), name
    assert both['whole/AP'] != both['tiles/AP']
    records = [json.loads(path.read_text()) for path in (tmp_path / 'test').glob('*/evaluation_test.json')]
    both_records = next(record['protocols'] for record in records if 'tiles' in record['protocols'])
    assert both_records.keys() == {'whole', 'tiles'}
    assert both_records['tiles']['metrics']['F1'] == pytest.approx(float(both['tiles/F1']), abs=1e-3)


def test_what_an_evaluation_found_is_kept(scalars, trained):
    record = json.loads(next(trained.glob('*/evaluation_val.json')).read_text())
    assert record['iteration'] == 2
    found = record['protocols']['']
    last = scalars(trained)[-1]
    assert {name: last[name] for name in found['metrics']} == pytest.approx(found['metrics'])
    assert [Path(pair['files'][0]).name for pair in found['pairs']] == ['0000.png', '0001.png']
    assert [sum(pair['counts']) for pair in found['pairs']] == [64**2, 64**2]
    detector = ChangeDetector(next(trained.glob('*/vis_data/config.py')), trained / 'best_F1_iter_2.pth', device='cpu',
                              threshold='val')
    assert detector.threshold == last['threshold@val']


def test_what_a_resumed_training_left_tests(trained, tmp_path, monkeypatch):
    """Its settings say "resume", for which a test would need the training's data."""
    cfg = Config.fromfile(next(trained.glob('*/vis_data/config.py')))
    cfg.resume, cfg.train_dataloader.dataset.data_root = True, 'gone'
    cfg.dump(tmp_path / 'config.py')
    monkeypatch.setattr(Runner, 'train_loop', property(lambda runner: pytest.fail('builds the training')))
    test.main([str(tmp_path / 'config.py'), str(trained / 'iter_2.pth'), '--work-dir', str(tmp_path / 'test')])
    record, = (json.loads(path.read_text()) for path in tmp_path.glob('test/*/evaluation_test.json'))
    assert record['checkpoint'] == str(trained / 'iter_2.pth') and 'IFNHead' in record['config']


@pytest.mark.slow
def test_batches_in_testing_give_the_same_figures(trained, python, options, tmp_path):
    slide = ['model.test_cfg.mode=slide', 'model.test_cfg.crop_size=(48,48)', 'model.test_cfg.stride=(32,32)']
    alone, together = (
        figures(python('-m', 'ifn_plugin.tools.test', CONFIG, trained / 'best_F1_iter_2.pth', '--work-dir', tmp_path,
                       *more, '--cfg-options', *options, *slide, f'test_dataloader.batch_size={batch_size}'))
        for batch_size, more in ((1, []), (2, ['--window-batch', '3'])))
    # not of the map alone, which such a young network fills
    for name in ('F1', 'AP', 'F1@val', 'threshold@val'):
        assert float(together[name]) == pytest.approx(float(alone[name]), abs=0.011), name


def test_tta(trained, python, options, tmp_path):
    output = python('-m', 'ifn_plugin.tools.test', CONFIG, trained / 'iter_2.pth', '--tta', '--work-dir', tmp_path,
                    '--cfg-options', *options)
    assert {'F1', 'AP'} <= figures(output).keys()


def test_accelerate_is_all_whatever_the_configuration_switches_off():
    hook = dict(type='ifn_plugin.AccelerationHook', dtype='float32', compile=False, priority='LOW')
    for arguments, expected in (
        (['--accelerate'], {}),
        (['--accelerate', '--dtype', 'bfloat16'], dict(dtype='bfloat16')),
        (['--accelerate', '--no-compile', '--no-tf32', '--no-fused', '--no-pin-memory'],
         dict(compile=False, tf32=False, fused=False, pin_memory=False)),
        (['--window-batch', '3'], dict(dtype='float32', compile=False, window_batch=3)),
        (['--no-tf32', '--compile'], dict(dtype='float32', compile=True, tf32=False)),
    ):
        cfg = Config(dict(custom_hooks=[hook]))
        add_acceleration(cfg, train.parse_args(['config.py', *arguments]))
        assert cfg.custom_hooks == [dict(type=hook['type'], priority='LOW', **expected)]


@pytest.mark.parametrize('switch', ['channels_last', 'compile', 'keep_memory', 'tf32', 'fused', 'pin_memory'])
def test_each_acceleration_has_a_flag_of_its_own(switch):
    cfg = Config()
    add_acceleration(cfg, train.parse_args(['config.py', f'--{switch.replace("_", "-")}']))
    hook, = cfg.custom_hooks
    assert [name for name, value in hook.items() if value is True] == [switch]
    assert hook.keys() - {'type'} == inspect.signature(AccelerationHook).parameters.keys()


@pytest.mark.parametrize('count', ['0', '-1'])
def test_no_window_at_once(capsys, count):
    with pytest.raises(SystemExit):
        train.parse_args(['config.py', f'--window-batch={count}'])
    assert f'--window-batch: {count}: use an integer of at least 1' in capsys.readouterr().err


@pytest.mark.slow
def test_amp_trains_in_bfloat16_without_a_gpu(scalars, trained, python, options, tmp_path):
    python('-m', 'ifn_plugin.tools.train', CONFIG, '--amp', '--work-dir', tmp_path, '--cfg-options', *options,
           'train_cfg.max_iters=1', 'default_hooks.checkpoint=None')
    # the same seed and batch as in float32: nearly the same loss
    loss, in_float32 = scalars(tmp_path)[0]['loss'], scalars(trained)[0]['loss']
    assert loss != in_float32 and loss == pytest.approx(in_float32, rel=0.05)


@pytest.mark.parametrize('tool, arguments, message', [
    (train, ['none.py'], 'none.py: no such file'),
    (train, ['/none/none.py'], 'none.py: no such file'),
    (train, ['ifn_mmseg'], 'ifn_mmseg: no such file'),
    (test, [str(CONFIG), 'none.pth'], 'none.pth: no such checkpoint'),
])
def test_missing_files(tool, arguments, message):
    with pytest.raises(SystemExit, match=message):
        tool.main(arguments)


@pytest.mark.parametrize('parse, arguments', [
    (train.parse_args, ['c.py', '--work-dir']), (test.parse_args, ['c.py', 'w.pth', '--work-dir']),
    (test.parse_args, ['c.py', 'w.pth', '--show-dir']), (predict.parse_args, ['c.py', 'w.pth', '1.png', '2.png']),
    (pack_dataset.parse_args, ['data']), (compare.parse_args, ['p.py', 'c.py', '--work-dir']),
    (demo.parse_args, ['--work-dir']),
])
def test_folders_to_write_into_are_no_files(parse, arguments, tmp_path, capsys):
    (tmp_path / 'file').touch()
    parse([*arguments, str(tmp_path / 'new' / 'folder')])
    for name in ('file', 'file/below'):
        with pytest.raises(SystemExit):
            parse([*arguments, str(tmp_path / name)])
        assert f'{tmp_path / "file"} is a file: name a folder' in capsys.readouterr().err


@pytest.mark.parametrize('parse, arguments', [
    (train.parse_args, ['c.py', '--work-dir', '{}/new']), (check_dataset.parse_args, ['data', '--out', '{}/a.html']),
    (report.parse_args, ['run', '--out', '{}/new/a.html']), (export.parse_args, ['c.py', 'w.pth', '{}/a.onnx']),
    (predict.parse_args, ['c.py', 'w.pth', '1.tif', '2.tif', 'out', '--polygons', '{}/a.gpkg'])])
def test_folders_that_cannot_be_written_are_refused_at_once(parse, arguments, tmp_path, capsys, monkeypatch):
    arguments = [text.format(tmp_path) for text in arguments]
    parse(arguments)
    monkeypatch.setattr('os.access', lambda path, mode: path != tmp_path)
    with pytest.raises(SystemExit):
        parse(arguments)
    assert f'{tmp_path} cannot be written: name another folder' in capsys.readouterr().err


def test_weights_that_cannot_be_downloaded_are_a_line(options, tmp_path, monkeypatch):
    """And so is a file that is not there, whichever setting names it."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', Mock(side_effect=URLError('no network')))
    options = [option for option in options if 'init_cfg' not in option]
    for settings, message in (
        ([], r'vgg16-397923af\.pth cannot be downloaded.* Fix: .*init_cfg\.checkpoint=FILE'),
        (['model.backbone.init_cfg.checkpoint=none.pth'], r'none\.pth: no such checkpoint'),
        (['model.backbone.init_cfg=None', 'load_from=none.pth'], r'none\.pth: no such checkpoint'),
    ):
        with pytest.raises(SystemExit, match=message):
            train.main([str(CONFIG), '--work-dir', str(tmp_path / 'run'), '--cfg-options', *options, *settings])


def test_weights_that_do_not_fit(options, trained, tmp_path):
    """mmengine warns, and tests random weights."""
    content = load_checkpoint_file(trained / 'iter_2.pth')
    content['state_dict']['decode_head.stray'] = content['state_dict'].pop('backbone.features.0.weight')
    torch.save(content, tmp_path / 'weights.pth')
    with pytest.raises(SystemExit, match=r'weights\.pth does not fit the configuration: '
                                         r'backbone\.features\.0\.weight is missing; decode_head\.stray is unknown'):
        test.main([str(CONFIG), str(tmp_path / 'weights.pth'), '--work-dir', str(tmp_path), '--cfg-options', *options])


@pytest.mark.slow
def test_weights_of_open_cds_ifn_are_tested_as_the_plugins(trained, python, options, tmp_path):
    torch.save(convert_to_opencd(load_checkpoint_file(trained / 'iter_2.pth')), tmp_path / 'stock.pth')
    own, stock = (figures(python('-m', 'ifn_plugin.tools.test', CONFIG, path, '--work-dir', tmp_path, '--cfg-options',
                                 *options)) for path in (trained / 'iter_2.pth', tmp_path / 'stock.pth'))
    assert own['AP'] == stock['AP'] and own['F1'] == stock['F1']


def test_configuration_that_does_not_fit(python, options, tmp_path):
    output = python('-m', 'ifn_plugin.tools.train', CONFIG, '--work-dir', tmp_path, '--cfg-options', *options,
                    'model.backbone.in_channels=4', fails=True)
    assert 'needs 4 channels for each date, so 8 for the pair, but got 6' in output


@pytest.mark.parametrize('parse, names', [
    (train.parse_args, 'a'), (test.parse_args, 'ab'), (export.parse_args, 'abc'), (compare.parse_args, 'abc')])
@pytest.mark.parametrize('words', [['key', '4'], ['key', '=', '4'], ['key=[1,2']], ids=' '.join)
def test_options_without_a_value_are_a_line(capsys, parse, names, words):
    with pytest.raises(SystemExit):
        parse([*names, '--cfg-options', *words])
    assert f'--cfg-options {words[0]}: this is not KEY=VALUE. Fix: no white space' in capsys.readouterr().err
