"""Comparison of models, from the settings to the files it writes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ifn_plugin.analysis.comparison.cost import cost_report, measure_cost
from ifn_plugin.analysis.comparison.runs import RunError, Say, locked, prepare, read_results, run, silent
from ifn_plugin.analysis.comparison.settings import check_protocol, combine
from ifn_plugin.analysis.comparison.tables import BANDS, CURVES, EXPLANATION, curves, score_tables, time_table
from ifn_plugin.analysis.tables import Table
from ifn_plugin.fileio import write_atomic
from ifn_plugin.visualization import write_page


class Comparison:
    """Comparison of models that are trained and tested under one protocol, once for each seed.

    Finished runs are kept in the work dir and not repeated, whichever command or process made them.

    Args:
        protocol: Configuration of everything but the models; its types name their scope.
        models: Configurations by name, of which only the model is taken. The names become folders.
        seeds: Seeds of the runs.
        work_dir: Folder for all files written.
        from_scratch: Train without pretrained weights and with nothing frozen.

    Attributes:
        folders: Folder of each run, by model and seed, in the intended order of the runs.
        errors: Messages of failed runs, by the model's name.

    Raises:
        ValueError: If the protocol keeps no record of the test, a configuration has no model, or the work dir has runs
            of the same names and seeds with other settings.
    """

    def __init__(self, protocol: Config, models: dict[str, Config], seeds: Sequence[int], work_dir: Path,
                 from_scratch: bool = False) -> None:
        check_protocol(protocol)
        self.work_dir = work_dir
        # seed by seed, so that all models are in the table early
        self.folders = {(name, seed): work_dir / name / f'seed{seed}' for seed in seeds for name in models}
        for (name, seed), folder in self.folders.items():
            prepare(combine(protocol, models[name], seed, from_scratch), folder)
        self.errors: dict[str, list[str]] = {}

    def run(self, name: str, seed: int, say: Say = silent) -> dict[str, dict[str, float]]:
        """Train and test a model with a seed, and rewrite the tables and curves.

        Args:
            name: Name of the model.
            seed: The seed.
            say: Function that is called with the progress whenever it has changed.

        Returns:
            Its metrics under each protocol of the test.

        Raises:
            RunError: If the run fails; ``errors`` has the reason, too.
        """
        try:
            result = run(self.folders[name, seed], say)
        except (RunError, OSError, ValueError, KeyError) as error:
            message = str(error) if isinstance(error, RunError) else f'{type(error).__name__}: {error}'
            self.errors.setdefault(name, []).append(f'seed {seed}: {message}')
            self.write()
            raise RunError(message) from error
        self.write()
        metrics: dict[str, dict[str, float]] = result['metrics']
        return metrics

    def measure_cost(self, size: int, batch: int) -> Iterator[Table]:
        """Measure time and memory of all models in the work dir, earlier ones included, unless that is already done.

        Args:
            size: Side of the images, in pixels.
            batch: Number of pairs in a batch.

        Yields:
            The table of each case once it is measured.
        """
        folders: dict[str, Path] = {}
        for (name, _), folder in self.folders.items():
            folders.setdefault(name, folder)
        for name in self._results():
            folders.setdefault(name, min((self.work_dir / name).glob('seed*/result.json')).parent)
        yield from measure_cost(self.work_dir, folders, size, batch)

    def write(self) -> str:
        """Write the finished results: ``comparison.html``, ``comparison.md``, and curves as ``comparison-SCORE.svg``.

        Returns:
            The tables in Markdown.
        """
        # another command may be running other models or seeds; names of models do not begin with a dot
        with locked(self.work_dir / '.lock', wait=True):
            results = self._results()
            tables, cost = list(score_tables(results)), [time_table(results), *cost_report(self.work_dir)]
            cost = [table for table in cost if table.rows]
            failures = [f'{name} failed: {message}' for name, messages in self.errors.items() for message in messages]
            charts = {score: curve for score in CURVES if (curve := curves(results, score)).lines}
            blocks = [EXPLANATION] if tables else []
            blocks += [*(table.markdown() for table in tables), *failures]
            for score, curve in charts.items():
                write_atomic(curve.svg().encode(), self.work_dir / f'comparison-{score}.svg')
                blocks.append(f'![{curve.title}](comparison-{score}.svg)')
            blocks += [BANDS] if charts else []
            text = '\n\n'.join([*blocks, *(table.markdown() for table in cost)])
            write_atomic(f'{text}\n'.encode(), self.work_dir / 'comparison.md')
            write_page(self.work_dir / 'comparison.html', 'comparison.html.j2', explanation=EXPLANATION, tables=tables,
                       failures=failures, charts=list(charts.values()), cost=cost)
        return text

    def _results(self) -> dict[str, list[dict[str, Any]]]:
        """Read the results of all models in the work dir, this comparison's first."""
        found = read_results(self.work_dir, next(iter(self.folders.values())))
        return {name: found[name] for name in dict.fromkeys([*(name for name, _ in self.folders), *found])
                if name in found}
