"""Change maps by the command."""

import os
import re
import shutil
from pathlib import Path

import cv2
import hostile
import numpy as np
import pytest

from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.apis.predict import Options, Prediction
from ifn_plugin.datasets import LoadPair
from ifn_plugin.tools._predict_arguments import parse_args
from ifn_plugin.tools.predict import main
from ifn_plugin.utils.configurations import find_config

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')


@pytest.mark.slow
def test_maps_have_the_figures_of_testing(python, options, checkpoint, levir_like, tmp_path):
    """In processes of their own: what ``test`` measures is what ``predict`` writes."""
    tested = python('-m', 'ifn_plugin.tools.test', CONFIG, checkpoint, '--work-dir', tmp_path, '--cfg-options',
                    *options)
    predicted = python('-m', 'ifn_plugin.tools.predict', CONFIG, checkpoint, levir_like / 'test' / 'A',
                       levir_like / 'test' / 'B', tmp_path / 'out', '--output', 'map', 'probability', 'panel',
                       '--no-accelerate')
    counts = np.zeros(3)
    names = sorted(path.name for path in (levir_like / 'test' / 'label').iterdir())
    for name in names:
        label = cv2.imread(str(levir_like / 'test' / 'label' / name), cv2.IMREAD_UNCHANGED) > 0
        found, probability = (cv2.imread(str(tmp_path / 'out' / kind / name), cv2.IMREAD_UNCHANGED)
                              for kind in ('map', 'probability'))
        assert set(np.unique(found)) <= {0, 255} and found.shape == probability.shape == label.shape
        assert (np.abs(probability / 255. - 0.3) < 0.003)[(found > 0) != (probability > 0.3 * 255)].all()
        found = found > 0
        counts += (found & label).sum(), (found & ~label).sum(), (~found & label).sum()
        assert cv2.imread(str(tmp_path / 'out' / 'panel' / name)).shape[1] > 3 * 64
    f1 = 100 * 2 * counts[0] / (2 * counts[0] + counts[1] + counts[2])
    assert float(re.findall(r' F1: ([\d.]+)', tested)[-1]) == pytest.approx(f1, abs=0.01)
    assert f'{len(names)} pairs in ' in predicted


def test_two_files_and_a_threshold(checkpoint, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ('1999.png', '2020.png'):
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, (20, 30, 3), np.uint8))
    for threshold, expected in (('0', 255), ('0.99', 0)):
        files = [str(tmp_path / name) for name in ('1999.png', '2020.png', 'out')]
        *files, out = files
        main([str(CONFIG), str(checkpoint), *files, '--threshold', threshold, out, '--device', 'cpu', '--overwrite'])
        files.append(out)
        assert (cv2.imread(str(tmp_path / 'out' / 'map' / '1999_2020.png')) == expected).all()
    assert '0.00% of the pixels changed' in capsys.readouterr().out
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['map']
    with pytest.raises(SystemExit, match=r'results already: \S+1999_2020\.png\. Fix: add --overwrite'):
        main([str(CONFIG), 'none.pth', *files])  # before the network is built


@pytest.mark.parametrize('done, left', [(9, 2), (3, 10)], ids=['in the second group', 'in the first group'])
def test_a_folder_of_images_that_was_broken_off_goes_on(checkpoint, tmp_path, monkeypatch, done, left):
    """In groups of pairs, each of which is done by one process."""
    rng = np.random.default_rng(0)
    for name in (f'{date}/{number:02}.png' for date in 'ab' for number in range(10)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, (16, 16, 3), np.uint8))
    arguments = [str(CONFIG), str(checkpoint), *(str(tmp_path / name) for name in ('a', 'b', 'out')), '--device', 'cpu']
    own, seen, power = ChangeDetector.predict_all, [], done

    def predict_all(self, pairs):
        for pair in pairs:
            if len(seen) == power:
                raise OSError('power cut')
            seen.append(pair)
            yield from own(self, [pair])

    monkeypatch.setattr(ChangeDetector, 'predict_all', predict_all)
    with pytest.raises(SystemExit, match='power cut'):
        main(arguments)
    seen.clear()
    power = None
    os.utime(tmp_path / 'b' / '09.png', ns=(0, 0))  # as after it was mended, which no finished pair needs
    main(arguments)
    assert len(seen) == left
    assert len(list((tmp_path / 'out' / 'map').iterdir())) == 10
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['map']


def test_images_beyond_pillows_limit_are_counted(levir_like, monkeypatch):
    dates = [levir_like / 'test' / date for date in 'AB']
    size = Prediction(*map(str, dates), Path('out'), LoadPair(), Options()).pixels
    monkeypatch.setattr('PIL.Image.MAX_IMAGE_PIXELS', size // 2 - 1)
    assert Prediction(*map(str, dates), Path('out'), LoadPair(), Options()).pixels == size


@pytest.mark.parametrize('folders', [True, False])
def test_names_in_another_encoding_are_refused(checkpoint, levir_like, tmp_path, python, folders):
    """OpenCV would end the process."""
    pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
    name = os.fsdecode('变化'.encode('gbk')) + '.png'
    for date in 'AB':
        (tmp_path / date).mkdir()
        shutil.copy(next((levir_like / 'test' / date).iterdir()), tmp_path / date / name)
    dates = [tmp_path / date / ('' if folders else name) for date in 'AB']
    output = python('-m', 'ifn_plugin.tools.predict', CONFIG, checkpoint, *dates, tmp_path / 'out', fails=True)
    assert re.search(r'A/\S+\.png: this name is not in UTF-8, as GDAL needs it\. Fix: rename it', output)
    assert 'Traceback' not in output


def test_a_list_of_pairs(checkpoint, tmp_path):
    rng = np.random.default_rng(0)
    for name in ('1999/a.png', '2020/a.png', 'b.png', 'c.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, (20, 30, 3), np.uint8))
    table = tmp_path / 'pairs.csv'
    table.write_text('Date1, Date2\n1999/a.png, 2020/a.png\nb.png,c.png\n')
    main([str(CONFIG), str(checkpoint), str(table), str(tmp_path / 'out'), '--device', 'cpu'])
    assert sorted(path.name for path in (tmp_path / 'out' / 'map').iterdir()) == ['1999_2020_a.png', 'b_c.png']
    for text, message in (('b.png\n', r'line 1: .b\.png. are not two columns'), ('', 'names no pairs'),
                          ('b.png,c.png\n' * 2, r'line 2: .* would both be named b_c')):
        table.write_text(text)
        with pytest.raises(SystemExit, match=message):
            main([str(CONFIG), 'none.pth', str(table), str(tmp_path / 'out2')])
    for content in ('变化.png,c.png\n'.encode('gbk'), b'a.png,"b.png\n' + b'c' * 200_000):
        table.write_bytes(content)
        with pytest.raises(SystemExit, match=r'pairs\.csv is not a CSV file in UTF-8 .* Fix: save it as one; or, for'):
            main([str(CONFIG), 'none.pth', str(table), str(tmp_path / 'out2')])
    with pytest.raises(SystemExit, match=r'other\.csv: no such file\. Fix: name both dates, or a CSV'):
        main([str(CONFIG), 'none.pth', str(tmp_path / 'other.csv'), str(tmp_path / 'out2')])


@pytest.mark.parametrize('date1, date2, message', [
    ('a.png', 'none.png', r'none\.png cannot be opened as an image or raster: No such file'),
    ('a.png', 'folder', 'one is a folder and one is not'),
    ('bad.png', 'bad.png', r'bad\.png cannot be opened as an image or raster: .*not recognized'),
    ('a.png', 'larger.png', r'differ in size.*a\.png.*larger\.png'),
])
def test_wrong_input_is_a_line(checkpoint, tmp_path, date1, date2, message):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'bad.png').write_bytes(b'?')
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((4, 4, 3), np.uint8))
    cv2.imwrite(str(tmp_path / 'larger.png'), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(SystemExit, match=message):
        main([str(CONFIG), str(checkpoint), str(tmp_path / date1), str(tmp_path / date2), str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_a_checkpoint_that_runs_code_is_refused(python, tmp_path):
    path, mark = tmp_path / 'evil.pth', tmp_path / 'executed'
    hostile.CONTAINERS['zip'](hostile.PLACES['log'](hostile.payloads(mark)['os.system']), path, 2)
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((4, 4, 3), np.uint8))
    output = python('-m', 'ifn_plugin.tools.predict', CONFIG, path, tmp_path / 'a.png', tmp_path / 'a.png', tmp_path,
                    fails=True)
    assert re.search(r'evil\.pth is not a checkpoint that can be read safely: .*system', output.splitlines()[-1])
    assert 'Traceback' not in output and not mark.exists()


def test_what_is_for_rasters_is_refused_for_images(checkpoint, levir_like, tmp_path):
    folders = [str(levir_like / 'test' / kind) for kind in 'AB']
    with pytest.raises(SystemExit, match=r'--align --nodata --window would have no .*name the rasters themselves'):
        main([str(CONFIG), str(checkpoint), *folders, str(tmp_path / 'out'), '--window', '512', '--align', '--nodata',
              '0'])
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['min-area', 'simplify'])
def test_what_is_for_polygons_is_refused_without_them(levir_like, tmp_path, name):
    folders = [str(levir_like / 'test' / kind) for kind in 'AB']
    with pytest.raises(SystemExit, match=rf'^--{name} would have no effect for \S+A and \S+B without --polygons'):
        main([str(CONFIG), 'none.pth', *folders, str(tmp_path / 'out'), f'--{name}', '20'])


@pytest.mark.parametrize('arguments, message', [(['--threshold', '1.5'], 'a probability from 0 to below 1, or val'),
                                                (['--threshold', 'best'], 'best: use a probability'),
                                                (['--batch-size', '0'], 'at least 1'),
                                                (['--accelerate', '--no-accelerate'], 'contradict')])
def test_wrong_arguments(capsys, arguments, message):
    with pytest.raises(SystemExit):
        main(['config', 'checkpoint', 'date1', 'date2', 'out', *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('device', ['cuda:99', 'gpu'])
def test_a_device_that_is_not_there_is_a_line(checkpoint, tmp_path, device):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(SystemExit, match=rf'^device={device}: torch cannot compute there \([^\n]+\)\. Fix: use cpu'):
        main([str(CONFIG), str(checkpoint), *[str(tmp_path / 'a.png')] * 2, str(tmp_path / 'out'), '--device', device])


@pytest.mark.parametrize('arguments', [
    ['--nodata', '-3.4028235e+38'], ['--nodata', '-inf'], ['--scale', '-1e3', '1e3'], ['--scale', '-.5', '2'],
    ['--bbox', '-1e5', '-2', '3', '4']], ids=' '.join)
def test_negative_numbers_are_not_taken_for_options(arguments):
    args = parse_args(['config.py', 'a.pth', 'a.tif', 'b.tif', 'out', *arguments])
    found = getattr(args, arguments[0][2:])
    assert (found if isinstance(found, list) else [found]) == [float(number) for number in arguments[1:]]
