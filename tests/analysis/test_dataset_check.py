import re
import shutil
import time

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from ifn_plugin.analysis.dataset_check import (
    Pair,
    Split,
    check_split,
    find_duplicates,
    find_splits,
    summarize,
    write_summary,
)
from ifn_plugin.analysis.dataset_check.reading import read_pair
from ifn_plugin.datasets import LoadChangeLabel, LoadPair
from ifn_plugin.datasets.drawn import write_dataset
from ifn_plugin.utils.configurations import find_config

pytest.importorskip('imagehash', reason='imagehash is not installed: pip install ifn_plugin[check]')


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp('drawn')
    write_dataset(folder, dict(train=6, val=3, test=3), size=128)
    return folder


@pytest.fixture
def root(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / 'data')


def find(dataset):
    """Check a folder or a configuration, and give its splits and the findings."""
    splits = find_splits(dataset if dataset.is_dir() else Config.fromfile(dataset))
    return splits, [*(finding for split in splits for finding in check_split(split)), *find_duplicates(splits)]


def check(dataset, errors=0, notes=0):
    """Check a folder or a configuration, and give the findings and the summary as text."""
    splits, findings = find(dataset)
    found = '\n'.join(f'{"error" if finding.error else "note"}: {finding.split}: {finding.message}'
                      for finding in findings)
    assert [finding.error for finding in findings].count(True) == errors, found
    assert len(findings) == errors + notes, found
    return found, '\n'.join(', '.join(f'{key}: {value}' for key, value in summarize(split).items())
                            for split in splits)


def edit(path, change):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), change(image))


def test_a_clean_data_set_has_no_findings(root):
    found, output = check(root)
    assert not found
    assert re.search(r'split: train, pairs read: 6, files in A, B, label: 6, 6, 6, sizes: 128×128, '
                     r'label values: 0, 255, changed: [\d.]+ %, pairs without change: 0', output)
    share = np.mean([cv2.imread(str(path), 0) > 0 for path in (root / 'test' / 'label').iterdir()])
    assert re.search(rf'split: test, pairs read: 3, .*, changed: {100 * share:.2f} %', output)


@pytest.mark.parametrize('fault, message', [
    (lambda root: (root / 'train/B/0001.png').unlink(), r'train: incomplete pair, missing: \S*train/B/0001\.\*'),
    (lambda root: (root / 'train/label/0001.png').write_bytes(b'no image'), r'label/0001\.png is not a readable image'),
    (lambda root: (root / 'val/A/0000.png').write_bytes((root / 'val/A/0000.png').read_bytes()[:-100]),
     r'val: \S*val/A/0000\.png is damaged'),
    (lambda root: edit(root / 'train/B/0002.png', lambda image: image[:100]),
     r'train: The dates of a pair differ in size'),
    (lambda root: edit(root / 'train/label/0002.png', lambda image: image[:, :100]), r'train: \S*label/0002\.png'),
    (lambda root: edit(root / 'train/label/0003.png', lambda image: image // 2), r'train: \S*0003\.png .*127'),
    (lambda root: edit(root / 'train/A/0003.png', lambda image: image.astype(np.uint16)),
     r'train: \S*A/0003\.png has uint16 values'),
    (lambda root: edit(root / 'train/label/0003.png', lambda image: image // 255),
     r'train: "changed" is 255 in 5 labels and 1 in 1'),
    (lambda root: shutil.copy(root / 'train/A/0004.png', root / 'train/B/0004.png'), r'train: .* are the same image'),
    (lambda root: shutil.rmtree(root / 'val/label'), r'val: \S*val/label: no such folder'),
    (lambda root: [edit(path, lambda image: 0 * image) for path in (root / 'test/label').iterdir()],
     r'test: no label has a changed pixel'),
])
def test_each_fault_is_found(root, fault, message):
    fault(root)
    found, _ = check(root, errors=1)
    assert re.search(message, found), found


def brighten(image):
    image[:2, :2] //= 2
    return image


def test_dates_that_differ_in_a_few_pixels_are_not_the_same_image(root):
    shutil.copy(root / 'train/A/0004.png', root / 'train/B/0004.png')
    edit(root / 'train/B/0004.png', brighten)
    check(root)


def darker(image):
    return (0.8 * image + 5).astype(np.uint8)


@pytest.mark.parametrize('change', [lambda image: image, np.fliplr, np.flipud, np.rot90,
                                    lambda image: np.rot90(image, 3), lambda image: np.flipud(np.rot90(image))])
@pytest.mark.parametrize('light', [lambda image: image, darker])
def test_leaks_between_splits_are_errors(root, change, light):
    for kind in ('A', 'B', 'label'):
        shutil.copy(root / 'test' / kind / '0001.png', root / 'train' / kind / 'twin.png')
        edit(root / 'train' / kind / 'twin.png',
             lambda image, kind=kind: np.ascontiguousarray(change(image if kind == 'label' else light(image))))
    found, _ = check(root, errors=1)
    assert re.search(r'error: test and train: \S*test/A/0001\.png is.*the same pair as \S*train/A/twin\.png: '
                     r'evaluation data must not be used for training', found)


def test_a_pair_in_validation_and_test_is_a_note_at_any_depth(root, tmp_path):
    nested = tmp_path / 'above' / 'LEVIR'
    shutil.copytree(root, nested)
    for kind in ('A', 'B', 'label'):
        shutil.copy(nested / 'test' / kind / '0001.png', nested / 'val' / kind / 'twin.png')
    for folder in (nested, nested.parent):
        assert 'the checkpoint and the threshold are chosen on test data' in check(folder, notes=1)[0]


def test_duplicates_in_a_split_are_notes(root):
    for kind in ('A', 'B', 'label'):
        shutil.copy(root / 'train' / kind / '0001.png', root / 'train' / kind / 'twin.png')
    found, _ = check(root, notes=1)
    assert re.search(r'note: train: \S*0001\.png is the same pair as \S*twin\.png\.', found)


def test_a_uniform_image_is_a_note(root):
    edit(root / 'train/A/0001.png', lambda image: 0 * image + 7)
    assert 'A/0001.png has the same grey level everywhere' in check(root, notes=1)[0]


@pytest.mark.parametrize('loader, changed, unread', [
    ('MultiImgLoadAnnotations', 1, True), ('opencd.MultiImgLoadAnnotations', 255, False),
    ('LoadAnnotations', 255, True), ('mmseg.LoadAnnotations', 1, False)])
def test_labels_that_a_stock_loader_misreads_are_errors(root, tmp_path, loader, changed, unread):
    for path in (root / 'train' / 'label').iterdir():
        edit(path, lambda image: image // (255 // changed))
    folders = dict(img_path_from='train/A', img_path_to='train/B', seg_map_path='train/label')
    Config(dict(train_dataloader=dict(dataset=dict(
        data_root=str(root), data_prefix=folders, pipeline=[dict(type='MultiImgLoadImageFromFile'),
                                                            dict(type=loader)])))).dump(tmp_path / 'config.py')
    found = check(tmp_path / 'config.py', errors=int(unread))[0]
    assert (f'"changed" is {changed} in 6 labels, which {loader} of the configuration does not' in found) == unread


def test_a_configurations_folders_and_settings_are_checked(root, tmp_path):
    (root / 'val/B/0001.png').unlink()
    config = tmp_path / 'config.py'
    splits = {f'{split}_dataloader': dict(dataset=dict(type='RepeatDataset', dataset=dict(
        data_root=str(root), data_prefix=dict(img_path_from=f'{split}/A', img_path_to=f'{split}/B',
                                              seg_map_path=f'{split}/label')))) for split in ('train', 'val', 'test')}
    Config(splits).dump(config)
    found, output = check(config, errors=1)
    assert re.search(r'val: incomplete pair, missing: \S*val/B/0001\.\*', found)
    assert 'split: train, pairs read: 6' in output
    # the plugin's own by name, whose folder is not there
    assert 'data/LEVIR-CD/train/A: no such folder' in check(find_config('ifn_256x256_40k_levircd.py'), errors=3)[0]


def data_set(root, split, **settings):
    return dict(type='ifn_plugin.LEVIRCDDataset', data_root=str(root / split), **settings)


def test_concatenated_data_sets_are_checked_each(root, tmp_path):
    """Each part of a training is read as its own pipeline does."""
    for path in (root / 'val' / 'label').iterdir():
        edit(path, lambda image: np.where(image, image, 40))
    parts = [data_set(root, 'train', pipeline=[dict(type='ifn_plugin.LoadChangeLabel', changed=255)]),
             data_set(root, 'val', pipeline=[dict(type='ifn_plugin.LoadChangeLabel', threshold=127)])]
    tested = data_set(root, 'test', pipeline=[dict(type='ifn_plugin.LoadChangeLabel')])
    Config(dict(train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=parts)),
                test_dataloader=dict(dataset=tested))).dump(tmp_path / 'config.py')
    output = check(tmp_path / 'config.py')[1]
    assert [f'split: {name}, pairs read: {pairs}, ' in output for name, pairs in
            (('train 1', 6), ('train 2', 3), ('test', 3))] == [True] * 3
    # twice in what is trained on: worth knowing; also in what is tested: an error
    for kind in ('A', 'B', 'label'):
        shutil.copy(root / 'train' / kind / '0001.png', root / 'val' / kind / 'twin.png')
    assert 'note: train 1 and train 2: ' in check(tmp_path / 'config.py', notes=1)[0]
    for kind in ('A', 'B', 'label'):
        shutil.copy(root / 'val' / kind / '0001.png', root / 'test' / kind / 'twin.png')
    edit(root / 'test' / 'label' / 'twin.png', lambda image: 255 * (image > 127))
    assert 'error: train 2 and test: ' in check(tmp_path / 'config.py', notes=1, errors=1)[0]


def test_pairs_in_two_splits_are_counted(root, tmp_path):
    for kind in ('A', 'B', 'label'):
        shutil.copy(root / 'test' / kind / '0001.png', root / 'test' / kind / 'twin.png')

    def run(errors, notes, **splits):
        Config({f'{split}_dataloader': dict(dataset=settings) for split, settings in splits.items()}).dump(
            tmp_path / 'config.py')
        return check(tmp_path / 'config.py', errors=errors, notes=notes)[0]

    found = run(0, 2, val=data_set(root, 'test'), test=data_set(root, 'test/../test'))
    assert 'note: val and test: pairs in common: 4; the checkpoint and the threshold' in found
    assert re.search(r'note: val and test: \S*0001\.png is the same pair as \S*twin\.png\.', found)
    found = run(0, 1, val=data_set(root, 'test', indices=[1]), test=data_set(root, 'test', indices=[3]))
    assert re.search(r'note: val and test: .* the same pair as .*: the checkpoint and the threshold are chosen', found)
    found = run(2, 0, train=data_set(root, 'test', indices=[0, 1, 2]), test=data_set(root, 'test', indices=-2))
    assert 'error: train and test: pairs in common: 1; evaluation data must not be used' in found
    assert not run(0, 0, train=data_set(root, 'train', indices=4), test=data_set(root, 'train', indices=-2))


@pytest.mark.parametrize('split, errors', [('train', 0), ('test', 1)])
def test_pairs_that_a_list_repeats_are_named(root, tmp_path, split, errors):
    (root / split / 'list.txt').write_text('0001\n0000\n0001.png')
    settings = data_set(root, split, ann_file='list.txt')
    Config({f'{split}_dataloader': dict(dataset=settings)}).dump(tmp_path / 'config.py')
    found, _ = check(tmp_path / 'config.py', errors=errors, notes=1 - errors)
    assert 'list.txt lists these pairs several times, and so they count several times: 0001. Fix' in found


def test_indices_select_pairs_and_beyond_the_last_are_errors(root, tmp_path):
    """They are taken of all pairs, which have to be complete."""
    (root / 'train' / 'B' / '0005.png').unlink()
    Config(dict(train_dataloader=dict(dataset=data_set(root, 'train', indices=[0, 1, 6, -7])))).dump(
        tmp_path / 'config.py')
    found, output = check(tmp_path / 'config.py', errors=2)
    assert re.search(r'missing: \S*0005', found) and 'indices has 6, -7, but ' in found
    assert 'pairs read: 2' in output
    Config(dict(train_dataloader=dict(dataset=data_set(root, 'val', indices=[])))).dump(tmp_path / 'config.py')
    found, _ = check(tmp_path / 'config.py', errors=1)
    assert 'indices=[] selects no pairs' in found


def test_many_uniform_tiles_are_checked_quickly(tmp_path):
    """As beyond the edge of a scene: they are all alike, and compared with none."""
    empty, grey = np.zeros((2, 32, 32), np.uint8), np.zeros((2, 1))
    pairs = [Pair(tuple(tmp_path / f'{kind}{number}' for kind in 'ABL'), (32, 32), 0., 1, (0, ), grey, empty)
             for number in range(20_000)]
    start = time.process_time()
    assert not list(find_duplicates([Split('train', tuple(tmp_path / kind for kind in 'ABL'), 'train', pairs=pairs)]))
    assert time.process_time() - start < 20


def test_ignored_pixels_are_not_counted(root, tmp_path):
    """By the default names of the plugin's folders; the share of change is of what is labelled."""
    Config(dict(train_dataloader=dict(dataset=dict(
        type='ifn_plugin.LEVIRCDDataset', data_root=str(root / 'train'), pipeline=[
            dict(type='ifn_plugin.LoadPair'), dict(type='ifn_plugin.LoadChangeLabel', changed=1)])))).dump(
                tmp_path / 'config.py')
    changed = labelled = 0
    for number, path in enumerate(sorted((root / 'train' / 'label').iterdir())):
        label = cv2.imread(str(path), 0) // 255
        label[40 * (number % 3):] = 255 if number % 3 else label[40 * (number % 3):]
        cv2.imwrite(str(path), label)
        changed, labelled = changed + (label == 1).sum(), labelled + (label != 255).sum()
    output = check(tmp_path / 'config.py')[1]
    assert 'split: train, pairs read: 6, ' in output and f'changed: {100 * changed / labelled:.2f} %' in output


def test_the_page_shows_samples_and_findings(root, tmp_path):
    edit(root / 'train/label/0003.png', lambda image: image // 2)
    for kind in ('A', 'B', 'label'):
        shutil.copy(root / 'test' / kind / '0001.png', root / 'train' / kind / 'twin.png')
    write_summary(tmp_path / 'page.html', *find(root), 2)
    page = (tmp_path / 'page.html').read_text()
    # two of each split, and both of the leak
    assert page.count('<img src="data:image/webp;base64,') == 8
    assert '0003.png' in page and 'must not be used for training' in page
    # errors and the pairs concerned come first, and link to each other
    assert '2 errors' in page.partition('<h2>')[0]
    assert page.index('<h2>Findings') < page.index('<h2>Pairs with findings') < page.index('<h2>Splits')
    for name in ('0001.png', 'twin.png'):
        link = re.search(f'<a href="#(pair-\\d)">see {name}</a>', page)[1]
        figure = re.search(f'<figure id="{link}">.*?</figure>', page, re.DOTALL)[0]
        assert name in figure and 'must not be used for training' in figure


def test_a_pair_of_two_splits_is_captioned_by_each(root, tmp_path):
    Config({f'{split}_dataloader': dict(dataset=data_set(root, 'test')) for split in ('val', 'test')}).dump(
        tmp_path / 'config.py')
    write_summary(tmp_path / 'page.html', *find(tmp_path / 'config.py'), 1)
    captions = re.findall(r'<figcaption>(\w+)/\d+\.png,', (tmp_path / 'page.html').read_text())
    assert captions == ['val', 'test']


@pytest.mark.slow
def test_the_page_in_a_browser(root, tmp_path, open_page):
    shutil.copy(root / 'train/A/0001.png', root / 'train/B/0001.png')
    write_summary(tmp_path / 'page.html', *find(root), 2)
    page = open_page(tmp_path / 'page.html')
    page.locator('a', has_text='see 0001.png').first.click()
    assert page.locator('figure:target').is_visible()
    plot = page.locator('.chart .u-over')
    plot.hover()
    assert 'train (0 % of the pairs without change)' in page.locator('.u-legend').inner_text()


def test_one_split_is_found_and_other_folders_are_refused(root, tmp_path):
    assert 'split: ., pairs read: 6' in check(root / 'train')[1]
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='has no folder A, B or label'):
        find_splits(tmp_path / 'empty')


def test_parts_of_a_split_may_be_named_like_its_folders(root):
    for folder in list((root / 'train').iterdir()):
        (folder / 'A').mkdir()
        for path in list(folder.glob('*.png')):
            path.rename(folder / 'A' / path.name)
    assert 'split: train, pairs read: 6' in check(root)[1]


@pytest.mark.slow
def test_moments_of_large_images_are_exact(tmp_path):
    (tmp_path / 'pair').mkdir()
    files = [tmp_path / 'pair' / f'{name}.npy' for name in ('a', 'b', 'label')]
    for path in files[:2]:
        np.save(path, np.full((5000, 5000, 3), 200, np.uint8))
    np.save(files[2], np.zeros((5000, 5000), np.int8))
    pair = read_pair((LoadPair(), LoadChangeLabel()), files)
    assert pair.moments == pytest.approx(np.array([[200.] * 3, [40000.] * 3]))


def test_ignored_pixels_of_packed_labels_are_not_mixed_conventions(root, tmp_path):
    """They have one convention, which none of the others is measured by."""
    for path in (root / 'train').rglob('*.png'):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if path.parent.name == 'label':
            image = (image // 255).astype(np.int8)
            if path.stem < '0003':
                image[:20] = -1
        np.save(path.with_suffix('.npy'), image)
    settings = data_set(root, 'train', img_suffix='.npy', seg_map_suffix='.npy')
    Config(dict(train_dataloader=dict(dataset=settings))).dump(tmp_path / 'config.py')
    assert 'label values: 0, 1, 255' in check(tmp_path / 'config.py')[1]


def test_dates_in_one_folder_are_paired_by_suffix(root, tmp_path):
    """As in xBD."""
    for split in ('train', 'val'):
        (root / split / 'images').mkdir()
        for kind, date in (('A', 'pre'), ('B', 'post')):
            for path in (root / split / kind).iterdir():
                path.rename(root / split / 'images' / f'{path.stem}_{date}.png')
    settings = {
        f'{split}_dataloader': dict(dataset=dict(
            type='ifn_plugin.LEVIRCDDataset', data_root=str(root / split), img_suffix_from='_pre.png',
            img_suffix_to='_post.png', data_prefix=dict(img_path_from='images', img_path_to='images')))
        for split in ('train', 'val')}
    Config(settings).dump(tmp_path / 'config.py')
    assert 'split: train, pairs read: 6' in check(tmp_path / 'config.py')[1]
    settings['train_dataloader']['dataset']['img_suffix_to'] = '_pre.png'
    settings['val_dataloader']['dataset']['img_suffix_to'] = '_past.png'
    Config(settings).dump(tmp_path / 'config.py')
    found, _ = check(tmp_path / 'config.py', errors=10)
    assert re.search(r'error: train: 6 of 6 pairs have the same file as date 1 and date 2, .* \S*/0000_pre\.png', found)
    assert re.search(r'error: val: incomplete pair, missing: \S*images/0000_past\.png', found)


def test_an_inverted_colour_table_is_a_note(root):
    for path in (root / 'val' / 'label').iterdir():
        image = Image.fromarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) // 255)
        image.putpalette([255, 255, 255, 0, 0, 0])
        image.save(path)
    with pytest.warns(UserWarning, match='colour table'):
        found, output = check(root, notes=1, errors=0)
    assert re.search(r'note: val: 3 labels, such as \S*val/label/\d+\.png, have a colour table that', found)
    assert re.search(r'split: val, .*label values: 0, 1, changed', output)


@pytest.mark.parametrize('address', ['s3://bucket/train', 'https://host/train'])
def test_data_sets_that_are_not_on_disk_are_refused(address):
    dataset = dict(type='ifn_plugin.LEVIRCDDataset', data_root=address, pipeline=[])
    with pytest.raises(ValueError, match=f'{address}: check_dataset reads files on disk'):
        find_splits(Config(dict(train_dataloader=dict(dataset=dataset))))
