"""Measure configurations side by side: ``python -m ifn_plugin.tools.benchmark CONFIG [CONFIG ...]``.

Every row is a process of its own, and they take turns, so that what else the machine does falls on all of them.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import product
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, OPTIM_WRAPPERS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmengine.utils.dl_utils import collect_env, set_multi_processing
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ifn_plugin.acceleration import DTYPES, accelerate, release_memory
from ifn_plugin.configurations import is_type
from ifn_plugin.data import find_loaders
from ifn_plugin.data.transforms import list_dataset_settings
from ifn_plugin.fileio import write_atomic
from ifn_plugin.tools._common import resolve_config

SWITCHES = ('channels_last', 'compile', 'keep_memory')
VARIANTS = tuple(f'{dtype}{switches}' for switches in ('', '+channels_last+compile') for dtype in DTYPES[1:3])
ONNX = 'onnxruntime'
GIB = 2**30


class Case(NamedTuple):
    """What is measured: training, inference or data, with the side of the images and the pairs in a batch.

    Without a side, the images are the data set's.
    """

    task: str
    size: int = 0
    batch: int = 1


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measure configurations side by side: parameters, arithmetic, time, memory, data pipeline. Ratios '
        'are against the first row.')
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help="files, or names of the plugin's own")
    parser.add_argument('--names', nargs='+', metavar='NAME', help="in the tables; default: the files' names")
    parser.add_argument('--variants', nargs='+', default=VARIANTS, type=_variant, metavar='DTYPE[+SWITCH…]',
                        help=f'of each configuration: {", ".join(DTYPES[1:])}, with {" and ".join(SWITCHES)} added or '
                        f'not; or {ONNX}, on the CPU; default: {" ".join(VARIANTS)}')
    parser.add_argument('--train', nargs='*', type=_size_and_batch, default=[], metavar='SIZExBATCH')
    parser.add_argument('--inference', nargs='*', type=_size_and_batch, default=[], metavar='SIZExBATCH')
    parser.add_argument('--end-to-end', nargs='*', type=int, default=[], metavar='BATCH',
                        help="training with its data pipeline and the configuration's workers")
    parser.add_argument('--data', action='store_true', help='training pipelines, one process, files in memory')
    parser.add_argument('--cold-data', action='store_true', help='the same, files read from disk')
    parser.add_argument('--data-root', nargs='+', help='data set of each configuration, or one for all')
    parser.add_argument('--rounds', type=int, default=5, help='turns of each row; default: 5')
    parser.add_argument('--out', type=Path, help='write FILE.md and FILE.json', metavar='FILE')
    args = parser.parse_args(argv)
    if args.names and len(args.names) != len(args.configs):
        parser.error(f'--names needs one name for each of the {len(args.configs)} configurations')
    stems = [Path(config).stem for config in args.configs]
    if len(set(args.names or stems)) != len(stems):
        parser.error(f'two configurations have the same name in {args.names or stems}: tell them apart by --names')
    if args.data_root and len(args.data_root) not in (1, len(args.configs)):
        parser.error(f'--data-root needs one folder, or one for each of the {len(args.configs)} configurations')
    if not (args.train or args.inference or args.end_to_end or args.data or args.cold_data):
        parser.error('nothing to measure: give --train, --inference, --end-to-end, --data or --cold-data')
    if min(args.end_to_end, default=1) < 1:
        parser.error('--end-to-end: a batch has to be at least 1')
    if args.rounds < 1:
        parser.error('--rounds has to be at least 1')
    return args


def _variant(text: str) -> str:
    dtype, *switches = text.split('+')
    if text != ONNX and (dtype not in DTYPES or not set(switches) <= set(SWITCHES)):
        raise argparse.ArgumentTypeError(f'{text}: use {"|".join(DTYPES)}, +{", +".join(SWITCHES)}; or {ONNX}')
    return text


def _size_and_batch(text: str) -> tuple[int, int]:
    try:
        size, batch = (int(number) for number in text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text}: use SIZExBATCH, such as 256x8') from None
    if min(size, batch) < 1:
        raise argparse.ArgumentTypeError(f'{text}: both have to be at least 1')
    return size, batch


# In the process of a row


class Subject:
    """One configuration in one variant."""

    def __init__(self, config: str, variant: str, data_root: str | None) -> None:
        self.cfg = Config.fromfile(config)
        # as the runner does
        torch.backends.cudnn.benchmark = bool((self.cfg.get('env_cfg') or {}).get('cudnn_benchmark'))
        init_default_scope(self.cfg.get('default_scope', 'mmseg'))
        self.variant, self.data_root = variant, data_root
        self.channels = find_loaders(self.cfg)[0].in_channels
        self.step: Callable[[], float] | None = None

    def _model(self) -> nn.Module:
        torch.manual_seed(0)
        model: nn.Module = MODELS.build(self.cfg.model)
        dtype, *switches = self.variant.split('+')
        model.to(get_device())
        precision = accelerate(
            model, dtype=dtype, window_batch=1, **{switch: switch in switches for switch in SWITCHES})
        if dtype not in ('auto', str(precision).rpartition('.')[2]):
            raise ValueError(f'{get_device()} does not compute in {dtype}')
        return model

    def count(self, size: int) -> dict[str, int]:
        """Parameters, and multiply-accumulate operations for one pair."""
        torch.manual_seed(0)
        model: Any = MODELS.build(self.cfg.model).eval()
        batch = model.data_preprocessor(_batch(size, 1, self.channels), True)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(**batch, mode='predict')
        parameters = list(model.parameters())
        result = dict(
            parameters=sum(p.numel() for p in parameters),
            trainable=sum(p.numel() for p in parameters if p.requires_grad),
            macs=counter.get_total_flops() // 2)
        del model, batch, parameters
        _free_memory()
        return result

    def start(self, case: Case) -> None:
        """Prepare a case and run it until it is warm, which includes compilation."""
        self.step = None
        _free_memory()
        make = dict(train=self._training, inference=self._inference, end_to_end=self._end_to_end, data=self._data,
                    cold_data=self._cold_data)
        try:
            self.step = make[case.task](case)
            if case.task not in ('end_to_end', 'data'):  # these are by now
                for _ in range(2):
                    self.step()
        except Exception:
            self.stop()  # it must not take memory from the others
            raise
        _reset_peak_memory()

    def run(self) -> float:
        """Seconds of one turn for each pair, or sample."""
        assert self.step is not None
        return self.step()

    def stop(self) -> int | None:
        """Peak memory since the start, in bytes, if it is known; what the case needed is freed."""
        # torch does not know what ONNX Runtime takes on a GPU
        peak = None if self.variant == ONNX and torch.cuda.is_available() else _peak_memory()
        self.step = None
        torch.compiler.reset()
        _free_memory()
        return peak

    def _trainer(self) -> Callable[[Any], Any]:
        """What makes a training step of a batch."""
        if self.variant == ONNX:
            raise ValueError('ONNX Runtime does not train')
        model: Any = self._model().train()
        optim_wrapper = dict(self.cfg.optim_wrapper)
        # the variant says which precision, whatever the configuration has
        for setting in ('dtype', 'loss_scale', 'use_fsdp'):
            optim_wrapper.pop(setting, None)
        half = self.variant.startswith('float16')
        if half or is_type(optim_wrapper.get('type'), OPTIM_WRAPPERS, AmpOptimWrapper):
            optim_wrapper['type'] = 'AmpOptimWrapper' if half else 'OptimWrapper'
        wrapper = build_optim_wrapper(model, optim_wrapper)
        return lambda batch: model.train_step(batch, wrapper)

    def _training(self, case: Case) -> Callable[[], float]:
        train = self._trainer()
        batch = _batch(case.size, case.batch, self.channels)
        return lambda: _seconds(lambda: train(batch)) / case.batch

    def _end_to_end(self, case: Case) -> Callable[[], float]:
        train = self._trainer()
        self._set_data_root()
        set_multi_processing(**(self.cfg.get('env_cfg') or {}).get('mp_cfg', {}))  # as a runner does
        loader = Runner.build_dataloader(dict(self.cfg.train_dataloader, batch_size=case.batch), seed=0)
        batches = _endless(loader)
        # what the workers have loaded while others had their turn
        waiting = loader.num_workers * (loader.prefetch_factor or 0)
        for _ in range(1 + waiting):
            train(next(batches))
        # about three seconds for a turn
        some = max(1, loader.num_workers)
        count = max(1, round(3 * some / _seconds(lambda: [train(next(batches)) for _ in range(some)])))

        def step() -> float:
            for _ in range(waiting):
                train(next(batches))
            return _seconds(lambda: [train(next(batches)) for _ in range(count)]) / (count * case.batch)

        return step

    def _inference(self, case: Case) -> Callable[[], float]:
        if self.variant == ONNX:
            return self._onnx_inference(case)
        model: Any = self._model().eval()
        # prepared as in training, since open-cd's preprocessor takes one pair only in testing
        batch = model.data_preprocessor(_batch(case.size, case.batch, self.channels), True)

        def step() -> float:
            with torch.no_grad():
                return _seconds(lambda: model(**batch, mode='predict')) / case.batch

        return step

    def _onnx_inference(self, case: Case) -> Callable[[], float]:
        from ifn_plugin.export import ChangeNetwork, export, open_onnx
        torch.manual_seed(0)
        with TemporaryDirectory() as folder:
            path = Path(folder) / 'model.onnx'
            export(ChangeNetwork(MODELS.build(self.cfg.model)), path)
            run = open_onnx(path)
        images = torch.stack(_batch(case.size, case.batch, self.channels)['inputs']).permute(0, 2, 3, 1).contiguous()
        date1, date2 = (date.contiguous() for date in images.chunk(2, dim=3))
        release_memory()  # what exporting left
        return lambda: _seconds(lambda: run(date1, date2)) / case.batch

    def _set_data_root(self) -> None:
        if self.data_root:
            dataset, *others = list_dataset_settings(self.cfg, 'train')
            if others:
                raise ValueError('--data-root cannot stand for all data sets that this configuration trains on: set '
                                 'each data_root in a configuration file')
            dataset.data_root = self.data_root

    def _dataset(self) -> Any:
        import cv2
        cv2.setNumThreads(0)  # as in a worker
        self._set_data_root()
        return DATASETS.build(self.cfg.train_dataloader.dataset)

    def _data(self, case: Case) -> Callable[[], float]:
        dataset = self._dataset()
        for index in range(len(dataset)):
            dataset[index]
        # about a second for a turn
        count = max(1, round(1 / _seconds(lambda: dataset[0])))

        def step() -> float:
            indices = random.choices(range(len(dataset)), k=count)
            return _seconds(lambda: [dataset[index] for index in indices]) / count

        return step

    def _cold_data(self, case: Case) -> Callable[[], float]:
        dataset = self._dataset()
        roots = {Path(settings.data_root) for settings in list_dataset_settings(self.cfg, 'train')}

        def step() -> float:
            for root in roots:
                _forget_pages(root)
            return _seconds(lambda: [dataset[index] for index in range(len(dataset))]) / len(dataset)

        return step


def _endless(loader: DataLoader) -> Iterator[Any]:
    """Batches without end, also of samplers that end."""
    batch = None
    while True:
        for batch in loader:
            yield batch
        if batch is None:
            raise ValueError('the training data has fewer pairs than a batch')


def _batch(size: int, batch: int, channels: int = 3) -> dict[str, Any]:
    from mmseg.structures import SegDataSample
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 2 * channels, size, size), dtype=torch.uint8, generator=generator)
    labels = (torch.rand(batch, 1, size, size, generator=generator) > 0.9).long()
    meta = dict(ori_shape=(size, size), img_shape=(size, size))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=meta) for label in labels]
    return dict(inputs=list(images), data_samples=samples)


def _seconds(function: Callable[[], object]) -> float:
    if get_device() == 'cuda':
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        function()
        events[1].record()
        torch.cuda.synchronize()
        milliseconds: float = events[0].elapsed_time(events[1])
        return milliseconds / 1000
    begin = time.perf_counter()
    function()
    if get_device() == 'mps':
        torch.mps.synchronize()
    return time.perf_counter() - begin


def _reset_peak_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == 'linux':
        Path('/proc/self/clear_refs').write_text('5')


def _peak_memory() -> int:
    """On a GPU what tensors held at most, in bytes; elsewhere the process's memory."""
    if torch.cuda.is_available():
        peak: int = torch.cuda.max_memory_allocated()
        return peak
    return _process_memory()


def _process_memory() -> int:
    """The whole process's memory at most, its libraries included, in bytes."""
    if sys.platform == 'linux':
        lines = Path('/proc/self/status').read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM'))
    if sys.platform == 'win32':
        import psutil
        return int(psutil.Process().memory_info().peak_wset)
    import resource
    # since the process began, in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _free_memory() -> None:
    """Leave nothing of one case to the next: an accelerated model holds itself in a circle."""
    release_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _forget_pages(root: Path) -> None:
    """Drop a data set from the system's page cache, so that it is read from disk again."""
    if not hasattr(os, 'posix_fadvise'):
        raise OSError(f'{sys.platform} does not let its page cache be emptied: leave out --cold-data')
    for path in root.rglob('*'):
        if path.is_file():
            with path.open('rb') as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _receive(connection: Connection) -> Any:
    """A message; ``None`` if the process that leads is gone."""
    try:
        return connection.recv()
    except EOFError:
        return None


def _serve(connection: Connection, config: str, variant: str, data_root: str | None, threads: int) -> None:
    torch.set_num_threads(threads)
    subject: Subject | None = None
    while (message := _receive(connection)) is not None:
        name, *arguments = message
        try:
            subject = subject or Subject(config, variant, data_root)
            connection.send((getattr(subject, name)(*arguments), None))
        except Exception as error:  # one row's error must not end the others
            connection.send((None, (str(error).strip() or type(error).__name__).splitlines()[0]))


# In the process that leads


class Row:
    """A configuration in a variant, in a process of its own."""

    def __init__(self, name: str, config: Path, variant: str, data_root: str | None) -> None:
        self.name, self.variant = name, variant
        context = get_context('spawn')
        self.connection, other = context.Pipe()
        # not a daemon, which could have no workers
        self.process = context.Process(
            target=_serve, args=(other, str(config), variant, data_root, torch.get_num_threads()))
        self.process.start()
        other.close()

    def ask(self, *message: Any) -> Any:
        """Call a method of the row's ``Subject``.

        Raises:
            RuntimeError: With the reason, if it fails.
        """
        try:
            self.connection.send(message)
            result, error = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            error = f'its process ended with exit code {self.process.exitcode}'
        if error is not None:
            raise RuntimeError(error)
        return result

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):
            self.connection.send(None)
        self.process.join()


def measure(rows: Sequence[Row], case: Case, rounds: int) -> list[dict[str, Any]]:
    """Let the rows take turns with one case.

    Returns:
        For each row ``config``, ``variant``, and either ``error`` or ``seconds``, of each turn for each pair or sample,
        and ``peak_memory`` in bytes, ``None`` where it is not known.
    """
    records: list[dict[str, Any]] = [
        dict(config=row.name, variant=row.variant, seconds=[]) for row in rows]
    _attempt(rows, records, lambda row, record: row.ask('start', case))
    for _ in range(rounds):
        _attempt(rows, records, lambda row, record: record['seconds'].append(row.ask('run')))
    _attempt(rows, records, lambda row, record: record.update(peak_memory=row.ask('stop')))
    return records


def _attempt(rows: Sequence[Row], records: Sequence[dict[str, Any]], action: Callable[[Row, dict], object]) -> None:
    for row, record in zip(rows, records):
        if 'error' not in record:
            try:
                action(row, record)
            except RuntimeError as error:
                record['error'] = str(error)


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in [header, ['---'] * len(header), *lines]:
        yield '| ' + ' | '.join(cells) + ' |'
    yield ''


def _report_case(case: Case, records: Sequence[dict[str, Any]]) -> Iterator[str]:
    data = case.task.endswith('data')
    if data:
        title = 'Training pipeline, ' + ('files in memory' if case.task == 'data' else 'files on disk')
    else:
        size = f'{case.size}×{case.size}' if case.size else 'with its data pipeline'
        title = f'{"Inference" if case.task == "inference" else "Train"}, {size}, batch {case.batch}'
    lines, first = [], records[0]
    for record in records:
        variant = record['variant'].replace('_', '-').replace('+', ', ')
        name = [record['config']] if data else [record['config'], variant]
        if 'error' in record:
            lines.append([*name, f'failed: {record["error"]}', *[''] * (2 if data else 3)])
            continue
        seconds = record['seconds']
        median = statistics.median(seconds)
        ratio = '' if 'error' in first else f'{statistics.median(first["seconds"]) / median:.2f}'
        cells = [*name, f'{1000 * median:.4g} ({1000 * min(seconds):.4g}–{1000 * max(seconds):.4g})']
        if data:
            cells += [f'{1 / median:.4g}', ratio]
        else:
            peak, other = record['peak_memory'], first.get('peak_memory')
            memory = f' ({peak / other:.2f})' if peak and other else ''
            cells += [ratio, '' if peak is None else f'{peak / GIB:.2f}{memory}']
        lines.append(cells)
    yield f'### {title}\n'
    if data:
        yield from _table(['configuration', 'ms a sample: median (range)', 'samples/s', 'ratio'], lines)
    else:
        header = ['configuration', 'variant', 'ms a pair: median (range)', 'ratio', 'peak memory, GiB (of the first)']
        yield from _table(header, lines)


def _report_counts(size: int, counts: Sequence[dict[str, Any]]) -> Iterator[str]:
    lines = [[
        record['config'], f'failed: {record["error"]}', '', ''
    ] if 'error' in record else [
        record['config'], f'{record["parameters"]:,}', f'{record["trainable"]:,}', f'{record["macs"] / 1e9:.2f}'
    ] for record in counts]
    yield from _table(['configuration', 'parameters', 'trainable', f'GMAC, one pair of {size}×{size}'], lines)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    configs = [resolve_config(config) for config in args.configs]
    roots = args.data_root or [None]
    roots *= len(configs) if len(roots) == 1 else 1
    names = args.names or [config.stem for config in configs]
    cases = [Case('inference', *pair) for pair in args.inference] + [Case('train', *pair) for pair in args.train]
    loading = [Case('end_to_end', batch=batch) for batch in args.end_to_end]
    loading += [Case(task) for task in ('data', 'cold_data') if getattr(args, task)]
    environment = {key: str(value) for key, value in collect_env().items()}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f'CPU, {torch.get_num_threads()} threads'
    result: dict[str, Any] = dict(device=device, rounds=args.rounds, environment=environment, cases=[])
    report = [f'{device}, torch {torch.__version__}, median of {args.rounds} turns\n']

    def write() -> None:
        if args.out:
            for suffix, text in (('.md', '\n'.join(report) + '\n'), ('.json', json.dumps(result, indent=1))):
                write_atomic(text.encode(), args.out.with_name(args.out.name.removesuffix('.md') + suffix))

    rows: list[Row] = []
    with ExitStack() as stack:
        for variant, (name, config, root) in product(args.variants, zip(names, configs, roots)):
            rows.append(Row(name, config, variant, root))
            stack.callback(rows[-1].close)
        if cases:
            counts: list[dict[str, Any]] = [dict(config=name) for name in names]
            _attempt(rows, counts, lambda row, record: record.update(row.ask('count', cases[0].size)))
            result['counts'] = counts
            report += _report_counts(cases[0].size, counts)
        for case in cases + loading:
            # a pipeline has no variants
            records = measure(rows[:len(configs)] if case.task.endswith('data') else rows, case, args.rounds)
            result['cases'].append(case._asdict() | dict(rows=records))
            lines = list(_report_case(case, records))
            report += lines
            print('\n'.join(lines), file=sys.stderr, flush=True)
            write()  # what is measured is kept, whatever comes
    print('\n'.join(report))


if __name__ == '__main__':
    main()
