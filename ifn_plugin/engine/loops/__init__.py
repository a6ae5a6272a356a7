"""Training and test loops."""

from ifn_plugin.engine.loops.protocols_loop import ProtocolsTestLoop
from ifn_plugin.engine.loops.resumable_loop import ResumableTrainLoop

__all__ = ['ProtocolsTestLoop', 'ResumableTrainLoop']
