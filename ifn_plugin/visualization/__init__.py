"""Change panels, charts and HTML pages."""

from ifn_plugin.visualization.charts import Chart
from ifn_plugin.visualization.pages import write_page
from ifn_plugin.visualization.panels import draw_errors, draw_panel

__all__ = ['Chart', 'draw_errors', 'draw_panel', 'write_page']
