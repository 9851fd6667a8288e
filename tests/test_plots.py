"""Figures show what is in their tables."""
import numpy as np, pandas as pd, pytest
from semdedup import plots

def lines(ax): return [c.lines[0].get_xydata().round(9).tolist() for c in ax.containers]

def test_a_sweep_has_a_line_a_ratio():
    "In the order of the numbers of clusters, whatever that of the rows."
    table = pd.DataFrame(dict(n_clusters=[100, 10, 10, 100], ratio=[.1, .1, .25, .25], gain=[1., 2., 3., 4.], gain_ci95=.5))
    [ax] = plots.plot_sweep(table).axes
    assert lines(ax) == [[[10, 2], [100, 1]], [[10, 3], [100, 4]]] and [t.get_text() for t in ax.get_legend().get_texts()] == ['10 % kept', '25 % kept']
    assert ax.get_xscale() == 'log' and [t.get_text() for t in ax.get_xticklabels()] == ['10', '100']

def test_a_selection_that_is_missing_at_one_ratio_is_missing_there():
    "And the legend is whole, whichever is missing in the first panel."
    row = lambda selection, ratio, gain, regime='epochs': dict(regime=regime, selection=selection, ratio=ratio, gain=gain, gain_ci95=.1)
    fig = plots.plot_gain(pd.DataFrame([row('random', .1, 0.), row('ours', .1, 1.), row('cover', .25, 2.), row('ours', .25, 3.),
                                        row('ours', .25, 4., 'steps')]))
    few, many = fig.axes
    assert lines(few) == [[[1, .86]]] and lines(many) == [[[2, -.14]], [[3, .86]], [[4, 1.14]]] # one row below the other
    assert [t.get_text() for t in few.get_yticklabels()] == ['cover', 'ours'] and [a.get_title() for a in (few, many)] == ['10 % kept', '25 % kept']
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ['equal epochs', 'equal steps']

@pytest.mark.parametrize('image, on_black, shape, cmap', [
    (np.full((3, 4, 5), 9), True, (4, 5, 3), None), (np.full((1, 4, 5), 9), True, (4, 5), 'gray_r'),
    (np.full((1, 4, 5), 9), False, (4, 5), 'gray')], ids=['colour', 'on black', 'on white'])
def test_images_are_drawn_as_they_are(image, on_black, shape, cmap):
    _, axes = plots.new_figure(2, 2)
    plots.show_image(axes[0, 0], image.astype(np.uint8), on_black)
    [drawn] = axes[0, 0].images
    assert drawn.get_array().shape == shape and (drawn.get_array() == image.max()).all() and (cmap is None or drawn.get_cmap().name == cmap)
