"""Records of evaluations."""

from mmengine.evaluator import Evaluator

from ifn_plugin.evaluation.metric import ChangeMetric


def collect_records(evaluator: Evaluator, protocol: str = '') -> dict[str, dict]:
    """Collect the record of each ``ChangeMetric``, by protocol and, if there are several metrics, by prefix."""
    metrics = [metric for metric in evaluator.metrics if isinstance(metric, ChangeMetric)]
    # several metrics have different prefixes
    return {'/'.join(filter(None, (protocol, metric.prefix if len(metrics) > 1 else ''))): metric.record
            for metric in metrics}
