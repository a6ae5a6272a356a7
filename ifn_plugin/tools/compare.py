"""Train and test models under one protocol: ``python -m ifn_plugin.tools.compare PROTOCOL CONFIG [CONFIG ...]``.

Of each CONFIG, of the plugin, open-cd or mmseg, only the model is taken; data, schedule, hooks and evaluation are
PROTOCOL's, whose types have to name their scope, and whose hooks have to have ``ifn_plugin.EvaluationHook``. Every
model is trained once for each seed, in a process of its own. What is finished is kept: the command goes on where it was
broken off, and more models and seeds can be added. A run that fails does not stop the others.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.model import PretrainedInit
from mmengine.registry import MODELS, WEIGHT_INITIALIZERS

from ifn_plugin.configurations import is_type
from ifn_plugin.evaluation import EvaluationHook
from ifn_plugin.fileio import write_atomic
from ifn_plugin.tools._charts import VALIDATION, chart, style_of
from ifn_plugin.tools._common import is_hook, read_config, read_log, resolve_config
from ifn_plugin.tools.report import cost_tables

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

CURVES = ('F1@val', 'AP')
SCORES = ('F1@val', 'Precision@val', 'Recall@val', 'IoU@val', 'F1@0.5', 'F1', 'AP')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train and test models under one protocol')
    parser.add_argument('protocol', help="configuration of all but the model, or the name of one of the plugin's own")
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help="files, or names of the plugin's own")
    parser.add_argument('--names', nargs='+', metavar='NAME', help="in the tables; default: the files' names")
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/comparison'))
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1], help='default: 0 1')
    parser.add_argument(
        '--from-scratch', action='store_true',
        help="no pretrained weights and nothing frozen, unless a model's code loads or freezes them by itself")
    parser.add_argument('--cost', metavar='SIZExBATCH', help='measure time and memory too, such as 256x8')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help="the protocol's settings to override")
    args = parser.parse_args(argv)
    args.names = args.names or [Path(config).stem for config in args.configs]
    if len(args.names) != len(args.configs):
        parser.error(f'--names needs one name for each of the {len(args.configs)} configurations')
    if len(set(args.names)) != len(args.names):
        parser.error(f'two configurations have the same name in {args.names}: tell them apart by --names')
    for name in args.names:
        if not re.fullmatch(r'\w[\w.+-]*', name):
            parser.error(f'--names {name}: a name becomes a folder, so begin with a letter or digit, and use letters, '
                         'digits and . + - _ only')
    args.seeds = list(dict.fromkeys(args.seeds))
    return args


def combine(protocol: Config, config: Config, seed: int, from_scratch: bool = False) -> Config:
    """A model under a protocol.

    Args:
        protocol: Everything but the model.
        config: Where the model is from.
        seed: The run's.
        from_scratch: Take ``pretrained`` and ``init_cfg`` out of the model, and let what was frozen learn.

    Returns:
        The configuration of the run.

    Raises:
        SystemExit: If there is no model in it.
    """
    settings = protocol.to_dict()
    model = config.to_dict().get('model')
    if not isinstance(model, dict):
        raise SystemExit(f'{config.filename} has no model.')
    _simplify(model, from_scratch)
    preprocessor = model.get('data_preprocessor') or {}
    if preprocessor.get('size'):
        # that of its own crops, to which those of the protocol would be padded; mmseg needs one of the two
        preprocessor['size'] = None
        preprocessor['size_divisor'] = preprocessor.get('size_divisor') or 1
    # validation too has to be the same for all, where a configuration may have windows of its own
    protocols = (settings.get('test_cfg') or {}).get('protocols') or {}
    model['test_cfg'] = protocols.get('whole') or next(iter(protocols.values()), dict(mode='whole'))
    imports: list[str] = []
    for cfg in (protocol, config):
        names = (cfg.get('custom_imports') or {}).get('imports', [])
        imports += [names] if isinstance(names, str) else names
    settings.update(
        model=model,
        default_scope=config.get('default_scope') or 'mmseg',
        custom_imports=dict(imports=list(dict.fromkeys(imports))),
        randomness=dict(settings.get('randomness') or {}, seed=seed))
    return Config(settings)


def _simplify(settings: Any, from_scratch: bool) -> None:
    if isinstance(settings, (list, tuple)):
        for value in settings:
            _simplify(value, from_scratch)
    elif isinstance(settings, dict):
        if is_type(settings.get('type'), MODELS, torch.nn.SyncBatchNorm):
            settings['type'] = 'BN'  # a run is one process, and on a CPU SyncBN is none
        if from_scratch and 'pretrained' in settings:
            settings['pretrained'] = False if isinstance(settings['pretrained'], bool) else None
        if from_scratch and 'init_cfg' in settings:
            settings['init_cfg'] = _without_pretrained(settings['init_cfg'])
        if from_scratch and settings.get('frozen') is True:
            settings['frozen'] = False
        if from_scratch and 'frozen_stages' in settings:
            settings['frozen_stages'] = -1
        for value in settings.values():
            _simplify(value, from_scratch)


def _without_pretrained(init_cfg: Any) -> Any:
    if isinstance(init_cfg, (list, tuple)):
        return [cfg for cfg in init_cfg if not _is_pretrained(cfg)] or None
    return None if init_cfg and _is_pretrained(init_cfg) else init_cfg


def _is_pretrained(init_cfg: dict[str, Any]) -> bool:
    return is_type(init_cfg.get('type'), WEIGHT_INITIALIZERS, PretrainedInit)


class RunError(RuntimeError):
    """A run has failed."""


def _settings_of(work_dir: Path) -> Path:
    # beside the folder, in which the runner keeps what it makes of it
    return work_dir.with_name(f'{work_dir.name}.py')


def prepare(cfg: Config, work_dir: Path) -> None:
    """Keep the settings of a run beside its folder.

    Raises:
        SystemExit: If a run with other settings is there.
    """
    path = _settings_of(work_dir)
    if not path.exists():
        write_atomic(cfg.pretty_text.encode(), path)
    elif Config.fromfile(path).pretty_text != cfg.pretty_text:
        raise SystemExit(
            f'{work_dir} holds a run with other settings: name another --work-dir, or remove it and {path}.')


def run(work_dir: Path) -> dict[str, Any]:
    """Train and test once, unless that is done.

    Args:
        work_dir: Folder of the run, whose settings :func:`prepare` has kept.

    Returns:
        ``metrics`` of the test by each protocol; ``validations``; ``iteration`` of the checkpoint that was tested; and
        ``time``, the median of the seconds for an iteration, if any was logged.

    Raises:
        RunError: If it fails; the log lies in the folder.
    """
    result_path = work_dir / 'result.json'
    if result_path.exists():
        result: dict[str, Any] = json.loads(result_path.read_text())
        return result
    work_dir.mkdir(parents=True, exist_ok=True)
    with _locked(work_dir / 'lock') as lock:
        settings = _settings_of(work_dir)
        _call(lock, work_dir, 'train', settings, '--work-dir', work_dir, '--resume')
        # one, unless a run was killed at the worst moment and resumed
        checkpoint = max(work_dir.glob('best_*.pth'), key=lambda path: path.stat().st_mtime, default=None)
        if checkpoint is None:
            last = work_dir / 'last_checkpoint'
            if not last.exists():
                raise RunError(f'the training has left no checkpoint in {work_dir}')
            checkpoint = Path(last.read_text().strip())
        _call(lock, work_dir, 'test', settings, checkpoint, '--work-dir', work_dir)
    records = sorted(work_dir.glob('*/evaluation_test.json'))
    if not records:
        raise RunError('the test has left no record: default_hooks of the protocol need ifn_plugin.EvaluationHook')
    record, log = json.loads(records[-1].read_text()), read_log(work_dir)
    times = [entry['time'] for entry in log if 'loss' in entry and 'time' in entry]
    result = dict(
        metrics={protocol: found['metrics'] for protocol, found in record['protocols'].items()},
        validations=[entry for entry in log if 'F1' in entry and 'step' in entry],
        iteration=record['iteration'],
        time=statistics.median(times) if times else None)
    write_atomic(json.dumps(result, indent=1).encode(), result_path)
    return result


@contextmanager
def _locked(path: Path, wait: bool = False) -> Iterator[int]:
    """Keep others out, also as long as a command that was started lives on without this one."""
    with path.open('w') as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise RunError(f'another process is at work in {path.parent}: wait for it, or stop it') from None
        yield file.fileno()


def _call(lock: int, work_dir: Path, tool: str, *arguments: Any) -> None:
    log = work_dir / f'{tool}.log'
    with log.open('w') as output:
        code = subprocess.run(
            [sys.executable, '-m', f'ifn_plugin.tools.{tool}', *map(str, arguments)], stdout=output,
            stderr=subprocess.STDOUT, pass_fds=[lock] if fcntl is not None else []).returncode
    if code:
        lines = log.read_text(errors='replace').strip().splitlines() or ['nothing']
        raise RunError(f'exit code {code} after {lines[-1]} ({log})')


def _spread(values: Sequence[float | None]) -> str:
    """Mean and standard deviation of those that are known, and how many these are if they are not all."""
    known = [value for value in values if value is not None]
    if not known:
        return ''
    mean = f'{statistics.mean(known):.2f}' + (f' ± {statistics.stdev(known):.2f}' if len(known) > 1 else '')
    return mean if len(known) == len(values) else f'{mean} ({len(known)} of {len(values)})'


def report(results: dict[str, list[dict[str, Any]]],
           errors: dict[str, list[str]],
           cost: dict[str, dict[str, str]] | None = None) -> Iterator[str]:
    """Tables in Markdown, a line at a time, one for each protocol of the test.

    Args:
        results: Of each model, those of its seeds.
        errors: Of each model, those of the seeds that failed.
        cost: Of each model whose cost was measured, figures by the title of their column.

    Yields:
        Lines.
    """
    cost = cost or {}
    columns = list(dict.fromkeys(column for figures in cost.values() for column in figures))
    finished = [result for runs in results.values() for result in runs]
    for protocol in dict.fromkeys(protocol for result in finished for protocol in result['metrics']):
        if protocol:
            yield f'### Test, {protocol}\n'
        yield f'| {" | ".join(("model", "seeds", *SCORES, "s an iteration", *columns))} |'
        yield '| --- ' * (len(SCORES) + len(columns) + 3) + '|'
        for name, runs in results.items():
            if runs:
                cells = [_spread([result['metrics'][protocol].get(score) for result in runs]) for score in SCORES]
                times = [result['time'] for result in runs if result['time'] is not None]
                cells.append(f'{statistics.median(times):.3f}' if times else '')
                cells += [cost.get(name, {}).get(column, '') for column in columns]
                yield f'| {name} | {len(runs)} | {" | ".join(cells)} |'
        yield ''
    for name, messages in errors.items():
        for message in messages:
            yield f'{name} failed: {message}\n'


def draw(results: dict[str, list[dict[str, Any]]], score: str) -> str:
    """Validation over the iterations: the mean of the seeds as a line, and what they span as an area.

    Args:
        results: Of each model, those of its seeds.
        score: One of ``CURVES``.

    Returns:
        A chart as SVG; empty if nothing was validated.
    """
    lines, bands = [], []
    for number, (name, runs) in enumerate(results.items()):
        # by iteration, since a resumed run may have validated one twice
        found = [{entry['step']: entry[score] for entry in result['validations'] if score in entry} for result in runs]
        steps = sorted(set.intersection(*map(set, found))) if found else []
        if steps:
            values = [[validated[step] for validated in found] for step in steps]
            style = style_of(number, dots=True)
            lines.append((name, steps, list(map(statistics.mean, values)), style))
            bands.append((steps, list(map(min, values)), list(map(max, values)),
                          dict(color=style['color'], alpha=0.15, linewidth=0)))
    return chart(VALIDATION[score], 'iteration', '%', lines, bands) if lines else ''


def _shared_settings(path: Path) -> Any:
    """Of a run's settings, those that are the protocol's."""
    settings = Config.fromfile(path).to_dict()
    for key in ('model', 'default_scope', 'custom_imports'):
        settings.pop(key, None)
    settings.get('randomness', {}).pop('seed', None)
    return settings


def read_results(work_dir: Path, like: Path) -> dict[str, list[dict[str, Any]]]:
    """All that is finished in a work dir, whichever command did it.

    Args:
        work_dir: Of the comparison.
        like: Folder of a run; runs under another protocol are left out.

    Returns:
        Of each model, the results of its seeds.
    """
    results: dict[str, list[dict[str, Any]]] = {}
    shared = _shared_settings(_settings_of(like))
    for path in sorted(work_dir.glob('*/seed*/result.json')):
        settings = _settings_of(path.parent)
        if settings.exists() and _shared_settings(settings) == shared:
            results.setdefault(path.parent.parent.name, []).append(json.loads(path.read_text()))
    return results


def _check_record(protocol: Config, name: str) -> None:
    """Before hours are spent, see that what makes the record of the test is there."""
    hooks = [*(protocol.get('default_hooks') or {}).values(), *(protocol.get('custom_hooks') or [])]
    if not any(is_hook(hook, EvaluationHook) for hook in hooks):
        raise SystemExit(f"{name} keeps no record of tests: add default_hooks=dict(evaluation=dict(type="
                         "'ifn_plugin.EvaluationHook')).")
    if 'ChangeMetric' not in str(protocol.get('test_evaluator')):
        raise SystemExit(f"{name} has no scores to compare: set test_evaluator=dict(type='ifn_plugin.ChangeMetric').")


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    protocol = read_config(resolve_config(args.protocol))
    if args.cfg_options is not None:
        protocol.merge_from_dict(args.cfg_options)
    _check_record(protocol, args.protocol)
    configs = {name: read_config(resolve_config(config)) for name, config in zip(args.names, args.configs)}
    folders = {(name, seed): args.work_dir / name / f'seed{seed}' for name in configs for seed in args.seeds}
    for (name, seed), folder in folders.items():
        prepare(combine(protocol, configs[name], seed, args.from_scratch), folder)
    errors: dict[str, list[str]] = {}

    def write() -> str:
        # another command may be at work on other models or seeds; a name does not begin with a dot
        with _locked(args.work_dir / '.lock', wait=True):
            found = read_results(args.work_dir, next(iter(folders.values())))
            results = {name: found[name] for name in [*configs, *found] if name in found}
            text = '\n'.join([*report(results, errors, _cost_columns(args.work_dir)), *_cost_tables(args.work_dir)])
            write_atomic(f'{text}\n'.encode(), args.work_dir / 'comparison.md')
            for score in CURVES:
                picture = draw(results, score)
                if picture:
                    write_atomic(picture.encode(), args.work_dir / f'comparison-{score}.svg')
        return text

    # seed by seed, so that all models are in the table early
    for name, seed in sorted(folders, key=lambda key: args.seeds.index(key[1])):
        print(f'{name}, seed {seed}: ', end='', file=sys.stderr, flush=True)
        try:
            result = run(folders[name, seed])
        except (RunError, OSError, ValueError, KeyError) as error:
            message = str(error) if isinstance(error, RunError) else f'{type(error).__name__}: {error}'
            errors.setdefault(name, []).append(f'seed {seed}: {message}')
            print(f'failed: {message}', file=sys.stderr, flush=True)
        else:
            print(', '.join(f'{protocol or "test"} F1@0.5 {metrics.get("F1@0.5", metrics["F1"]):.2f}'
                            for protocol, metrics in result['metrics'].items()), file=sys.stderr, flush=True)
        write()
    if args.cost:
        _measure_cost(args)
    print(write())
    if errors:
        raise SystemExit(f'{sum(map(len, errors.values()))} runs failed, see above.')


def _measure_cost(args: argparse.Namespace) -> None:
    """Let the benchmark measure the models as they were trained, those of former commands too, unless it has."""
    out = args.work_dir / 'cost'
    folders = {name: args.work_dir / name / f'seed{args.seeds[0]}' for name in args.names}
    for name in read_results(args.work_dir, folders[args.names[0]]):
        folders.setdefault(name, min((args.work_dir / name).glob('seed*/result.json')).parent)
    settings = list(map(_settings_of, folders.values()))
    measured = out.with_suffix('.json')
    content = _read_cost(args.work_dir)
    of = {record['config'] for record in content['counts']}, {
        (case['task'], f'{case["size"]}x{case["batch"]}') for case in content['cases']}
    wanted = set(folders), {(task, args.cost) for task in ('inference', 'train')}
    if of != wanted or measured.stat().st_mtime < max(path.stat().st_mtime for path in settings):
        code = subprocess.run(
            [sys.executable, '-m', 'ifn_plugin.tools.benchmark', *map(str, settings), '--names', *folders,
             '--variants', 'float32', '--train', args.cost, '--inference', args.cost, '--out', str(out)],
            stdout=subprocess.DEVNULL).returncode
        if code:
            raise SystemExit(f'The benchmark failed: exit code {code}.')


def _read_cost(work_dir: Path) -> dict[str, Any]:
    """What the benchmark wrote; nothing where the file is not there or not whole."""
    try:
        content: dict[str, Any] = json.loads((work_dir / 'cost.json').read_text())
    except (FileNotFoundError, ValueError):
        return dict(counts=[], cases=[])
    return content


def _cost_columns(work_dir: Path) -> dict[str, dict[str, str]]:
    """Of each model, what stands beside its scores."""
    content = _read_cost(work_dir)
    columns: dict[str, dict[str, str]] = {
        record['config']: {'parameters, millions': f'{record["parameters"] / 1e6:.2f}',
                           'GMAC a pair': f'{record["macs"] / 1e9:.2f}'}
        for record in content['counts'] if 'error' not in record}
    for case in content['cases']:
        for row in case['rows']:
            if 'error' not in row:
                columns.setdefault(row['config'], {})[f'{case["task"]}, ms a pair'] = (
                    f'{1000 * statistics.median(row["seconds"]):.4g}')
    return columns


def _cost_tables(work_dir: Path) -> list[str]:
    """All that the benchmark has measured, memory too."""
    content = _read_cost(work_dir)
    return ['### Cost\n', *(f'{table.markdown()}\n' for table in cost_tables(content))] if content['cases'] else []


if __name__ == '__main__':
    main()
