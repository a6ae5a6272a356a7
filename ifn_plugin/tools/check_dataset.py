"""Check a data set before training on it: ``python -m ifn_plugin.tools.check_dataset CONFIG|FOLDER``.

FOLDER contains splits in LEVIR-CD's layout, ``{train,val,test}/{A,B,label}`` or with other names, or is one such split;
for a configuration, the folders of its data sets are checked. Every file is read. Findings name the file: incomplete
pairs, damaged files, mismatched sizes, invalid label values, and duplicate pairs within a split or across splits, also
rotated, mirrored or of different brightness. The exit status is 1 if there are errors.
"""

import argparse
from pathlib import Path

from ifn_plugin.analysis.dataset_check import (
    Finding,
    check_split,
    find_duplicates,
    find_splits,
    summarize,
    write_summary,
)
from ifn_plugin.tools._common import add_options_argument, output_file, read_config
from ifn_plugin.utils import readable


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Check a data set: incomplete pairs, damaged files, invalid '
                                     'labels, duplicates, leaks between splits')
    parser.add_argument('dataset', help="folder in LEVIR-CD's layout, or a configuration")
    add_options_argument(parser, "a configuration's settings")
    parser.add_argument('--out', type=output_file, metavar='FILE.html', help='write a page with pictures')
    parser.add_argument('--pictures', type=int, default=4, help='sample pairs of each split on the page; default: 4')
    args = parser.parse_args(argv)
    if args.cfg_options and Path(args.dataset).is_dir():
        parser.error(f'--cfg-options would have no effect, since {args.dataset} is a folder')
    if args.out is not None and args.out.suffix != '.html':
        parser.error(f'--out {args.out}: name a file that ends in .html')
    if args.pictures < 0:
        parser.error(f'--pictures {args.pictures}: use 0 or more pairs')
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    folder = Path(args.dataset)
    try:
        splits = find_splits(folder if folder.is_dir() else read_config(args.dataset, args.cfg_options))
    except ValueError as error:
        raise SystemExit(str(error)) from error
    findings = [finding for split in splits for finding in check_split(split)]
    try:
        findings += find_duplicates(splits)
    except ImportError as error:
        findings.append(
            Finding('', False, f'Duplicates were not searched for: {error}. Fix: pip install "ifn_plugin[check]".'))
    for split in splits:
        print(readable(', '.join(f'{key}: {value}' for key, value in summarize(split).items() if value)))
    for finding in findings:
        where = f'{finding.split}: ' if finding.split else ''
        print(readable(f'{"error" if finding.error else "note"}: {where}{finding.message}'))
    if args.out:
        write_summary(args.out, splits, findings, args.pictures)
        print(readable(f'The page: {args.out}'))
    errors = sum(finding.error for finding in findings)
    print(f'{errors} errors, {len(findings) - errors} notes')
    if errors:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
