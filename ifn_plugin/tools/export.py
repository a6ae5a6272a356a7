"""Export a trained IFN to run without this package: ``python -m ifn_plugin.tools.export CONFIG CHECKPOINT OUT``.

OUT is an ``.onnx`` file or a ``.pt2`` program of ``torch.export``. It takes raw images of both dates, (N, H, W, 3),
RGB, uint8, and gives the probabilities of "changed", (N, H, W). The command compares it with the network at several
sizes.
"""

import argparse

from ifn_plugin.apis.export import SUFFIXES, ChangeNetwork, compare, export
from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.fileio import atomic_path
from ifn_plugin.tools._common import add_options_argument, output_file, read_config

TOLERANCE = 1e-4


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Export a trained IFN to ONNX or torch.export')
    parser.add_argument('config', help="configuration file, or the name of one of the plugin's own")
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', type=output_file, help='file to write, .onnx or .pt2')
    add_options_argument(parser)
    args = parser.parse_args(argv)
    if args.out.suffix not in SUFFIXES:
        parser.error(f'{args.out}: name a file that ends in {" or ".join(SUFFIXES)}.')
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    shapes = [(1, 64, 64), (3, 64, 96), (2, 256, 256)]
    if args.out.suffix == '.onnx':
        shapes += [(1, 1, 1), (1, 67, 53), (2, 33, 200)]
    try:
        detector = ChangeDetector(cfg, args.checkpoint, 'cpu', acceleration=dict(channels_last=False))
        network = ChangeNetwork(detector.model, detector.loader)
        with atomic_path(args.out) as unfinished:  # a former file stays until this one is known to be good
            export(network, unfinished)
            differences = compare(network, unfinished, shapes)
            shown = ', '.join(f'{difference:.1e} at {n}×{height}×{width}'
                              for (n, height, width), difference in differences.items())
            if not all(difference <= TOLERANCE for difference in differences.values()):
                raise ValueError(f'{args.out} was not written, since it would differ from the network by more than '
                                 f'{TOLERANCE}: {shown}.')
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    print(f'{args.out}: {args.out.stat().st_size / 2**20:.0f} MiB. Largest difference from PyTorch: {shown}')


if __name__ == '__main__':
    main()
