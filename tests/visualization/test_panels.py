from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, DefaultScope
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from mmseg.structures import SegDataSample

from ifn_plugin.datasets import LoadPair
from ifn_plugin.engine import ChangePanelHook
from ifn_plugin.visualization import draw_errors, draw_panel

WHITE, BLACK, GREY, VERMILION, BLUE = (255, 255, 255), (0, 0, 0), (128, 128, 128), (213, 94, 0), (86, 180, 233)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def squares(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A change map and a label that agree in part, with some ignored pixels."""
    change_map, label = np.zeros((height, width), np.int64), np.zeros((height, width), np.uint8)
    change_map[height // 4:height // 2, width // 4:width // 2] = 1
    label[height // 3:height // 2 + 4, width // 3:width // 2 + 4] = 1
    label[-3:] = 255
    return change_map, label


def tiles(panel: np.ndarray, count: int, height: int, width: int) -> list[np.ndarray]:
    """The pictures of a panel, cut out below its band of names."""
    cell = panel.shape[1] // count
    band = panel.shape[0] - height
    return [panel[band:, cell * number:cell * number + width] for number in range(count)]


def test_errors_have_a_colour_for_each_kind():
    change_map = np.array([[1, 1, 0, 0, 1, 0]])
    label = np.array([[1, 0, 1, 0, 255, 255]], np.uint8)
    errors = draw_errors(change_map, label)
    assert errors.dtype == np.uint8
    assert [tuple(pixel) for pixel in errors[0].tolist()] == [WHITE, VERMILION, BLUE, BLACK, GREY, GREY]


def test_ignored_pixels_of_errors_are_grey():
    errors = draw_errors(np.array([[1, 0, 1]]), np.array([[7, 7, 1]]), ignore_index=7)
    assert [tuple(pixel) for pixel in errors[0].tolist()] == [GREY, GREY, WHITE]


@pytest.mark.parametrize('height, width', [(160, 160), (120, 200), (200, 120)])
def test_panel_with_label(height, width):
    date1, date2 = noise(height, width), noise(height, width, seed=1)
    change_map, label = squares(height, width)
    panel = draw_panel(date1, date2, change_map, label)
    assert panel.dtype == np.uint8 and panel.shape[2] == 3
    assert panel.shape[1] % 5 == 0 and panel.shape[0] > height
    shown = tiles(panel, 5, height, width)
    assert np.array_equal(shown[0], date1) and np.array_equal(shown[1], date2)
    grey = np.where(label == 255, 128, label * 255)[..., None]
    assert (shown[2] == grey).all()
    assert (shown[3] == (change_map * 255)[..., None]).all()
    assert np.array_equal(shown[4], draw_errors(change_map, label))


def test_panel_without_label():
    date1, date2 = noise(160, 130), noise(160, 130, seed=1)
    change_map, label = squares(160, 130)
    panel = draw_panel(date1, date2, change_map)
    assert panel.shape[1] * 5 == draw_panel(date1, date2, change_map, label).shape[1] * 3
    shown = tiles(panel, 3, 160, 130)
    assert np.array_equal(shown[0], date1) and np.array_equal(shown[1], date2)
    assert (shown[2] == (change_map * 255)[..., None]).all()


@pytest.mark.parametrize('height, width, max_side, expected', [
    (400, 400, 200, (200, 200)),
    (400, 300, 200, (200, 150)),
    (300, 400, 200, (150, 200)),
    (200, 200, 200, (200, 200)),
    (150, 150, 200, (150, 150)),
    (1200, 1200, 512, (512, 512)),
])
def test_large_images_are_shrunk(height, width, max_side, expected):
    grey = np.full((height, width, 3), 77, np.uint8)
    nothing = np.zeros((height, width), np.uint8)
    panel = draw_panel(grey, grey, nothing, nothing, max_side=max_side)
    band = panel.shape[0] - expected[0]
    assert 10 < band < 40
    small = np.s_[:expected[0], :expected[1]]
    assert panel.shape == draw_panel(grey[small], grey[small], nothing[small], nothing[small]).shape
    first = tiles(panel, 5, *expected)[0]
    assert (first == 77).all()
    # the picture ends there: to its right is the gap
    assert (panel[band:, expected[1]] == 255).all()


def test_elongated_images_keep_a_pixel():
    long = np.full((2, 2000, 3), 77, np.uint8)
    nothing = np.zeros((2, 2000), np.uint8)
    panel = draw_panel(long, long, nothing, max_side=100)
    assert (tiles(panel, 3, 1, 100)[0] == 77).all()


@pytest.mark.parametrize('width', [8, 64, 110, 128, 136, 150, 170, 200, 256, 512])
def test_names_stay_in_their_columns(width):
    grey, nothing = np.full((32, width, 3), 77, np.uint8), np.zeros((32, width), np.uint8)
    panel = draw_panel(grey, grey, nothing, nothing)
    cell, band = panel.shape[1] // 5, panel.shape[0] - 32
    for number in range(5):
        title = panel[:band, cell * number:cell * (number + 1)]
        assert (title > 128).any(), 'a name'
        assert (title[:, -2:] == 32).all(), 'it ends before the next column'
        assert (title[0] == 32).all() and (title[-1] == 32).all(), 'it is not cut off'


@pytest.mark.parametrize('width', [8, 64, 110, 128, 136, 150, 170, 190, 200, 256, 512])
def test_legend_is_complete_or_absent(width):
    # some words of it alone would leave the reader to guess the other colours
    grey, nothing = np.full((32, width, 3), 77, np.uint8), np.zeros((32, width), np.uint8)
    panel = draw_panel(grey, grey, nothing, nothing).astype(int)
    title = panel[:panel.shape[0] - 32, -(panel.shape[1] // 5):]
    # strokes are thin and smoothed: look for the hue, not for the very colour
    vermilion = (title[..., 0] - title[..., 2] > 40).any()
    blue = (title[..., 2] - title[..., 0] > 40).any()
    assert vermilion == blue
    assert blue or width < 256


# ChangePanelHook


@pytest.fixture
def folder(tmp_path):
    return tmp_path / 'panels'


@pytest.fixture
def runner(folder):
    """What of a runner the hook needs."""
    name = f'test_visualization {folder}'
    visualizer = Visualizer(name, vis_backends=[dict(type='LocalVisBackend')], save_dir=str(folder))
    return SimpleNamespace(visualizer=visualizer, cfg=Config(), test_loop=SimpleNamespace())


def outputs_of(root: Path, *names: str, label: bool = True, side: int = 128) -> list[SegDataSample]:
    """What a detector gives for pairs that are written below ``root``."""
    samples = []
    for number, name in enumerate(names):
        paths = []
        for date in (1, 2):
            path = root / f'date{date}' / f'{name}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), noise(side, side, seed=10 * number + date))
            paths.append(str(path))
        change_map, truth = squares(side, side)
        sample = SegDataSample(metainfo=dict(img_path=paths))
        sample.pred_sem_seg = PixelData(data=torch.from_numpy(change_map)[None])
        if label:
            sample.gt_sem_seg = PixelData(data=torch.from_numpy(truth)[None])
        samples.append(sample)
    return samples


def run(hook: ChangePanelHook, runner: SimpleNamespace, *batches: list[SegDataSample]) -> None:
    hook.before_test(runner)
    for number, batch in enumerate(batches):
        hook.after_test_iter(runner, number, None, batch)
    hook.after_test(runner)


def written(folder: Path) -> dict[str, np.ndarray]:
    """RGB images by their paths."""
    paths = sorted(folder.rglob('*.png'))
    return {path.relative_to(folder).as_posix(): cv2.imread(str(path))[..., ::-1] for path in paths}


def expected_panel(sample: SegDataSample, **kwargs) -> np.ndarray:
    date1, date2 = (cv2.imread(path)[..., ::-1] for path in sample.img_path)
    label = sample.gt_sem_seg.data[0].numpy() if 'gt_sem_seg' in sample else None
    return draw_panel(date1, date2, sample.pred_sem_seg.data[0].numpy(), label, **kwargs)


def test_hook_is_off_by_default(tmp_path, folder, runner):
    run(ChangePanelHook(), runner, outputs_of(tmp_path, 'a', 'b'))
    assert not written(folder)


@pytest.mark.parametrize('label', [True, False])
def test_hook_writes_one_panel_per_sample(tmp_path, folder, runner, label):
    samples = outputs_of(tmp_path, 'a', 'b', 'c', label=label)
    run(ChangePanelHook(draw=True), runner, samples[:2], samples[2:])
    images = written(folder)
    assert [Path(name).name for name in images] == ['a_0.png', 'b_0.png', 'c_0.png']
    for image, sample in zip(images.values(), samples):
        assert np.array_equal(image, expected_panel(sample))


def test_hook_shrinks_large_images(tmp_path, folder, runner):
    samples = outputs_of(tmp_path, 'a')
    run(ChangePanelHook(draw=True, max_side=32), runner, samples)
    image, = written(folder).values()
    assert np.array_equal(image, expected_panel(samples[0], max_side=32))


def test_hook_interval_counts_batches(tmp_path, folder, runner):
    samples = outputs_of(tmp_path, *'abcde')
    run(ChangePanelHook(draw=True, interval=2), runner, *([sample] for sample in samples))
    assert [Path(name).name for name in written(folder)] == ['b_0.png', 'd_0.png']


@pytest.mark.parametrize('names', [
    ('north/1', 'south/1'),
    ('1', 'north/1', 'south/1', 'west/1'),
    # a made-up second name may be another file's first
    ('north/1', 'north/1_2', 'south/1'),
    ('north/1', 'south/1', 'south/1_2'),
])
def test_equal_names_of_two_folders_do_not_overwrite_each_other(tmp_path, folder, runner, names):
    samples = outputs_of(tmp_path, *names)
    run(ChangePanelHook(draw=True), runner, *([sample] for sample in samples))
    images = list(written(folder).values())
    assert len(images) == len(names)
    for sample in samples:
        assert sum(np.array_equal(image, expected_panel(sample)) for image in images) == 1


def test_second_test_writes_the_same_names(tmp_path, folder, runner):
    hook, samples = ChangePanelHook(draw=True), outputs_of(tmp_path, 'a')
    run(hook, runner, samples)
    run(hook, runner, samples)
    assert [Path(name).name for name in written(folder)] == ['a_0.png']


@pytest.mark.parametrize('show', [True, False])
def test_hook_shows_on_request(tmp_path, runner, monkeypatch, show):
    shown = []
    monkeypatch.setattr(runner.visualizer, 'show', lambda image, **kwargs: shown.append((image, kwargs)))
    samples = outputs_of(tmp_path, 'a')
    run(ChangePanelHook(draw=True, show=show, wait_time=0.5), runner, samples)
    assert len(shown) == show
    for image, kwargs in shown:
        assert np.array_equal(image, expected_panel(samples[0]))
        assert kwargs['win_name'] == 'a' and kwargs['wait_time'] == 0.5


@pytest.mark.parametrize('scope', [None, 'mmengine', 'mmseg'])
def test_hook_through_the_registry(tmp_path, folder, runner, scope):
    with DefaultScope.overwrite_default_scope(scope):
        hook = HOOKS.build(dict(type='ifn_plugin.ChangePanelHook', draw=True, interval=1, max_side=64))
    assert isinstance(hook, ChangePanelHook)
    run(hook, runner, outputs_of(tmp_path, 'a', 'b'))
    assert len(written(folder)) == 2


def test_hook_refuses_a_missing_image(tmp_path, runner):
    samples = outputs_of(tmp_path, 'a')
    Path(samples[0].img_path[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r'date2/a\.png'):
        run(ChangePanelHook(draw=True), runner, samples)


def test_names_that_are_not_utf8_become_underscores(runner, monkeypatch):
    """At which OpenCV would end the process; and where ``img_path`` is one file."""
    names = []
    monkeypatch.setattr(runner.visualizer, 'add_image', lambda name, *_, **__: names.append(name))
    monkeypatch.setattr(LoadPair, 'transform', lambda *_: dict(img=[np.zeros((1, 1, 3), np.uint8)] * 2))
    paths = ['A/\udcb3\udcc7.png', 'B/\udcb3\udcc7.png'], ['A/\udcb3\udcc8.png', 'B/\udcb3\udcc8.png'], 'stacked/1.tif'
    change_map = PixelData(data=torch.zeros(1, 1, 1))
    run(ChangePanelHook(draw=True), runner, [
        SegDataSample(pred_sem_seg=change_map, metainfo=dict(img_path=path)) for path in paths])
    assert names == ['__', '___2', '1']
