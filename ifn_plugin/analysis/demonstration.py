"""Demonstration of IFN on drawn pairs, or on the user's, in a few minutes and without downloads."""

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ifn_plugin.datasets import LEVIRCDDataset
from ifn_plugin.datasets.drawn import write_dataset
from ifn_plugin.evaluation import ChangeMetric, difference_otsu
from ifn_plugin.fileio import atomic_path
from ifn_plugin.utils.configurations import find_config

COUNTS = {'train': 96, 'val': 4, 'test': 16}
VALIDATION_PIXELS = COUNTS['val'] * 256**2


class _Progress(Hook):
    """Print the progress in a few lines; mmengine's log would fill the screen."""

    def __init__(self, interval: int = 20) -> None:
        self.interval = interval
        self.begin = time.monotonic()

    def before_train(self, runner: Runner) -> None:
        self.begin = time.monotonic()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        done, total = runner.iter + 1, runner.max_iters
        if done % self.interval == 0 or done == total:
            passed, loss = time.monotonic() - self.begin, (outputs or {})['loss'].item()
            print(f'  iteration {done}/{total}  loss {loss:.2f}  {passed:.0f} s, about '
                  f'{passed / done * (total - done):.0f} s to go', flush=True)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        total = len(runner.test_dataloader)
        if (batch_idx + 1) % max(1, total // 4) == 0:
            print(f'  {batch_idx + 1}/{total} pairs', flush=True)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        print(f'  validation: F1 {(metrics or {})["F1"]:.1f}', flush=True)


def draw_once(folder: Path, seed: int) -> None:
    """Draw the pairs, unless an earlier run has drawn them."""
    if folder.is_dir():
        print(f'Using the pairs in {folder} from an earlier run (remove the folder to draw new ones)')
        return
    print(f'Drawing {sum(COUNTS.values())} pairs into {folder}', flush=True)
    # an interrupted run must not leave a partial data set
    with atomic_path(folder) as unfinished:
        write_dataset(unfinished, COUNTS, seed=seed)


def _check_splits(folder: Path) -> None:
    missing = [split for split in COUNTS if not (folder / split).is_dir()]
    if missing:
        raise ValueError(f'{folder} has no folder {", ".join(missing)}. Fix: the demo needs train, val and test, each '
                         'with the folders A, B and label.')
    for split in COUNTS:
        LEVIRCDDataset(data_root=str(folder / split))


def configure(data: Path, work_dir: Path, seed: int = 0, max_iters: int | None = None) -> Config:
    """Return the configuration of the demonstration.

    Args:
        data: Folder of the pairs.
        work_dir: Folder for all files written.
        seed: Seed of the training.
        max_iters: Training iterations; by default the configuration's.
    """
    cfg = Config.fromfile(find_config('ifn_demo.py'))
    cfg.work_dir = cfg.visualizer.save_dir = str(work_dir)
    cfg.randomness.seed = seed
    for split in COUNTS:
        cfg[f'{split}_dataloader'].dataset.data_root = str(data)
    if max_iters is not None:
        cfg.train_cfg.update(max_iters=max_iters, val_interval=max(1, max_iters // 2))
        cfg.param_scheduler[0].total_steps = cfg.default_hooks.checkpoint.interval = max_iters
    settings = {key: value for key, value in cfg.val_dataloader.dataset.items() if key != 'type'}
    pairs = LEVIRCDDataset(**settings | dict(pipeline=[dict(type='ifn_plugin.LoadPair')]))
    height, width = pairs[0]['ori_shape']
    # validating many large images would take minutes
    count = min(len(pairs), max(1, VALIDATION_PIXELS // (height * width)))
    cfg.val_dataloader.dataset.indices = [number * len(pairs) // count for number in range(count)]
    return cfg


def _test_baseline(pairs: LEVIRCDDataset) -> dict[str, float]:
    metric = ChangeMetric()
    for pair in pairs:
        inputs = pair['inputs'].permute(1, 2, 0).numpy()
        date1, date2 = inputs[..., :3], inputs[..., 3:]
        change_map = torch.from_numpy(difference_otsu(date1, date2))
        sample = pair['data_samples']
        metric.process(None, [dict(sample.to_dict(), pred_sem_seg=dict(data=change_map[None]))])
    return metric.compute_metrics(metric.results)


def run_demonstration(data: Path | None, work_dir: Path, seed: int = 0,
                      max_iters: int | None = None) -> dict[str, dict[str, float]]:
    """Train IFN, test it and the classical baseline, and print their scores.

    Args:
        data: The pairs, in LEVIR-CD's layout; ``None`` draws them.
        work_dir: Folder for all files written.
        seed: Seed of drawing and training.
        max_iters: Training iterations; by default the configuration's.

    Returns:
        For each method, the metrics of :class:`ifn_plugin.evaluation.metric.ChangeMetric` on the test split.

    Raises:
        FileNotFoundError: If a pair is incomplete.
        ValueError: If a split of ``data`` is missing.
    """
    begin = time.monotonic()
    if data is None:
        data = work_dir / 'data'
        draw_once(data, seed)
    _check_splits(data)
    runner = Runner.from_cfg(configure(data, work_dir, seed, max_iters))
    runner.register_hook(_Progress())
    print('Training IFN from random weights, encoder included, so that no download is needed. For real results, start '
          "from ImageNet's weights and train longer: configs/ifn/ifn_mmseg_256x256_40k_levircd.py")
    runner.train()
    panels = work_dir / 'panels'
    shutil.rmtree(panels, ignore_errors=True)  # panels of an earlier run may show other data
    print('Testing', flush=True)
    results = {'IFN': runner.test(), 'difference + Otsu': _test_baseline(runner.test_dataloader.dataset)}
    names = ('Precision', 'Recall', 'F1', 'IoU')
    print(f'\n{len(runner.test_dataloader.dataset)} test pairs, percent'.ljust(25) + ''.join(f'{n:>11}' for n in names))
    for method, metrics in results.items():
        print(method.ljust(24) + ''.join(f'{metrics[name]:11.1f}' for name in names))
    print(f'\nChange panels: {panels}\nWeights: {work_dir / f"iter_{runner.max_iters}.pth"}\n'
          f'Time: {time.monotonic() - begin:.0f} s')
    return results

