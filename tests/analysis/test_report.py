import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from ifn_plugin.analysis.benchmark import cost_tables
from ifn_plugin.analysis.report import name_folders, read_run, write_report
from ifn_plugin.models import IFN
from ifn_plugin.utils.configurations import find_config

pytestmark = pytest.mark.slow

CONFIG = find_config('ifn_256x256_40k_levircd-whole-and-tiles.py')


@pytest.fixture(scope='module')
def run(tmp_path_factory, python, options):
    """Work dir of a training of four iterations, broken off and resumed, and of a test by both protocols."""
    work_dir = tmp_path_factory.mktemp('run')
    train = ['-m', 'ifn_plugin.tools.train', CONFIG, '--work-dir', work_dir]
    python(*train, '--cfg-options', *options, 'train_cfg.max_iters=2')
    python(*train, '--resume', '--cfg-options', *options, 'train_cfg.max_iters=4')
    python('-m', 'ifn_plugin.tools.test', CONFIG, next(work_dir.glob('best_F1*.pth')), '--work-dir', work_dir,
           '--cfg-options', *options, 'test_cfg.protocols.tiles.crop_size=(32,32)',
           'test_cfg.protocols.tiles.stride=(32,32)')
    return work_dir


class Page(HTMLParser):
    """Tags, and the sources of images."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ('src', 'href', 'srcset')]


@pytest.fixture(scope='module')
def page(run, tmp_path_factory):
    out = tmp_path_factory.mktemp('page') / 'page.html'
    rows = [dict(config='IFN', variant='float32', seconds=[0.1, 0.3, 0.2], peak_memory=2**30),
            dict(config='IFN', variant='onnx', seconds=[0.1], peak_memory=None)]
    costs = cost_tables(dict(device='a machine', counts=[dict(config='IFN', parameters=2_500_000, macs=3e9)],
                             cases=[dict(task='inference', size=64, batch=2, rows=rows)]))
    write_report([read_run(run, 'first <run>')], out, 1, list(costs))
    return out.read_text(), re.sub(' +', ' ', out.with_suffix('.md').read_text())


def test_figures_are_those_of_the_test(run, page):
    protocols = json.loads(next(run.glob('*/evaluation_test.json')).read_text())['protocols']
    for name, record in protocols.items():
        metrics = record['metrics']
        for suffix in ('', '@0.5', '@val'):
            cells = [f'{metrics[score + suffix]:.2f}' for score in ('Precision', 'Recall', 'F1', 'IoU', 'OA', 'Kappa')]
            assert f'| {" | ".join(cells)} | {metrics["AP"]:.2f} |' in page[1].split(f'Protocol: {name}')[1]
            assert all(f'<td>{cell}</td>' in page[0] for cell in cells)
    assert '| IFN | 2.50 | 3.00 |' in page[1] and '| IFN | float32 | 200 | 1.00 |' in page[1]


def test_the_page_needs_nothing_else(page):
    parsed = Page(page[0])
    assert not {'script', 'link', 'iframe'} & set(parsed.tags) and '@import' not in page[0]
    assert all(source.startswith(('data:image/jpeg;base64,', '#')) for source in parsed.sources)
    # names are text, not markup
    assert 'first &lt;run&gt;' in page[0] and '<run>' not in page[0]


def test_charts_of_losses_levels_validation_and_thresholds(page):
    assert page[0].count('<svg') == 7  # PR, thresholds, loss, levels, F1 at either threshold, AP


def test_resumed_runs_are_one(run):
    found = read_run(run, 'run')
    assert [entry['iter'] for entry in found.training] == [1, 2, 3, 4]
    assert [entry['step'] for entry in found.validations] == [2, 4]
    assert found.split == 'test' and found.records.keys() == {'whole', 'tiles'}


def test_pictures_of_the_worst_and_the_best_pair_and_their_levels(run, page):
    captions = re.findall(r'<figcaption>(.*?)</figcaption>', page[0])
    pairs = json.loads(next(run.glob('*/evaluation_test.json')).read_text())['protocols']['whole']['pairs']
    worst, best = sorted(pairs, key=lambda pair: pair['F1'])
    for caption, kind, pair in zip(captions, ('worst', 'best'), (worst, best)):
        assert caption == f'{Path(pair["files"][0]).stem}, among the {kind}: F1 {pair["F1"]:.1f}'
    assert len(captions) == 4 and 'five levels' in captions[2] and 'five levels' in captions[3]
    pictures = [cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
                for content in re.findall(r'data:image/jpeg;base64,([\w+/=]+)', page[0])]
    # five pictures in a panel; five levels and the label, of which the last is the label
    assert pictures[0].shape[1] >= 5 * 64 and pictures[2].shape == (240, 6 * 244 - 4, 3)
    label = cv2.imread(worst['files'][2], cv2.IMREAD_GRAYSCALE) > 0
    shown = cv2.resize(pictures[2][:, -240:], label.shape[::-1], interpolation=cv2.INTER_AREA)[..., 2] > 150
    assert (shown == label).mean() > 0.95


def test_a_training_without_a_test(run, tmp_path):
    """Figures and pictures are of the last validation's weights, not of the best."""
    copy, page = tmp_path / 'copy', tmp_path / 'page.html'
    for path in [*run.glob('*/*'), run / 'iter_2.pth', run / 'iter_4.pth']:
        if path.name in ('vis_data', 'evaluation_val.json') or path.suffix == '.pth':
            target = copy / path.relative_to(run)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    (copy / 'best_F1_iter_2.pth').symlink_to(run / 'iter_2.pth')
    assert read_run(copy, 'a').checkpoint == copy / 'iter_4.pth'
    markdown = write_report([read_run(copy, 'a'), read_run(run, 'b')], page, 0)
    assert '| a | val, iteration 4 | as configured |' in re.sub(' +', ' ', markdown)
    assert 'figcaption>' not in page.read_text()
    (copy / 'iter_4.pth').unlink()
    write_report([read_run(copy, 'a')], page, 1)
    caption, = re.findall(r'<figcaption>(.*?)</figcaption>', page.read_text())
    assert 'No pictures: FileNotFoundError' in caption and 'weights of iteration 4' in caption


def test_pictures_are_of_the_protocol(run, tmp_path, monkeypatch):
    """In windows, where the figures are of windows; the side outputs of windows are left out."""
    copy = shutil.copytree(run, tmp_path / 'run')
    path = next(copy.glob('*/evaluation_test.json'))
    content = json.loads(path.read_text())
    del content['protocols']['whole']
    path.write_text(json.dumps(content))
    sizes = []
    monkeypatch.setattr(IFN, 'forward', lambda self, pair, forward=IFN.forward: sizes.append(pair.shape[2:]) or forward(
        self, pair))
    write_report([read_run(copy, 'run')], tmp_path / 'page.html', 1)
    assert len(re.findall('<figcaption>', (tmp_path / 'page.html').read_text())) == 2
    assert sizes and set(sizes) == {(32, 32)}


def test_a_page_without_the_data_set(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / 'run', ignore=shutil.ignore_patterns('*.pth'))
    (copy / 'iter_2.pth').symlink_to(run / 'iter_2.pth')
    path = next(copy.glob('*/evaluation_test.json'))
    path.write_text(path.read_text().replace('/test/A/', '/gone/A/').replace('best_F1', 'gone'))
    log = next(copy.glob('*/vis_data/scalars.json'))
    log.write_text(log.read_text()[:-20])  # as a full disk leaves it
    write_report([read_run(copy, 'a'), read_run(run, 'b')], tmp_path / 'page.html', 1)
    captions = re.findall(r'<figcaption>(.*?)</figcaption>', (tmp_path / 'page.html').read_text())
    assert 'No pictures: FileNotFoundError' in captions[0] and '/gone/A/' in captions[0]
    assert len(captions) == 5 and 'among the worst' in captions[1]


def test_a_run_by_epochs(run, python, options, tmp_path):
    """Validations stand at their iterations, and pictures are of the epoch's checkpoint."""
    config, work_dir = tmp_path / 'epochs.py', tmp_path / 'run'
    config.write_text(f"""_base_ = [{str(CONFIG)!r}]
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
train_dataloader = dict(sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True), batch_sampler=None)
param_scheduler = None
log_processor = dict(by_epoch=True)
default_hooks = dict(logger=dict(log_metric_by_epoch=True), checkpoint=dict(by_epoch=True, interval=1, save_best=None))
""")
    settings = [option for option in options if 'val_interval' not in option and 'checkpoint.interval' not in option]
    python('-m', 'ifn_plugin.tools.train', config, '--work-dir', work_dir, '--cfg-options', *settings)
    found = read_run(work_dir, 'run')
    assert [entry['iter'] for entry in found.training] == [1, 2, 3, 4]
    assert [entry['step'] for entry in found.validations] == [2, 4]
    assert found.iteration == 4 and found.checkpoint == work_dir / 'epoch_2.pth'


def test_a_run_by_epochs_that_logs_and_saves_by_iterations(tmp_path):
    """``log_metric_by_epoch=False`` and ``by_epoch=False``, as in the plugin's configurations."""
    path = tmp_path / '1' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    lines = [line for epoch in (1, 2, 3) for line in (
        dict(loss=1, epoch=epoch, iter=2 * epoch, step=2 * epoch), dict(F1=epoch, step=2 * epoch))]
    path.write_text('\n'.join(map(json.dumps, lines)))
    record = dict(iteration=4, epoch=2, protocols={})
    (tmp_path / '1' / 'evaluation_val.json').write_text(json.dumps(record))
    (tmp_path / 'best_F1_iter_4.pth').touch()
    found = read_run(tmp_path, 'run')
    assert [(entry['step'], entry['F1']) for entry in found.validations] == [(2, 1), (4, 2), (6, 3)]
    assert found.checkpoint == tmp_path / 'best_F1_iter_4.pth'


def test_logs_directly_in_the_work_dir_are_found(run, tmp_path):
    shutil.copytree(next(path.parent for path in run.glob('*/vis_data/scalars.json')), tmp_path / 'vis_data')
    assert read_run(tmp_path, 'run').training


@pytest.mark.parametrize('kept', [True, False])
def test_pictures_are_by_the_configuration_of_the_record(run, tmp_path, kept):
    """Not by that of another test, whose panels lie in the same folder."""
    copy = shutil.copytree(run, tmp_path / 'run')
    (copy / 'panels' / 'vis_data').mkdir(parents=True)
    (copy / 'panels' / 'vis_data' / 'config.py').write_text("model = dict(type='other')\n")
    path = next(copy.glob('*/evaluation_test.json'))
    content = json.loads(path.read_text())
    expected = content.pop('config')
    if not kept:  # as by former versions
        path.write_text(json.dumps(content))
        expected = (path.parent / 'vis_data' / 'config.py').read_text()
    assert 'crop_size' in expected and read_run(copy, 'run').config == expected


def test_folders_are_named_by_what_tells_them_apart(tmp_path):
    one, other = tmp_path / 'a' / 'run' / '1', tmp_path / 'b' / 'run' / '1'
    assert name_folders([one]) == ['run/1'] and name_folders([one, other]) == ['a/run/1', 'b/run/1']
    assert name_folders([Path(tmp_path.anchor)]) == [tmp_path.anchor]
