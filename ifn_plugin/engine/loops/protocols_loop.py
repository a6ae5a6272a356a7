"""Test loop for several protocols."""

from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from mmengine.runner import Runner, TestLoop
from mmengine.utils import mkdir_or_exist

from ifn_plugin.engine.utils import detector_of
from ifn_plugin.evaluation.metric import collect_records
from ifn_plugin.registry import LOOPS


@LOOPS.register_module()
class ProtocolsTestLoop(TestLoop):
    """Test loop that runs several protocols in turn and reports the metrics of all of them together.

    Testing on 256×256 tiles, as in the literature, is a sliding window of 256 pixels without overlap: each tile passes
    through the network separately.

    Args:
        runner: The runner.
        dataloader: The test data, as entire images.
        evaluator: The metrics.
        protocols: mmseg's ``test_cfg`` of each protocol, by name; the name becomes the prefix of its metrics.
        kwargs: Keyword arguments of ``TestLoop``.

    Attributes:
        records: ``ChangeMetric``'s record of each protocol.
        protocol: Name of the current protocol.
    """

    def __init__(self, runner: Runner, dataloader: Any, evaluator: Any, protocols: dict[str, dict],
                 **kwargs: Any) -> None:
        super().__init__(runner, dataloader, evaluator, **kwargs)
        self.protocols = protocols
        self.records: dict[str, dict] = {}
        self.protocol = ''

    def run(self) -> dict:
        """Run all protocols and return their metrics, as ``protocol/metric``."""
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        model = detector_of(self.runner)
        configured, metrics = model.test_cfg, {}
        folders = [(metric, metric.output_dir) for metric in self.evaluator.metrics
                   if getattr(metric, 'output_dir', None)]
        try:
            for name, settings in self.protocols.items():
                self.protocol, model.test_cfg = name, ConfigDict(settings)
                self.test_loss: dict[str, Any] = {}
                for metric, folder in folders:  # a folder for the maps of each protocol
                    metric.output_dir = str(Path(folder, name))
                    mkdir_or_exist(metric.output_dir)  # mmseg's makes it only when it is built
                for index, batch in enumerate(self.dataloader):
                    self.run_iter(index, batch)
                found = self.evaluator.evaluate(len(self.dataloader.dataset))
                losses = {key: value.mean() for key, value in self.test_loss.items()}
                if losses:
                    found |= losses | dict(test_loss=sum(value for key, value in losses.items() if 'loss' in key))
                metrics.update({f'{name}/{key}': value for key, value in found.items()})
                self.records.update(collect_records(self.evaluator, name))
        finally:
            model.test_cfg = configured
            for metric, folder in folders:
                metric.output_dir = folder
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics
