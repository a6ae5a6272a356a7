"""Write a page about finished runs: ``python -m ifn_plugin.tools.report WORK_DIR [WORK_DIR ...]``.

The page is one self-contained HTML file to look at in a browser and to send: the verdict, what was tested, all pairs
with the maps of each model at any threshold, curves, side outputs and cost. Its tables are also written as Markdown.
The command reads the logs, records and maps of training and testing in the folders (``ChangeMetric`` with
``EvaluationHook``), each tested checkpoint apart, and runs the network only for the side outputs.
"""

import argparse
from pathlib import Path

from ifn_plugin.analysis.benchmark import cost_tables, read_result
from ifn_plugin.analysis.report import name_folders, read_run, write_report
from ifn_plugin.tools._common import output_file
from ifn_plugin.utils import readable


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write a page about finished runs')
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR', help='work dirs of train and test')
    parser.add_argument('--names', nargs='+', metavar='NAME', help="names of the runs; default: the folders'")
    parser.add_argument('--out', type=output_file, help='HTML file to write; default: report.html in the first folder')
    parser.add_argument('--pairs', type=int, default=1,
                        help='number of best and of worst pairs whose side outputs are drawn; default: 1')
    parser.add_argument('--cost', type=Path, metavar='FILE.json', help='JSON result of the command benchmark')
    parser.add_argument('--device', help='device to compute the side outputs on; default: a GPU where there is one')
    args = parser.parse_args(argv)
    if args.names and len(args.names) != len(args.work_dirs):
        parser.error(f'--names needs one name for each of the {len(args.work_dirs)} folders')
    if args.names and len(set(args.names)) != len(args.names):
        parser.error('--names needs a different name for each folder')
    if len({folder.resolve() for folder in args.work_dirs}) != len(args.work_dirs):
        parser.error('name each folder once')
    args.out = args.out or args.work_dirs[0] / 'report.html'
    if args.out.suffix != '.html':
        parser.error(f'--out {args.out}: name a file that ends in .html')
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    names = args.names or name_folders(args.work_dirs)
    try:
        runs = [read_run(folder, readable(name)) for folder, name in zip(args.work_dirs, names)]
        costs = list(cost_tables(read_result(args.cost))) if args.cost else []
        markdown = write_report(runs, args.out, args.pairs, costs, args.device)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    print(readable(f'{markdown}\n\nThe page: {args.out}'))


if __name__ == '__main__':
    main()
