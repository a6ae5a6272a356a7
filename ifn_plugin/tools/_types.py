"""Types of arguments that the commands share."""

import argparse


def size_and_batch(text: str) -> tuple[int, int]:
    """Read the size of images and batches, such as ``256x8``.

    Raises:
        ArgumentTypeError: If the text does not have this form, or a number is less than 1.
    """
    try:
        size, batch = (int(number) for number in text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text}: use SIZExBATCH, such as 256x8') from None
    if min(size, batch) < 1:
        raise argparse.ArgumentTypeError(f'{text}: both have to be at least 1')
    return size, batch
