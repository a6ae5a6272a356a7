import base64
import gzip
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
from ifn_plugin.analysis.report.side_outputs import find_weights
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


def unpack(text, name):
    content = re.search(f'id="{name}">(.*?)</script>', text, re.DOTALL)[1]
    return json.loads(gzip.decompress(base64.b64decode(content)))


def decode(url):
    content = base64.b64decode(url.partition(',')[2])
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


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
            row = re.escape(f'| {" | ".join(cells)} | {metrics["AP"]:.2f} |')
            assert re.search(rf'\| {name} +\| test .*{row}', page[1])
            assert all(f'<td>{cell}</td>' in page[0] for cell in cells)
    assert '| IFN | 2.50 | 3.00 |' in page[1] and '| IFN | float32 | 200 | 1.00 |' in page[1]


def test_the_page_needs_nothing_else(page):
    parsed = Page(page[0])
    assert not {'link', 'iframe'} & set(parsed.tags) and '@import' not in page[0]
    assert all(source.startswith(('data:image/', '#')) for source in parsed.sources)


def test_charts_of_losses_levels_validation_and_thresholds(page):
    charts = unpack(page[0], 'charts')
    # precision over recall and F1 over the threshold by two protocols; loss, F1 at either threshold, AP; levels
    assert [len(chart['lines']) for chart in charts] == [2, 2, 1, 1, 1, 1, 5]


def test_resumed_runs_are_one(run):
    found = read_run(run, 'run')
    assert [entry['iter'] for entry in found.training] == [1, 2, 3, 4]
    assert [entry['step'] for entry in found.validations] == [2, 4]
    assert [(one.split, one.protocol) for one in found.evaluations] == [('test', 'whole'), ('test', 'tiles')]


def test_the_maps_of_the_page_are_those_of_the_test(run, page):
    """By both protocols."""
    data, record = unpack(page[0], 'data'), json.loads(next(run.glob('*/evaluation_test.json')).read_text())
    pictures = json.loads(re.search('id="pictures">(.*?)</script>', page[0], re.DOTALL)[1])
    assert [model['name'] for model in data['models']] == ['whole', 'tiles']
    for column, name in enumerate(('whole', 'tiles')):
        for pair in record['protocols'][name]['pairs']:
            row = next(row for row in data['pairs'] if row['files'] == pair['files'])
            histogram = np.reshape(row['maps'][column]['histogram'], (2, 256))
            above = histogram[:, data['models'][column]['index'] + 1:].sum(1)
            assert pair['counts'] == row['maps'][column]['counts'] and pair['counts'][:2] == above[::-1].tolist()
    assert len(pictures[0]['maps']) == 2 and pictures[0]['date1'].startswith('data:image/webp')
    label = cv2.imread(data['pairs'][0]['files'][2], cv2.IMREAD_GRAYSCALE) > 0
    assert np.array_equal(decode(pictures[0]['label'])[..., 0] == 1, label)
    assert data['models'][0]['note'] == data['models'][1]['note'] == ''


def test_side_outputs_of_the_worst_and_the_best_pair(run, page):
    captions = re.findall(r'<figcaption>(.*?)</figcaption>', page[0])
    pairs = json.loads(next(run.glob('*/evaluation_test.json')).read_text())['protocols']['whole']['pairs']
    for caption, kind, pair in zip(captions, ('worst', 'best'), sorted(pairs, key=lambda pair: pair['F1'])):
        assert caption.startswith(f'whole: {Path(pair["files"][0]).stem}, {kind} of the pairs with change')
        assert 'redrawn' not in caption  # the network gives what the test has kept
    pictures = list(map(decode, re.findall(r'<img src="(data:image/webp;base64,[\w+/=]+)"', page[0])))
    # five levels and the label
    assert len(captions) == len(pictures) == 2 and pictures[0].shape == (240, 6 * 244 - 4, 3)


def test_a_training_without_a_test(run, tmp_path):
    """The page says that a validation keeps no maps, and compares its scores."""
    copy, page = tmp_path / 'copy', tmp_path / 'page.html'
    for path in run.glob('*/*'):
        if path.name in ('vis_data', 'evaluation_val.json'):
            target = copy / path.relative_to(run)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    markdown = re.sub(' +', ' ', write_report([read_run(copy, 'a'), read_run(run, 'b')], page, 0))
    assert '| a | val | as configured |' in markdown and '| iteration | 4 | 2 | 2 |' in markdown
    assert 'a: This is a validation, which keeps no maps. Fix: test the checkpoint.' in page.read_text()
    assert 'they are of other pairs or labels: b, whole, b, tiles' in markdown


def test_side_outputs_without_weights_are_left_out_with_a_reason(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / 'run', ignore=shutil.ignore_patterns('*.pth'))
    path = next(copy.glob('*/evaluation_test.json'))
    path.write_text(path.read_text().replace('best_F1', 'gone'))
    log = next(copy.glob('*/vis_data/scalars.json'))
    log.write_text(log.read_text()[:-20])  # as a full disk leaves it
    write_report([read_run(copy, 'a')], tmp_path / 'page.html', 1)
    caption, = re.findall(r'<figcaption>(.*?)</figcaption>', (tmp_path / 'page.html').read_text())
    assert 'no side outputs: FileNotFoundError: no file of the weights' in caption and 'gone' in caption


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
    evaluation, = found.evaluations
    assert evaluation.checkpoint == 'not from a file: epoch 2 of the same process'
    assert find_weights(found, evaluation) == work_dir / 'epoch_2.pth'


def test_a_run_by_epochs_that_logs_and_saves_by_iterations(tmp_path):
    """``log_metric_by_epoch=False`` and ``by_epoch=False``, as in the plugin's configurations."""
    path = tmp_path / '1' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    lines = [line for epoch in (1, 2, 3) for line in (
        dict(loss=1, epoch=epoch, iter=2 * epoch, step=2 * epoch), dict(F1=epoch, step=2 * epoch))]
    path.write_text('\n'.join(map(json.dumps, lines)))
    record = dict(iteration=4, epoch=2, protocols={'': {}})
    (tmp_path / '1' / 'evaluation_val.json').write_text(json.dumps(record))
    (tmp_path / 'best_F1_iter_4.pth').touch()
    found = read_run(tmp_path, 'run')
    assert [(entry['step'], entry['F1']) for entry in found.validations] == [(2, 1), (4, 2), (6, 3)]
    assert find_weights(found, found.evaluations[0]) == tmp_path / 'best_F1_iter_4.pth'


def test_logs_directly_in_the_work_dir_are_found(run, tmp_path):
    shutil.copytree(next(path.parent for path in run.glob('*/vis_data/scalars.json')), tmp_path / 'vis_data')
    assert read_run(tmp_path, 'run').training


def test_folders_are_named_by_what_tells_them_apart(tmp_path):
    one, other = tmp_path / 'a' / 'run' / '1', tmp_path / 'b' / 'run' / '1'
    assert name_folders([one]) == ['1'] and name_folders([one, other]) == ['a/run/1', 'b/run/1']
    assert name_folders([Path(tmp_path.anchor)]) == [tmp_path.anchor]
