"""Check everything that depends on a GPU: ``python -m ifn_plugin.tools.gpu_check``.

Without a GPU, the same parts run on the CPU at small sizes.
"""

import argparse
import sys
from pathlib import Path

from ifn_plugin.analysis.gpu_check import PARTS, run_check
from ifn_plugin.tools._common import output_file


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Check on a GPU, or at small sizes on a CPU: tests, agreement with the CPU, time and memory, data '
        'pipeline, a short training')
    parser.add_argument('--parts', nargs='+', choices=list(PARTS), default=list(PARTS), help='default: all')
    parser.add_argument('--minutes', type=float, default=10,
                        help='time for all parts; those that do not fit are left out; default: 10')
    parser.add_argument('--out', type=output_file, default=Path('work_dirs/gpu_check.json'), metavar='FILE.json',
                        help='results; charts are written to its folder; default: work_dirs/gpu_check.json')
    args = parser.parse_args(argv)
    if not args.minutes > 0:
        parser.error('--minutes has to be above 0')
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if not run_check(args.out, args.parts, args.minutes):
        sys.exit(1)


if __name__ == '__main__':
    main()
