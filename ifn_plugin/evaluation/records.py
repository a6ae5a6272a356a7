"""What is kept of an evaluation."""

from mmengine.evaluator import Evaluator

from ifn_plugin.evaluation.metric import ChangeMetric


def collect_records(evaluator: Evaluator, protocol: str = '') -> dict[str, dict]:
    metrics = [metric for metric in evaluator.metrics if isinstance(metric, ChangeMetric)]
    # several differ in their prefixes
    return {'/'.join(filter(None, (protocol, metric.prefix if len(metrics) > 1 else ''))): metric.record
            for metric in metrics}
