"""The demonstration, run shortly."""

import shutil

import cv2
import numpy as np
import pytest

from ifn_plugin.analysis import demonstration
from ifn_plugin.datasets.drawn import write_dataset
from ifn_plugin.evaluation import difference_otsu, scores
from ifn_plugin.tools import demo
from ifn_plugin.utils import configurations


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo') / 'pairs'
    write_dataset(folder, dict(train=4, val=1, test=2), size=64)
    return folder


def test_demo_trains_tests_and_compares(data, tmp_path, capsys):
    results = demo.main(['--data', str(data), '--work-dir', str(tmp_path), '--max-iters', '2'])
    output = capsys.readouterr().out
    assert 'random weights' in output and 'iteration 2/2' in output and 'validation: F1' in output

    panels = tmp_path / 'panels'
    assert len(list(panels.glob('*.png'))) == 2 and str(panels) in output
    assert (tmp_path / 'iter_2.pth').is_file()

    found, changed = [], []
    for path in sorted((data / 'test' / 'A').iterdir()):
        date1, date2 = (cv2.imread(str(data / 'test' / kind / path.name)) for kind in ('A', 'B'))
        found.append(difference_otsu(date1, date2))
        changed.append(cv2.imread(str(data / 'test' / 'label' / path.name), cv2.IMREAD_GRAYSCALE) // 255)
    found, changed = np.stack(found), np.stack(changed)
    true_positives = int((found & changed).sum())
    wrong = int(found.sum()) - true_positives, int(changed.sum()) - true_positives
    expected = scores(true_positives, *wrong, found.size - true_positives - sum(wrong))
    assert results['difference + Otsu'] == pytest.approx(expected)
    assert f'{expected["F1"]:.1f}' in output
    assert results['IFN'].keys() > expected.keys()


@pytest.mark.parametrize('split', ['val', 'test'])
def test_a_missing_split_is_named_with_its_folder(data, tmp_path, split):
    folder = shutil.copytree(data, tmp_path / 'mine')
    shutil.rmtree(folder / split)
    with pytest.raises(SystemExit, match=f'mine has no folder {split}'):
        demo.main(['--data', str(folder), '--work-dir', str(tmp_path / 'work')])


@pytest.mark.parametrize('folder', ['val/label', 'test/label', 'train/B'])
def test_an_incomplete_split_is_named_before_the_training(data, tmp_path, folder):
    mine = shutil.copytree(data, tmp_path / 'mine')
    shutil.rmtree(mine / folder)
    with pytest.raises(SystemExit, match=f'mine/{folder}'):
        demo.main(['--data', str(mine), '--work-dir', str(tmp_path / 'work')])
    assert not (tmp_path / 'work').exists()


def test_an_unfinished_drawing_is_not_taken_for_a_data_set(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demonstration, 'COUNTS', dict(train=1, val=1, test=1))
    folder = tmp_path / 'data'

    def interrupted(target, counts, seed):
        write_dataset(target, dict(train=1), size=64)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(demonstration, 'write_dataset', interrupted)
        demonstration.draw_once(folder, 0)
    assert not folder.exists()
    demonstration.draw_once(folder, 0)
    assert {path.name for path in folder.iterdir()} == {'train', 'val', 'test'}
    before = (folder / 'test/A/0000.png').stat().st_mtime_ns
    demonstration.draw_once(folder, 0)
    assert (folder / 'test/A/0000.png').stat().st_mtime_ns == before
    assert 'from an earlier run' in capsys.readouterr().out


def test_max_iters_below_one_is_refused(capsys):
    with pytest.raises(SystemExit):
        demo.parse_args(['--max-iters', '0'])
    assert '--max-iters: 0: use an integer of at least 1' in capsys.readouterr().err


def test_large_images_are_validated_on_a_few_only(tmp_path):
    for split in ('train', 'val', 'test'):
        for kind in ('A', 'B', 'label'):
            (tmp_path / split / kind).mkdir(parents=True)
            for number in range(3 if split == 'val' else 1):
                cv2.imwrite(str(tmp_path / split / kind / f'{number}.png'), np.zeros((512, 512), np.uint8))
    cfg = demonstration.configure(tmp_path, tmp_path / 'work')
    assert cfg.val_dataloader.dataset.indices == [0]


def test_find_config_looks_into_the_checkout_and_the_package(tmp_path, monkeypatch):
    assert configurations.find_config('ifn_demo.py').parent.name == 'ifn'
    package = tmp_path / 'site-packages' / 'ifn_plugin'
    monkeypatch.setattr(configurations, '__file__', str(package / 'utils' / 'configurations.py'))
    with pytest.raises(FileNotFoundError, match=r'ifn_demo\.py'):
        configurations.find_config('ifn_demo.py')
    for folder in (package.parent / 'configs' / 'ifn', package / '.mim' / 'configs' / 'ifn'):
        folder.mkdir(parents=True)
        (folder / 'ifn_demo.py').touch()
        assert configurations.find_config('ifn_demo.py') == folder / 'ifn_demo.py'
