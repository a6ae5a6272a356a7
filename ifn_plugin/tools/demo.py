"""Train and test IFN on drawn pairs, without downloads: ``python -m ifn_plugin.tools.demo``."""

import argparse
from pathlib import Path

from ifn_plugin.analysis.demonstration import run_demonstration
from ifn_plugin.tools._common import output_folder, positive


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train and test IFN on drawn pairs, or on yours, in a few minutes')
    parser.add_argument('--data', type=Path, help="your pairs, in LEVIR-CD's layout: {train,val,test}/{A,B,label}")
    parser.add_argument('--work-dir', type=output_folder, default=Path('work_dirs/demo'),
                        help='folder for all files written')
    parser.add_argument('--seed', type=int, default=0, help='seed of drawing and training')
    parser.add_argument('--max-iters', type=positive, help="training iterations; default: the configuration's")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    args = parse_args(argv)
    try:
        return run_demonstration(args.data, args.work_dir, args.seed, args.max_iters)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error


if __name__ == '__main__':
    main()
