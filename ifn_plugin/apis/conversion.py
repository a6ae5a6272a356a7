"""Conversion of checkpoint files between the plugin and other projects' IFN."""

import io
from pathlib import Path

import torch

from ifn_plugin.fileio import load_checkpoint_file, write_atomic
from ifn_plugin.fileio.checkpoint import get_state_dict
from ifn_plugin.models.conversion import convert_state_dict, convert_to_opencd, recognize, split_unused


def convert_checkpoint(src: str, dst: Path, to: str = 'ifn_plugin') -> str:
    """Convert a checkpoint.

    Args:
        src: The checkpoint, as for :func:`ifn_plugin.fileio.load_checkpoint_file`.
        dst: File to write.
        to: Project whose names to write, ``'ifn_plugin'`` or ``'opencd'``.

    Returns:
        Summary of what was converted, a few lines.

    Raises:
        FileExistsError: If ``dst`` exists.
        FileNotFoundError: If ``src`` does not exist.
        ValueError: If ``src`` cannot be read safely, or does not contain weights of an IFN.
    """
    if dst.exists():
        raise FileExistsError(f'{dst} exists already. Fix: remove it or name another file.')
    checkpoint = load_checkpoint_file(src)
    source = recognize(checkpoint)
    used, unused = split_unused(checkpoint)
    unused |= split_unused(dict(state_dict=checkpoint.get('unused')))[1]  # stored by an earlier conversion
    content: dict[str, dict] = {}
    try:
        if to == 'opencd':
            content['state_dict'] = convert_to_opencd(used, unused)
        else:
            content['state_dict'] = convert_state_dict(used)
            if unused:
                content['unused'] = unused
    except ValueError as error:
        raise ValueError(f'{src}: {error}') from error
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(buffer.getvalue(), dst)
    lines = [f'{src}: {source}, {len(get_state_dict(checkpoint))} tensors',
             f'{dst}: {"open-cd" if to == "opencd" else to}, {len(content["state_dict"])} tensors']
    if unused and to != 'opencd':
        lines.append(f"Not part of the network, stored under 'unused': {', '.join(unused)}")
    left = sorted(set(checkpoint) - {'state_dict', 'unused'}) if 'state_dict' in checkpoint else []
    if left:
        lines.append(f'Left out, since only weights are converted: {", ".join(left)}')
    return '\n'.join(lines)
