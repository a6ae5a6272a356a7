"""Drawn pairs: the same for the same seed, labelled where buildings come and go and nowhere else."""

import cv2
import numpy as np
import pytest

from ifn_plugin.datasets import drawn
from ifn_plugin.evaluation import difference_otsu


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob('*.png'))}


def pairs(count, size=128):
    return [drawn.draw_pair(np.random.default_rng(seed), size) for seed in range(count)]


@pytest.mark.parametrize('size', [64, 100, 256])
def test_shapes_and_values(size):
    date1, date2, label = drawn.draw_pair(np.random.default_rng(0), size)
    assert date1.shape == date2.shape == (size, size, 3) and label.shape == (size, size)
    assert date1.dtype == date2.dtype == label.dtype == np.uint8
    assert set(np.unique(label)) == {0, 255}
    assert date1.std() > 10 and date2.std() > 10


def test_even_small_pairs_have_a_change():
    assert all(label.any() and not label.all() for _, _, label in pairs(30, size=64))


def test_a_pair_depends_on_its_generator_alone():
    first, again, other = (drawn.draw_pair(np.random.default_rng(seed), 64) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other))


def test_label_is_where_a_building_stands_on_one_date_only(monkeypatch):
    """What draws a date is patched: nothing else knows where its buildings stand."""
    standing = []
    draw_date = drawn._draw_date

    def record(rng, ground, buildings, cover):
        standing.append(buildings)
        return draw_date(rng, ground, buildings, cover)

    monkeypatch.setattr(drawn, '_draw_date', record)
    persisting = 0
    for seed in range(4):
        standing.clear()
        label = drawn.draw_pair(np.random.default_rng(seed), 128)[2]
        both = [building for building in standing[0] if any(building is other for other in standing[1])]
        persisting += len(both)
        y, x = np.mgrid[:128, :128]
        for building in {id(b): b for b in standing[0] + standing[1]}.values():
            changed = not any(building is other for other in both)
            for wing in building.wings:
                offset = np.stack((x, y), axis=-1) - wing.centre
                inside = (abs(offset @ wing.axes().T) < np.array(wing.half) - 1).all(axis=-1)
                assert (label[inside] == 255 * changed).all()
    assert persisting > 0


def test_outlines_come_and_go_inside_the_label_only():
    def edges(image):
        grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 1).astype(np.float32)
        grey = (grey - grey.mean()) / grey.std()
        return np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))

    for date1, date2, label in pairs(6):
        outline = cv2.morphologyEx(label, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        difference = abs(edges(date1) - edges(date2))
        assert difference[outline].mean() > 1.5 * difference[~outline].mean()


def test_light_and_season_change_where_no_building_does():
    shifts = [abs(date1.astype(float) - date2)[label == 0].mean() for date1, date2, label in pairs(8)]
    assert np.median(shifts) > 10


def test_the_difference_of_the_dates_does_not_give_the_change():
    found = np.concatenate([difference_otsu(date1, date2).ravel() for date1, date2, _ in pairs(12)])
    changed = np.concatenate([label.ravel() // 255 for *_, label in pairs(12)])
    hits = (found & changed).sum()
    assert 2 * hits / (found.sum() + changed.sum()) < 0.5


def test_dataset_has_levirs_layout(tmp_path):
    drawn.write_dataset(tmp_path, dict(train=2, test=1), size=64)
    names = {f'{split}/{kind}/{name}.png' for split, name in (('train', '0000'), ('train', '0001'), ('test', '0000'))
             for kind in ('A', 'B', 'label')}
    assert files(tmp_path).keys() == names
    label = cv2.imread(str(tmp_path / 'train/label/0000.png'), cv2.IMREAD_UNCHANGED)
    assert label.shape == (64, 64) and set(np.unique(label)) == {0, 255}


def test_images_are_written_in_the_right_order_of_channels(tmp_path, monkeypatch):
    red = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    monkeypatch.setattr(drawn, 'draw_pair', lambda rng, size: (red, red, red[..., 0]))
    drawn.write_dataset(tmp_path, dict(val=1))
    assert cv2.imread(str(tmp_path / 'val/A/0000.png'))[0, 0].tolist() == [0, 0, 255]  # BGR


def test_dataset_is_the_same_in_another_process_and_beside_other_splits(tmp_path, python):
    drawn.write_dataset(tmp_path / 'here', dict(train=3, val=1), size=64, seed=5)
    python('-c', 'import sys, pathlib; from ifn_plugin.datasets.drawn import write_dataset; '
           'write_dataset(pathlib.Path(sys.argv[1]), dict(val=2, train=1), size=64, seed=5)', tmp_path / 'there')
    here, there = files(tmp_path / 'here'), files(tmp_path / 'there')
    common = here.keys() & there.keys()
    assert len(common) == 6 and all(here[name] == there[name] for name in common)
    assert here['train/A/0000.png'] != here['val/A/0000.png']
    drawn.write_dataset(tmp_path / 'other', dict(train=1), size=64, seed=6)
    assert files(tmp_path / 'other')['train/A/0000.png'] != here['train/A/0000.png']


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'train' / 'A' / '0000.png').mkdir(parents=True)
    with pytest.raises(OSError, match=r'0000\.png'):
        drawn.write_dataset(tmp_path, dict(train=1), size=64)
