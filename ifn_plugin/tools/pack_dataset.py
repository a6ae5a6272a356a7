"""Pack a data set into arrays that a crop can be read from: ``python -m ifn_plugin.tools.pack_dataset SRC DST``.

Every image becomes an uncompressed ``.npy`` file in the same layout, which training maps into memory: nothing is
decoded, and what lies outside of a crop is not read. Images are checked on the way, and labels become 0, 1 and -1
(ignored). Beside each split's folders stands ``SHA256SUMS``, in the format of the command ``sha256sum``.
"""

import argparse
from pathlib import Path

from ifn_plugin.datasets.packing import FOLDERS, check, pack


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Pack a data set for fast reading, or check one that was packed')
    parser.add_argument('src', type=Path, help="folder in LEVIR-CD's layout, or as --folders and --suffixes "
                        'say, one split or several below it')
    parser.add_argument('dst', type=Path, nargs='?', help='folder to write; where a run was stopped, it goes on')
    parser.add_argument('--check', action='store_true', help='compare the packed files below SRC with their checksums')
    parser.add_argument('--folders', nargs=3, default=FOLDERS, metavar=('DATE1', 'DATE2', 'LABEL'),
                        help='names of the three folders in SRC; default: A B label')
    parser.add_argument('--suffixes', nargs=3, default=(None, ) * 3, metavar=('DATE1', 'DATE2', 'LABEL'),
                        help='how the names of the files in them end; default: as those of PNG, JPEG, TIFF and BMP')
    parser.add_argument('--changed', type=int, choices=(1, 255), help="the labels' value for changed; default: either")
    parser.add_argument('--threshold', type=int, help='instead, for labels saved with loss: what is above is changed')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if not args.check and args.dst is None:
        raise SystemExit('Name the folder to write: pack_dataset SRC DST.')
    try:
        if not args.check:
            pack(args.src, args.dst, args.changed, args.threshold, args.folders, args.suffixes)
            return
        faults = check(args.src)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    if faults:
        raise SystemExit('\n'.join([*faults, 'Remove these files and pack again.']))
    print('All files are as they were packed.')


if __name__ == '__main__':
    main()
