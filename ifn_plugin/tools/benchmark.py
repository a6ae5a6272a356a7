"""Measure configurations side by side: ``python -m ifn_plugin.tools.benchmark CONFIG [CONFIG ...]``.

Every row is measured in its own process. The processes take turns, so that any other load on the machine affects all of
them.
"""

import argparse
import sys
from pathlib import Path

from ifn_plugin.analysis.benchmark import (
    ONNX,
    SWITCHES,
    VARIANTS,
    Case,
    Entry,
    case_table,
    report,
    run_benchmark,
    write_result,
)
from ifn_plugin.engine.acceleration import DTYPES
from ifn_plugin.tools._common import output_file, positive, resolve_config, size_and_batch


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measure configurations side by side: parameters, arithmetic, time, memory, data pipeline. Ratios '
        'are relative to the first row.')
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help="files, or names of the plugin's own")
    parser.add_argument('--names', nargs='+', metavar='NAME', help="names in the tables; default: the files' names")
    parser.add_argument('--variants', nargs='+', default=VARIANTS, type=variant, metavar='DTYPE[+SWITCH…]',
                        help=f'variants of each configuration: a precision ({", ".join(DTYPES[1:])}), with any of '
                        f'{", ".join(SWITCHES)} added; or {ONNX}, on the CPU; default: {" ".join(VARIANTS)}')
    parser.add_argument('--train', nargs='*', type=size_and_batch, default=[], metavar='SIZExBATCH',
                        help='measure training steps, such as 256x8')
    parser.add_argument('--inference', nargs='*', type=size_and_batch, default=[], metavar='SIZExBATCH',
                        help='measure inference, such as 1024x1')
    parser.add_argument('--end-to-end', nargs='*', type=positive, default=[], metavar='BATCH',
                        help="measure training with its data pipeline and the configuration's workers")
    parser.add_argument('--data', action='store_true',
                        help='measure training pipelines, in one process, with files in memory')
    parser.add_argument('--cold-data', action='store_true', help='the same, with files read from disk')
    parser.add_argument('--data-root', nargs='+', help='data set of each configuration, or one for all')
    parser.add_argument('--rounds', type=positive, default=5, help='measurements of each row; default: 5')
    parser.add_argument('--out', type=output_file, help='write FILE.md and FILE.json', metavar='FILE')
    args = parser.parse_args(argv)
    if args.names and len(args.names) != len(args.configs):
        parser.error(f'--names needs one name for each of the {len(args.configs)} configurations')
    stems = [Path(config).stem for config in args.configs]
    if len(set(args.names or stems)) != len(stems):
        parser.error(f'two configurations have the same name in {args.names or stems}: give different ones with '
                     '--names')
    if args.data_root and len(args.data_root) not in (1, len(args.configs)):
        parser.error(f'--data-root needs one folder, or one for each of the {len(args.configs)} configurations')
    if not (args.train or args.inference or args.end_to_end or args.data or args.cold_data):
        parser.error('nothing to measure: give --train, --inference, --end-to-end, --data or --cold-data')
    return args


def variant(text: str) -> str:
    """Check a variant, such as ``float32+compile``.

    Raises:
        ArgumentTypeError: If the variant does not exist.
    """
    dtype, *switches = text.split('+')
    if text != ONNX and (dtype not in DTYPES or not set(switches) <= set(SWITCHES)):
        raise argparse.ArgumentTypeError(f'{text}: use {"|".join(DTYPES)}, +{", +".join(SWITCHES)}; or {ONNX}')
    return text


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    configs = [resolve_config(config) for config in args.configs]
    roots = args.data_root or [None]
    roots *= len(configs) if len(roots) == 1 else 1
    entries = [Entry(*entry) for entry in zip(args.names or [config.stem for config in configs], configs, roots)]
    cases = [Case('inference', *pair) for pair in args.inference] + [Case('train', *pair) for pair in args.train]
    cases += [Case('end_to_end', batch=batch) for batch in args.end_to_end]
    cases += [Case(task) for task in ('data', 'cold_data') if getattr(args, task)]
    text = ''
    for result in run_benchmark(entries, cases, args.variants, args.rounds):
        print(f'{case_table(result["cases"][-1]).markdown()}\n', file=sys.stderr, flush=True)
        text = report(result)
        if args.out:
            write_result(result, args.out)  # after each case, in case a later one fails
    print(text)


if __name__ == '__main__':
    main()
