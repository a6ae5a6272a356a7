"""Change maps from a trained network: ``python -m ifn_plugin.tools.predict CONFIG CHECKPOINT DATE1 DATE2 OUT``.

DATE1 and DATE2 are two images, or two folders whose images are paired by name. Below OUT come the folders that
``--output`` names: ``map`` (0 and 255), ``probability`` (0 to 255) and ``panel`` (both dates and the map side by side).
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import DictAction
from rich.progress import track

from ifn_plugin.data import LoadPair
from ifn_plugin.inference import ChangeDetector, ChangeMap, find_pairs
from ifn_plugin.tools._common import add_acceleration_arguments, chosen_acceleration, read_config, resolve_config
from ifn_plugin.training import WholeFileBackend
from ifn_plugin.visualization import draw_panel

OUTPUTS = ('map', 'probability', 'panel')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Find the changes between two images or two folders of images')
    parser.add_argument('config', help="configuration file, or the name of one of the plugin's own")
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('date1', type=Path, help='earlier image, or a folder of them')
    parser.add_argument('date2', type=Path, help='later image, or a folder of them')
    parser.add_argument('out', type=Path, help='folder to write into')
    parser.add_argument('--output', nargs='+', choices=OUTPUTS, default=['map'], help='what to write; default: map')
    parser.add_argument('--threshold', type=float, help="probability above which is changed; default: configuration's")
    parser.add_argument('--device', help='such as cpu or cuda:1; default: a GPU where there is one')
    parser.add_argument('--batch-size', type=int, default=4, help='pairs of one size that pass at once; default: 4')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='settings to override')
    add_acceleration_arguments(parser)
    args = parser.parse_args(argv)
    if args.threshold is not None and not 0 <= args.threshold < 1:
        parser.error(f'--threshold {args.threshold}: a probability from 0 to 1 is needed.')
    if args.batch_size < 1:
        parser.error(f'--batch-size {args.batch_size}: at least 1 is needed.')
    return args


def build_detector(args: argparse.Namespace) -> ChangeDetector:
    """The detector that the arguments describe."""
    cfg = read_config(resolve_config(args.config))
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    acceleration = chosen_acceleration(args)
    if args.accelerate:
        acceleration = dict(dtype='auto', compile=True, keep_memory=True) | acceleration
    return ChangeDetector(cfg, args.checkpoint, args.device, args.threshold, args.batch_size, acceleration)


def _list_pairs(date1: Path, date2: Path) -> dict[str, tuple[Path, Path]]:
    for path in (date1, date2):
        if not path.exists():
            raise FileNotFoundError(f'{path}: no such file or folder.')
    if date1.is_dir() != date2.is_dir():
        raise ValueError(f'{date1} and {date2}: one is a folder and one is not. Name two images or two folders.')
    return find_pairs(date1, date2) if date1.is_dir() else {date2.stem: (date1, date2)}


def _pictures(change: ChangeMap, pair: tuple[Path, Path], outputs: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """What to write of a pair, BGR or grey."""
    if 'map' in outputs:
        yield 'map', change.changed.astype(np.uint8) * 255
    if 'probability' in outputs:
        yield 'probability', (change.probability * 255).round().astype(np.uint8)
    if 'panel' in outputs:
        date1, date2 = LoadPair().transform(dict(img_path=[str(path) for path in pair]))['img']
        panel = draw_panel(date1[..., ::-1], date2[..., ::-1], change.changed)
        yield 'panel', panel[..., ::-1]


def predict(detector: ChangeDetector, pairs: dict[str, tuple[Path, Path]], out: Path, outputs: list[str]) -> float:
    """Find the changes in pairs of files and write them.

    Args:
        detector: The detector.
        pairs: Both files of each pair, by the name that its results get.
        out: Folder to write into; results of an earlier time are written over.
        outputs: Any of ``map``, ``probability`` and ``panel``.

    Returns:
        The share of pixels that are changed.
    """
    backend = WholeFileBackend()
    changed = pixels = 0
    maps = detector.predict_all(pairs.values())
    for change, (name, pair) in zip(track(maps, total=len(pairs), description='Predicting'), pairs.items()):
        changed += int(change.changed.sum())
        pixels += change.changed.size
        for kind, picture in _pictures(change, pair, outputs):
            backend.put(cv2.imencode('.png', picture)[1].tobytes(), out / kind / f'{name}.png')
    return changed / pixels


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        pairs = _list_pairs(args.date1, args.date2)
        detector = build_detector(args)
        start = time.perf_counter()
        share = predict(detector, pairs, args.out, args.output)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    seconds = time.perf_counter() - start
    print(f'{len(pairs)} pairs in {seconds:.1f} s, {share:.2%} of the pixels changed: '
          + ', '.join(str(args.out / kind) for kind in args.output))


if __name__ == '__main__':
    main()
